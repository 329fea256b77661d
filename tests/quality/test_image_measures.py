"""Measures of a photo taken in a faster way, compared with the plain way of taking them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from funduscope.quality.image_measures import filled_below, has_color
from funduscope.testing.drawn_eyes import draw_eye

EYE = draw_eye(3, grade=2, dme=0, width_px=600).pixels


def _as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    decoded = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def test_which_photos_have_color() -> None:
    whole = (0, 0, EYE.shape[1], EYE.shape[0])
    gray = np.repeat(cv2.cvtColor(EYE, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    assert [has_color(one, whole) for one in (EYE, gray, _as_jpeg(gray, 30))] == [True, False, False]
    tints = {"sepia": (1.07, 0.95, 0.74), "green": (0, 1, 0), "cold": (0.7, 0.85, 1.2)}
    for tint in tints.values():
        tinted = np.clip(gray * np.array(tint), 0, 255).astype(np.uint8)
        assert not has_color(_as_jpeg(tinted, 95), whole)
    for color, is_colored in (((160, 80, 40), True), ((90, 90, 90), False)):
        assert has_color(np.full_like(EYE, color), whole) == is_colored
    assert has_color(np.zeros_like(EYE), whole), "of a black picture nothing can be said"
    framed = np.full((EYE.shape[0] + 200, EYE.shape[1] + 200, 3), 200, np.uint8)
    framed[100:-100, 100:-100] = EYE
    assert has_color(framed, (100, 100, 100 + EYE.shape[1], 100 + EYE.shape[0])), "what is around it does not count"


@pytest.mark.parametrize("rows", [0, 1, 30, 63, 64, 65, 150, 200, 300])
@pytest.mark.parametrize("level", [0, 128])
def test_how_much_is_filled_from_below(rows: int, level: int) -> None:
    """To the row, whatever number of rows it is looked at in blocks; a few rows are a border, no damage."""
    photo = EYE.copy()
    height = len(photo)
    photo[height - rows :] = level
    found = filled_below(photo)
    # Bars above and below make a photo square; a field that ends by itself narrows before: neither is damage.
    straight = rows and (np.abs(photo[height - rows - 17].astype(int) - level).max(axis=1) > 25).mean() > 0.4
    expected = rows / height if rows >= 0.05 * height and straight else 0.0
    assert found == pytest.approx(expected, abs=1e-9)


def test_bars_on_both_sides_are_no_damage() -> None:
    bar = np.zeros((150, EYE.shape[1], 3), np.uint8)
    assert filled_below(np.vstack([bar, EYE, bar])) == 0.0
    assert filled_below(np.zeros((200, 200, 3), np.uint8)) == 0.0
