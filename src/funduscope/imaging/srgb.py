"""Colors as sRGB, whatever colors a file defines: by an embedded ICC profile, or by the gamma of a PNG.

A photo whose file says sRGB, or nothing, stays as it is, to the byte.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

_SRGB_GAMMA: Final = 1 / 2.2
"""What a PNG states that holds sRGB."""

_GAMMA_TOLERANCE: Final = 0.05
"""Relative difference that no eye sees: libpng ignores as much."""

_PROFILE_TOLERANCE: Final = 3
"""Levels by which the many profiles of sRGB differ at most; Adobe RGB and Display P3 differ from it by 30 and more."""

_BAND_ROWS: Final = 256
"""Rows that are converted at once: Pillow copies what it converts, at four bytes a pixel."""


def convert_to_srgb(pixels: np.ndarray, profile: bytes | None) -> np.ndarray:
    """Convert pixels (H, W, 3) uint8 from the colors of an ICC profile to sRGB, in place.

    They stay as they are without a profile, with one of sRGB, and with one that cannot be used: a damaged one, one that
    is not of RGB, and one of tables, which belongs to a scanner or printer.
    """
    transform = _transform_to_srgb(profile) if profile else None
    if transform is None:
        return pixels

    from PIL import Image

    for start in range(0, len(pixels), _BAND_ROWS):
        band = slice(start, start + _BAND_ROWS)
        pixels[band] = np.asarray(transform.apply(Image.fromarray(pixels[band])))
    return pixels


@lru_cache(maxsize=8)
def _transform_to_srgb(profile: bytes) -> ImageCmsTransform | None:
    """The way from a profile's colors to sRGB; None where there is none, or nothing to change."""
    from PIL import Image, ImageCms  # 0.1 s, which a photo without a profile does without

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        properties: Any = source.profile  # Pillow's types name only what a profile is opened from
        if properties.xcolor_space != "RGB " or not properties.is_matrix_shaper:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    except (OSError, ImageCms.PyCMSError):
        return None

    steps = np.linspace(0, 255, 18).astype(np.uint8)
    colors = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    converted = np.asarray(transform.apply(Image.fromarray(colors)))
    is_srgb = np.abs(converted.astype(int) - colors).max() <= _PROFILE_TOLERANCE
    return None if is_srgb else transform


def foreign_gamma(gamma: float | None) -> float | None:
    """The exponent that a PNG states (1.0: linear light); None where it states none, or that of sRGB."""
    is_srgb = not gamma or abs(gamma / _SRGB_GAMMA - 1) <= _GAMMA_TOLERANCE
    return None if is_srgb else gamma


def srgb_levels(gamma: float, n_levels: int) -> np.ndarray:
    """Table of (n_levels,) uint8: each level that was encoded with the exponent `gamma`, in sRGB (IEC 61966-2-1)."""
    light = np.linspace(0, 1, n_levels) ** (1 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)
