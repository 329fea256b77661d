"""Measures that separate fundus photos from other pictures: order of colors, edges, vessels, surroundings.

They complete the measures of light and sharpness (`image_measures.py`), in the same small frame.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from funduscope.imaging.field_of_view import FieldOfView, thumbnail
from funduscope.imaging.framing import Frame
from funduscope.imaging.vessels import SIDE_PX, vesselness
from funduscope.quality.image_measures import circle_in_photo

_FIELD: Final = 0.9
"""Colors and edges are measured within this part of the radius."""

_AROUND: Final = 1.1
"""The surroundings are measured beyond this part of the radius."""

_COPY_PX: Final = 256
"""The surroundings are measured on a copy of the photo whose longer side is this."""

_UNLIKE: Final = 25
"""A pixel around the field differs from the others there by more than this many levels."""

_VESSEL: Final = 0.35
"""A pixel above this vesselness counts as vessel."""

_LINE_PX2: Final = 40
"""Vessel pixels count in components of this area or more; smaller ones are texture."""


def appearance(pixels: np.ndarray, framed: Frame) -> dict[str, float]:
    """Measures of a photo (H, W, 3) uint8 and its small frame (`image_measures.small_frame`).

    ordered: share of the field where red >= green >= blue, nearly. even: share whose neighbors have exactly its color.
    upright: share of the strong edges that are parallel to the picture's sides. warm, sallow: medians of log red over
    green and log green over blue; sallows: span of the latter. skew: of the finest detail, below 0 where dark lines
    outweigh bright ones. shaded: range of the light on a large scale over its mean; tilted: its slope over the field.
    spot: how much the brightest place exceeds the median. middle: how much brighter the middle is than the margin.
    lines: share of the frame in long dark lines; longest: length of the longest, in frames; pieces: number of vessel
    components. beyond: share of the photo, around the field, that is not of one color. part: share of the photo inside
    the field.
    """
    image = framed.image.astype(np.float32)
    field = circle_in_photo(framed, _FIELD)
    if field.sum() < 400:
        return {}
    return {
        **_colors(framed.image, image, field),
        **_edges(image[..., 1], field),
        **_light(image[..., 1], field),
        **_lines(framed.image),
        **_around(pixels, framed.field_of_view),
    }


def _colors(levels: np.ndarray, image: np.ndarray, field: np.ndarray) -> dict[str, float]:
    red, green, blue = (image[..., k][field] for k in range(3))
    warm, sallow = np.log((red + 10) / (green + 10)), np.log((green + 10) / (blue + 10))
    kernel = np.ones((3, 3), np.uint8)
    even = (cv2.dilate(levels, kernel) == cv2.erode(levels, kernel)).all(axis=2)
    return {
        "ordered": float(((red >= green - 6) & (green >= blue - 6)).mean()),
        "even": float(even[field].mean()),
        "warm": float(np.median(warm)),
        "sallow": float(np.median(sallow)),
        "sallows": float(np.ptp(np.percentile(sallow, (3, 97)))),
    }


def _edges(green: np.ndarray, field: np.ndarray) -> dict[str, float]:
    across, down = (cv2.Sobel(green, cv2.CV_32F, dx, 1 - dx, ksize=3) for dx in (1, 0))
    inner = cv2.erode(field.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    across, down = np.abs(across[inner]), np.abs(down[inner])
    steep = np.hypot(across, down)
    strong = steep >= np.percentile(steep, 95)
    straight = np.minimum(across, down) < 0.12 * np.maximum(np.maximum(across, down), 1)
    fine = (green - cv2.GaussianBlur(green, (0, 0), 2))[inner]
    return {
        "upright": float(straight[strong].mean()),
        "skew": float(np.mean(((fine - fine.mean()) / max(float(fine.std()), 0.3)) ** 3)),
    }


def _light(green: np.ndarray, field: np.ndarray) -> dict[str, float]:
    weight = field.astype(np.float32)
    soft = cv2.GaussianBlur(green * weight, (0, 0), 12) / np.maximum(cv2.GaussianBlur(weight, (0, 0), 12), 1e-3)
    values, side = soft[field], len(green)
    mean = float(values.mean()) + 5
    rows, columns = np.nonzero(field)
    at = np.stack([columns, rows], axis=1) / (side / 2) - 1
    slope = (values - values.mean()) @ at / max(float((at**2).sum()), 1.0)
    radius = np.hypot(*at.T)
    inner, outer = values[radius < 0.35], values[radius > 0.7]
    return {
        "shaded": float(np.ptp(np.percentile(values, (3, 97)))) / mean,
        "tilted": float(np.hypot(*slope)) / mean,
        "spot": float(values.max() - np.median(values)) / mean,
        "middle": (float(inner.mean()) - float(outer.mean())) / mean if len(inner) and len(outer) else 0.0,
    }


def _lines(levels: np.ndarray) -> dict[str, float]:
    """Dark lines such as vessels: connected components, each by its area and its bounding box."""
    vessels = vesselness(cv2.resize(levels, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)) > _VESSEL
    stats = cv2.connectedComponentsWithStats(vessels.astype(np.uint8), connectivity=8)[2][1:]
    stats = stats[stats[:, cv2.CC_STAT_AREA] >= _LINE_PX2]
    lengths = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    long = lengths > 3 * np.sqrt(stats[:, cv2.CC_STAT_AREA])  # for a blob of that area the factor is 1.6
    return {
        "lines": float(stats[long, cv2.CC_STAT_AREA].sum()) / SIDE_PX**2,
        "longest": float(lengths[long].max(initial=0)) / SIDE_PX,
        "pieces": float(len(stats)),
    }


def _around(pixels: np.ndarray, field_of_view: FieldOfView | None) -> dict[str, float]:
    if field_of_view is None:
        return {"beyond": 1.0, "part": 0.0}
    small, scale = thumbnail(pixels, _COPY_PX)
    rows, columns = np.mgrid[: small.shape[0], : small.shape[1]] + 0.5
    radius = np.hypot(columns - field_of_view.x_px * scale, rows - field_of_view.y_px * scale) / (
        field_of_view.radius_px * scale
    )
    around = small[radius > _AROUND].astype(np.float32)
    part = float((radius <= 1).mean())
    if len(around) < 50 or field_of_view.is_edgeless:  # then it is retina
        return {"beyond": 0.0, "part": part}
    unlike = np.abs(around - np.median(around, axis=0)).max(axis=1) > _UNLIKE
    return {"beyond": float(unlike.sum()) / radius.size, "part": part}
