"""Scores of grades: agreement, areas under ROC curves, referral.

A refused photo is not left out: it counts as the worst possible answer. The number of refused photos is reported too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from funduscope.metrics.state import State, ratio
from funduscope.vocabulary import GRADES, REFERABLE_FROM

Refusals = Sequence[bool] | np.ndarray | None
"""(N,) True for refused photos; None: none was refused."""


def furthest_grade(truth: int, grades: int) -> int:
    """The grade a refused photo counts as: the furthest from its label, of two the lower (missed disease)."""
    return 0 if truth >= grades - 1 - truth else grades - 1


@dataclass(frozen=True, eq=False)
class GradingState(State):
    """Photos by true and predicted grade.

    answered: (G, G), rows truth, columns prediction. refusals: (G,) refused photos by true grade.
    """

    answered: np.ndarray
    refusals: np.ndarray

    @classmethod
    def of(cls, truths: Sequence[int], predictions: Sequence[int | None], grades: int = len(GRADES)) -> Self:
        """Photos with a known grade each; a prediction of None is a refusal. Raises `ValueError` for other grades."""
        answered = np.zeros((grades, grades), np.int64)
        refusals = np.zeros(grades, np.int64)
        known = range(grades)
        for truth, prediction in zip(truths, predictions, strict=True):
            if truth not in known or (prediction is not None and prediction not in known):
                raise ValueError(f"Grades run from 0 to {grades - 1}; came truth {truth}, prediction {prediction}.")
            if prediction is None:
                refusals[int(truth)] += 1
            else:
                answered[int(truth), int(prediction)] += 1  # a bool would be taken for a mask
        return cls(answered, refusals)

    @property
    def confusion(self) -> np.ndarray:
        """(G, G), rows truth, columns prediction, the refused in the column of the furthest grade."""
        confusion, grades = self.answered.copy(), self.answered.shape[-1]
        for truth in range(grades):
            confusion[..., truth, furthest_grade(truth, grades)] += self.refusals[..., truth]
        return confusion

    @property
    def accuracy(self) -> float:
        """Share graded exactly right; nan without photos. Takes batches."""
        confusion = self.confusion
        return ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))

    @property
    def kappa(self) -> float:
        """Cohen's kappa with quadratic weights; nan if all labels and predictions are one grade (0 / 0).

        Takes batches.
        """
        confusion = self.confusion.astype(np.float64)
        grade = np.arange(confusion.shape[-1])
        weights = (grade[:, None] - grade[None, :]) ** 2
        chance = confusion.sum(axis=-1)[..., :, None] * confusion.sum(axis=-2)[..., None, :]
        # `chance` is n times the expected counts; multiplying the observed ones by n keeps whole numbers whole.
        observed = np.sum(weights * confusion, axis=(-2, -1)) * confusion.sum(axis=(-2, -1))
        return 1 - ratio(observed, np.sum(weights * chance, axis=(-2, -1)))

    @property
    def recalls(self) -> np.ndarray:
        """(G,) share of each true grade that was graded right; nan for a grade that does not occur."""
        return np.array([ratio(row[grade], row.sum()) for grade, row in enumerate(self.confusion)])

    def macro(self, *axes: int) -> float:
        """Macro precision (axis 0 of the confusion), recall (axis 1) or F1 (both axes); nan without photos.

        The mean over the grades that occur as a label or as a prediction. A grade that occurs only as a label has no
        precision, one that occurs only as a prediction no recall: both count as 0. A grade that does not occur is left
        out. This is scikit-learn's average "macro" with zero_division=0 and without `labels`. Takes batches.
        """
        confusion = self.confusion
        occurs = confusion.sum(axis=-2) + confusion.sum(axis=-1) > 0
        right = np.diagonal(confusion, axis1=-2, axis2=-1)
        among = np.mean([confusion.sum(axis=axis - 2) for axis in axes], axis=0)
        shares = np.divide(right, among, out=np.zeros(right.shape), where=among > 0)
        return ratio(shares.sum(axis=-1), occurs.sum(axis=-1))


@dataclass(frozen=True, eq=False)
class JointState(State):
    """Photos with a known DR grade and DME risk, and the number with both right. A refused photo is wrong."""

    right: float
    photos: float

    @classmethod
    def of(cls, truths: Sequence[tuple[int, int]], predictions: Sequence[tuple[int, int] | None]) -> Self:
        """Each a pair (DR grade, DME risk); a prediction of None is a refusal."""
        pairs = list(zip(truths, predictions, strict=True))
        right = sum(p is not None and tuple(t) == tuple(p) for t, p in pairs)
        return cls(right, len(pairs))

    @property
    def accuracy(self) -> float:
        return ratio(self.right, self.photos)


@dataclass(frozen=True, eq=False)
class BinaryState(State):
    """A yes-or-no question about each photo: referral, gradability, presence of a lesion.

    positive: (N,) bool, the truth. score: (N,), higher means yes. refused: (N,) bool; counts as the wrong extreme.
    """

    LISTED: ClassVar[frozenset[str]] = frozenset({"positive", "score", "refused"})

    positive: np.ndarray
    score: np.ndarray
    refused: np.ndarray

    @classmethod
    def of(
        cls, positive: Sequence[bool] | np.ndarray, score: Sequence[float] | np.ndarray, refused: Refusals = None
    ) -> Self:
        """(N,) each; without `refused` none was. The score of a refused photo is not read and may be nan.

        Raises `ValueError` for a truth that is neither yes nor no: what is not known is not scored.
        """
        if not np.isin(np.asarray(positive), (0, 1)).all():
            raise ValueError("A truth is True or False, 1 or 0: leave out photos of which it is not known.")
        truth = np.asarray(positive, bool)
        scores = np.asarray(score, np.float64)
        left = np.zeros(truth.shape, bool) if refused is None else np.asarray(refused, bool)
        if truth.ndim != 1 or not truth.shape == scores.shape == left.shape:
            raise ValueError(
                f"(N,) each is expected; truths {truth.shape}, scores {scores.shape}, refusals {left.shape}."
            )
        return cls(truth, scores, left)

    @property
    def auroc(self) -> float:
        """Area under the ROC curve: the share of pairs in which a positive outscores a negative; ties count half.

        nan if all photos are of one kind.
        """
        worst = np.where(self.refused, np.where(self.positive, -np.inf, np.inf), self.score)
        values, inverse = np.unique(worst, return_inverse=True)
        if np.any(np.isnan(values)):
            raise ValueError("A score is NaN: a photo without a score must be marked as refused.")
        up = np.bincount(inverse[self.positive], minlength=len(values)).astype(np.float64)
        down = np.bincount(inverse[~self.positive], minlength=len(values)).astype(np.float64)
        below = np.cumsum(down) - down
        return ratio(np.sum(up * (below + down / 2)), up.sum() * down.sum())


@dataclass(frozen=True, eq=False)
class ProbabilityState(State):
    """Each photo's probabilities of the grades, for areas under curves and referral.

    truth: (N,) int. probabilities: (N, G) in 0..1. refused: (N,) bool.
    """

    LISTED: ClassVar[frozenset[str]] = frozenset({"truth", "probabilities", "refused"})

    truth: np.ndarray
    probabilities: np.ndarray
    refused: np.ndarray

    @classmethod
    def of(cls, truth: Sequence[int] | np.ndarray, probabilities: np.ndarray, refused: Refusals = None) -> Self:
        """(N,), (N, G), (N,) bool; the probabilities of a refused photo are not read and may be nan."""
        return cls(*matching_rows(truth, np.asarray(probabilities, np.float64), refused))

    @property
    def macro_auroc(self) -> float:
        """Mean over the grades that occur, each against the rest; nan if there is only one."""
        areas = [
            BinaryState(self.truth == grade, scores, self.refused).auroc
            for grade, scores in enumerate(self.probabilities.T)
        ]
        defined = [area for area in areas if not np.isnan(area)]
        return float(np.mean(defined)) if defined else float("nan")

    def referable(self) -> BinaryState:
        """Whether the grade is referable; the score is the sum of the probabilities of those grades."""
        scores = self.probabilities[:, REFERABLE_FROM:].sum(axis=1)
        return BinaryState(self.truth >= REFERABLE_FROM, scores, self.refused)


def matching_rows(
    truth: Sequence[int] | np.ndarray, table: np.ndarray, refused: Refusals
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) grades, (N, G) predictions, (N,) refusals, after a check that their lengths agree."""
    truths = np.asarray(truth, np.int64)
    left = np.zeros(len(truths), bool) if refused is None else np.asarray(refused, bool)
    if truths.ndim != 1 or table.ndim != 2 or not len(truths) == len(table) == len(left):
        shapes = f"grades {truths.shape}, rows {table.shape}, refusals {left.shape}"
        raise ValueError(f"(N,), (N, G) and (N,) are expected; came {shapes}.")
    if np.any((truths < 0) | (truths >= table.shape[1]) | (truths != np.asarray(truth))):
        came = sorted({*np.asarray(truth).tolist()})
        raise ValueError(f"Grades are whole numbers from 0 to {table.shape[1] - 1}; came {came}.")
    return truths, table, left
