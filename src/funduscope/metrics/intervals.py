"""Uncertainty of scores: 95 % intervals by bootstrap over visits, and paired tests between two models.

Photos of one visit are alike, so visits are drawn again, never photos (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993: percentile intervals, chapter 13; permutation tests, chapter 15).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from funduscope.metrics.state import State

S = TypeVar("S", bound=State)

_LEVEL = 0.95
"""Share of the drawn scores inside an interval."""


@dataclass(frozen=True)
class Interval:
    """A score and its 95 % interval; low and high are nan if there is none (one visit, an undefined score).

    visits: their number. dropped: repeats in which the score did not exist (say, no lesion was drawn); the interval is
    of the other repeats.
    """

    low: float
    high: float
    value: float
    visits: int = 0
    dropped: int = 0

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON, which knows no nan: null there."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        shown = {name: None if np.isnan(number) else number for name, number in numbers.items()}
        return {**shown, "visits": self.visits, "dropped": self.dropped}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, float | int | None]) -> Interval:
        """The inverse of `to_dict`."""
        low, high, value = (float("nan") if (one := numbers[n]) is None else one for n in ("low", "high", "value"))
        return cls(low, high, value, int(numbers.get("visits") or 0), int(numbers.get("dropped") or 0))


def by_visit(photos: Iterable[tuple[str, S]]) -> list[S]:
    """One state for each visit, from pairs of (visit, state of a photo), in the order of the visits' first photos."""
    grouped: dict[str, list[S]] = {}
    for visit, state in photos:
        grouped.setdefault(visit, []).append(state)
    return [type(states[0]).total(states) for states in grouped.values()]


def bootstrap(units: Sequence[S], score: Callable[[S], float], repeats: int = 1000, seed: int = 0) -> Interval:
    """The score over all units, and its percentile interval over units drawn again with replacement.

    units: one state per visit (see `by_visit`); score: for instance `lambda s: s.kappa`, nan if it does not exist.
    """
    return bootstrap_all(units, {"score": score}, repeats, seed)["score"]


def bootstrap_all(
    units: Sequence[S], scores: Mapping[str, Callable[[S], float]], repeats: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """`bootstrap` of several scores of the same states, all from the same draws: the sums are computed once."""
    whole = type(units[0]).total(units) if units else None
    if whole is None:
        raise ValueError("There is no visit to draw from: at least one is needed.")
    sums = type(units[0]).weighted(units, _draws(len(units), repeats, seed))
    drawn = np.array([[score(state) for score in scores.values()] for state in sums], np.float64)
    return {
        name: _interval(score(whole), column, len(units))
        for (name, score), column in zip(scores.items(), drawn.T, strict=True)
    }


def paired_test(
    units_a: Sequence[S],
    units_b: Sequence[S],
    score: Callable[[S], float],
    repeats: int = 1000,
    seed: int = 0,
    *,
    tested: bool = True,
    batched: bool = False,
) -> tuple[Interval, float]:
    """The score of model A minus that of model B, and a two-sided p: whether the models differ.

    Unit n of both is the same visit. Raises `ValueError` for unlike numbers of units. Interval: both models' visits are
    drawn again, the same ones. p (nan unless `tested`): the share of permutations, exchanging the models within random
    visits, with a difference at least as large; the observed one counts too, so p is never 0. batched: the score is
    documented to take batches (`State.batches`), which is many times faster; a state with lists has none.
    """
    if len(units_a) != len(units_b) or not units_a:
        raise ValueError(f"Two models on the same visits are compared; came {len(units_a)} and {len(units_b)} visits.")
    count, cls = len(units_a), type(units_a[0])
    scored = partial(_score_weighted, score, batched=batched and not cls.LISTED)
    weights = _draws(count, repeats, seed)
    drawn = scored(units_a, weights) - scored(units_b, weights)
    observed = score(cls.total(units_a)) - score(cls.total(units_b))
    interval = _interval(observed, drawn, count)
    if not tested:
        return interval, float("nan")
    swaps = np.random.default_rng(seed + 1).integers(0, 2, (repeats, count))
    both = [*units_a, *units_b]
    as_a = scored(both, np.hstack([1 - swaps, swaps]))
    as_b = scored(both, np.hstack([swaps, 1 - swaps]))
    return interval, _permutation_p(observed, as_a - as_b)


def _score_weighted(
    score: Callable[[S], float], units: Sequence[S], weights: np.ndarray, *, batched: bool
) -> np.ndarray:
    """(R,) the score of every weighted sum of the units."""
    cls = type(units[0])
    if batched:
        return np.concatenate([np.asarray(score(batch)) for batch in cls.batches(units, weights)])
    return np.array([score(state) for state in cls.weighted(units, weights)], np.float64)


def _draws(count: int, repeats: int, seed: int) -> np.ndarray:
    """(repeats, count): how often each of `count` units occurs in `count` draws with replacement."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=repeats)


def _interval(value: float, drawn: np.ndarray, units: int) -> Interval:
    kept = drawn[~np.isnan(drawn)]
    low = high = float("nan")
    # One visit drawn again is the same visit: an interval without width would be false.
    if units > 1 and len(kept) and not np.isnan(value):
        low, high = (float(q) for q in np.quantile(kept, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]))
    return Interval(low, high, float(value), units, len(drawn) - len(kept))


def _permutation_p(observed: float, exchanged: np.ndarray) -> float:
    kept = np.abs(exchanged[~np.isnan(exchanged)])
    if np.isnan(observed) or not len(kept):
        return float("nan")
    # The slack allows for sums in another order, which may differ in the last bit.
    return float((np.count_nonzero(kept >= abs(observed) - 1e-12) + 1) / (len(kept) + 1))
