"""Where in a picture a photo may lie: in a frame, a window, on a page that was scanned, under a line of text.

Such surroundings have large areas of exactly one color. What differs from such a color and is connected is a part;
`field_of_view` searches for the eye in each of the largest parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

import cv2
import numpy as np

Part = tuple[int, int, int, int]
"""left, top, right, bottom, in pixels; right and bottom are outside."""

SHADE_LEVELS: Final = 16
"""Colors count as one while they are in the same cell of this many levels."""

FLAT_FRAC: Final = 0.01
"""Smallest share of the picture that a flat color must fill to count as a background."""

UNLIKE_LEVELS: Final = 18
"""A pixel differs from a background by more than this many levels in its most different color."""

MIN_SIDE_FRAC: Final = 0.16
"""Shorter side of the smallest part, as a fraction of the picture's longer side."""

MAX_COLORS, MAX_PARTS = 5, 6


def find_parts(small: np.ndarray) -> list[Part]:
    """The parts of a picture (H, W, 3) uint8 in which a photo may lie, largest first; never the whole picture."""
    height, width = small.shape[:2]
    least = MIN_SIDE_FRAC * max(height, width)
    parts: set[Part] = set()
    for color in _backgrounds(small):
        unlike = (np.abs(small.astype(np.int16) - color).max(axis=2) > UNLIKE_LEVELS).astype(np.uint8)
        unlike = cv2.morphologyEx(unlike, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        stats = cv2.connectedComponentsWithStats(unlike, connectivity=4)[2][1:]
        for left, top, wide, high, area in stats.tolist():
            if min(wide, high) >= least and area > 0.4 * wide * high and wide * high < 0.97 * width * height:
                parts.add((left, top, left + wide, top + high))
    return sorted(parts, key=lambda part: (part[0] - part[2]) * (part[3] - part[1]))[:MAX_PARTS]


def _backgrounds(small: np.ndarray) -> Iterator[np.ndarray]:
    """The colors (3,) int16 of the largest areas of one color, at most `MAX_COLORS`."""
    kernel = np.ones((3, 3), np.uint8)
    even = (cv2.dilate(small, kernel).astype(np.int16) - cv2.erode(small, kernel)).max(axis=2) <= 6
    colors = small[even]
    cells = (colors // SHADE_LEVELS).astype(np.int32) @ np.array([1, 16, 256])
    counts = np.bincount(cells, minlength=1)
    large = np.flatnonzero(counts >= FLAT_FRAC * small.shape[0] * small.shape[1])
    medians = (np.median(colors[cells == cell], axis=0).astype(np.int16) for cell in large[np.argsort(-counts[large])])
    return islice((color for color in medians if not _is_retinal(color)), MAX_COLORS)


def _is_retinal(color: np.ndarray) -> bool:
    """Whether a color (3,) is orange or red: smooth retina is no background of a photo."""
    red, green, blue = color.tolist()
    return red > 25 and red >= green >= blue and red - blue > 0.4 * red
