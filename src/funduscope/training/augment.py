"""Augmentation, geometry: all of it is drawn first and composed into one map; `recolor` is the pass of color.

Image, masks and points go through the same map, and the pixels are sampled once: a microaneurysm of three pixels does
not survive several interpolations. What the map brings in from outside the frame is unknown, not absent.

Elastic: P. Simard, D. Steinkraus, J. Platt, "Best practices for convolutional neural networks applied to visual
document analysis", ICDAR 2003. Different here: the random field is scaled by its largest displacement instead of a
factor, so that a recipe states a distance, and made weaker where it is too steep, so that it never folds the retina
over itself. Grid distortion, without a paper that we know of: the lines of a coarse grid are moved, each as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np

from funduscope.settings import Augment

STEEPEST: Final = 0.5
"""How much a displacement changes from a pixel to the next, at most. Below 1 no two points meet: nothing folds."""

_NODES: Final = 32  # a side of the lattice on which the elastic field is drawn
_SMOOTH_FRAC: Final = 0.08  # of the side: the elastic field's Gaussian
_LINES: Final = 6  # each way, of the distorted grid
_STEPS: Final = 24  # a point comes closer to where it goes by half in each, or more: from 100 px to 0.00001 px


@dataclass(frozen=True, eq=False)
class Warp:
    """A map from frame pixels to sample pixels, both with centers at +0.5: affine, then bent where there is a field.

    matrix: (2, 3), the affine part. displacement: None, or (size, size, 2) float32, x and y in sample pixels: sample
    pixel u shows what the affine part alone would show at u + displacement(u). It is no steeper than `STEEPEST`.
    """

    matrix: np.ndarray
    size_px: int
    displacement: np.ndarray | None = None

    def points(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) frame pixels to (N, 2) sample pixels."""
        straight = xy @ self.matrix[:, :2].T + self.matrix[:, 2]
        if self.displacement is None:
            return straight
        # The field says whence, a point asks whither: u + displacement(u) = straight, which repetition solves, because
        # each step changes u by half of the last step at most.
        bent = straight
        for _ in range(_STEPS):
            bent = straight - _between(self.displacement, bent)
        return bent

    def pixels(self, array: np.ndarray) -> np.ndarray:
        """(S, S) or (S, S, C) to (size, size[, C]); zero outside."""
        if self.displacement is None:
            return cv2.warpAffine(array, self._cv2(), (self.size_px, self.size_px), flags=cv2.INTER_LINEAR)
        return cv2.remap(array, *self._sources, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    def _cv2(self) -> np.ndarray:
        """The affine part for cv2, whose pixel centers are at +0."""
        shifted = self.matrix.copy()
        shifted[:, 2] += self.matrix[:, :2] @ (0.5, 0.5) - 0.5
        return shifted

    @cached_property
    def _sources(self) -> tuple[np.ndarray, np.ndarray]:
        """For cv2: x and y of the frame's pixel that each sample pixel shows, (size, size) float32 each."""
        assert self.displacement is not None
        back = cv2.invertAffineTransform(self._cv2())
        grid = np.arange(self.size_px, dtype=np.float32)
        x, y = grid + self.displacement[..., 0], grid[:, None] + self.displacement[..., 1]
        whence = [(row[0] * x + row[1] * y + row[2]).astype(np.float32) for row in back]
        return whence[0], whence[1]


def plain_warp(center_xy: tuple[float, float], zoom: float, size_px: int) -> Warp:
    """Cuts a square around the center, `zoom` sample pixels a frame pixel, nothing drawn."""
    half = size_px / 2
    return Warp(np.array([[zoom, 0, half - zoom * center_xy[0]], [0, zoom, half - zoom * center_xy[1]]]), size_px)


def happens(probability: float, rng: np.random.Generator) -> bool:
    """Whether something of that probability happens; what is certain either way takes nothing from the generator."""
    return probability > 0 and (probability >= 1 or rng.random() < probability)


def draw_warp(warp: Warp, bounds: Augment, rng: np.random.Generator, *, any_way_up: bool) -> Warp:
    """An affine warp followed by what the bounds allow: mirrored, turned, scaled, moved about its center, bent.

    any_way_up: a close crop has no up, so it is turned by quarters in any case; a whole eye keeps its own but for
    `quarter_turns`. What newer settings need is drawn last and only where it can happen: a recipe without them sees
    the same samples as before there were any.
    """
    angle = np.deg2rad(rng.uniform(-bounds.rotate_deg, bounds.rotate_deg))
    quarters = int(rng.integers(4)) if any_way_up else 0
    scale = 1 + rng.uniform(-bounds.scale_frac, bounds.scale_frac)
    mirror = -1.0 if happens(bounds.mirror, rng) else 1.0
    shift = rng.uniform(-bounds.shift_frac, bounds.shift_frac, 2) * warp.size_px
    flip = -1.0 if happens(bounds.flip, rng) else 1.0
    transposed = happens(bounds.transpose, rng)
    if not any_way_up and happens(bounds.quarter_turns, rng):
        quarters = int(rng.integers(1, 4))
    if not happens(bounds.warp, rng):
        angle, scale, shift = 0.0, 1.0, np.zeros(2)
    angle += np.pi / 2 * quarters
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([mirror, flip])
    if transposed:
        turn = turn[:, ::-1]
    center = np.full(2, warp.size_px / 2)
    offset = center + shift - turn @ center
    matrix = np.hstack([turn @ warp.matrix[:, :2], (turn @ warp.matrix[:, 2] + offset)[:, None]])
    return Warp(matrix, warp.size_px, _draw_displacement(warp.size_px, bounds, rng))


def _draw_displacement(size_px: int, bounds: Augment, rng: np.random.Generator) -> np.ndarray | None:
    """The sum of the fields that were drawn, none steeper than `STEEPEST`; (size, size, 2) float32 px, or None."""
    fields = []
    if happens(bounds.elastic, rng):
        fields.append(np.float32(rng.uniform(0, bounds.elastic_frac) * size_px) * _elastic(size_px, rng))
    if happens(bounds.grid, rng):
        fields.append(np.float32(rng.uniform(0, bounds.grid_frac) * size_px) * _grid(size_px, rng))
    if not fields:
        return None
    field = sum(fields[1:], fields[0])
    return field * np.float32(min(1.0, STEEPEST / max(_steepest(field), 1e-9)))


def _elastic(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Random displacements, smoothed; the longest is 1. Drawn on a lattice: a Gaussian this wide is slow in pixels."""
    lattice = rng.uniform(-1, 1, (_NODES, _NODES, 2)).astype(np.float32)
    lattice = cv2.GaussianBlur(lattice, (0, 0), _SMOOTH_FRAC * _NODES)
    return _longest_one(cv2.resize(lattice, (size_px, size_px), interpolation=cv2.INTER_CUBIC))


def _grid(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Upright lines moved sideways, level ones up and down, smooth between the lines; the longest is 1."""
    lines = rng.uniform(-1, 1, (2, 1, _LINES)).astype(np.float32)
    across, down = (cv2.resize(each, (size_px, 1), interpolation=cv2.INTER_CUBIC)[0] for each in lines)
    return _longest_one(np.dstack(np.meshgrid(across, down)))


def _longest_one(field: np.ndarray) -> np.ndarray:
    return field / np.sqrt(_squares(field).max())


def _squares(field: np.ndarray) -> np.ndarray:
    """The squared length of each displacement."""
    return field[..., 0] ** 2 + field[..., 1] ** 2


def _steepest(field: np.ndarray) -> float:
    """The largest change of a field (size, size, 2) from a pixel to the next, over directions (Frobenius' norm)."""
    across, down = np.diff(field, axis=1)[:-1], np.diff(field, axis=0)[:, :-1]
    return float(np.sqrt((_squares(across) + _squares(down)).max()))


def _between(field: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """A field (size, size, 2) at points (N, 2), linear between pixel centers; beyond them as at the nearest."""
    last = field.shape[0] - 1
    at = np.clip(xy - 0.5, 0, last)
    low = np.minimum(at.astype(int), last - 1)
    share = at - low
    (x, y), (right, below) = low.T, share.T[..., None]
    upper = field[y, x] * (1 - right) + field[y, x + 1] * right
    lower = field[y + 1, x] * (1 - right) + field[y + 1, x + 1] * right
    return upper * (1 - below) + lower * below
