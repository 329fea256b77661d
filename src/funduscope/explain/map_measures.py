"""How good a map is: does it point at lesions, and does the answer hang on what it points at.

- Pointing game. Zhang et al., "Top-down Neural Attention by Excitation Backprop", IJCV 126, 2018.
- Energy-based pointing game. Wang et al., "Score-CAM", CVPR Workshops 2020: the share of the map that lies on lesions.
- Overlap: IoU of the lesions with the map's highest places, as many as the lesions have.
- Deletion and insertion. Petsiuk et al., "RISE", BMVC 2018: the answer's probability while the map's highest places are
  taken out of the photo first, or put into it first, as the area under that curve. What differs: what is taken out
  becomes the photo blurred, not black, which a network has never seen inside an eye; and the curve has few steps, close
  together where it falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

SIDE: Final = 256
"""Maps and lesions are compared in a grid of so many places on each side of the frame."""

REACH_FRAC: Final = 1 / 64
"""Lesions are taken this much of the frame's side wider, about a tenth of a disc diameter: a microaneurysm is smaller
than what any map can resolve."""

STEPS: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Shares of the eye that are taken out or put in."""

BLUR_FRAC: Final = 1 / 16
"""Of the frame's side: the Gaussian's sigma of the photo without its lesions."""


@dataclass(frozen=True)
class Overlap:
    """pointing: 1 or 0. energy: share of the map on lesions. iou: with as many places.

    area: the lesions' share of the eye, which a map that knows nothing scores in pointing and energy. outside: how much
    of the whole map lies outside the eye, where there is nothing to see; the others are of what is inside.
    """

    pointing: float
    energy: float
    iou: float
    area: float
    outside: float


def overlap(heat: np.ndarray, lesions: np.ndarray, eye: np.ndarray) -> Overlap:
    """A map against lesions. heat: (n, n), what is below 0 counts as 0; lesions, eye: (SIDE, SIDE) bool.

    A map that shows nothing in the eye points at nothing: all 0. Raises `ValueError` where there is no lesion.
    """
    target = lesions & eye
    if not target.any():
        raise ValueError("There is no lesion in the eye to point at.")
    whole = np.maximum(at_side(heat, SIDE), 0)
    shown = np.where(eye, whole, 0)
    area, outside = float(target.sum() / eye.sum()), 1 - float(shown.sum() / max(float(whole.sum()), 1e-12))
    if shown.max() <= 0:
        return Overlap(0.0, 0.0, 0.0, area, outside)
    top = highest(shown, eye, int(target.sum()))
    return Overlap(
        float(target.ravel()[shown.argmax()]),
        float(shown[target].sum() / shown.sum()),
        float((top & target).sum() / (top | target).sum()),
        area,
        outside,
    )


def eye_of(image: np.ndarray) -> np.ndarray:
    """Where the eye is in a framed photo (S, S, 3): (S, S) bool, its blurred edge left out."""
    side = len(image)
    yy, xx = np.mgrid[:side, :side] + 0.5 - side / 2
    return (np.hypot(xx, yy) < 0.48 * side) & (image.max(axis=2) > 10)


def at_side(plane: np.ndarray, side: int) -> np.ndarray:
    """A square map at another size, (side, side) float32: means where it shrinks, linear where it grows."""
    way = cv2.INTER_AREA if len(plane) > side else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(plane, np.float32), (side, side), interpolation=way)


def widened(coverage: np.ndarray) -> np.ndarray:
    """Lesions of a frame as the grid sees them: (S, S) coverage to (SIDE, SIDE) bool, `REACH_FRAC` wider."""
    reach = max(1, round(len(coverage) * REACH_FRAC))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wide = cv2.dilate((coverage > 0).astype(np.float32), kernel)
    return cv2.resize(wide, (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.5


def highest(heat: np.ndarray, eye: np.ndarray, count: int) -> np.ndarray:
    """The `count` highest places inside the eye, bool; equal ones are drawn by lot, always the same."""
    lot = np.random.default_rng(0).permutation(heat.size)
    values = np.where(eye, heat, -np.inf).ravel()
    order = np.lexsort((lot, -values))
    top = np.zeros(heat.size, bool)
    top[order[: min(count, int(eye.sum()))]] = True
    return top.reshape(heat.shape)


def curves(
    image: np.ndarray, heat: np.ndarray, eye: np.ndarray, answer: Callable[[np.ndarray], float]
) -> tuple[float, float]:
    """Areas under the deletion curve (low is good) and the insertion curve (high is good), both in 0..1.

    image: (S, S, 3) uint8; heat: (n, n); eye: (S, S) bool; answer: the probability for an image.
    """
    blurred = blur_inside(image, eye)
    plane, whole = at_side(heat, len(image)), int(eye.sum())
    deleted: list[float] = []
    inserted: list[float] = []
    for step in STEPS:
        top = highest(plane, eye, round(step * whole))[..., None]
        deleted.append(answer(np.where(top, blurred, image)))
        inserted.append(answer(np.where(top, image, blurred)))
    return float(np.trapezoid(deleted, STEPS)), float(np.trapezoid(inserted, STEPS))


def blur_inside(image: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """The image blurred until no lesion is left; what is outside the eye takes no part."""
    sigma = len(image) * BLUR_FRAC
    weight = eye.astype(np.float32)
    sums = cv2.GaussianBlur(image * weight[..., None], (0, 0), sigma)
    share = cv2.GaussianBlur(weight, (0, 0), sigma)
    soft = sums / np.maximum(share, 1e-3)[..., None]
    return np.where(eye[..., None], np.clip(np.rint(soft), 0, 255), image).astype(np.uint8)
