"""PNG files of drawn pictures, TIFF files of masks. Coded in memory: Pillow loses the reason if a disk is full."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin


def png(picture: np.ndarray) -> bytes:
    """The PNG's bytes of a picture, (H, W) or (H, W, 3) uint8."""
    # OpenCV's own choice of filter and level takes less than half of the time of Pillow's lowest level.
    _, data = cv2.imencode(".png", picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def mask_tiff(mask: np.ndarray) -> bytes:
    """The TIFF's bytes of a mask (H, W) bool, contiguous: 0 and 255, PackBits.

    Every reader of TIFF files must know PackBits, and a large photo's mask takes a tenth of the time that LZW takes.
    """
    file = io.BytesIO()
    # The plugin is imported above, since Pillow would otherwise import its forty others as well.
    kind = TiffImagePlugin.TiffImageFile.format
    Image.fromarray(mask.view(np.uint8) * np.uint8(255)).save(file, kind, compression="packbits")
    return file.getvalue()


def write_png(picture: np.ndarray, path: Path) -> None:
    """Writes a picture as a PNG file. Raises `OSError` with its number if the disk refuses."""
    path.write_bytes(png(picture))
