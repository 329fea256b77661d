"""Find what software wrote into a photo: rows of letters, and arrows or other marks of a flat color.

Letters are small marks of one height in a row. Around the field anything that differs from the background is a mark;
on the retina only strokes of white, black, pure yellow, green or blue: exudates, vessels and reflections are softer
and form no row. A single arrow or cross forms no row either, so it must have one of these colors and a hard edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np

from funduscope.imaging.field_of_view import FieldOfView

SIDE_PX: Final = 1200
"""Letters are counted in a copy at most this long; a letter of a hundredth of the photo is ten pixels high there."""

FRAME_PX: Final = 1024
"""Marks are searched in a frame of at most this side: a copy of `SIDE_PX` shows the field about as large."""

MIN_LETTERS: Final = 5
"""This many letters in a row are text: photos without text have fewer (`python -m research.burned_in`)."""

HARD_LEVELS: Final = 100
"""Where a mark ends, its color falls by as many levels within `_REACH_PX`. Lesions, reflections and the disc are
softer: no photo of 660 without marks has a fall of as much all around."""

_HARD_FRAC: Final = 0.8
"""Share of a mark's edge that falls so steeply; the rest may touch other marks."""

_REACH_PX: Final = 3
_LIT: Final = 25
"""Level of the brightest channel. A bright edge next to darker pixels is the edge of the photo or of the field."""

_MIN_MARK_PX: Final = 40

_HEIGHTS: Final = (0.0055, 0.07)  # of the longer side: smaller is noise, larger no line of text
_STROKE: Final = 0.016
"""Least width of a stroke, as a share of the longer side; on the retina strokes are thinner."""

_MAX_MARKS: Final = 1500
"""More marks than this are noise or texture; a page of text has fewer letters."""


def count_letters(pixels: np.ndarray, field_of_view: FieldOfView | None) -> tuple[int, int]:
    """Letters in the longest row around the field alone, and anywhere, of a photo (H, W, 3) uint8."""
    scale = min(1.0, SIDE_PX / max(pixels.shape[:2]))
    small = pixels
    if scale < 1:
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    around = np.zeros(small.shape[:2], bool)
    if field_of_view is not None:
        center = field_of_view.x_px * scale, field_of_view.y_px * scale
        around = _beyond(small.shape[:2], center, field_of_view.radius_px * scale)

    margin = _marks_around(small, around)
    longest = 0
    for strokes in _strokes_within(small, ~around):
        longest = max(longest, _longest_row(strokes | margin))
    return _longest_row(margin), longest


def find_marks(image: np.ndarray) -> np.ndarray | None:
    """(n, n) bool over a frame: text, arrows and marks inside or at the rim of its circle; None if there are none.

    image: (S, S, 3) uint8, the field of view as its inscribed circle. n: at most `FRAME_PX`.
    """
    side = min(len(image), FRAME_PX)
    small = image
    if side < len(image):
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    around = _beyond(small.shape[:2], (side / 2, side / 2), side / 2)

    marks = _hard_marks(small, around)
    margin = _marks_around(small, around)
    for strokes in _strokes_within(small, ~around):
        boxes, lengths = _rows(strokes | margin)
        for left, top, width, height in boxes[lengths >= MIN_LETTERS].astype(int):
            # As far as to the next letter, so that dots and colons between letters are covered.
            first_row, first_column = max(0, top - height // 3), max(0, left - height // 2)
            marks[first_row : top + height + height // 3 + 1, first_column : left + width + height // 2 + 1] = 1

    marks[around] = 0
    if not marks.any():
        return None
    return cv2.dilate(marks, _window(_REACH_PX)).astype(bool)


def paint_over(image: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """A copy of an image (S, S, 3) uint8 with the marks (n, n) bool filled from what surrounds them."""
    holes = cv2.resize(marks.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return cv2.inpaint(image, holes, _REACH_PX, cv2.INPAINT_TELEA)


def _window(reach_px: int) -> np.ndarray:
    return np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)


def _beyond(shape: tuple[int, ...], center: tuple[float, float], radius: float) -> np.ndarray:
    """(H, W) bool: what lies beyond the rim of a field."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    reach = 1.03 * radius
    return (columns + 0.5 - center[0]) ** 2 + (rows + 0.5 - center[1]) ** 2 > reach * reach


def _hard_marks(small: np.ndarray, around: np.ndarray) -> np.ndarray:
    """(H, W) uint8, 1 in components of a color that a retina hardly has, with a hard edge all around.

    around: (H, W) bool, beyond the rim.
    """
    red, green, blue = cv2.split(small)
    darkest = cv2.min(cv2.min(red, green), blue)
    brightest = cv2.max(cv2.max(red, green), blue)
    unlit = brightest < _LIT  # a bright edge there is the edge of the photo or of the field

    cold = _with_hard_edge(cv2.subtract(cv2.max(green, blue), red), 80)
    white = _with_hard_edge(darkest, 200, unlit)
    yellow = _with_hard_edge(cv2.subtract(cv2.min(red, green), blue), 120, unlit)
    dark = cv2.bitwise_not(brightest)
    dark[around] = 0  # so that the surround has a hard edge on one side alone
    black = _with_hard_edge(dark, 225, around)
    return cold | white | yellow | black


def _with_hard_edge(strength: np.ndarray, level: int, soft: np.ndarray | None = None) -> np.ndarray:
    """(H, W) uint8: the components above a level of a color's strength (H, W) uint8 that end abruptly.

    soft: (H, W) bool, where no edge is a mark's.
    """
    candidates = (strength >= level).astype(np.uint8)
    if not cv2.countNonZero(candidates):
        return candidates
    count, label_map, stats, _ = cv2.connectedComponentsWithStats(candidates, connectivity=8)
    if count > _MAX_MARKS:
        return np.zeros_like(candidates)
    labels = np.asarray(label_map, np.uint16)
    areas = stats[:, cv2.CC_STAT_AREA]
    inside = candidates.astype(bool)
    mean = np.bincount(labels[inside], strength[inside], count) / areas

    # The pixels next to a mark are mixed with it, so its surroundings begin at the second.
    grown = np.asarray(cv2.dilate(labels, _window(_REACH_PX)), np.uint16)
    ring = (grown > 0) & (cv2.dilate(candidates, _window(1)) == 0)
    labels_of_ring = grown[ring]
    is_hard = strength[ring] <= mean[labels_of_ring] - HARD_LEVELS
    if soft is not None:
        is_hard &= ~soft[ring]

    n_ring = np.bincount(labels_of_ring, minlength=count)
    n_hard = np.bincount(labels_of_ring, is_hard, count)
    is_mark = (n_hard >= _HARD_FRAC * n_ring) & (areas >= _MIN_MARK_PX)
    is_mark[0] = False  # the background
    return is_mark[labels].astype(np.uint8)


def _marks_around(small: np.ndarray, around: np.ndarray) -> np.ndarray:
    """(H, W) bool: what differs from the color around the field."""
    if around.mean() < 0.005:
        return np.zeros(around.shape, bool)
    places = np.flatnonzero(around)[::7]
    color = np.median(small.reshape(-1, 3)[places], axis=0)
    away = [cv2.absdiff(plane, round(level)) for plane, level in zip(cv2.split(small), color.tolist(), strict=True)]
    return (cv2.max(cv2.max(away[0], away[1]), away[2]) > 50) & around


def _strokes_within(small: np.ndarray, within: np.ndarray) -> Iterator[np.ndarray]:
    """(H, W) bool masks: thin strokes of white, of black, of pure yellow, and colors that no retina has."""
    red, green, blue = cv2.split(small)
    other = cv2.max(green, blue)
    whitest = cv2.min(cv2.min(red, green), blue)
    blackest = cv2.max(other, red)
    widest = max(9, round(_STROKE * max(within.shape)) | 1)  # odd; parts of a disc between its vessels are wider
    window = np.ones((widest, widest), np.uint8)
    yield within & (cv2.subtract(other, red) > 80) & (other > 130)
    # Small letters are mixed with the retina around them: colder than that, if not cold.
    coldness = cv2.addWeighted(other, 0.5, cv2.bitwise_not(red), 0.5, 0)
    yield within & (cv2.morphologyEx(coldness, cv2.MORPH_TOPHAT, window) > 25)
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
    return int(_rows(marks)[1].max(initial=0))


def _rows(marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Marks that look like letters: (N, 4) left, top, width, height, and of each the letters of its longest row."""
    none = np.zeros((0, 4)), np.zeros(0, int)
    if not marks.any():
        return none
    count, _, stats, _ = cv2.connectedComponentsWithStats(marks.astype(np.uint8), connectivity=8)
    low, high = (share * max(marks.shape) for share in _HEIGHTS)
    width, height = stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]
    filled = stats[:, cv2.CC_STAT_AREA] / np.maximum(width * height, 1)
    like_letters = (height >= max(low, 5)) & (height <= high) & (width <= 3 * height) & (filled > 0.12) & (filled < 0.9)
    like_letters[0] = False  # the background
    boxes = stats[like_letters][:, :4].astype(np.float64)
    if count > _MAX_MARKS:
        return none
    boxes = boxes[np.argsort(boxes[:, 0])]
    return boxes, _row_lengths(boxes)


def _row_lengths(boxes: np.ndarray) -> np.ndarray:
    """(N,) for each letter the length of the longest row through it. boxes: (N, 4), sorted by left."""
    left, top, width, height = boxes.T
    taller = np.maximum(height[:, None], height)
    lower = np.minimum(height[:, None], height)
    middle = top + height / 2
    gap = left - (left + width)[:, None]
    follows = (gap < 1.2 * taller) & (gap > -0.3 * taller)
    follows &= np.abs(middle[:, None] - middle) < 0.35 * taller
    follows &= lower > 0.55 * taller
    follows = np.triu(follows, 1)

    up_to = np.ones(len(boxes), int)
    onward = np.ones(len(boxes), int)
    for place in range(len(boxes)):
        up_to[place] += up_to[follows[:, place]].max(initial=0)
    for place in reversed(range(len(boxes))):
        onward[place] += onward[follows[place]].max(initial=0)
    return up_to + onward - 1
