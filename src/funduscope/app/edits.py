"""Edits that a person makes in the photo: outlines, brush, eraser, deleted and relabeled lesions, moved landmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import cv2
import numpy as np

from funduscope.app.reviewed import Corrections, Edit
from funduscope.inference.findings import Findings
from funduscope.vocabulary import CODES, LANDMARKS, LESIONS

MAX_POINTS: Final = 5_000
"""Points of one edit; viewer/tools.js thins longer strokes to so many."""


_DONE: Final[Mapping[Any, Edit]] = {"draw": "drawn", "brush": "painted", "erase": "erased", "delete": "deleted"}


def apply_edit(shown: Findings, corrections: Corrections, edit: Mapping[str, Any]) -> Corrections:
    """The corrections after one edit in the photo.

    edit: `what` (draw, brush, erase, delete, relabel, optic_disc or fovea), `code` and `points`, as the browser sent
    them; `radius` in pixels of a dot or a brush; `to`, the other kind of a relabeled lesion. An invalid edit changes
    nothing.
    """
    points = _valid_points(edit.get("points"), shown.photo.width, shown.photo.height)
    what, code = edit.get("what"), edit.get("code")
    if what in LANDMARKS and len(points) == 1:
        xy = float(points[0, 0]), float(points[0, 1])
        return replace(corrections, disc_xy=xy) if what == "optic_disc" else replace(corrections, fovea_xy=xy)
    if code not in CODES or code not in shown.codes or not shown.gradable_ok:
        return corrections
    radius_px = _valid_radius(edit.get("radius"), shown.photo.width, shown.photo.height)
    mask = shown.mask(code).copy()
    if what == "draw" and code == "OD":
        if len(points) < 3:
            return corrections  # a dot is no disc, and would make every distance in disc diameters wrong
        mask[:] = False  # an eye has one disc: the drawn one replaces the model's
    if what == "draw" and len(points):
        _draw(mask, points, radius_px)
    elif what in ("brush", "erase") and len(points):
        _cover(mask, _pixels(points, mask), radius_px, on=what == "brush")
    elif what == "delete" and len(points) == 1:
        mask &= ~_component(mask, points[0])
    elif what == "relabel" and len(points) == 1:
        return _relabel(shown, corrections, edit, points[0])
    if np.array_equal(mask, shown.mask(code)):
        return corrections
    after = corrections.with_mask(code, mask, _DONE[what])
    # An eye has one disc: drawing it says all there is to say.
    return replace(after, complete=after.complete | {code}) if (what, code) == ("draw", "OD") else after


def _relabel(shown: Findings, corrections: Corrections, edit: Mapping[str, Any], point: np.ndarray) -> Corrections:
    """Moves the lesion at a point from its kind to another kind."""
    code, other = edit["code"], edit.get("to")
    if code not in LESIONS or other not in LESIONS or other not in shown.codes or other == code:
        return corrections
    one = _component(shown.mask(code), point)
    if not one.any():
        return corrections
    after = corrections.with_mask(code, shown.mask(code) & ~one, "moved_from")
    return after.with_mask(other, shown.mask(other) | one, "moved_to")


def _valid_points(points: Any, width: int, height: int) -> np.ndarray:
    """(N, 2) points, clipped to the photo; no points where the input is not a list of pairs of finite numbers."""
    try:
        array = np.asarray(points, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2 or len(array) > MAX_POINTS or not np.isfinite(array).all():
        return np.zeros((0, 2))
    return np.clip(array, 0, (width, height))


def _valid_radius(radius: Any, width: int, height: int) -> float:
    """A radius in pixels, at least 0.5, which is one pixel, and at most an eighth of the longer side."""
    try:
        given = float(radius)
    except (TypeError, ValueError, OverflowError):
        given = 0.5
    return min(max(given, 0.5), max(width, height) / 8) if math.isfinite(given) else 0.5


def _pixels(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N, 2) int32 pixel indices of points."""
    return np.minimum(points, (mask.shape[1] - 1, mask.shape[0] - 1)).astype(np.int32)


def _draw(mask: np.ndarray, points: np.ndarray, radius_px: float) -> None:
    """Fills the polygon of three points or more; fewer points become discs of this radius."""
    pixels = _pixels(points, mask)
    if len(points) >= 3:
        cv2.fillPoly(mask.view(np.uint8), [pixels], 1)
        return
    for pixel in pixels:
        _cover(mask, pixel[None], radius_px, on=True)


def _cover(mask: np.ndarray, pixels: np.ndarray, radius_px: float, *, on: bool) -> None:
    """Sets or clears every pixel nearer than this to the line through (N, 2) pixels: what a round brush covers."""
    reach = math.ceil(radius_px)
    left, top = np.maximum(pixels.min(axis=0) - reach, 0)
    right, bottom = pixels.max(axis=0) + reach + 1
    part = mask[top:bottom, left:right]
    apart, line = np.ones(part.shape, np.uint8), (pixels - (left, top)).astype(np.int32)
    cv2.polylines(apart, [line], isClosed=False, color=0)
    apart[tuple(line[0, ::-1])] = 0  # a single point is no line
    part[cv2.distanceTransform(apart, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) < radius_px] = on


def _component(mask: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The 8-connected component at a point as an (H, W) bool mask; empty if there is none."""
    x, y = (int(value) for value in _pixels(point, mask))
    rest = mask.copy()
    if mask[y, x]:
        cv2.floodFill(rest.view(np.uint8), None, (x, y), 0, flags=8)
    return mask & ~rest
