"""Pointing, overlap, deletion and insertion on maps and photos of which the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from research.map_measures import SIDE, blur_inside, curves, eye_of, highest, overlap, widened

EYE = np.ones((SIDE, SIDE), bool)


def _square(side: int, left: int, top: int, size: int) -> np.ndarray:
    plane = np.zeros((side, side), np.float32)
    plane[top : top + size, left : left + size] = 1
    return plane


def test_the_lesions_themselves_score_all_and_their_negative_nothing() -> None:
    lesions = _square(SIDE, 40, 80, 64)
    best = overlap(lesions, lesions > 0, EYE)
    assert (best.pointing, best.energy, best.iou) == (1, 1, 1)
    assert best.area == pytest.approx(64 * 64 / SIDE**2)
    worst = overlap(1 - lesions, lesions > 0, EYE)
    assert (worst.pointing, worst.energy, worst.iou) == (0, 0, 0)
    assert overlap(-lesions, lesions > 0, EYE).energy == 0, "what speaks against is not shown"


@pytest.mark.slow
def test_a_map_that_knows_nothing_scores_the_lesions_area() -> None:
    lesions = _square(SIDE, 40, 80, 64) > 0
    flat = overlap(np.ones((16, 16)), lesions, EYE)
    assert flat.energy == pytest.approx(flat.area)
    many = [overlap(np.random.default_rng(seed).random((16, 16)), lesions, EYE) for seed in range(300)]
    assert np.mean([one.pointing for one in many]) == pytest.approx(flat.area, abs=0.04)


def test_what_lies_outside_the_eye_is_told_and_points_at_nothing() -> None:
    eye = _square(SIDE, 0, 0, SIDE // 2) > 0
    lesions = _square(SIDE, 10, 10, 20) > 0
    told = overlap(_square(16, 12, 12, 2), lesions, eye)
    assert (told.pointing, told.energy) == (0, 0)
    assert told.outside == pytest.approx(1)
    with pytest.raises(ValueError, match="no lesion"):
        overlap(np.ones((16, 16)), ~eye, eye)


def test_lesions_are_a_little_wider_than_drawn() -> None:
    small = np.zeros((1024, 1024), np.float32)
    small[500, 500] = 1
    wide = widened(small)
    assert wide.shape == (SIDE, SIDE)
    assert 40 < wide.sum() < 80  # a disc of 16 px of the frame, 4 of the grid


def test_the_highest_places_are_as_many_as_asked_for_even_where_all_are_equal() -> None:
    plane, eye = np.zeros((SIDE, SIDE)), _square(SIDE, 0, 0, 100) > 0
    top = highest(plane, eye, 1000)
    assert top.sum() == 1000
    assert not top[~eye].any()
    assert top[:50].sum() == pytest.approx(500, abs=80), "drawn by lot, not from the top"
    assert highest(plane, eye, 10**9).sum() == eye.sum()


def test_an_answer_that_hangs_on_a_place_falls_first_where_the_map_knows_it() -> None:
    image = np.full((128, 128, 3), 90, np.uint8)
    spot = _square(128, 30, 60, 12) > 0
    image[spot] = 250
    eye = np.ones((128, 128), bool)

    def answer(changed: np.ndarray) -> float:
        return float((changed[..., 0] > 200)[spot].mean())

    good = curves(image, spot.astype(np.float32), eye, answer)
    bad = curves(image, 1 - spot.astype(np.float32), eye, answer)
    assert good[0] < 0.05 < 0.5 < bad[0]
    assert good[1] > 0.95 > 0.5 > bad[1]


def test_the_blurred_photo_keeps_its_color_and_what_is_outside() -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    yy, xx = np.mgrid[:128, :128] + 0.5 - 64
    image[np.hypot(xx, yy) < 62] = (180, 90, 40)
    image[60:68, 60:68] = 255
    eye = eye_of(image)
    assert eye.sum() == pytest.approx(np.pi * (0.48 * 128) ** 2, rel=0.03)
    soft = blur_inside(image, eye)
    far = eye & (np.hypot(xx, yy) > 40)
    assert np.abs(soft[far].astype(int) - (180, 90, 40)).max() < 3, "the dark around it does not bleed in"
    assert soft[64, 64, 2] < 90, "the bright spot is gone"
    np.testing.assert_array_equal(soft[~eye], image[~eye])
