"""Registration lays one eye's vessels onto themselves, whatever the light, and never onto another eye's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from funduscope.duplicates.registration import INLIERS, SAME_EYE, register, warped
from funduscope.imaging.framing import frame
from funduscope.imaging.vessels import SIDE_PX, lit_field, vesselness
from funduscope.testing.drawn_eyes import draw_eye

MOVE = np.array([[0.96, -0.17, 30.0], [0.17, 0.96, -14.0]])
"""Ten degrees of turn, a little smaller, some shift; in px of a frame 256 wide."""


def _framed(seed: int, side_px: int = SIDE_PX, grade: int = 2) -> np.ndarray:
    return frame(draw_eye(seed, grade=grade, width_px=640).pixels, side_px).image


def _seen_again(image: np.ndarray, matrix: np.ndarray, light: float = 1.0) -> np.ndarray:
    """The eye as another photo shows it: moved under a field of view that stays where it is, in other light."""
    side = image.shape[0]
    across = np.arange(side) - (side - 1) / 2
    field = np.hypot(across[:, None], across) < 0.49 * side
    moved = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_CUBIC).astype(float)
    ramp = light * (1 + 0.4 * across / side)[None, :, None]
    return (np.clip(255 * (moved / 255) ** (2 - light) * ramp, 0, 255) * field[..., None]).astype(np.uint8)


def _worst_px(found: np.ndarray, true: np.ndarray, side: int = SIDE_PX) -> float:
    """The largest distance, over the middle of the frame, of where two transforms put a pixel."""
    grid = np.stack(np.meshgrid(*[np.linspace(0.25, 0.75, 5) * side] * 2), -1).reshape(-1, 2)
    return float(np.linalg.norm(grid @ (found - true)[:, :2].T + (found - true)[:, 2], axis=1).max())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("light", [1.0, 0.7])
def test_the_way_one_photo_lies_on_another_is_found_to_a_pixel(seed: int, light: float) -> None:
    image = _framed(seed)
    found = register(image, _seen_again(image, MOVE, light))
    assert found is not None
    assert found.score > SAME_EYE
    assert found.inliers >= INLIERS
    assert not found.mirrored
    assert found.residual_px < 1.5
    assert found.overlap > 0.7
    assert _worst_px(found.matrix, MOVE) < 1.0


def test_a_mirrored_photo_is_said_to_be_one() -> None:
    image = _framed(5)
    found = register(image, np.ascontiguousarray(_seen_again(image, MOVE)[:, ::-1]))
    flip = np.array([[-1, 0, SIDE_PX - 1], [0, 1, 0], [0, 0, 1.0]])
    assert found is not None
    assert found.mirrored
    assert _worst_px(found.matrix, (flip @ np.vstack([MOVE, [0, 0, 1]]))[:2]) < 1.0


def test_frames_of_any_side_are_registered_in_their_own_pixels() -> None:
    image = _framed(6, side_px=400)
    moved = MOVE * np.array([1, 1, 400 / 256])
    found = register(image, _seen_again(image, moved))
    assert found is not None
    assert _worst_px(found.matrix, moved, 400) < 1.5


def test_the_first_photo_can_be_laid_onto_the_second() -> None:
    image = _framed(7)
    again = _seen_again(image, MOVE)
    found = register(image, again)
    assert found is not None
    laid = warped(image, found)
    inside = lit_field(again).astype(bool) & lit_field(laid).astype(bool)
    before = np.abs(image.astype(float) - again)[inside].mean()
    assert np.abs(vesselness(laid) - vesselness(again))[inside].mean() < 0.05
    assert np.abs(laid.astype(float) - again)[inside].mean() < before


@pytest.mark.slow
def test_different_eyes_do_not_lie_on_each_other() -> None:
    images = [_framed(seed, grade=seed % 5) for seed in range(20, 28)]
    for i, first in enumerate(images):
        for second in images[i + 1 :]:
            found = register(first, second)
            assert found is None or found.score < SAME_EYE or found.inliers < INLIERS


def test_what_a_camera_adds_makes_no_eye_the_same() -> None:
    """Two eyes with the same dust and the same reflections on both."""
    rng = np.random.default_rng(3)
    dust = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    for x, y, wide in zip(*rng.integers(60, 190, (2, 14)).tolist(), rng.integers(2, 7, 14).tolist(), strict=True):
        cv2.circle(dust, (x, y), wide, 70, -1)
    cv2.ellipse(dust, (128, 150), (50, 8), 20, 0, 360, 60, -1)
    spoiled = [cv2.add(_framed(seed), cv2.merge([cv2.GaussianBlur(dust, (0, 0), 1.0)] * 3)) for seed in (31, 32)]
    found = register(*spoiled)
    assert found is None or found.score < SAME_EYE


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_vessels_are_dark_lines_and_nothing_else(noise: float) -> None:
    image = np.full((SIDE_PX, SIDE_PX, 3), (150, 90, 40), np.uint8)
    cv2.line(image, (60, 100), (200, 100), (120, 60, 30), 4, cv2.LINE_AA)
    cv2.line(image, (60, 150), (200, 150), (190, 140, 60), 4, cv2.LINE_AA)
    cv2.circle(image, (128, 200), 9, (230, 200, 120), -1, cv2.LINE_AA)
    grain = np.random.default_rng(0).normal(0, noise, image.shape)
    found = vesselness(np.clip(image + grain, 0, 255).astype(np.uint8))
    assert found.shape == (SIDE_PX, SIDE_PX)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    assert found[100, 80:180].min() > 0.5
    assert found[145:156, 70:190].max() < 0.1
    assert found[185:216, 110:146].max() < 0.1


def test_nothing_to_see_is_no_eye_at_all() -> None:
    blank = np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)
    assert register(blank, blank) is None
    assert register(np.zeros_like(blank), _framed(1)) is None


def test_frames_of_two_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="of one side"):
        register(np.zeros((64, 64, 3), np.uint8), np.zeros((80, 80, 3), np.uint8))
