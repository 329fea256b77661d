"""The close view in horizontal strips: only rows that show the eye, and half of them at a time.

In a photo of 4288 x 2848 the eye is cut off above and below, so a fifth of its square frame is black. And the first
layers' maps of 1440 x 1440 pixels take most of the memory of a prediction.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from funduscope.inference.runtime import Outputs

STEP: Final = 32
"""Strip heights must be multiples of the encoder's stride."""

TALLEST: Final = 768
"""Rows of a strip at most, without margins."""

MARGIN: Final = 64
"""Rows of context above and below a strip. Training uses crops of 512 px, without any context around them."""

DARK: Final = 16
"""A row whose brightest value (of 255) is at most this shows no eye."""

ABSENT: Final = -30.0
"""The logit of every structure in rows without an eye: a probability of 0."""


def run_in_strips(run: Callable[[np.ndarray], Outputs], image: np.ndarray) -> Outputs:
    """The structures of a close view (S, S, 3) uint8: (1, L, h, w) logits as from one pass, and no other outputs.

    run: the forward pass for an image (H, W, 3) whose H is a multiple of `STEP`.
    """
    whole: np.ndarray | None = None
    for rows, kept in strips(image):
        planes = run(image[rows]).structures
        if planes is None:
            return Outputs()
        scale = planes.shape[3] / image.shape[1]
        if whole is None:
            side = round(image.shape[0] * scale)
            whole = np.full((*planes.shape[:2], side, planes.shape[3]), ABSENT, np.float32)
        first, last = round(kept.start * scale), round(kept.stop * scale)
        skipped = round((kept.start - rows.start) * scale)
        whole[:, :, first:last] = planes[:, :, skipped : skipped + last - first]
    return Outputs(structures=whole)


def strips(image: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """From top to bottom: the rows of a strip with its margins, and the rows without them."""
    bright = np.flatnonzero(image.max(axis=(1, 2)) > DARK)
    top, bottom = (int(bright[0]), int(bright[-1]) + 1) if bright.size else (0, image.shape[0])
    top, bottom = top // STEP * STEP, math.ceil(bottom / STEP) * STEP
    count = math.ceil((bottom - top) / TALLEST)
    edges = [top + round((bottom - top) / STEP * number / count) * STEP for number in range(count + 1)]
    for first, last in itertools.pairwise(edges):
        yield slice(max(first - MARGIN, top), min(last + MARGIN, bottom)), slice(first, last)
