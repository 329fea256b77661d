"""Scores of masks and probability maps, pooled over the pixels of a set: precision and recall, overlap, lesions found.

Pixels are counted at the photo's own size. The curve over 33 thresholds is that of the IDRiD challenge (Porwal et al.,
Medical Image Analysis 59, 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from funduscope.metrics.state import State, ratio

BINS = 65536
"""Probabilities are counted in 16 bits: bin b counts b / 65536 <= p < (b + 1) / 65536, the last one p = 1 too."""

COARSE = np.unique(np.concatenate([[0], np.rint(BINS / (1 + np.exp(-np.linspace(-11, 11, 127)))).astype(np.int64)]))
"""Lower edges of coarser bins, evenly spaced in the logit, so that maps below 0.01 everywhere keep their order."""

FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""False positives per photo at which lesion-level sensitivity is reported."""

_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class DenseState(State):
    """One structure's probabilities against its true mask: pixels by probability bin.

    positive, negative: (65536,) pixels in the true mask and outside it. The bins' edges are multiples of 2**-16, so
    all 33 thresholds (multiples of 2**-5) are edges, and scores from the bins are exact.
    """

    positive: np.ndarray
    negative: np.ndarray

    @classmethod
    def of(cls, prob: np.ndarray, target: np.ndarray) -> Self:
        """prob: (H, W) float in 0..1. target: (H, W) bool. Raises `ValueError` for other sizes or ranges.

        A refused photo counts as an empty mask: its `prob` is 0 everywhere.
        """
        _same_shape(prob, target)
        flat, truth = prob.reshape(-1), target.reshape(-1)
        everything = np.zeros(BINS, np.int64)
        positive = np.zeros(BINS, np.int64)
        # Blocks fit the processor's cache: half the time of one pass over 12 megapixels.
        for start in range(0, flat.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            bins = _bins(flat[part])
            hit = truth[part].astype(bool, copy=False)
            everything += np.bincount(bins, minlength=BINS)
            if hit.any():
                positive += np.bincount(bins[hit], minlength=BINS)
        return cls(positive, everything - positive)

    @property
    def positives(self) -> int:
        return int(self.positive.sum())

    @property
    def pixels(self) -> int:
        return int(self.positive.sum() + self.negative.sum())

    @property
    def prevalence(self) -> float:
        """Share of pixels that are in the true mask; nan if there is no pixel."""
        return ratio(self.positives, self.pixels)

    def curve33(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(33,) thresholds 0..1, precision, recall. Recall is nan if the true mask is empty over the whole set."""
        tp, fp = _at_least33(self.positive), _at_least33(self.negative)
        marked = tp + fp
        precision = np.divide(tp, marked, out=np.ones(33), where=marked > 0)
        recall = tp / tp[0] if tp[0] else np.full(33, np.nan)
        return np.arange(33) / 32, precision, recall

    @property
    def aupr33(self) -> float:
        """Area under precision over recall at 33 thresholds, trapezoids from t = 1 down; nan without a true pixel."""
        _, precision, recall = self.curve33()
        return float(np.sum(-np.diff(recall) * (precision[1:] + precision[:-1]) / 2))

    @property
    def average_precision(self) -> float:
        """Sum of precision times the gain in recall, over the 16-bit probabilities; nan without a true pixel."""
        used = np.flatnonzero((self.positive + self.negative) > 0)[::-1]
        tp = np.cumsum(self.positive[used], dtype=np.float64)
        marked = tp + np.cumsum(self.negative[used], dtype=np.float64)
        if not len(used) or not tp[-1]:
            return float("nan")
        return float(np.sum(self.positive[used] * (tp / marked)) / tp[-1])


@dataclass(frozen=True, eq=False)
class CoarseDenseState(State):
    """A `DenseState` in the bins of `COARSE`, which is small enough for a row of photos.jsonl. Takes batches.

    positive, negative: (118,) pixels in the true mask and outside it.
    """

    positive: np.ndarray
    negative: np.ndarray

    @classmethod
    def of(cls, state: DenseState) -> Self:
        return cls(np.add.reduceat(state.positive, COARSE), np.add.reduceat(state.negative, COARSE))

    def to_row(self) -> list[Any]:
        """The first bin that is not empty, then the counts inside and outside the mask up to the last such bin."""
        filled = np.flatnonzero(self.positive + self.negative)
        kept = slice(filled[0], filled[-1] + 1)
        return [int(filled[0]), self.positive[kept].tolist(), self.negative[kept].tolist()]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """The inverse of `to_row`."""
        first, inside, outside = row
        table = np.zeros((2, len(COARSE)))
        table[:, first : first + len(inside)] = inside, outside
        return cls(*table)

    @property
    def average_precision(self) -> float:
        """That of `DenseState` within 0.005 over millions of pixels, 0.015 over hundreds.

        The pixels of a bin are taken as spread evenly in it.
        """
        positive, negative = self.positive[..., ::-1], self.negative[..., ::-1]
        tp = np.cumsum(positive, axis=-1) - positive / 2
        marked = tp + np.cumsum(negative, axis=-1) - negative / 2
        precision = tp / np.maximum(marked, 0.5)  # an empty bin has no pixel whose precision would count
        return ratio((positive * precision).sum(axis=-1), positive.sum(axis=-1))


@dataclass(frozen=True, eq=False)
class MaskState(State):
    """One structure's final mask (at the shipped threshold) against the true one: pixels of the four kinds.

    Takes batches.
    """

    tp: float
    fp: float
    fn: float
    tn: float

    @classmethod
    def of(cls, mask: np.ndarray, target: np.ndarray) -> Self:
        """Both (H, W), bool or not 0 where marked. A refused photo's `mask` is all False."""
        _same_shape(mask, target)
        mask, target = mask.astype(bool, copy=False), target.astype(bool, copy=False)
        tp = int(np.count_nonzero(mask & target))
        fp = int(np.count_nonzero(mask)) - tp
        fn = int(np.count_nonzero(target)) - tp
        return cls(tp, fp, fn, mask.size - tp - fp - fn)

    @property
    def dice(self) -> float:
        """2 tp / (2 tp + fp + fn); nan if both masks are empty."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Jaccard: tp / (tp + fp + fn); nan if both masks are empty."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """nan if nothing is marked."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """nan if the true mask is empty."""
        return ratio(self.tp, self.tp + self.fn)


@dataclass(frozen=True, eq=False)
class FrocState(State):
    """Lesions found against false alarms per photo (free-response ROC).

    found: (F,) for every lesion that a candidate touches, the best score of those candidates. false: (A,) scores of
    candidates that touch no lesion. lesions, photos: their numbers, found or not.
    """

    LISTED: ClassVar[frozenset[str]] = frozenset({"found", "false"})

    found: np.ndarray
    false: np.ndarray
    lesions: float
    photos: float

    @classmethod
    def of(cls, candidates: Sequence[tuple[float, int]], lesions: int) -> Self:
        """One photo's candidates, each (score, number of the lesion it touches from 0, or -1 for none).

        A candidate that touches several lesions is listed once for each. A refused photo has no candidates.
        """
        best: dict[int, float] = {}
        for score, lesion in candidates:
            if lesion >= lesions or lesion < -1:
                raise ValueError(
                    f"A candidate names lesion {lesion}; of {lesions} lesions, 0..{lesions - 1} or -1 fit."
                )
            if lesion >= 0:
                best[lesion] = max(score, best.get(lesion, -np.inf))
        false = [score for score, lesion in candidates if lesion < 0]
        return cls(np.array(list(best.values()), np.float64), np.array(false, np.float64), lesions, 1)

    def sensitivity_at(self, fp_per_photo: float) -> float:
        """Share of lesions found at the lowest threshold with at most that many false alarms per photo; nan for none.

        Candidates with equal scores are kept or dropped together. With fewer false alarms than allowed, all are kept.
        """
        allowed = int(np.floor(fp_per_photo * self.photos + 1e-9))
        above = -np.inf if len(self.false) <= allowed else np.sort(self.false)[::-1][allowed]
        return ratio(np.count_nonzero(self.found > above), self.lesions)

    @property
    def mean_sensitivity(self) -> float:
        """Mean over 1/8, 1/4, 1/2, 1, 2, 4 and 8 false alarms per photo."""
        return float(np.mean([self.sensitivity_at(rate) for rate in FROC_RATES]))

    def f1_at(self, least: float) -> float:
        """F1 of the candidates that score at least this: 2 x found / (2 x found + false + missed); nan for nothing."""
        found, false = np.count_nonzero(self.found >= least), np.count_nonzero(self.false >= least)
        return ratio(2 * found, found + false + self.lesions)


def froc_candidates(prob: np.ndarray, target: np.ndarray, floor: float = 0.1) -> tuple[list[tuple[float, int]], int]:
    """A photo's candidates as `FrocState.of` takes them, and the number of true lesions.

    A lesion is an 8-connected component of the true mask, a candidate one of prob >= floor. A candidate's score is the
    highest probability in it; it is a hit when it shares at least one pixel with a lesion.
    """
    import cv2  # the rest of this module needs numpy alone

    _same_shape(prob, target)
    lesions, lesion_of = cv2.connectedComponents((target > 0).astype(np.uint8), connectivity=8)
    marked = prob >= floor
    count, candidate_of = cv2.connectedComponents(marked.astype(np.uint8), connectivity=8)
    inside = candidate_of[marked].astype(np.int64)
    scores = np.zeros(count, np.float64)
    np.maximum.at(scores, inside, prob[marked].astype(np.float64))
    # One number for each pair of candidate and lesion, so that a touch of many pixels counts once.
    touches = inside * lesions + lesion_of[marked]
    pairs = np.unique(touches[lesion_of[marked] > 0])
    hits = [(float(scores[pair // lesions]), int(pair % lesions) - 1) for pair in pairs]
    missing = np.setdiff1d(np.arange(1, count), pairs // lesions)
    return hits + [(float(scores[i]), -1) for i in missing], lesions - 1


def froc_by_area(mask: np.ndarray, target: np.ndarray) -> FrocState:
    """One photo's outlined lesions against the true ones, (H, W) bool each; the score is an outline's area in pixels.

    `f1_at(area)` is then the F1 with smaller outlines removed.
    """
    import cv2

    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0  # the background
    return FrocState.of(*froc_candidates(areas[np.asarray(parts, np.intp)], target, floor=1))


def _bins(prob: np.ndarray) -> np.ndarray:
    """(N,) uint16 bins of (N,) probabilities; scaling by a power of two is exact in any float."""
    scaled = np.multiply(prob, np.float32(BINS), dtype=np.promote_types(prob.dtype, np.float32))
    low, high = float(scaled.min()), float(scaled.max())
    if not (low >= 0 and high <= BINS):
        raise ValueError(f"Probabilities run from {low / BINS:g} to {high / BINS:g}; 0..1 without NaN is expected.")
    return np.minimum(scaled, BINS - 1, out=scaled).astype(np.uint16)


def _at_least33(histogram: np.ndarray) -> np.ndarray:
    """(33,) pixels with p >= k/32; by definition none at k = 32."""
    coarse = histogram.reshape(32, BINS // 32).sum(axis=1, dtype=np.float64)
    return np.append(np.cumsum(coarse[::-1])[::-1], 0.0)


def _same_shape(first: np.ndarray, target: np.ndarray) -> None:
    if first.shape != target.shape:
        raise ValueError(f"Prediction and truth must be of one size; they are {first.shape} and {target.shape}.")
