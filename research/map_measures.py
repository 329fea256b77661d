"""Measures of a map: whether it points at lesions, and whether the answer depends on the places it points at.

- Pointing game. Zhang et al., "Top-down Neural Attention by Excitation Backprop", IJCV 126, 2018.
- Energy-based pointing game. Wang et al., "Score-CAM", CVPR Workshops 2020: the share of the map that lies on lesions.
- Overlap: IoU of the lesions with the same number of the map's highest places.
- Deletion and insertion. Petsiuk et al., "RISE", BMVC 2018: the area under the curve of the answer's probability while
  the map's highest places are removed from the photo first, or added to it first. What differs: removed places are
  blurred, not black, because no training photo has black places inside an eye; and the curve has few steps, close
  together where it falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

SIDE: Final = 256
"""Side of the grid over the frame in which maps and lesions are compared."""

REACH_FRAC: Final = 1 / 64
"""Lesions are dilated by this share of the frame's side, about a tenth of a disc diameter: a microaneurysm is smaller
than the resolution of any map."""

STEPS: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Shares of the eye that are removed or added."""

BLUR_FRAC: Final = 1 / 16
"""Sigma of the Gaussian that removes lesions, as a share of the frame's side."""


@dataclass(frozen=True)
class Overlap:
    """pointing: 1 or 0. energy: share of the map on lesions. iou: with the same number of highest places.

    area: the lesions' share of the eye, the expected pointing and energy of an uninformative map. outside: share of the
    whole map outside the eye; the other measures are of the part inside.
    """

    pointing: float
    energy: float
    iou: float
    area: float
    outside: float


def overlap(heat: np.ndarray, lesions: np.ndarray, eye: np.ndarray) -> Overlap:
    """A map compared with lesions. heat: (n, n), values below 0 count as 0; lesions, eye: (SIDE, SIDE) bool.

    A map without positive values in the eye gets 0 in every measure. Raises `ValueError` if there is no lesion.
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
    """The eye in a framed photo (S, S, 3): (S, S) bool, without its blurred edge."""
    side = len(image)
    yy, xx = np.mgrid[:side, :side] + 0.5 - side / 2
    return (np.hypot(xx, yy) < 0.48 * side) & (image.max(axis=2) > 10)


def at_side(plane: np.ndarray, side: int) -> np.ndarray:
    """A square map at another size, (side, side) float32: means where it shrinks, linear where it grows."""
    method = cv2.INTER_AREA if len(plane) > side else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(plane, np.float32), (side, side), interpolation=method)


def widened(coverage: np.ndarray) -> np.ndarray:
    """Lesions of a frame on the grid: (S, S) coverage to (SIDE, SIDE) bool, dilated by `REACH_FRAC`."""
    reach = max(1, round(len(coverage) * REACH_FRAC))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    dilated = cv2.dilate((coverage > 0).astype(np.float32), kernel)
    return cv2.resize(dilated, (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.5


def highest(heat: np.ndarray, eye: np.ndarray, count: int) -> np.ndarray:
    """The `count` highest places inside the eye, bool; ties are broken at random with a fixed seed."""
    ties = np.random.default_rng(0).permutation(heat.size)
    values = np.where(eye, heat, -np.inf).ravel()
    order = np.lexsort((ties, -values))
    top = np.zeros(heat.size, bool)
    top[order[: min(count, int(eye.sum()))]] = True
    return top.reshape(heat.shape)


def curves(
    image: np.ndarray, heat: np.ndarray, eye: np.ndarray, answer: Callable[[np.ndarray], float]
) -> tuple[float, float]:
    """Areas under the deletion curve (lower is better) and the insertion curve (higher is better), both in 0..1.

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
    """The image blurred until no lesion is left; pixels outside the eye do not contribute."""
    sigma = len(image) * BLUR_FRAC
    weight = eye.astype(np.float32)
    sums = cv2.GaussianBlur(image * weight[..., None], (0, 0), sigma)
    share = cv2.GaussianBlur(weight, (0, 0), sigma)
    soft = sums / np.maximum(share, 1e-3)[..., None]
    return np.where(eye[..., None], np.clip(np.rint(soft), 0, 255), image).astype(np.uint8)
