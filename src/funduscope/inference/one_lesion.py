"""One thing in the retina is one lesion: what was outlined twice, or where no lesion can be, is resolved here.

The networks outline each kind of lesion by itself. So one dark dot may be outlined as a microaneurysm and as a
hemorrhage, and the bright disc in part as exudates.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from funduscope.imaging.framing import CropTransform
from funduscope.inference.objects import Components, centers_of, sampled

MISTAKEN: Final = (("MA", "HE"), ("EX", "SE"))
"""Kinds of lesion that are mistaken for each other."""

NEVER_IN_DISC: Final = frozenset({"EX", "SE"})
"""Exudates lie in the retina, and the disc has none."""

SAME_OVERLAP: Final = 0.5
"""Two outlines are of one thing if they share at least this part of the smaller one."""


def outside_disc(lesions: Components, disc: np.ndarray) -> Components:
    """The lesions whose center of mass is not inside the disc (H, W) bool."""
    if not len(lesions.areas):
        return lesions
    centers = centers_of(lesions.places, lesions.which, lesions.areas)
    columns, rows = centers.astype(int).T
    return lesions.keeping(lesions.kept & ~disc[rows, columns])


def resolve(
    first: Components, second: Components, first_plane: np.ndarray, second_plane: np.ndarray, transform: CropTransform
) -> tuple[Components, Components]:
    """The outlines of two kinds of lesion, without those that the other kind outlines too and that fit it better.

    first_plane, second_plane: (n, n) probabilities over the frame of either kind. The kind that fits is the one with
    the larger sum of probabilities over the pixels of both outlines.
    """
    width = first.mask.shape[1]
    flat = [parts.places @ (1, width) for parts in (first, second)]
    _, *shared = np.intersect1d(*flat, assume_unique=True, return_indices=True)
    if not len(shared[0]):
        return first, second

    # By how much the second kind is more probable: in each pixel, then summed over both outlines of a pair.
    differences = [
        sampled(second_plane, transform, parts.places + 0.5) - sampled(first_plane, transform, parts.places + 0.5)
        for parts in (first, second)
    ]
    sums = [
        np.bincount(parts.which, difference, len(parts.areas))
        for parts, difference in zip((first, second), differences, strict=True)
    ]
    pairs = np.stack([first.which[shared[0]], second.which[shared[1]]], axis=1)
    pairs, pair_of_pixel, n_shared = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    of_first, of_second = pairs.T
    counted_twice = np.bincount(pair_of_pixel.ravel(), differences[0][shared[0]])
    is_second = sums[0][of_first] + sums[1][of_second] - counted_twice > 0

    smaller = np.minimum(first.areas[of_first], second.areas[of_second])
    are_one = first.kept[of_first] & second.kept[of_second] & (n_shared >= SAME_OVERLAP * smaller)
    kept, kept_second = first.kept.copy(), second.kept.copy()
    kept[of_first[are_one & is_second]] = False
    kept_second[of_second[are_one & ~is_second]] = False
    return first.keeping(kept), second.keeping(kept_second)
