"""The small copy in which the field of view is searched lies where the photo does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from funduscope.imaging.field_of_view import thumbnail
from funduscope.testing.drawn_eyes import draw_eye

EYE = draw_eye(3, grade=2, dme=0, width_px=600).pixels


def test_a_thumbnail_lies_where_the_photo_does() -> None:
    """Of a photo ten times as large: the same picture as by averaging every pixel, to a level, at the same place."""
    large = cv2.resize(EYE, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    small, scale = thumbnail(large, 256)
    assert max(small.shape[:2]) == 256
    assert scale == pytest.approx(256 / max(large.shape[:2]))
    plain = cv2.resize(large, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - plain).mean() < 1.0
    assert np.percentile(np.abs(small.astype(int) - plain), 99) < 12


def test_a_photo_that_is_small_already_keeps_its_size() -> None:
    same, scale = thumbnail(EYE, 2 * max(EYE.shape))
    assert scale == 1
    assert np.array_equal(same, EYE)
