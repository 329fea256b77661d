"""Measures of one photo: light, sharpness, geometry and surroundings.

Sharpness is measured in a frame of one size for every camera, so that a small photo does not count as blurred, or a
large one as sharp, for its size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from funduscope.imaging.field_of_view import FieldOfView, thumbnail
from funduscope.imaging.framing import Frame

FRAME_PX: Final = 320
"""Width of the eye where light and sharpness are measured: below the 350 px of the smallest real photos."""

_CORE: Final = 0.8
"""Sharpness is measured within this part of the radius: lens edges and rims are blurred in good photos too."""

_EVEN: Final = 6
"""Levels that what has one color may span after compression."""

_BLOCK_PX: Final = 17
_ROWS: Final = 64
_MIN_FILLED: Final = 0.05
_UNLIKE_FILL: Final = 25
_STRAIGHT: Final = 0.4
"""Share of a row, just above the filled part, that must differ from it."""

LIT_LEVEL: Final = 30
"""A pixel is lit where its brightest color exceeds this level."""

TINT_LEVELS: Final = 2.8
"""Three quarters of a photo without color, gray or tinted, have the usual color of their brightness, to within this.

All of 83 gray copies of real photos and 81 of the sepia ones, saved as JPEG of quality 75, are below this and the next
limit; of 501 color photos of eyes none is, be it dim, hazy or labeled as bad.
"""

TINT_SHARE: Final = 0.03
"""And to within this share of the brightness, since all colors of a dark photo differ by few levels."""

_TINT_PX: Final = 50
"""Longer side of the copy in which colors are judged: most of what a JPEG adds to them is averaged out."""

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in a JPEG's brightness, which keeps more detail than its colors do."""

_TONES: Final = 32
"""Groups of pixels of like brightness, each with its usual color."""

_FIELD: Final = 0.9
"""Light is measured within this part of the radius."""


def small_frame(framed: Frame, pixels: np.ndarray) -> Frame:
    """The same eye of a photo (H, W, 3) uint8 in a frame of `FRAME_PX`, or of its own width where that is less.

    Text and marks are not painted over: the tests of quality were fitted on photos as they are.
    """
    as_it_is = replace(framed, marks=None)
    return as_it_is.resampled(pixels, min(FRAME_PX, max(64, framed.transform.size_px)))


def has_color(pixels: np.ndarray, part: tuple[int, int, int, int]) -> bool:
    """Whether the lit pixels of a part of a picture (H, W, 3) uint8 are colored; True if nothing is lit.

    part: left, top, right, bottom. In a gray photo and in a tinted one, such as sepia, the color follows from the
    brightness alone, to the few levels that a JPEG adds. What has one brightness is gray or colored by itself.
    """
    left, top, right, bottom = part
    small, _ = thumbnail(pixels[top:bottom, left:right], _TINT_PX)
    colors = small.reshape(-1, 3).astype(np.float32)
    lit = colors[colors.max(axis=1) > LIT_LEVEL]
    if not len(lit):
        return True
    if np.ptp(np.percentile(lit @ _LUMA, (10, 90))) <= _EVEN:
        return float(np.median(np.ptp(lit, axis=1))) > _EVEN
    limit = min(TINT_LEVELS, TINT_SHARE * float(np.median(lit.max(axis=1))))
    return float(np.percentile(_off_tone(lit), 75)) > limit


def _off_tone(colors: np.ndarray) -> np.ndarray:
    """How far each color (N, 3) is from the usual color of its brightness: (N,), in levels."""
    brightness = colors @ _LUMA
    groups = np.array_split(np.argsort(brightness), min(_TONES, len(colors)))
    tones = [float(brightness[group].mean()) for group in groups]
    deviations = np.empty_like(colors)
    for channel in range(3):
        usual = [float(np.median(colors[group, channel])) for group in groups]
        deviations[:, channel] = colors[:, channel] - np.interp(brightness, tones, usual)
    return np.ptp(deviations, axis=1)


def measure(pixels: np.ndarray, framed: Frame) -> dict[str, float]:
    """Measures of a photo (H, W, 3) uint8 and its small frame; levels are 0-255, shares 0-1, lengths in radii.

    brightness, red, green, blue: medians in the field. spread: range of the levels in the field. dark, washed: shares
    of the field that are almost black, almost white; full: where the brightest color is saturated. contrast: range of
    green. chroma: saturation of the field; off_color: share of it where green or blue exceeds red; tints: span of the
    logarithm of red over green.
    sharpness: finest over next finer detail, as energies and as depths of dark lines (`sharp_lines`); a Gaussian blur
    of 1.4 frame px halves it. all_ways: finest detail in the direction that has least over the one that has most:
    motion keeps only the detail across its direction. vessels: contrast of the clearest dark lines. detail: energy of
    the finest detail.
    seen: share of the field's circle inside the photo; left, top, right, bottom: how far the circle extends beyond the
    photo. diameter_px: of the field, in photo pixels, 0 without one. rim: share of the circle's visible edge across
    which the light falls, 1 if none is visible. outside: brightness around the field. filled: share of the height that
    is filled with one color (`filled_below`).
    """
    picture = pixels
    pixels, framed = framed.cut_out(pixels)
    field, core = circle_in_photo(framed, _FIELD), circle_in_photo(framed, _CORE)
    image = framed.image.astype(np.float32)
    if not field.any():
        return {"seen": 0.0}
    return {
        **_light(image[field]),
        **_sharpness(image[..., 1], field, core),
        **_geometry(framed),
        **_surround(pixels, framed.field_of_view),
        "filled": filled_below(picture),  # what was filled may count as the photo's surroundings
    }


def filled_below(pixels: np.ndarray) -> float:
    """Share of a photo's height, from the bottom, that is filled with one color, as in a truncated file; 0 to 1.

    A truncated field of view ends in a straight line across much of the photo. A complete field narrows before it ends,
    and bars that make a photo square are at the top as well as at the bottom.
    """
    height = len(pixels)
    count = _even_below(pixels)
    above = height - count - _BLOCK_PX  # the last row of blocks may be half filled
    if count < _MIN_FILLED * height or above < 0:
        return 0.0
    if _even_below(pixels[: count // 4 + 1], pixels[-1]) == count // 4 + 1:
        return 0.0
    row, fill = pixels[above].astype(np.int16), np.median(pixels[-1], axis=0)
    ends = np.abs(row - fill).max(axis=1) > _UNLIKE_FILL
    return count / height if ends.mean() > _STRAIGHT else 0.0


def _even_below(pixels: np.ndarray, like: np.ndarray | None = None) -> int:
    """Number of rows from the bottom that have the single color of the last row, or of the row `like`.

    In most photos that ends within one block of rows, so the millions of pixels above are not read.
    """
    last = np.min(pixels[-1] if like is None else like, axis=0).astype(np.int16)
    for end in range(len(pixels), 0, -_ROWS):
        rows = np.ascontiguousarray(pixels[max(0, end - _ROWS) : end])
        # cv2's reduction over rows takes a sixth of the time of numpy's.
        low, high = (cv2.reduce(rows, 1, kind)[:, 0].astype(np.int16) for kind in (cv2.REDUCE_MIN, cv2.REDUCE_MAX))
        even = ((high - low).max(axis=1) <= _EVEN) & (np.abs(low - last).max(axis=1) <= _EVEN)
        if not even.all():
            return len(pixels) - end + int(np.argmin(even[::-1]))
    return len(pixels)


def circle_in_photo(framed: Frame, radius: float) -> np.ndarray:
    """(S, S) bool: the field of view within this part of its radius, and inside the photo."""
    transform, side = framed.transform, framed.transform.side_px
    at = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
    distance = np.hypot(at[None, :], at[:, None])
    across = (np.arange(side) + 0.5) * transform.px_per_frame_px
    rows, columns = across + transform.top_px, across + transform.left_px
    inside = ((rows > 2) & (rows < transform.height_px - 2))[:, None] & (
        (columns > 2) & (columns < transform.width_px - 2)
    )
    return (distance < radius) & inside


def _light(colors: np.ndarray) -> dict[str, float]:
    """colors (N, 3) float32: the field's pixels."""
    red, green, blue = (float(value) for value in np.median(colors, axis=0))
    brightest, darkest = colors.max(axis=1), colors.min(axis=1)
    low, high = np.percentile(brightest, (2, 98))
    ratio = np.log((colors[:, 0] + 10) / (colors[:, 1] + 10))
    return {
        "brightness": float(np.median(brightest)),
        "red": red,
        "green": green,
        "blue": blue,
        "spread": float(high - low),
        "dark": float((brightest < 30).mean()),
        "full": float((brightest >= 250).mean()),
        "washed": float(((colors[:, 0] >= 250) & (colors[:, 1] >= 235)).mean()),
        "contrast": float(np.ptp(np.percentile(colors[:, 1], (2, 98)))),
        "chroma": float(np.percentile(brightest - darkest, 90)),
        "tints": float(np.ptp(np.percentile(ratio, (3, 97)))),
        "off_color": float((np.maximum(colors[:, 1], colors[:, 2]) > colors[:, 0] + 12).mean()),
    }


def _sharpness(green: np.ndarray, field: np.ndarray, core: np.ndarray) -> dict[str, float]:
    """From differences of Gaussians, normalized over the field so that its edge does not count as detail."""
    weight = field.astype(np.float32)
    light = green * weight

    def smooth(sigma: float) -> np.ndarray:
        return cv2.GaussianBlur(light, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)

    fine, middle, coarse, ground = smooth(0.8), smooth(1.6), smooth(3.2), smooth(20)
    finest, next_finer = (fine - middle)[core], (middle - coarse)[core]
    if finest.size < 200:
        return {}
    energy, next_energy = float(finest.std()), float(next_finer.std())
    lines, next_lines = -float(np.percentile(finest, 2)), -float(np.percentile(next_finer, 2))
    return {
        "sharpness": energy / max(next_energy, 1e-3),
        "sharp_lines": lines / max(next_lines, 1e-3),
        "detail": energy,
        "all_ways": _all_ways(fine - middle, core),
        "vessels": float(np.percentile(_ridges(smooth(1.2), ground)[core], 97)),
    }


def _all_ways(detail: np.ndarray, core: np.ndarray) -> float:
    """Strength of detail in the direction that has least of it, over the direction that has most.

    Eigenvalues of the gradient's covariance over the core (the structure tensor of Förstner and Gülch, 1987).
    """
    across, down = (cv2.Sobel(detail, cv2.CV_32F, dx, 1 - dx, ksize=3)[core] for dx in (1, 0))
    least, most = np.linalg.eigvalsh(np.cov(np.stack([across, down])))
    return float(np.sqrt(max(least, 0.0) / max(most, 1e-9)))


def _ridges(light: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """(S, S) float32: strength of a dark line at each pixel, relative to the light around it."""
    xx, yy, xy = (cv2.Sobel(light, cv2.CV_32F, dx, dy, ksize=3) for dx, dy in ((2, 0), (0, 2), (1, 1)))
    mean, apart = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return np.maximum(mean + apart - np.abs(mean - apart), 0) * (1.44 / np.maximum(ground, 12))


def _geometry(framed: Frame) -> dict[str, float]:
    field_of_view, transform = framed.field_of_view, framed.transform
    if field_of_view is None:
        return {"diameter_px": 0.0}
    at = (np.arange(128) + 0.5) / 64 - 1
    x, y = (center + at * field_of_view.radius_px for center in (field_of_view.x_px, field_of_view.y_px))
    circle = np.hypot(at[None, :], at[:, None]) < 1
    inside = ((x >= 0) & (x < transform.width_px)) & ((y >= 0) & (y < transform.height_px))[:, None]
    beyond = {
        "left": field_of_view.radius_px - field_of_view.x_px,
        "top": field_of_view.radius_px - field_of_view.y_px,
        "right": field_of_view.x_px + field_of_view.radius_px - transform.width_px,
        "bottom": field_of_view.y_px + field_of_view.radius_px - transform.height_px,
    }
    return {
        "diameter_px": 2 * field_of_view.radius_px,
        "seen": float(inside[circle].mean()),
        **{side: max(0.0, px / field_of_view.radius_px) for side, px in beyond.items()},
    }


def _surround(pixels: np.ndarray, field_of_view: FieldOfView | None) -> dict[str, float]:
    """Whether the field has an edge, and the brightness around it; measured on a copy of at most 256 px."""
    if field_of_view is None:
        return {"rim": 0.0, "outside": 0.0}
    if field_of_view.is_edgeless:
        return {"rim": 1.0, "outside": 0.0}
    small, scale = thumbnail(pixels, 256)
    light = small.max(axis=2).astype(np.float32)
    angle = np.arange(180) * (np.pi / 90)
    reach = np.array([0.92, 0.94, 0.96, 1.05, 1.07, 1.09], np.float32)[:, None]
    x = (field_of_view.x_px + np.cos(angle) * reach * field_of_view.radius_px) * scale - 0.5
    y = (field_of_view.y_px + np.sin(angle) * reach * field_of_view.radius_px) * scale - 0.5
    visible = ((x >= 0) & (x <= light.shape[1] - 1) & (y >= 0) & (y <= light.shape[0] - 1)).all(axis=0)
    if visible.sum() < 8:  # the retina fills the photo, so there is no edge to judge
        return {"rim": 1.0, "outside": 0.0}
    values = cv2.remap(light, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)[:, visible]
    inner, outer = values[:3].mean(axis=0), values[3:].mean(axis=0)
    falls = inner - outer > np.maximum(3.0, 0.2 * inner)
    return {"rim": float(falls.mean()), "outside": float(np.median(outer))}
