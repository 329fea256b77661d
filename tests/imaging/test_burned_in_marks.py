"""Text and marks that software wrote into a photo are painted over in its frame; lesions are not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from funduscope.imaging.framing import frame
from funduscope.testing.drawn_eyes import draw_eye

WIDTH = 768


def write_date(pixels: np.ndarray, color: tuple[int, int, int]) -> None:
    cv2.putText(pixels, "12.03.2019", (320, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.6, color, 2, cv2.LINE_AA)


def draw_arrow(pixels: np.ndarray, color: tuple[int, int, int]) -> None:
    cv2.arrowedLine(pixels, (300, 180), (350, 220), color, 4, cv2.LINE_AA, tipLength=0.4)


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 255, 0), (255, 255, 0)])
@pytest.mark.parametrize("draw", [write_date, draw_arrow])
def test_text_and_arrows_are_painted_over(
    draw: Callable[[np.ndarray, tuple[int, int, int]], None], color: tuple[int, int, int]
) -> None:
    plain = draw_eye(3, width_px=WIDTH).pixels
    written = plain.copy()
    draw(written, color)

    clean, painted = frame(plain, 512), frame(written, 512)
    assert clean.marks is None
    assert painted.marks is not None
    assert np.abs(painted.image.astype(int) - clean.image).max() < 80
    assert np.array_equal(painted.resampled(written, 256).marks, painted.marks)


@pytest.mark.parametrize("seed", range(4))
def test_lesions_are_no_marks(seed: int) -> None:
    assert frame(draw_eye(seed, grade=3, width_px=WIDTH).pixels, 1024).marks is None
