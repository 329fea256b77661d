"""Calibration of probabilities: calibration error, Brier score, conformal sets.

Refused photos have no probabilities: calibration leaves them out, coverage counts them as not covered.
The calibration error is that of Guo et al., "On calibration of modern neural networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from funduscope.metrics.grading import Refusals, matching_rows
from funduscope.metrics.state import State, ratio

BINS = 15


@dataclass(frozen=True, eq=False)
class CalibrationState(State):
    """The highest probability of each photo against whether that grade is right, in 15 bins of equal width.

    counts, confidence, correct: (15,) photos, sum of their highest probability, photos that were right.
    brier_sum: over photos, of the squared differences from the one-hot label, over all grades.
    """

    counts: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray
    brier_sum: float

    @classmethod
    def of(cls, truth: Sequence[int] | np.ndarray, probabilities: np.ndarray, refused: Refusals = None) -> Self:
        """(N,) grades, (N, G) probabilities that sum to 1, (N,) bool; a refused photo's row is not read."""
        truths, table, left = matching_rows(truth, np.asarray(probabilities, np.float64), refused)
        truths, table = truths[~left], table[~left]
        top, bins = _top(table)
        right = (table.argmax(axis=1) == truths).astype(np.float64)
        one_hot = np.eye(table.shape[1])[truths]
        return cls(
            np.bincount(bins, minlength=BINS),
            np.bincount(bins, top, BINS),
            np.bincount(bins, right, BINS),
            float(np.sum((table - one_hot) ** 2)),
        )

    @property
    def n(self) -> int:
        """Photos counted, refused ones not among them."""
        return int(self.counts.sum())

    @property
    def ece(self) -> float:
        """Expected calibration error in 0..1, to be compared with `ece_bias`; nan without photos."""
        return ratio(np.abs(self.confidence - self.correct).sum(), self.n)

    @property
    def brier(self) -> float:
        """Mean over photos of the sum over grades of squared differences: 0..2, not the halved binary kind."""
        return ratio(self.brier_sum, self.n)

    def reliability(self) -> list[dict[str, float]]:
        """The 15 bins of the reliability plot: photos whose highest probability lies in (low, high].

        Means are nan if there are none.
        """
        return [
            {
                "low": b / BINS,
                "high": (b + 1) / BINS,
                "count": int(self.counts[b]),
                "confidence": ratio(self.confidence[b], self.counts[b]),
                "accuracy": ratio(self.correct[b], self.counts[b]),
            }
            for b in range(BINS)
        ]


def ece_bias(probabilities: np.ndarray, repeats: int = 1000) -> float:
    """The mean ECE of a perfectly calibrated model with these probabilities, which is above 0 for few photos.

    probabilities: (N, G), of the photos that were not refused. Labels are drawn from them; nan without photos.
    """
    table = np.atleast_2d(np.asarray(probabilities, np.float64))
    if not table.size:
        return float("nan")
    top, bins = _top(table)
    random = np.random.default_rng(0)
    confidence = np.bincount(bins, top, BINS)
    # The ECE depends only on whether the top grade was drawn, which has the probability of that grade.
    errors = [
        np.abs(confidence - np.bincount(bins, random.random(len(top)) < top, BINS)).sum() / len(top)
        for _ in range(repeats)
    ]
    return float(np.mean(errors))


@dataclass(frozen=True, eq=False)
class ConformalState(State):
    """Sets of grades against the true grade.

    covered, answered: (G,) photos by true grade, those with the truth in their set and all that have a set.
    refusals: (G,) refused photos by true grade: not covered. sizes: (G + 1,) photos by size of their set, from 0.
    """

    covered: np.ndarray
    answered: np.ndarray
    refusals: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, truth: Sequence[int] | np.ndarray, sets: np.ndarray, refused: Refusals = None) -> Self:
        """(N,) grades, (N, G) bool, True for grades in the set, (N,) bool; the row of a refused photo is not read."""
        truths, table, left = matching_rows(truth, np.asarray(sets, bool), refused)
        grades = table.shape[1]
        hit = table[np.arange(len(truths)), truths] & ~left
        return cls(
            np.bincount(truths[hit], minlength=grades),
            np.bincount(truths[~left], minlength=grades),
            np.bincount(truths[left], minlength=grades),
            np.bincount(table[~left].sum(axis=1), minlength=grades + 1),
        )

    @property
    def coverage(self) -> float:
        """Share of all photos, refused ones included, with the true grade in their set; nan without photos."""
        return ratio(self.covered.sum(), self.answered.sum() + self.refusals.sum())

    @property
    def coverage_by_grade(self) -> np.ndarray:
        """(G,), refused ones as not covered; nan for a grade that does not occur."""
        return np.array([ratio(c, a + r) for c, a, r in zip(self.covered, self.answered, self.refusals, strict=True)])

    @property
    def mean_size(self) -> float:
        """Mean number of grades in a set, over the photos that have one; nan without."""
        return ratio(np.sum(np.arange(len(self.sizes)) * self.sizes), self.sizes.sum())


def _top(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) highest probability and its bin: ((b / 15, (b + 1) / 15], 0 in the first."""
    if not np.all(np.abs(table.sum(axis=1) - 1) < 1e-3):
        raise ValueError("The probabilities of a photo's grades must sum to 1 (within 0.001), without NaN.")
    top = table.max(axis=1) if len(table) else np.zeros(0)
    return top, np.clip(np.ceil(top * BINS).astype(np.int64) - 1, 0, BINS - 1)
