"""Image, masks and points stay together through every warp; colors change, the black around the eye does not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from funduscope.recipe import Augment
from funduscope.training.augment import Warp, draw_warp, plain_warp, recolor

FRAME = 160
WILD = Augment(rotate_deg=180, scale_frac=0.3, shift_frac=0.1, mirror=0.5)
CALM = Augment(brightness=0, contrast=0, gamma=0, color=0, blur=0, noise=0, jpeg=0)


def _dot(x: float, y: float) -> np.ndarray:
    """A soft disc of six pixels' radius whose centroid is (x, y), pixel centers at +0.5."""
    grid = np.arange(FRAME) + 0.5
    away = np.hypot(grid[None] - x, grid[:, None] - y)
    return np.rint(np.clip(6.5 - away, 0, 1) * 255).astype(np.uint8)


def _centroid(plane: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]] + 0.5
    return np.array([(x * plane).sum(), (y * plane).sum()]) / plane.sum()


@pytest.mark.parametrize("zoom", [1.0, 0.5])
def test_pixels_and_points_agree_to_half_a_pixel(zoom: float) -> None:
    rng = np.random.default_rng(0)
    compared = 0
    for trial in range(60):
        size = 96
        center = tuple(rng.uniform(60, 100, 2))
        warp = draw_warp(plain_warp(center, zoom, size), WILD, rng, any_way_up=bool(trial % 2))
        xy = rng.uniform(50, 110, 2)
        plane = _dot(*xy)
        went = warp.points(xy[None])[0]
        if not (went > 14).all() or not (went < size - 14).all():
            continue
        compared += 1
        image = warp.pixels(np.dstack([plane, plane // 2, 255 - plane]))
        assert np.abs(_centroid(warp.pixels(plane).astype(float)) - went).max() < 0.25
        assert np.abs(_centroid(image[..., 0].astype(float)) - went).max() < 0.25
    assert compared > 20


def test_a_plain_warp_of_the_whole_is_the_image_itself() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    warp = plain_warp((32.0, 32.0), 1.0, 64)
    assert np.array_equal(warp.pixels(image), image)
    points = np.array([[0.0, 0.0], [12.5, 63.5]])
    assert np.array_equal(warp.points(points), points)


def test_mirroring_is_exact() -> None:
    """No pixel is blended where none moves by a part of one."""
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    only_mirror = Augment(mirror=1.0, rotate_deg=0, scale_frac=0, shift_frac=0)
    warp = draw_warp(plain_warp((32.0, 32.0), 1.0, 64), only_mirror, np.random.default_rng(0), any_way_up=False)
    assert np.array_equal(warp.pixels(image), image[:, ::-1])
    assert np.allclose(warp.points(np.array([[10.5, 20.5]])), [[53.5, 20.5]])


def test_a_whole_eye_keeps_its_own_way_up() -> None:
    """Never turned by more than the bound, while a crop goes all four ways and both hands."""
    bounds = Augment(rotate_deg=15)

    def turns(any_way_up: bool) -> list[np.ndarray]:
        rng = np.random.default_rng(2)
        base = plain_warp((32.0, 32.0), 1.0, 64)
        return [draw_warp(base, bounds, rng, any_way_up=any_way_up).matrix[:, :2] for _ in range(200)]

    upright = [np.degrees(np.arctan2(-turn[0, 1], turn[1, 1])) for turn in turns(False)]
    assert np.abs(upright).max() <= 15 + 1e-9
    any_way = np.array([np.degrees(np.arctan2(-turn[0, 1], turn[1, 1])) % 360 for turn in turns(True)])
    for quarter in (0, 90, 180, 270):
        assert (np.abs((any_way - quarter + 180) % 360 - 180) <= 15.01).sum() > 20
    mirrored = sum(np.linalg.det(turn) < 0 for turn in turns(False))
    assert 70 < mirrored < 130


def test_scale_and_shift_stay_in_their_bounds() -> None:
    bounds = Augment(rotate_deg=180, scale_frac=0.1, shift_frac=0.04)
    rng = np.random.default_rng(3)
    for _ in range(200):
        warp = draw_warp(plain_warp((80.0, 80.0), 0.5, 64), bounds, rng, any_way_up=True)
        assert 0.45 - 1e-9 <= abs(np.linalg.det(warp.matrix[:, :2])) ** 0.5 <= 0.55 + 1e-9
        assert np.abs(warp.points(np.array([[80.0, 80.0]]))[0] - 32).max() <= 0.04 * 64 + 1e-9


def test_the_same_seed_draws_the_same_and_another_another() -> None:
    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        warp = draw_warp(plain_warp((32.0, 32.0), 1.0, 64), WILD, rng, any_way_up=True)
        image = np.full((64, 64, 3), 120, np.uint8)
        return warp.matrix, recolor(image, Augment(blur=1, noise=1, jpeg=1), rng)

    for one, again, other in zip(drawn(4), drawn(4), drawn(5), strict=True):
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)


def test_colors_change_but_black_stays_black() -> None:
    rng = np.random.default_rng(6)
    image = np.zeros((48, 48, 3), np.uint8)
    cv2.circle(image, (24, 24), 15, (180, 90, 40), -1)
    bounds = Augment(blur=0, noise=0, jpeg=0, brightness=0.5, contrast=0.5, gamma=0.5, color=0.3)
    seen = set()
    for _ in range(30):
        changed = recolor(image, bounds, rng)
        assert changed.dtype == np.uint8
        assert changed.shape == image.shape
        assert (changed[image.max(axis=2) == 0] == 0).all()
        seen.add(tuple(changed[24, 24]))
    assert len(seen) > 20


def test_colors_keep_their_order() -> None:
    """A brighter pixel never becomes the darker one: exudates stay bright, blood stays dark."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    rng = np.random.default_rng(7)
    for _ in range(30):
        table = recolor(ramp, Augment(blur=0, noise=0, jpeg=0), rng)[0].astype(int)
        assert (np.diff(table, axis=0) >= 0).all()


def test_with_every_bound_at_zero_nothing_changes() -> None:
    image = np.random.default_rng(8).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    assert np.abs(recolor(image, CALM, np.random.default_rng(0)).astype(int) - image).max() <= 1


@pytest.mark.parametrize("kind", ["blur", "noise", "jpeg"])
def test_what_cameras_do_keeps_shape_type_and_colors(kind: str) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 190, 90, 30
    changed = recolor(image, CALM.model_copy(update={kind: 1.0}), np.random.default_rng(9))
    assert changed.dtype == np.uint8
    assert changed.shape == image.shape
    assert np.abs(changed.reshape(-1, 3).mean(0) - (190, 90, 30)).max() < 4, "red is still red"


def test_beyond_the_frame_is_black() -> None:
    warp: Warp = plain_warp((0.0, 0.0), 1.0, 64)
    plane = warp.pixels(np.full((64, 64), 255, np.uint8))
    assert (plane[:32] == 0).all()
    assert (plane[:, :32] == 0).all()
    assert (plane[32:, 32:] == 255).all()
