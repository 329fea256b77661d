"""Platt scaling of a structure's logits on validation photos ("Probabilistic outputs for support vector machines",
1999), without keeping more than a byte per pixel.

Losses that weigh lesions' pixels up, and those of overlap, teach logits that rank pixels well and are far too sure of
themselves: thresholds then crowd just below 1, where nobody can choose among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

Scale = tuple[float, float]
"""Slope and shift of the logits."""

UNSCALED: Final[Scale] = (1.0, 0.0)

_STEP: Final = 1 / 8
"""Logit per step of a byte, whose values stand for -16 to 16."""

_VALUES: Final = (np.arange(256) - 128) * _STEP
_ROUNDS: Final = 50


def to_bytes(probs: np.ndarray) -> np.ndarray:
    """Probabilities of any shape as uint8 steps of their logits."""
    kept = np.clip(probs.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.clip(np.rint(np.log(kept / (1 - kept)) / _STEP) + 128, 0, 255).astype(np.uint8)


def scaled(steps: np.ndarray, scale: Scale) -> np.ndarray:
    """The probabilities of such steps, uint8, 255 being 1."""
    return np.rint(255 * _sigmoid(scale[0] * _VALUES + scale[1])).astype(np.uint8)[steps]


def fit_scale(photos: Iterable[tuple[np.ndarray, np.ndarray]]) -> Scale:
    """The slope and shift that make the pixels of photos (steps, truth (bool), of equal shapes) most likely.

    `UNSCALED` if no pixel is true or none is false, and if the logits do not rise with the truth.
    """
    true, false = np.zeros(256), np.zeros(256)
    for steps, truth in photos:
        true += np.bincount(steps[truth], minlength=256)
        false += np.bincount(steps[~truth], minlength=256)
    if not true.any() or not false.any():
        return UNSCALED
    slope, shift = _newton(true, true + false)
    return (round(slope, 4), round(shift, 4)) if slope > 0 else UNSCALED


def _newton(true: np.ndarray, count: np.ndarray) -> tuple[float, float]:
    """Logistic regression on the steps' logits by Newton's method; a step that would make it worse is shortened."""
    rows, theta = np.stack([_VALUES, np.ones(256)], axis=1), np.array([1.0, 0.0])
    best = _cost(rows @ theta, true, count)
    for _ in range(_ROUNDS):
        probs = _sigmoid(rows @ theta)
        gradient = rows.T @ (count * probs - true)
        curvature = (rows * (count * probs * (1 - probs))[:, None]).T @ rows + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while (cost := _cost(rows @ (theta - step), true, count)) > best and np.abs(step).max() > 1e-7:
            step /= 2
        if cost >= best:
            break
        theta, best = theta - step, cost
    return float(theta[0]), float(theta[1])


def _cost(logits: np.ndarray, true: np.ndarray, count: np.ndarray) -> float:
    return float((count * np.logaddexp(0, logits) - true * logits).sum())


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
