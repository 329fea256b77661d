"""The close view, looked at in bands: only the rows in which there is an eye, and half of them at a time.

A photo at 4288 x 2848 shows an eye cut off above and below, so that a fifth of its square frame is black; and the first
layers' maps of 1440 x 1440 pixels are what predicting needs its memory for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from funduscope.inference.runtime import Outputs

STEP: Final = 32
"""Rows come in multiples of this: what a network's deepest map halves down to."""

TALLEST: Final = 768
"""A band's rows, margins not counted."""

MARGIN: Final = 64
"""Rows that a band sees beyond those it answers for. Training sees crops of 512 px, with no more around them."""

DARK: Final = 16
"""A row no brighter than this anywhere (of 255) shows no eye."""

ABSENT: Final = -30.0
"""The logit of every structure where there is no eye: a probability of 0."""


def run_in_strips(run: Callable[[np.ndarray], Outputs], image: np.ndarray) -> Outputs:
    """The structures of a close view (S, S, 3) uint8, (1, L, h, w) logits as from one pass, and nothing else.

    run: answers for an image (H, W, 3) whose H is a multiple of `STEP`.
    """
    whole: np.ndarray | None = None
    for seen, kept in strips(image):
        found = run(image[seen]).structures
        if found is None:
            return Outputs()
        scale = found.shape[3] / image.shape[1]
        if whole is None:
            side = round(image.shape[0] * scale)
            whole = np.full((*found.shape[:2], side, found.shape[3]), ABSENT, np.float32)
        first, last = round(kept.start * scale), round(kept.stop * scale)
        skipped = round((kept.start - seen.start) * scale)
        whole[:, :, first:last] = found[:, :, skipped : skipped + last - first]
    return Outputs(structures=whole)


def strips(image: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """From above: the rows that a band sees, and those among them that it answers for."""
    bright = np.flatnonzero(image.max(axis=(1, 2)) > DARK)
    top, bottom = (int(bright[0]), int(bright[-1]) + 1) if bright.size else (0, image.shape[0])
    top, bottom = top // STEP * STEP, math.ceil(bottom / STEP) * STEP
    count = math.ceil((bottom - top) / TALLEST)
    edges = [top + round((bottom - top) / STEP * number / count) * STEP for number in range(count + 1)]
    for first, last in itertools.pairwise(edges):
        yield slice(max(first - MARGIN, top), min(last + MARGIN, bottom)), slice(first, last)
