"""Whether letters are burned into a photo: small marks of one height in a row.

Around the field anything that differs from the background is a mark; on the retina only strokes of white, black, pure
yellow, green or blue: exudates, vessels and reflections are softer and form no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np

from funduscope.imaging.field_of_view import FieldOfView

SIDE_PX: Final = 1200
"""Letters are searched in a copy at most this long; a letter of a hundredth of the photo is ten pixels high there."""

_HEIGHTS: Final = (0.0055, 0.07)  # of the longer side: smaller is noise, larger no line of text
_STROKE: Final = 0.016
"""Least width of a stroke, as a share of the longer side; on the retina strokes are thinner."""

_MAX_MARKS: Final = 1500
"""More marks than this are noise or texture; a page of text has fewer letters."""


def burned_in_text(pixels: np.ndarray, field_of_view: FieldOfView | None) -> tuple[int, int]:
    """Letters in the longest row around the field alone, and anywhere, of a photo (H, W, 3) uint8."""
    scale = min(1.0, SIDE_PX / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    around = np.zeros(small.shape[:2], bool)
    if field_of_view is not None:
        rows, columns = np.ogrid[: small.shape[0], : small.shape[1]]
        x, y, reach = field_of_view.x_px * scale, field_of_view.y_px * scale, 1.03 * field_of_view.radius_px * scale
        around = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 > reach * reach
    margin = _marks_around(small, around)
    within = (_longest_row(strokes | margin) for strokes in _strokes_within(small, ~around))
    return _longest_row(margin), max(within, default=0)


def _marks_around(small: np.ndarray, around: np.ndarray) -> np.ndarray:
    """(H, W) bool: what differs from the color around the field."""
    if around.mean() < 0.005:
        return np.zeros(around.shape, bool)
    color = np.median(small[around][::7], axis=0)
    return (np.abs(small - color.astype(np.float32)).max(axis=2) > 50) & around


def _strokes_within(small: np.ndarray, within: np.ndarray) -> Iterator[np.ndarray]:
    """(H, W) bool masks: thin strokes of white, of black, of pure yellow, and colors that no retina has."""
    red, green, blue = (small[..., channel] for channel in range(3))
    other, whitest, blackest = (
        cv2.max(green, blue),
        cv2.min(cv2.min(red, green), blue),
        cv2.max(cv2.max(red, green), blue),
    )
    widest = max(9, round(_STROKE * max(within.shape)) | 1)  # odd; parts of a disc between its vessels are wider
    window = np.ones((widest, widest), np.uint8)
    yield within & (cv2.subtract(other, red) > 80) & (other > 130)
    pure = within & (green > 190) & (red > 190) & (blue < 110)
    for like, light, way, least in (
        (within & (whitest > 140), whitest, cv2.MORPH_TOPHAT, 60),
        (within & (blackest < 60), blackest, cv2.MORPH_BLACKHAT, 60),
        (pure, green, cv2.MORPH_TOPHAT, 60),
    ):
        if like.any():
            yield like & (cv2.morphologyEx(light, way, window) > least)


def _longest_row(marks: np.ndarray) -> int:
    """The largest number of marks of similar height that follow one another in a row."""
    if not marks.any():
        return 0
    count, _, stats, _ = cv2.connectedComponentsWithStats(marks.astype(np.uint8), connectivity=8)
    low, high = (share * max(marks.shape) for share in _HEIGHTS)
    width, height = stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]
    filled = stats[:, cv2.CC_STAT_AREA] / np.maximum(width * height, 1)
    like_letters = (height >= max(low, 5)) & (height <= high) & (width <= 3 * height) & (filled > 0.12) & (filled < 0.9)
    like_letters[0] = False  # the background
    boxes = stats[like_letters][:, :4].astype(np.float64)
    if count > _MAX_MARKS or len(boxes) < 2:
        return int(len(boxes) == 1)
    return _longest_chain(boxes[np.argsort(boxes[:, 0])])


def _longest_chain(boxes: np.ndarray) -> int:
    """Length of the longest chain of letters. boxes: (N, 4) left, top, width, height, sorted by left."""
    left, top, width, height = boxes.T
    middle, longest = top + height / 2, np.ones(len(boxes), int)
    for place in range(1, len(boxes)):
        taller = np.maximum(height[:place], height[place])
        gap = left[place] - (left[:place] + width[:place])
        follows = (gap < 1.2 * taller) & (gap > -0.3 * taller)
        follows &= np.abs(middle[:place] - middle[place]) < 0.35 * taller
        follows &= np.minimum(height[:place], height[place]) > 0.55 * taller
        if follows.any():
            longest[place] = longest[:place][follows].max() + 1
    return int(longest.max())
