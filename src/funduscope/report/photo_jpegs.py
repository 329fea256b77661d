"""The photo with its outlines, and the photo alone, as small JPEGs without metadata for PDF and leaflet."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import simplejpeg

from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Findings
from funduscope.report.outline import Palette, Traced
from funduscope.report.overlay import marked

MARKED_WIDTH_PX: Final = 1600
ALONE_WIDTH_PX: Final = 700


def marked_jpeg(findings: Findings, palette: Palette, traced: Traced | None = None) -> bytes:
    """The photo with outlines and landmarks, at most 1600 px wide: 220 dots an inch on A4."""
    return _jpeg(marked(findings, palette=palette, width_px=MARKED_WIDTH_PX, traced=traced))


def unmarked_jpeg(photo: Photo) -> bytes:
    """The photo without any drawing, at most 700 px wide."""
    width = min(photo.width, ALONE_WIDTH_PX)
    size = width, max(1, round(photo.height * width / photo.width))
    return _jpeg(cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA))


def _jpeg(pixels: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=85, colorspace="RGB", colorsubsampling="444")
