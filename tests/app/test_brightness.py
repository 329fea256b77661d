"""The earlier of two visits is shown in the brightness of the later one, and its dark surroundings stay dark."""

from __future__ import annotations

import numpy as np

from funduscope.app.brightness import match_brightness
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.imaging.vessels import lit_field
from funduscope.testing.drawn_eyes import draw_eye


def test_a_dimmed_photo_gets_the_brightness_of_the_other() -> None:
    bright = frame(Photo.open(draw_eye(3, width_px=500).pixels), 256).image
    dim = (bright * np.array([0.8, 0.7, 0.75])).astype(np.uint8)
    matched = match_brightness(dim, bright)
    inside = lit_field(dim) > 0
    assert np.abs(dim[inside].mean(axis=0) - bright[inside].mean(axis=0)).min() > 5
    assert np.abs(matched[inside].mean(axis=0) - bright[inside].mean(axis=0)).max() < 2
    dark = dim.max(axis=2) <= 10
    assert np.array_equal(matched[dark], dim[dark])
    rim = (bright.max(axis=2) > 40) & ~inside
    assert np.abs(matched[rim].mean(axis=0) - bright[rim].mean(axis=0)).max() < 5, "no ring in the old light"


def test_nothing_changes_where_no_retina_is_shown_in_both() -> None:
    photo = frame(Photo.open(draw_eye(3, width_px=500).pixels), 256).image
    assert np.array_equal(match_brightness(photo, np.zeros_like(photo)), photo)
