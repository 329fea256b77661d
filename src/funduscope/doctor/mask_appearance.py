"""How a mask fits its photo: how much it covers, whether it is in the field, and its contrast to what surrounds it.

Contrasts are in standard deviations of the surroundings' light (green channel without its slow changes). Limits were
chosen on 146 masks of three data sets: hard exudates have 0.86 or more, soft ones 2.3, discs 2.7; haemorrhages
-1.0 or less, microaneurysms -0.87.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

FIELD_PX: Final = 640
"""The field's width where masks are compared with light; a microaneurysm is 2 to 4 px wide there."""

SIGN: Final = {"EX": 1, "SE": 1, "EX|SE": 1, "OD": 1, "MA": -1, "HE": -1}
"""Whether a structure is brighter or darker than what surrounds it."""

SWAPPED: Final = 0.6
"""Contrast of the wrong sign beyond this: another structure is outlined."""

MISFIT: Final = {"EX": 0.43, "SE": 0.9, "EX|SE": 0.43, "OD": 1.35, "MA": 0.43, "HE": 0.5}
"""Contrast of the right sign below this: the structure is not there. Half of the faintest real mask's."""

_MIN_PX: Final = 12
"""Pixels that a mask needs, at `FIELD_PX`, for a reliable contrast."""

_REACH_PX: Final = 15
"""Width of a mask's surroundings."""

_MIN_AROUND_PX: Final = 30


@dataclass(frozen=True, eq=False)
class Ground:
    """A photo at the masks' scale, all (h, w): green channel (float32), field of view (bool), and distance from the
    field's center in radii (float32)."""

    green: np.ndarray
    field: np.ndarray
    distance: np.ndarray


def ground_of(pixels: np.ndarray, circle: tuple[float, float, float]) -> Ground:
    """The ground of a photo (H, W, 3) uint8 with its field (x, y, radius), at most `FIELD_PX` wide."""
    x, y, radius = circle
    scale = min(1.0, FIELD_PX / (2 * radius))
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    green = cv2.resize(np.ascontiguousarray(pixels[..., 1]), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    across = (np.arange(size[0], dtype=np.float32) + 0.5) * (pixels.shape[1] / size[0]) - x
    down = (np.arange(size[1], dtype=np.float32) + 0.5) * (pixels.shape[0] / size[1]) - y
    distance = np.hypot(across[None, :], down[:, None]) / np.float32(radius)
    return Ground(green, distance < 0.98, distance)


def coverage_of(inside: np.ndarray, ground: Ground) -> np.ndarray:
    """(h, w) float32 in [0, 1]: the covered share of each pixel, of a mask (H, W) bool."""
    marked = inside.view(np.uint8) * np.uint8(255)
    return cv2.resize(marked, ground.green.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


@dataclass(frozen=True)
class Cover:
    """Shares: of the field that the mask covers; of the mask that is beyond the field; of the surroundings of the field
    that the mask covers."""

    of_field: float
    beyond: float
    of_outside: float


def cover_of(coverage: np.ndarray, ground: Ground) -> Cover:
    """Where a mask is relative to the field."""
    outside = ground.distance > 1.03
    total = float(coverage.sum())
    return Cover(
        of_field=float(coverage[ground.field].mean()) if ground.field.any() else 0.0,
        beyond=float(coverage[outside].sum()) / total if total > 0 else 0.0,
        of_outside=float(coverage[outside].mean()) if outside.any() else 0.0,
    )


@dataclass(frozen=True, eq=False)
class Bare:
    """A photo outside its masks. light: (h, w) float32 without slow changes. free: (h, w) bool, where no mask is."""

    light: np.ndarray
    free: np.ndarray


def bare(marked: np.ndarray, ground: Ground) -> Bare:
    """marked: (h, w) bool, where any mask of the photo is, which does not count as surroundings."""
    free = ground.field & ~(cv2.dilate(marked.view(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    return Bare(ground.green - _slow(ground.green, free), free)


def _slow(green: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The light's slow changes, (h, w) float32, interpolated under masks from nearby, otherwise from farther away."""
    small = max(1, green.shape[1] // 4), max(1, green.shape[0] // 4)
    weight = cv2.resize(free.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    light = cv2.resize(green * free, small, interpolation=cv2.INTER_AREA)
    near, far = ((cv2.GaussianBlur(light, (0, 0), s), cv2.GaussianBlur(weight, (0, 0), s)) for s in (3, 14))
    slow = (near[0] + 0.02 * far[0]) / np.maximum(near[1] + 0.02 * far[1], 1e-6)
    return cv2.resize(slow, green.shape[::-1], interpolation=cv2.INTER_LINEAR)


def contrast_of(coverage: np.ndarray, around: Bare, ground: Ground) -> float | None:
    """How much brighter the mask is than its surroundings; None if too little of either is visible."""
    core = (coverage > 0.4) & ground.field
    if core.sum() < _MIN_PX:
        core = (coverage > 0.15) & ground.field
    if core.sum() < _MIN_PX:
        return None
    apart = cv2.distanceTransform((coverage <= 0.05).astype(np.uint8), cv2.DIST_L2, 3)
    ring = (apart <= _REACH_PX) & around.free
    ring = ring if ring.sum() >= _MIN_AROUND_PX else around.free
    if ring.sum() < _MIN_AROUND_PX:
        return None
    return float(around.light[core].mean() / max(float(around.light[ring].std()), 0.5))
