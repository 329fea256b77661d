"""Confident learning: which labels a model that never saw the examples contradicts with confidence.

Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of Artificial
Intelligence Research 70, 2021. Here: thresholds per class, the confident joint, its off-diagonal entries as doubtful
labels, ranked by self-confidence. What differs: no pruning and no training again; a class of fewer than three examples
has no threshold, which would be one photo's, so that no label is doubted for its sake alone; and a label that is still
the likeliest class is not doubted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

FEWEST: Final = 3
"""Examples that a class needs for a threshold."""


_ROUNDING: Final = 1e-9
"""The mean of equal numbers may be rounded above each of them."""


@dataclass(frozen=True)
class Doubt:
    """A doubtful label: the example's index, its label, the suggested class, and both probabilities."""

    index: int
    label: int
    suggested: int
    self_confidence: float
    suggested_confidence: float


def thresholds(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """(K,) float64: each class's mean probability over the examples with that label; 2, out of reach, for rare classes.

    labels: (N,) int in 0..K-1. probs: (N, K), each row of a model that did not learn from that example.
    """
    classes = probs.shape[1]
    counts = np.bincount(labels, minlength=classes)
    means = np.array([probs[labels == k, k].mean() if counts[k] >= FEWEST else 2.0 for k in range(classes)])
    return means.astype(np.float64)


def confident_classes(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """(N,) int: the likeliest class of those that reach their threshold; -1 if none does."""
    reached = probs >= thresholds(labels, probs)[None, :] - _ROUNDING
    likeliest = np.where(reached, probs, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), likeliest, -1)


def confident_joint(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """(K, K) float64 that sums to 1: how often an example labeled i truly is j, by the paper's calibration."""
    classes = probs.shape[1]
    true = confident_classes(labels, probs)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels[true >= 0], true[true >= 0]), 1)
    rows = counts.sum(axis=1)
    # A label without a counted example is taken as right.
    counts[rows == 0, rows == 0] = 1.0
    of_label = np.bincount(labels, minlength=classes).astype(np.float64)
    calibrated = counts / counts.sum(axis=1, keepdims=True) * of_label[:, None]
    return calibrated / max(calibrated.sum(), 1e-12)


def doubts(labels: np.ndarray, probs: np.ndarray) -> list[Doubt]:
    """The examples that are confidently of another class than their label, the least self-confident first.

    The suggested class is the likeliest one, not necessarily one that reached its threshold.
    """
    true, likeliest = confident_classes(labels, probs), probs.argmax(axis=1)
    found = [
        Doubt(int(k), int(labels[k]), int(likeliest[k]), float(probs[k, labels[k]]), float(probs[k, likeliest[k]]))
        for k in np.flatnonzero((true >= 0) & (true != labels) & (likeliest != labels))
    ]
    return sorted(found, key=lambda one: (one.self_confidence, one.index))
