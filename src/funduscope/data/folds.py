"""Folds: read from a `folds.csv`, or made by visit, so that no eye is ever in training and in the test at once."""

from __future__ import annotations

import csv
import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from funduscope.data.case import Case
from funduscope.data.rows import read_sheet

Place = tuple[str, int]
"""(visit, fold)."""

_COLUMNS = ("subset", "image", "visit", "fold")
_HIGHEST_FOLD = 99


def find_folds(path: Path) -> Path | None:
    """The `folds.csv` in the folder, beside it or one level further up; the nearest wins."""
    resolved = path.resolve()
    for place in (resolved, resolved.parent, resolved.parent.parent):
        file = place / "folds.csv"
        if file.is_file():
            return file
    return None


def read_folds(path: Path) -> dict[tuple[str, str], Place]:
    """(subset, image) to (visit, fold); raises `LabelError` for a photo listed twice or a visit in two folds."""
    places: dict[tuple[str, str], Place] = {}
    folds: dict[str, int] = {}
    for row in read_sheet(path, _COLUMNS).rows:
        key, visit = (row.needed("subset"), row.needed("image")), row.needed("visit")
        fold = row.integer("fold", _HIGHEST_FOLD)
        if fold is None:
            raise row.error("fold", "is empty; expected the number of a fold, from 0")
        if key in places:
            raise row.error("image", f"{'/'.join(key)} stands in two rows; expected one a photo")
        if folds.setdefault(visit, fold) != fold:
            raise row.error("fold", f"visit {visit} is in fold {folds[visit]} already; a visit must stay in one fold")
        places[key] = (visit, fold)
    return places


def apply_folds(cases: Iterable[Case], places: dict[tuple[str, str], Place]) -> list[Case]:
    """The cases with their folds and visits; one that is listed nowhere, or has a fold already, stays as it is."""
    placed = []
    for case in cases:
        place = places.get(fold_key(case)) if case.fold is None else None
        placed.append(case if place is None else case.in_fold(place[1], place[0]))
    return placed


def assign_folds(cases: Sequence[Case], held: Path | None = None) -> list[Case]:
    """The cases with folds wherever they can have one: as a run's own `folds.csv` (held) says, else as their own data
    set says, else made, for each data set of which no photo has a fold.

    Where folds are made, a photo of a visit that another data set has placed goes with it; one whose visit is in two
    folds there gets none.
    """
    if held is not None and held.is_file():
        cases = _as_held(cases, read_folds(held))
    bare = bare_sets(cases)
    folds: dict[str, set[int]] = defaultdict(set)
    for case in cases:
        if case.fold is not None:
            folds[case.visit].add(case.fold)
    apart = {case.visit for case in cases if official_test(case)}  # nor is another photo of such an eye learned from
    bare_cases = {case.key for case in cases if case.dataset in bare and case.visit not in apart}
    free = [case for case in cases if case.key in bare_cases and case.visit not in folds]
    made = {case.key: case for case in make_folds(free)} if free else {}
    follow = {visit: there.copy().pop() if len(there) == 1 else None for visit, there in folds.items()}
    return [
        made.get(case.key, case.in_fold(follow.get(case.visit))) if case.key in bare_cases else case for case in cases
    ]


def bare_sets(cases: Iterable[Case]) -> set[str]:
    """The data sets of which no photo has a fold: those that folds are made for."""
    cases = list(cases)
    return {case.dataset for case in cases} - {case.dataset for case in cases if case.fold is not None}


def official_test(case: Case) -> bool:
    """Whether it is of an official test and no `folds.csv` says otherwise: it stands apart from all folds,
    and nothing is ever learned from it."""
    return case.fold is None and is_official_test(case)


def is_official_test(case: Case) -> bool:
    """Whether its data set's authors kept it for the test."""
    return case.split == "test"


def unassigned(cases: Iterable[Case]) -> list[Case]:
    """The cases without a fold that should have one."""
    cases = list(cases)
    apart = {case.visit for case in cases if official_test(case)}
    return [case for case in cases if case.fold is None and case.visit not in apart]


def _as_held(cases: Iterable[Case], places: dict[tuple[str, str], Place]) -> list[Case]:
    """The cases where a run had them, whatever their data set says by now: else it is tested on what it learned from.

    One that has a fold and that the run does not list goes with its visit, if the run lists others of it.
    """
    folds = dict(places.values())
    held = []
    for case in cases:
        place = places.get(fold_key(case))
        if place is not None:
            held.append(case.in_fold(place[1], place[0]))
        else:
            held.append(case if case.fold is None else case.in_fold(folds.get(case.visit, case.fold)))
    return held


def validation_fold(fold: int | None, cases: Sequence[Case]) -> int:
    """The fold that selects: the next one after the test fold, the first one where nothing is tested."""
    return _after(fold, {case.fold for case in cases if case.fold is not None})


def selected_on(run: Path, about: Mapping[str, Any], cases: Sequence[Case]) -> int | None:
    """The fold that selected in a run, whichever of its photos are given now. about: its run.json.

    Where that does not say, the fold that training chooses, by the run's own folds. None: no photo selected.
    """
    if "validation_fold" in about:
        return about["validation_fold"]
    if about.get("photos") and "validation" not in about["photos"]:
        return None
    held = run / "folds.csv"
    if not held.is_file():
        return validation_fold(about.get("fold"), cases)
    return _after(about.get("fold"), {fold for _, fold in read_folds(held).values()})


def _after(fold: int | None, there: set[int]) -> int:
    first = min(there, default=0)
    return first if fold is None else min((other for other in there if other > fold), default=first)


def fold_key(case: Case) -> tuple[str, str]:
    """(subset, image) under which `folds.csv` lists a case: IDRiD's photos as A and B, others by data set.

    Photos of an official test have "/test" behind that: IDRiD's numbers repeat there.
    """
    subset = case.dataset.removeprefix("idrid-")
    return (f"{subset}/test" if case.split == "test" else subset), case.name


def make_folds(cases: Sequence[Case], count: int = 5, seed: int = 42) -> list[Case]:
    """The cases in `count` folds: visits whole, every grade spread evenly over the folds of each data set.

    Greedy and deterministic: visits in an order drawn from `seed` (whatever order the cases came in), the largest
    and the rarest grades first; each goes where its grades are scarcest, then where the fewest photos are.
    """
    if count < 2:
        raise ValueError(f"count is {count}; expected 2 folds or more")
    visits: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.key):
        visits[case.visit].append(case)
    kinds = Counter(_kind(case) for case in cases)
    order = sorted(visits)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda visit: (-len(visits[visit]), min(kinds[_kind(case)] for case in visits[visit])))
    filled = [Counter[tuple[str, int | None]]() for _ in range(count)]
    fold_of: dict[str, int] = {}
    for visit in order:
        wanted = Counter(_kind(case) for case in visits[visit])
        crowded = [sum(held[kind] / kinds[kind] for kind in wanted) for held in filled]
        fold = min(range(count), key=lambda k: (crowded[k], filled[k].total(), k))
        fold_of[visit] = fold
        filled[fold].update(wanted)
    return [case.in_fold(fold_of[case.visit]) for case in cases]


def share_of(cases: list[Case], share: float) -> list[Case]:
    """The first visits of each data set, in an order that never changes, until they are that share of its visits."""
    if share >= 1:
        return cases
    visits: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        visits[case.dataset].add(case.visit)
    kept: set[tuple[str, str]] = set()
    for dataset, mine in visits.items():
        order = sorted(mine, key=lambda visit: hashlib.sha256(visit.encode()).hexdigest())
        kept |= {(dataset, visit) for visit in order[: max(1, round(share * len(order)))]}
    return [case for case in cases if (case.dataset, case.visit) in kept]


def write_folds(cases: Iterable[Case], path: Path) -> None:
    """Writes the cases that have a fold as a `folds.csv`, which `read_folds` reads back."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for case in cases:
            if case.fold is not None:
                writer.writerow((*fold_key(case), case.visit, case.fold))


def _kind(case: Case) -> tuple[str, int | None]:
    return case.dataset, case.labels.grade
