"""Augmentation: geometry, composed into one map, then color.

Image, masks and points go through the same map, and pixels are sampled once: a microaneurysm of three pixels does not
survive several interpolations. What the map brings in from outside the frame is unknown, not absent.

Elastic: P. Simard, D. Steinkraus, J. Platt, "Best practices for convolutional neural networks applied to visual
document analysis", ICDAR 2003. Differs: the random field is scaled by its largest displacement instead of a factor, so
that a recipe states a distance; where it is too steep it is weakened, so that the retina never folds over itself. Grid
distortion, of which we know no paper: the lines of a coarse grid are moved, each as a whole.

Color follows the order of a camera: light and tone, the lens' blur, the sensor's noise, the file's compression. The
black around the eye stays black in tone, sensor and multiplicative noise, which all scale the value that is there.

Sensor noise: A. Foi, M. Trimeche, V. Katkovnik, K. Egiazarian, "Practical Poissonian-Gaussian noise modeling and
fitting for single-image raw-data", IEEE Transactions on Image Processing 17(10), 2008: the variance of counted light
grows with the light. Differs: no part is independent of the light, the file's levels are taken for sRGB's, and a coarse
noise of color stands for what demosaicing and noise reduction leave behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np

from funduscope.settings import Augment

MAX_SLOPE: Final = 0.5
"""Largest change of a displacement from one pixel to the next. Below 1 no two points meet, so nothing folds."""

_NODES: Final = 32  # per side of the lattice on which the elastic field is drawn
_SMOOTH_FRAC: Final = 0.08  # width of the elastic field's Gaussian, as a share of the side
_LINES: Final = 6  # of the distorted grid, in each direction
_STEPS: Final = 24  # each at least halves a point's error: from 100 px to 0.00001 px

_MIDDLE: Final = 0.35  # about the mean of a fundus photo; contrast scales around it
_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601: weights of red, green and blue
_ELECTRONS: Final = (500.0, 5000.0)  # that a pixel counts at white: few at a high ISO, many at a low one
_COARSE: Final = 4  # width in pixels of a grain of color noise
_SMALL_FIELD_PX: Final = 400  # width of the field of view in the smallest copies that are handed on
_SMALL_COPY_QUALITY: Final = (60, 96)  # of the JPEG of a smaller copy; the upper one is not reached
_FACTOR: Final = 0.1  # multiplicative noise: from 1 - this to 1 + this


@dataclass(frozen=True, eq=False)
class Warp:
    """A map from frame pixels to sample pixels, both with centers at +0.5: affine, then bent by the displacement.

    matrix: (2, 3), the affine part. displacement: None, or (size, size, 2) float32, x and y in sample pixels: sample
    pixel u shows what the affine part alone would show at u + displacement(u). It is no steeper than `MAX_SLOPE`.
    """

    matrix: np.ndarray
    size_px: int
    displacement: np.ndarray | None = None

    def points(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) frame pixels to (N, 2) sample pixels."""
        straight = xy @ self.matrix[:, :2].T + self.matrix[:, 2]
        if self.displacement is None:
            return straight
        # The field maps sample pixels to sources; a point needs the inverse: solve u + displacement(u) = straight by
        # fixed-point iteration, in which every step is at most half of the last one.
        bent = straight
        for _ in range(_STEPS):
            bent = straight - _bilinear(self.displacement, bent)
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
        """For cv2.remap: x and y of the frame pixel that each sample pixel shows, (size, size) float32 each."""
        assert self.displacement is not None
        back = cv2.invertAffineTransform(self._cv2())
        grid = np.arange(self.size_px, dtype=np.float32)
        x, y = grid + self.displacement[..., 0], grid[:, None] + self.displacement[..., 1]
        x_y = [(row[0] * x + row[1] * y + row[2]).astype(np.float32) for row in back]
        return x_y[0], x_y[1]


def plain_warp(center_xy: tuple[float, float], zoom: float, size_px: int) -> Warp:
    """Cuts a square around the center, with `zoom` sample pixels per frame pixel; nothing is random."""
    half = size_px / 2
    return Warp(np.array([[zoom, 0, half - zoom * center_xy[0]], [0, zoom, half - zoom * center_xy[1]]]), size_px)


def happens(probability: float, rng: np.random.Generator) -> bool:
    """Whether an event of that probability happens. A certain one takes no number from the generator."""
    return probability > 0 and (probability >= 1 or rng.random() < probability)


def draw_warp(warp: Warp, bounds: Augment, rng: np.random.Generator, *, random_quarter_turns: bool) -> Warp:
    """The warp followed by random mirroring, rotation, scale, shift and bending within the bounds.

    random_quarter_turns: a close crop has no upright position, so it is always turned by a random number of quarters; a
    whole eye only by `quarter_turns`. Newer settings draw last, and only if they have an effect, so that a recipe
    without them gets the same samples as before they existed.
    """
    angle = np.deg2rad(rng.uniform(-bounds.rotate_deg, bounds.rotate_deg))
    quarters = int(rng.integers(4)) if random_quarter_turns else 0
    scale = 1 + rng.uniform(-bounds.scale_frac, bounds.scale_frac)
    mirror = -1.0 if happens(bounds.mirror, rng) else 1.0
    shift = rng.uniform(-bounds.shift_frac, bounds.shift_frac, 2) * warp.size_px
    flip = -1.0 if happens(bounds.flip, rng) else 1.0
    transposed = happens(bounds.transpose, rng)
    if not random_quarter_turns and happens(bounds.quarter_turns, rng):
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
    """The sum of the random fields, no steeper than `MAX_SLOPE`: (size, size, 2) float32 px, or None."""
    fields = []
    if happens(bounds.elastic, rng):
        fields.append(np.float32(rng.uniform(0, bounds.elastic_frac) * size_px) * _elastic(size_px, rng))
    if happens(bounds.grid, rng):
        fields.append(np.float32(rng.uniform(0, bounds.grid_frac) * size_px) * _grid(size_px, rng))
    if not fields:
        return None
    field = sum(fields[1:], fields[0])
    return field * np.float32(min(1.0, MAX_SLOPE / max(_max_slope(field), 1e-9)))


def _elastic(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Smoothed random displacements, the longest being 1. On a lattice: a Gaussian this wide is slow on pixels."""
    lattice = rng.uniform(-1, 1, (_NODES, _NODES, 2)).astype(np.float32)
    lattice = cv2.GaussianBlur(lattice, (0, 0), _SMOOTH_FRAC * _NODES)
    return _longest_one(cv2.resize(lattice, (size_px, size_px), interpolation=cv2.INTER_CUBIC))


def _grid(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Vertical lines moved sideways, horizontal ones up and down, smooth in between; the longest is 1."""
    lines = rng.uniform(-1, 1, (2, 1, _LINES)).astype(np.float32)
    across, down = (cv2.resize(each, (size_px, 1), interpolation=cv2.INTER_CUBIC)[0] for each in lines)
    return _longest_one(np.dstack(np.meshgrid(across, down)))


def _longest_one(field: np.ndarray) -> np.ndarray:
    return field / np.sqrt(_squares(field).max())


def _squares(field: np.ndarray) -> np.ndarray:
    """The squared length of each displacement."""
    return field[..., 0] ** 2 + field[..., 1] ** 2


def _max_slope(field: np.ndarray) -> float:
    """The largest change of a field (size, size, 2) from one pixel to the next: the Frobenius norm of its gradient."""
    across, down = np.diff(field, axis=1)[:-1], np.diff(field, axis=0)[:, :-1]
    return float(np.sqrt((_squares(across) + _squares(down)).max()))


def _bilinear(field: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """A field (size, size, 2) at points (N, 2): linear between pixel centers, constant beyond the outermost."""
    last = field.shape[0] - 1
    at = np.clip(xy - 0.5, 0, last)
    low = np.minimum(at.astype(int), last - 1)
    share = at - low
    (x, y), (right, below) = low.T, share.T[..., None]
    upper = field[y, x] * (1 - right) + field[y, x + 1] * right
    lower = field[y + 1, x] * (1 - right) + field[y + 1, x + 1] * right
    return upper * (1 - below) + lower * below


def recolor(image: np.ndarray, bounds: Augment, rng: np.random.Generator, field_px: float | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB to the same; each step with its probability in the bounds.

    field_px: width that the whole field of view has at the image's scale; None leaves all detail in the image.
    """
    image = _tone(image, bounds, rng)
    if happens(bounds.blur, rng):
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if happens(bounds.noise, rng):
        noise = rng.normal(0, rng.uniform(2, 8), image.shape)
        image = np.rint(np.clip(image + noise, 0, 255)).astype(np.uint8)
    if happens(bounds.sensor_noise, rng):
        image = _add_shot_noise(image, rng)
    if happens(bounds.multiplicative_noise, rng):
        image = _add_speckle(image, rng)
    if happens(bounds.jpeg, rng):
        image = _compressed(image, int(rng.integers(40, 90)))
    if field_px is not None and happens(bounds.small_copy, rng):
        image = _small_copy(image, field_px, rng)
    return image


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # cv2 writes BGR; a JPEG keeps red better than blue
    squeezed = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.cvtColor(np.asarray(cv2.imdecode(squeezed, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)


def _small_copy(image: np.ndarray, field_px: float, rng: np.random.Generator) -> np.ndarray:
    """The image as a smaller copy of the photo shows it, at the same scale: all widths of the field of view between
    `_SMALL_FIELD_PX` and its own are equally likely on a logarithmic scale. Shrunk and enlarged as `framing` does."""
    if field_px <= _SMALL_FIELD_PX:
        return image
    share = np.exp(rng.uniform(np.log(_SMALL_FIELD_PX / field_px), 0))
    height, width = image.shape[:2]
    size = max(1, round(width * share)), max(1, round(height * share))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = _compressed(small, int(rng.integers(*_SMALL_COPY_QUALITY)))
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _tone(image: np.ndarray, bounds: Augment, rng: np.random.Generator) -> np.ndarray:
    """Gamma, contrast, brightness and tint in one table, then saturation."""
    ramp = np.linspace(0, 1, 256)
    ramp = ramp ** np.exp(rng.uniform(-bounds.gamma, bounds.gamma))
    gain = 1 + rng.uniform(-bounds.brightness, bounds.brightness)
    contrast = 1 + rng.uniform(-bounds.contrast, bounds.contrast)
    tint = 1 + rng.uniform(-bounds.color, bounds.color, 3)
    saturation = 1 + rng.uniform(-bounds.saturation, bounds.saturation) if bounds.saturation else 1.0
    if not happens(bounds.tone, rng):
        return image
    table = ((ramp[:, None] - _MIDDLE) * contrast + _MIDDLE) * gain * tint
    # The black around the eye stays black: the table starts at zero.
    table = np.clip(table - table[0] * (1 - ramp[:, None]), 0, 1)
    image = cv2.LUT(image, np.rint(table * 255).astype(np.uint8)[None])
    if saturation == 1:
        return image
    return cv2.transform(image, saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1)))


def _add_shot_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shot noise of a sensor that counts photons in every channel, and coarser noise of color.

    A count's standard deviation is its square root. In the file's levels, which spread the dark, that is about the same
    everywhere, except that black has none.
    """
    height, width = image.shape[:2]
    electrons = np.exp(rng.uniform(*np.log(_ELECTRONS)))
    spread = (_shot_levels() / np.sqrt(electrons)).astype(np.float32)[image]
    coarse = rng.standard_normal((-(-height // _COARSE), -(-width // _COARSE), 3), np.float32)
    coarse -= coarse.mean(axis=2, keepdims=True)  # color only: the brightness stays
    color = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(rng.uniform(0, 1))
    noise = spread * (rng.standard_normal(image.shape, np.float32) + color)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _shot_levels() -> np.ndarray:
    """(256,): standard deviation of each sRGB level, in levels, of a pixel that counts one electron at white."""
    level = np.linspace(0, 1, 256)
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    light_per_level = np.where(level <= 0.04045, 1 / 12.92, 2.4 / 1.055 * ((level + 0.055) / 1.055) ** 1.4)
    return 255 * np.sqrt(light) / light_per_level


def _add_speckle(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By a factor per pixel (as uneven pixels do) or per channel (as white balance does), each half of the time."""
    shape = (*image.shape[:2], 1) if rng.random() < 0.5 else (1, 1, 3)
    factor = rng.uniform(1 - _FACTOR, 1 + _FACTOR, shape)
    return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)
