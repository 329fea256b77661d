"""Pictures of labels for findings: a photo with its masks, points and boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from funduscope.data.case import Box, Point
from funduscope.doctor.finding import Picture
from funduscope.doctor.mask_files import read_stored
from funduscope.doctor.scan import Scan
from funduscope.i18n.errors import PhotoError
from funduscope.vocabulary import STRUCTURES

WIDTH_PX: Final = 640
POINT_COLORS: Final = {"disc": (0, 220, 220), "fovea": (255, 255, 255), "seen": (255, 160, 0)}
_COLORS: Final = {item.code: item.color for item in STRUCTURES}
_OTHER: Final = (255, 0, 255)


def drawn(
    scan: Scan,
    photo: str,
    caption: str,
    masks: Sequence[tuple[Path, str]] = (),
    points: Mapping[str, Point] | None = None,
    boxes: Sequence[tuple[str, Box]] = (),
) -> Picture:
    """The photo with masks (file, structure's code) outlined and boxes drawn in their structures' colors, and points by
    name ("disc", "fovea", "seen"); boxes and points in the photo's pixels."""
    return Picture(caption, partial(_draw, scan, photo, tuple(masks), dict(points or {}), tuple(boxes)))


def _draw(
    scan: Scan,
    photo: str,
    masks: Sequence[tuple[Path, str]],
    points: Mapping[str, Point],
    boxes: Sequence[tuple[str, Box]],
) -> np.ndarray | None:
    """None if the photo cannot be opened."""
    try:
        pixels = scan.image(photo)
    except (PhotoError, KeyError):
        return None
    scale = min(1.0, WIDTH_PX / pixels.shape[1])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    for file, code in masks:
        stored = read_stored(file)
        if isinstance(stored, str):
            continue
        small = cv2.resize(stored.inside.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
        contours, _ = cv2.findContours((small > 64).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, _COLORS.get(code, _OTHER), 1, cv2.LINE_AA)
    for code, box in boxes:
        x0, y0, x1, y1 = (round(side * scale) for side in box)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), _COLORS.get(code, _OTHER), 1, cv2.LINE_AA)
    for name, (x, y) in points.items():
        at = (int(np.clip(x * scale, 0, size[0] - 1)), int(np.clip(y * scale, 0, size[1] - 1)))
        cv2.drawMarker(canvas, at, (0, 0, 0), cv2.MARKER_CROSS, 25, 4, cv2.LINE_AA)
        cv2.drawMarker(canvas, at, POINT_COLORS.get(name, _OTHER), cv2.MARKER_CROSS, 23, 2, cv2.LINE_AA)
    return canvas
