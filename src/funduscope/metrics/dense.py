"""Scores of masks and probability maps, pooled over the pixels of a set: precision and recall, overlap, lesions found.

Everything is counted at the photo's own size; pixels that are not known count nowhere. The curve over 33 thresholds is
the one of the IDRiD challenge (Porwal et al., Medical Image Analysis 59, 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from funduscope.metrics.state import State, ratio

BINS = 65536
"""Probabilities are counted in 16 bits: bin b holds b / 65536 <= p < (b + 1) / 65536, the last one p = 1 too."""

THRESHOLDS = np.arange(33) / 32
FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""False positives a photo at which lesion-level sensitivity is stated."""

_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class DenseState(State):
    """One structure's probabilities against its true mask: pixels by probability bin.

    positive, negative: (65536,) pixels in the true mask and outside it. The bins' edges are multiples of 2**-16, so
    that all 33 thresholds (multiples of 2**-5) are edges: what follows from the bins is exact, not an approximation.
    """

    positive: np.ndarray
    negative: np.ndarray

    @classmethod
    def of(cls, prob: np.ndarray, target: np.ndarray, known: np.ndarray | None = None) -> Self:
        """prob: (H, W) float in 0..1. target, known: (H, W) bool. Raises `ValueError` for other sizes or ranges."""
        _same_shape(prob, target, known)
        flat, truth = prob.reshape(-1), target.reshape(-1)
        seen = None if known is None else known.reshape(-1)
        everything = np.zeros(BINS, np.int64)
        positive = np.zeros(BINS, np.int64)
        # In blocks that stay in the processor's cache: half the time of one go over 12 megapixels.
        for start in range(0, flat.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            bins = _bins(flat[part])
            hit = truth[part].astype(bool, copy=False)
            if seen is not None:
                bins, hit = bins[seen[part]], hit[seen[part]]
            everything += np.bincount(bins, minlength=BINS)
            if hit.any():
                positive += np.bincount(bins[hit], minlength=BINS)
        return cls(positive, everything - positive)

    @classmethod
    def refused(cls, target: np.ndarray, known: np.ndarray | None = None) -> Self:
        """A photo the system would not read: counts as an empty mask, probability 0 everywhere."""
        return cls.of(np.zeros(target.shape, np.float32), target, known)

    @property
    def positives(self) -> int:
        return int(self.positive.sum())

    @property
    def pixels(self) -> int:
        return int(self.positive.sum() + self.negative.sum())

    @property
    def prevalence(self) -> float:
        """Share of known pixels that are in the true mask; nan where no pixel is known."""
        return ratio(self.positives, self.pixels)

    def curve33(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(33,) thresholds 0..1, precision, recall. Recall is nan where the true mask is empty over the whole set."""
        tp, fp = _at_least33(self.positive), _at_least33(self.negative)
        marked = tp + fp
        precision = np.divide(tp, marked, out=np.ones(33), where=marked > 0)
        recall = tp / tp[0] if tp[0] else np.full(33, np.nan)
        return THRESHOLDS.copy(), precision, recall

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
class MaskState(State):
    """One structure's final mask (at the shipped threshold) against the true one: pixels of the four kinds."""

    tp: float
    fp: float
    fn: float
    tn: float

    @classmethod
    def of(cls, mask: np.ndarray, target: np.ndarray, known: np.ndarray | None = None) -> Self:
        """All (H, W) bool. A refused photo's `mask` is all False."""
        _same_shape(mask, target, known)
        mask, target = mask.astype(bool, copy=False), target.astype(bool, copy=False)
        if known is not None:
            mask, target = mask[known], target[known]
        tp = int(np.count_nonzero(mask & target))
        fp = int(np.count_nonzero(mask)) - tp
        fn = int(np.count_nonzero(target)) - tp
        return cls(tp, fp, fn, mask.size - tp - fp - fn)

    @property
    def dice(self) -> float:
        """2 tp / (2 tp + fp + fn); nan where both masks are empty."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Jaccard: tp / (tp + fp + fn); nan where both masks are empty."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """nan where nothing is marked."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """nan where nothing is there to find."""
        return ratio(self.tp, self.tp + self.fn)


@dataclass(frozen=True, eq=False)
class FrocState(State):
    """Lesions found against false alarms a photo (free-response ROC).

    found: (F,) for every lesion that some candidate touches, the best score among those. false: (A,) scores of
    candidates that touch no lesion. lesions, photos: how many there are, found or not.
    """

    LISTED: ClassVar[frozenset[str]] = frozenset({"found", "false"})

    found: np.ndarray
    false: np.ndarray
    lesions: float
    photos: float

    @classmethod
    def of(cls, candidates: Sequence[tuple[float, int]], lesions: int) -> Self:
        """One photo's candidates, each (score, number of the lesion it touches from 0, or -1 for none).

        A candidate that touches several lesions comes once for each. A refused photo has no candidates.
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
        """Share of lesions found at the lowest threshold with at most that many false alarms a photo; nan for none.

        Candidates of one score stand or fall together. With fewer false alarms than allowed, every candidate stands.
        """
        allowed = int(np.floor(fp_per_photo * self.photos + 1e-9))
        above = -np.inf if len(self.false) <= allowed else np.sort(self.false)[::-1][allowed]
        return ratio(np.count_nonzero(self.found > above), self.lesions)

    @property
    def mean_sensitivity(self) -> float:
        """Mean over 1/8, 1/4, 1/2, 1, 2, 4 and 8 false alarms a photo."""
        return float(np.mean([self.sensitivity_at(rate) for rate in FROC_RATES]))


def froc_candidates(
    prob: np.ndarray, target: np.ndarray, known: np.ndarray | None = None, floor: float = 0.1
) -> tuple[list[tuple[float, int]], int]:
    """A photo's candidates as `FrocState.of` takes them, and how many lesions are there.

    A lesion is an 8-connected component of the true mask, a candidate one of prob >= floor (both where known). A
    candidate's score is the highest probability in it; it is a hit when it shares at least one pixel with a lesion.
    """
    import cv2  # kept out of the module: everything else here needs numpy alone

    _same_shape(prob, target, known)
    seen = np.ones(prob.shape, bool) if known is None else known
    lesions, lesion_of = cv2.connectedComponents(((target > 0) & seen).astype(np.uint8), connectivity=8)
    marked = (prob >= floor) & seen
    count, candidate_of = cv2.connectedComponents(marked.astype(np.uint8), connectivity=8)
    inside = candidate_of[marked].astype(np.int64)
    scores = np.zeros(count, np.float64)
    np.maximum.at(scores, inside, prob[marked].astype(np.float64))
    # Pairs of candidate and lesion as one number each, so that a touch of many pixels is kept once.
    touches = inside * lesions + lesion_of[marked]
    pairs = np.unique(touches[lesion_of[marked] > 0])
    hits = [(float(scores[pair // lesions]), int(pair % lesions) - 1) for pair in pairs]
    missing = np.setdiff1d(np.arange(1, count), pairs // lesions)
    return hits + [(float(scores[i]), -1) for i in missing], lesions - 1


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


def _same_shape(first: np.ndarray, target: np.ndarray, known: np.ndarray | None) -> None:
    shapes = [a.shape for a in (first, target, known) if a is not None]
    if len(set(shapes)) > 1:
        raise ValueError(f"Prediction, truth and known pixels must be of one size; they are {shapes}.")
    if known is not None and known.dtype != bool:
        raise ValueError(f"`known` must be bool, it is {known.dtype}.")
