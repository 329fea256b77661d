"""Whether two runs differ on the same photos, and how far a score falls from one set of photos to another.

Interval of a difference: both runs' photos are drawn again by the same visits (docs/protocol.md). Its p value: for each
visit a coin says which run's answers are called whose. The exchange is preferred to the bootstrap here because it knows
how few visits there are: with four of them no p can be below 1/8, where a bootstrap's may be as small as one likes.

Many pairs at once: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics
6, 1979. Between different photos: Zou and Donner, "Construction of confidence intervals about effect measures: a
general approach", Statistics in Medicine 27, 2008, which makes the interval of a difference of the two scores' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np

from funduscope.compare.run_folder import Run
from funduscope.compare.score_kinds import Kind, Measure, Row, score_of, sums, truths
from funduscope.metrics import Interval

REPEATS: Final = 5000
FEWEST_VISITS: Final = 6
"""With five visits even 2 / 2**5 is above 0.05: no test could find a difference, so none is made."""

LEVEL: Final = 0.05


@dataclass(frozen=True)
class Difference:
    """Score of run a less that of run b, and the two. p: two-sided; corrected: the same among all tested with it.

    photos, visits: those that both runs answered with the same labels; p is nan where there are too few visits.
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

    def turned(self) -> Difference:
        """The same as b less a."""
        held = self.interval
        turned = Interval(-held.high, -held.low, -held.value, held.units)
        return replace(self, a=self.b, b=self.a, scores=self.scores[::-1], interval=turned)


def difference(
    measure: Measure,
    a: tuple[str, dict[str, Row]],
    b: tuple[str, dict[str, Row]],
    redrawn: dict[bytes, np.ndarray] | None = None,
    *,
    tested: bool = True,
) -> Difference | None:
    """Compares two runs, each its name and its rows by key, on the photos that both have; None where there are none.

    redrawn: scores of a run's redrawn visits that were taken before, kept for its other pairs; it is added to. tested:
    whether a p value is asked for, too.
    """
    units_a, units_b, photos = _shared(measure, a[1], b[1])
    if not photos:
        return None
    kind, visits = measure.kind, len(units_a)
    held = {} if redrawn is None else redrawn
    scores = tuple(float(score_of(kind, units.sum(0)[None])[0]) for units in (units_a, units_b))
    value = scores[0] - scores[1]
    if np.isnan(value):
        return None
    drawn = [_redrawn(kind, units, held) for units in (units_a, units_b)]
    interval = _interval(value, drawn[0] - drawn[1], visits)
    p = _exchanged(kind, units_a, units_b, value) if tested and visits >= FEWEST_VISITS else float("nan")
    return Difference(measure, a[0], b[0], (scores[0], scores[1]), interval, p, p, photos, visits)


def every_pair(measure: Measure, runs: Sequence[Run], part: str) -> list[Difference]:
    """Each pair of the runs that can be tested, a before b, with p values corrected for how many pairs there are."""
    named = [(run.name, run.rows[part]) for run in runs if run.interval(part, measure)]
    tested = [(a, b) for a, b in combinations(named, 2) if len(_shared(measure, a[1], b[1])[0]) >= FEWEST_VISITS]
    redrawn: dict[bytes, np.ndarray] = {}
    found = [difference(measure, a, b, redrawn) for a, b in tested]
    return corrected([one for one in found if one is not None])


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """The same with Holm's correction over all that have a p value: all of them together err once in twenty at most."""
    tested = sorted((one.p, place) for place, one in enumerate(found) if not np.isnan(one.p))
    adjusted = [one.p for one in found]
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = largest
    return [replace(one, corrected=p) for one, p in zip(found, adjusted, strict=True)]


def shift(measure: Measure, plain: dict[str, Row], shifted: dict[str, Row]) -> Difference | None:
    """How a score changes from photos to the same photos shifted; interval by visits, nothing is tested."""
    return difference(measure, ("shifted", shifted), ("plain", plain), tested=False)


def gap(a: Interval, b: Interval) -> Interval:
    """a less b where they are of different photos, with Zou and Donner's interval from the two scores' own."""
    value = a.value - b.value
    low = value - float(np.hypot(a.value - a.low, b.high - b.value))
    high = value + float(np.hypot(a.high - a.value, b.value - b.low))
    return Interval(low, high, value)


def overlap(a: Interval, b: Interval) -> bool:
    """Whether two intervals share a value; where one is not known they might."""
    return not (a.high < b.low or b.high < a.low)


def _shared(measure: Measure, a: dict[str, Row], b: dict[str, Row]) -> tuple[np.ndarray, np.ndarray, int]:
    """(V, F) sums of either run by visit, and how many photos: those with one truth that both runs' rows can add."""
    visits: dict[str, list[np.ndarray]] = {}
    photos = 0
    for key in sorted(a.keys() & b.keys()):
        if a[key]["dataset"] != measure.dataset or not _agree(a[key], b[key]):
            continue
        pair = [sums(measure.kind, rows[key]) for rows in (a, b)]
        if pair[0] is None or pair[1] is None:
            continue
        photos += 1
        added = np.stack([np.asarray(one, np.float64) for one in pair if one is not None])
        visits.setdefault(a[key]["visit"], []).append(added)
    if not visits:
        return np.zeros((0, 1)), np.zeros((0, 1)), 0
    units = np.stack([np.sum(parts, axis=0) for parts in visits.values()])
    return units[:, 0], units[:, 1], photos


def _agree(a: Row, b: Row) -> bool:
    """Whether two rows say the same of a photo's labels, as far as both say anything."""
    of_a, of_b = truths(a), truths(b)
    return all(of_a[name] == of_b[name] for name in of_a.keys() & of_b.keys())


def _redrawn(kind: Kind, units: np.ndarray, held: dict[bytes, np.ndarray]) -> np.ndarray:
    """(R,) scores of a run's visits drawn with replacement; the same draws for every run of as many visits."""
    key = units.tobytes()
    if key not in held:
        visits = len(units)
        weights = np.random.default_rng(0).multinomial(visits, np.full(visits, 1 / visits), size=REPEATS)
        held[key] = score_of(kind, weights.astype(np.float64) @ units)
    return held[key]


def _interval(value: float, drawn: np.ndarray, visits: int) -> Interval:
    kept = drawn[~np.isnan(drawn)]
    low = high = float("nan")
    if visits > 1 and len(kept):
        low, high = (float(q) for q in np.quantile(kept, [0.025, 0.975]))
    return Interval(low, high, value, visits, len(drawn), len(drawn) - len(kept))


def _exchanged(kind: Kind, units_a: np.ndarray, units_b: np.ndarray, value: float) -> float:
    """The share of exchanges with a difference at least as large; the observed one is among them: it is never 0."""
    swaps = np.random.default_rng(1).integers(0, 2, (REPEATS, len(units_a))).astype(np.float64)
    as_a = units_a.sum(0) + swaps @ (units_b - units_a)
    drawn = score_of(kind, as_a) - score_of(kind, units_a.sum(0) + units_b.sum(0) - as_a)
    kept = np.abs(drawn[~np.isnan(drawn)])
    # A hair of slack: the same sums in another order may differ in the last bit.
    return float((np.count_nonzero(kept >= abs(value) - 1e-12) + 1) / (len(kept) + 1))
