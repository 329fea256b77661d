"""Whether two runs differ on the same photos, and how far a score falls from one set of photos to another.

Intervals and p values come from `metrics.paired_test`. Its permutation test respects how few visits there are: with
four visits p cannot be below 1/8, while the p value of a bootstrap can be arbitrarily small.

Many pairs at once: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics
6, 1979. Between different photos: Zou and Donner, "Construction of confidence intervals about effect measures: a
general approach", Statistics in Medicine 27, 2008: the interval of a difference from the intervals of the two scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np

from funduscope.compare.run_folder import Run
from funduscope.compare.score_kinds import Measure, Row, state_of, truths
from funduscope.metrics import Interval, State, by_visit, paired_test

REPEATS: Final = 5000
MIN_VISITS: Final = 6
"""With five visits even the smallest p, 2 / 2**5, is above 0.05, so no test is made."""

LEVEL: Final = 0.05


@dataclass(frozen=True)
class Difference:
    """Score of run a minus score of run b, and the two scores.

    p: two-sided, nan if there are too few visits. corrected: p after Holm's correction for all pairs tested with
    it. photos, visits: those that both runs answered, with the same labels.
    """

    measure: Measure
    a: str
    b: str
    scores: tuple[float, float]
    interval: Interval
    p: float
    corrected: float
    photos: int
    visits: int

    @property
    def differs(self) -> bool:
        return self.corrected < LEVEL

    def swapped(self) -> Difference:
        """The same as b minus a."""
        own = self.interval
        swapped = Interval(-own.high, -own.low, -own.value, own.visits)
        return replace(self, a=self.b, b=self.a, scores=self.scores[::-1], interval=swapped)


def difference(
    measure: Measure,
    a: tuple[str, dict[str, Row]],
    b: tuple[str, dict[str, Row]],
    *,
    tested: bool = True,
    fewest: int = 1,
) -> Difference | None:
    """Compares two runs, each given as its name and its rows by key, on the photos that both have.

    None if those have fewer visits than `fewest`, or no score. tested: compute a p value.
    """
    units_a, units_b, photos = _shared(measure, a[1], b[1])
    visits = len(units_a)
    if visits < fewest:
        return None
    of_a, of_b = (measure.score(type(units[0]).total(units)) for units in (units_a, units_b))
    if np.isnan(of_a - of_b):
        return None
    tested = tested and visits >= MIN_VISITS
    interval, p = paired_test(units_a, units_b, measure.score, REPEATS, tested=tested, batched=True)
    return Difference(measure, a[0], b[0], (of_a, of_b), interval, p, p, photos, visits)


def every_pair(measure: Measure, runs: Sequence[Run], part: str) -> list[Difference]:
    """Each pair of the runs that can be tested, a before b, with p values corrected for the number of pairs."""
    named = [(run.name, run.rows[part]) for run in runs if run.interval(part, measure.key)]
    found = [difference(measure, a, b, fewest=MIN_VISITS) for a, b in combinations(named, 2)]
    return corrected([one for one in found if one is not None])


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """The same with Holm's correction over all that have a p value."""
    tested = sorted((one.p, place) for place, one in enumerate(found) if not np.isnan(one.p))
    adjusted = [one.p for one in found]
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = largest
    return [replace(one, corrected=p) for one, p in zip(found, adjusted, strict=True)]


def gap(a: Interval, b: Interval) -> Interval:
    """a minus b, scores of different photos, with Zou and Donner's interval."""
    value = a.value - b.value
    low = value - float(np.hypot(a.value - a.low, b.high - b.value))
    high = value + float(np.hypot(a.high - a.value, b.value - b.low))
    return Interval(low, high, value)


def overlap(a: Interval, b: Interval) -> bool:
    """Whether two intervals overlap; True if one is not known."""
    return not (a.high < b.low or b.high < a.low)


def _shared(measure: Measure, a: dict[str, Row], b: dict[str, Row]) -> tuple[list[State], list[State], int]:
    """Each run's states by visit, and the number of photos: those with equal labels that both runs' rows can score."""
    pairs: list[tuple[str, State, State]] = []
    for key in sorted(a.keys() & b.keys()):
        if a[key]["dataset"] != measure.dataset or not _agree(a[key], b[key]):
            continue
        of_a, of_b = (state_of(measure.kind.question, rows[key]) for rows in (a, b))
        if of_a is not None and of_b is not None:
            pairs.append((a[key]["visit"], of_a, of_b))
    units_a = by_visit((visit, state) for visit, state, _ in pairs)
    units_b = by_visit((visit, state) for visit, _, state in pairs)
    return units_a, units_b, len(pairs)


def _agree(a: Row, b: Row) -> bool:
    """Whether two rows have the same labels of a photo, as far as both have them."""
    of_a, of_b = truths(a), truths(b)
    return all(of_a[name] == of_b[name] for name in of_a.keys() & of_b.keys())
