"""Augmentation: all geometry is drawn first and composed into one warp, then one color pass.

Image, masks and points go through the same matrix, and the pixels are sampled once: a microaneurysm of three pixels
does not survive several interpolations. What the warp brings in from outside the frame is unknown, not absent.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from funduscope.recipe import Augment


@dataclass(frozen=True, eq=False)
class Warp:
    """An affine map from frame pixels to sample pixels, both with centers at +0.5. matrix: (2, 3)."""

    matrix: np.ndarray
    size_px: int

    def points(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) frame pixels to (N, 2) sample pixels."""
        return xy @ self.matrix[:, :2].T + self.matrix[:, 2]

    def pixels(self, array: np.ndarray) -> np.ndarray:
        """(S, S) or (S, S, C) to (size, size[, C]); zero outside."""
        return cv2.warpAffine(array, self._cv2(), (self.size_px, self.size_px), flags=cv2.INTER_LINEAR)

    def _cv2(self) -> np.ndarray:
        """The same map for cv2, whose pixel centers are at +0."""
        shifted = self.matrix.copy()
        shifted[:, 2] += self.matrix[:, :2] @ (0.5, 0.5) - 0.5
        return shifted


def plain_warp(center_xy: tuple[float, float], zoom: float, size_px: int) -> Warp:
    """Cuts a square around the center, `zoom` sample pixels a frame pixel, nothing drawn."""
    half = size_px / 2
    return Warp(np.array([[zoom, 0, half - zoom * center_xy[0]], [0, zoom, half - zoom * center_xy[1]]]), size_px)


def draw_warp(warp: Warp, bounds: Augment, rng: np.random.Generator, *, any_way_up: bool) -> Warp:
    """The warp followed by a random mirror, rotation, scale and shift about the sample's center.

    any_way_up: a close crop has no up, so it is also turned by quarters; a whole eye keeps its own.
    """
    angle = np.deg2rad(rng.uniform(-bounds.rotate_deg, bounds.rotate_deg))
    if any_way_up:
        angle += np.pi / 2 * rng.integers(4)
    scale = 1 + rng.uniform(-bounds.scale_frac, bounds.scale_frac)
    flip = -1.0 if rng.random() < bounds.mirror else 1.0
    shift = rng.uniform(-bounds.shift_frac, bounds.shift_frac, 2) * warp.size_px
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([flip, 1.0])
    center = np.full(2, warp.size_px / 2)
    offset = center + shift - turn @ center
    return Warp(np.hstack([turn @ warp.matrix[:, :2], (turn @ warp.matrix[:, 2] + offset)[:, None]]), warp.size_px)


def recolor(image: np.ndarray, bounds: Augment, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 to the same: brightness, contrast, gamma, tint in one table; now and then blur, noise, JPEG."""
    ramp = np.linspace(0, 1, 256)
    ramp = ramp ** np.exp(rng.uniform(-bounds.gamma, bounds.gamma))
    gain = 1 + rng.uniform(-bounds.brightness, bounds.brightness)
    contrast = 1 + rng.uniform(-bounds.contrast, bounds.contrast)
    tint = 1 + rng.uniform(-bounds.color, bounds.color, 3)
    middle = 0.35  # about the mean of a fundus photo; contrast turns around it
    table = ((ramp[:, None] - middle) * contrast + middle) * gain * tint
    # The black around the eye stays black: the table starts at zero.
    table = np.clip(table - table[0] * (1 - ramp[:, None]), 0, 1)
    image = cv2.LUT(image, np.rint(table * 255).astype(np.uint8)[None])
    if rng.random() < bounds.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < bounds.noise:
        noise = rng.normal(0, rng.uniform(2, 8), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < bounds.jpeg:
        quality = int(rng.integers(40, 90))
        squeezed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = np.asarray(cv2.imdecode(squeezed, cv2.IMREAD_COLOR))
    return image
