"""Matches the brightness and color of two registered photos, so that what differs is the eye, not the lamp."""

from __future__ import annotations

import cv2
import numpy as np

from funduscope.imaging.vessels import UNLIT_LEVELS, lit_field


def match_brightness(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`image` with the mean and the spread of each color that `reference` has where both show retina.

    image, reference: (S, S, 3) uint8, registered. The field's rim, which is left out of what is measured, changes with
    the rest; what is dark in `image` (no retina) stays as it is. Returns `image` unchanged if no place shows retina in
    both.
    """
    lit = lit_field(image) > 0
    both = lit & (lit_field(reference) > 0)
    if not both.any():
        return image
    own, other = image[both].astype(np.float32), reference[both].astype(np.float32)
    gain = other.std(axis=0) / np.maximum(own.std(axis=0), 1)
    rim = np.ones((image.shape[0] // 10 | 1,) * 2, np.uint8)
    field = (cv2.dilate(lit.astype(np.uint8), rim) > 0) & (image.max(axis=2) > UNLIT_LEVELS)
    matched = (image[field] - own.mean(axis=0)) * gain + other.mean(axis=0)
    result = image.copy()
    result[field] = np.clip(np.rint(matched), 0, 255).astype(np.uint8)
    return result
