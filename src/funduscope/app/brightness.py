"""Matches the brightness and color of two registered photos, so that what differs is the eye, not the lamp."""

from __future__ import annotations

import numpy as np

from funduscope.imaging.vessels import lit_field


def match_brightness(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`image` with the mean and the spread of each color that `reference` has where both show retina.

    image, reference: (H, W, 3) uint8, registered. What is dark in `image` (no retina) stays as it is. Returns `image`
    unchanged if no place shows retina in both.
    """
    lit = lit_field(image) > 0
    both = lit & (lit_field(reference) > 0)
    if not both.any():
        return image
    own, other = image[both].astype(np.float32), reference[both].astype(np.float32)
    gain = other.std(axis=0) / np.maximum(own.std(axis=0), 1)
    matched = (image[lit] - own.mean(axis=0)) * gain + other.mean(axis=0)
    result = image.copy()
    result[lit] = np.clip(np.rint(matched), 0, 255).astype(np.uint8)
    return result
