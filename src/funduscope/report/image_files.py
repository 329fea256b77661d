"""PNG files of drawn pictures, TIFF files of masks. Coded in memory: Pillow loses the reason where a disk is full."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def png(picture: np.ndarray) -> bytes:
    """The PNG's bytes of a picture, (H, W) or (H, W, 3) uint8."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def mask_tiff(mask: np.ndarray) -> bytes:
    """The TIFF's bytes of a mask (H, W) bool, contiguous: 0 and 255, LZW."""
    file = io.BytesIO()
    Image.fromarray(mask.view(np.uint8) * np.uint8(255)).save(file, "TIFF", compression="tiff_lzw")
    return file.getvalue()


def write_png(picture: np.ndarray, path: Path) -> None:
    """Writes a picture as a PNG file. Raises `OSError` with its number where the disk refuses."""
    path.write_bytes(png(picture))
