"""Chooses labeled photos of each data set, for scripts that need not read all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from funduscope.data.case import Case
from funduscope.data.sources import read_data


def evenly_spread(cases: Sequence[Case], count: int) -> list[Case]:
    """At most `count` of the cases, at equal distances."""
    return list(cases[:: max(1, len(cases) // count)][:count])


def photos_by_set(data: Path, count: int, folds: Sequence[int] | None = None) -> dict[str, list[Case]]:
    """At most `count` photos of each data set, evenly spread, by the set's name. folds: of these alone."""
    by_set: dict[str, list[Case]] = {}
    for case in read_data([data]):
        if folds is None or case.fold in folds:
            by_set.setdefault(case.dataset, []).append(case)
    return {name: evenly_spread(cases, count) for name, cases in by_set.items()}
