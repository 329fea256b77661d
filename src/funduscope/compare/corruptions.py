"""Corruptions of photos: a color shift, as from another lamp and sensor, and blur.

Both are stronger than training's default augmentations. They depend on the photo's key alone: every model gets the same
pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from funduscope.data.case import Case
from funduscope.evaluation.score_photo import score_photo
from funduscope.evaluation.scores import PhotoScore
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Failure
from funduscope.inference.model import Model

GAIN: Final = (0.2, 0.4)
"""How far each color's gain lies from 1, up or down."""

GAMMA: Final = (0.2, 0.4)
"""How far the logarithm of gamma lies from 0, up or down."""

BLUR_FRAC: Final = 0.004
"""Standard deviation of the blur over the photo's width: 6 px at 1440, 17 px at 4288, 1.5 to 2 px at 384."""


def corrupt_color(pixels: np.ndarray, key: str, share: float = 1.0) -> np.ndarray:
    """(H, W, 3) uint8 RGB with the gain of every color moved by 20 to 40 %, and a gamma; black stays black.

    share: scales the shift; 0 changes nothing.
    """
    rng = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))
    gains = 1 + share * rng.choice([-1, 1], 3) * rng.uniform(*GAIN, 3)
    gamma = np.exp(share * rng.choice([-1, 1]) * rng.uniform(*GAMMA))
    table = 255 * np.linspace(0, 1, 256)[:, None] ** gamma * gains
    return cv2.LUT(pixels, np.rint(np.clip(table, 0, 255)).astype(np.uint8)[None])


def corrupt_blur(pixels: np.ndarray, key: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB, blurred. key is not used: every photo gets the same blur."""
    return cv2.GaussianBlur(pixels, (0, 0), BLUR_FRAC * pixels.shape[1])


CORRUPTIONS: Final[dict[str, Callable[[np.ndarray, str], np.ndarray]]] = {"color": corrupt_color, "blur": corrupt_blur}

DESCRIPTIONS: Final[dict[str, str]] = {
    "color": f"every color's gain moved by {100 * GAIN[0]:.0f} to {100 * GAIN[1]:.0f} % and gamma by a factor of "
    f"{np.exp(GAMMA[0]):.1f} to {np.exp(GAMMA[1]):.1f}, up or down, drawn once for each photo",
    "blur": f"a Gaussian blur with a standard deviation of {100 * BLUR_FRAC:.1f} % of the photo's width",
}


def corrupted_stream(
    predictor: Model, cases: Iterable[Case], change: Callable[[np.ndarray, str], np.ndarray]
) -> Iterator[PhotoScore]:
    """Predicts and scores one photo after another, each corrupted before the prediction.

    change: one of `CORRUPTIONS`, or any function of pixels (H, W, 3) uint8 and the case's key that keeps the shape.
    """
    for case in cases:
        try:
            photo = Photo.open(case.path)
            answer = predictor(replace(photo, pixels=change(photo.pixels, case.key)))
        except PhotoError as error:
            answer = Failure(case.path.name, error.code, error.says)
        yield score_photo(answer, case, predictor.card, judges=predictor.refuses)
