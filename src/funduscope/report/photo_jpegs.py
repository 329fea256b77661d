"""The photo with its outlines, and the photo alone, as JPEGs without metadata."""

from __future__ import annotations

from typing import Final

import numpy as np
import simplejpeg

from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Findings
from funduscope.report.outline import Palette, Traced
from funduscope.report.overlay import marked, shrunk

MARKED_WIDTH_PX: Final = 1600
ALONE_WIDTH_PX: Final = 700


def marked_jpeg(findings: Findings, palette: Palette, traced: Traced | None = None) -> bytes:
    """The photo with outlines and landmarks, at most 1600 px wide: 220 dots an inch on A4."""
    return jpeg(marked(findings, palette=palette, width_px=MARKED_WIDTH_PX, traced=traced))


def unmarked_jpeg(photo: Photo) -> bytes:
    """The photo without any drawing, at most 700 px wide."""
    return jpeg(shrunk(photo.pixels, ALONE_WIDTH_PX))


def jpeg(pixels: np.ndarray, quality: int = 85, chroma: str = "444") -> bytes:
    """A picture (H, W, 3) uint8 RGB as a JPEG without metadata. chroma: its subsampling, "444" for none."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, colorspace="RGB", colorsubsampling=chroma)
