"""Image, masks and points stay together through every map, and what is unknown stays unknown at the border."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from funduscope.data.case import ABSENT, Case, Labels
from funduscope.data.prepare import CHANNELS, Prepared, prepare
from funduscope.settings import Augment
from funduscope.testing.drawn_eyes import Style, draw_eye
from funduscope.training.augment import MAX_SLOPE, Warp, draw_warp, happens, plain_warp
from funduscope.training.batch import Item, sample_of
from funduscope.vocabulary import EITHER_EXUDATE, LESIONS

FRAME, SIZE = 320, 192
STILL = Augment(mirror=0, rotate_deg=0, scale_frac=0, shift_frac=0)
BY_NAME = {
    "mirror": {"mirror": 1},
    "flip": {"flip": 1},
    "transpose": {"transpose": 1},
    "quarter_turns": {"quarter_turns": 1},
    "warp: rotation": {"rotate_deg": 180},
    "warp: scale": {"scale_frac": 0.3},
    "warp: shift": {"shift_frac": 0.1},
    "elastic": {"elastic": 1, "elastic_frac": 0.05},
    "grid": {"grid": 1, "grid_frac": 0.05},
}
BY_NAME["all at once"] = {
    **{name: value for bounds in BY_NAME.values() for name, value in bounds.items()},
    **dict.fromkeys(("mirror", "flip", "transpose", "quarter_turns", "warp", "elastic", "grid"), 0.6),
}


def _bounds(name: str) -> Augment:
    return STILL.model_copy(update=BY_NAME[name])


def _warps(name: str, count: int, zoom: float = SIZE / FRAME) -> Iterator[Warp]:
    rng = np.random.default_rng(len(name))
    whole = plain_warp((FRAME / 2, FRAME / 2), zoom, SIZE)
    for trial in range(count):
        yield draw_warp(whole, _bounds(name), rng, random_quarter_turns=name == "all at once" and bool(trial % 2))


def _dot(x: float, y: float, radius: float = 2.5) -> np.ndarray:
    """A small soft disc whose centroid is (x, y), pixel centers at +0.5: a larger one is bent itself."""
    grid = np.arange(FRAME) + 0.5
    away = np.hypot(grid[None] - x, grid[:, None] - y)
    return np.rint(np.clip(radius + 0.5 - away, 0, 1) * 255).astype(np.uint8)


def _centroid(plane: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]] + 0.5
    return np.array([(x * plane).sum(), (y * plane).sum()]) / plane.sum()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A drawn eye, framed; that it has no lesions and no disc is known of all of it, so `known` is what was seen."""
    eye = draw_eye(11, grade=0, width_px=500, style=Style(aspect=1.0, radius_frac=0.48, center_frac=(0.5, 0.5)))
    path = tmp_path_factory.mktemp("eye") / "eye.png"
    Image.fromarray(eye.pixels).save(path)
    return prepare(_case(path), FRAME)


def _case(path: Path) -> Case:
    return Case("set/eye", "set", "eye", path, "eye", Labels(masks=dict.fromkeys((*LESIONS, "OD"), ABSENT)))


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("zoom", [SIZE / FRAME, 1.0])
def test_a_spot_on_an_eye_its_mask_and_its_point_go_the_same_way(name: str, zoom: float, drawn: Prepared) -> None:
    compared, moved = 0, 0.0
    rng = np.random.default_rng(1)
    plain = plain_warp((FRAME / 2, FRAME / 2), zoom, SIZE)
    for warp in _warps(name, 8, zoom):
        for xy in rng.uniform(0.3 * FRAME, 0.7 * FRAME, (4, 2)):
            went = warp.points(xy[None])[0]
            if (went < 6).any() or (went > SIZE - 6).any():
                continue
            dot = _dot(*xy)
            share = dot[..., None] / 255.0
            spotted = np.rint(drawn.image * (1 - share) + 255 * share).astype(np.uint8)
            without = warp.pixels(drawn.image).astype(int)
            seen = (warp.pixels(spotted) - without).sum(axis=2) / (255 - without).sum(axis=2)
            assert np.abs(_centroid(warp.pixels(dot)) - went).max() < 0.3, "mask and point"
            assert np.abs(_centroid(seen) - went).max() < 0.3, "image and point"
            assert np.abs(_centroid(seen) - _centroid(warp.pixels(dot))).max() < 0.1, "image and mask"
            compared += 1
            moved = max(moved, float(np.abs(went - plain.points(xy[None])[0]).max()))
    assert compared >= 12
    assert moved > 1, "the augmentation does something"


@pytest.mark.parametrize("name", BY_NAME)
def test_what_comes_from_beyond_the_frame_is_unknown_and_nothing_else(name: str, drawn: Prepared) -> None:
    """By the way of the points: what lies just outside the frame lands on unknown pixels, what lies inside on known."""
    item = Item(_case(Path("eye.png")), "whole", (0,))
    edge = np.linspace(0, FRAME, 150)
    unknown = 0
    for base in _warps(name, 10):
        pulled = base.matrix + [[0, 0, SIZE / 4]] * 2  # so that two sides of the frame are in sight
        warp = Warp(pulled, SIZE, base.displacement)
        sample = sample_of(warp.pixels(drawn.image), drawn, item, warp, (*LESIONS, EITHER_EXUDATE))
        known = sample.known[CHANNELS.index("OD")].numpy()
        for out, expected in ((1.5, False), (-2.5, True)):
            low, high = np.full_like(edge, -out), np.full_like(edge, FRAME + out)
            along = np.clip(edge, -out, FRAME + out)
            ring = [(along, low), (along, high), (low, along), (high, along)]
            places = warp.points(np.concatenate([np.stack(pair, axis=1) for pair in ring]))
            seen = places[((places >= 0) & (places < SIZE)).all(axis=1)].astype(int)
            assert (known[seen[:, 1], seen[:, 0]] == expected).all()
            unknown += 0 if expected else len(seen)
        assert not sample.image.numpy()[cv2.erode((~known).astype(np.uint8), np.ones((3, 3))) > 0].any()
        assert known.any()
        assert not known.all()
        assert not sample.coverage.any()
    assert unknown > 100


@pytest.mark.parametrize("name", ["elastic", "grid", "all at once"])
def test_a_bent_eye_is_never_folded_over_itself(name: str) -> None:
    """Points keep their neighbors and sides: every small triangle keeps its hand, however strong the bending."""
    wild = Augment(elastic=1, elastic_frac=0.1, grid=1, grid_frac=0.1).model_copy(
        update={} if name == "all at once" else {"grid" if name == "elastic" else "elastic": 0.0}
    )
    rng = np.random.default_rng(3)
    x, y = np.meshgrid(np.arange(0.0, FRAME, 3), np.arange(0.0, FRAME, 3))
    bent = 0.0
    for _ in range(10):
        plain = plain_warp((FRAME / 2, FRAME / 2), 1.0, SIZE)
        warp = draw_warp(plain, wild.model_copy(update={"mirror": 0.0}), rng, random_quarter_turns=False)
        field = warp.displacement
        assert field is not None
        bent = max(bent, float(np.abs(field).max()))
        assert max(np.abs(np.diff(field, axis=0)).max(), np.abs(np.diff(field, axis=1)).max()) <= MAX_SLOPE + 1e-5
        went = warp.points(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(*x.shape, 2)
        right, down = np.diff(went, axis=1)[:-1], np.diff(went, axis=0)[:, :-1]
        assert (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0] > 0).all()
    assert bent > 3


@pytest.mark.parametrize(("name", "frac"), [("elastic", 0.03), ("grid", 0.04)])
def test_displacements_stay_in_their_bounds_and_use_them(name: str, frac: float) -> None:
    rng = np.random.default_rng(5)
    bounds = STILL.model_copy(update={name: 1.0, f"{name}_frac": frac})
    longest = []
    for _ in range(40):
        field = draw_warp(plain_warp((160.0, 160.0), 1.0, SIZE), bounds, rng, random_quarter_turns=False).displacement
        assert field is not None
        longest.append(np.hypot(field[..., 0], field[..., 1]).max() / SIZE)
    assert max(longest) <= frac + 1e-6
    assert max(longest) > 0.8 * frac


def test_lines_of_the_grid_move_as_a_whole_and_elastic_ones_do_not() -> None:
    for name, whole in (("grid", True), ("elastic", False)):
        field = next(_warps(name, 1)).displacement
        assert field is not None
        assert (np.ptp(field[..., 0], axis=0).max() < 1e-5) == whole
        assert (np.ptp(field[..., 1], axis=1).max() < 1e-5) == whole


@pytest.mark.parametrize(
    ("name", "pixels", "point"),
    [
        ("mirror", lambda image: image[:, ::-1], (53.5, 20.5)),
        ("flip", lambda image: image[::-1], (10.5, 43.5)),
        ("transpose", lambda image: image.swapaxes(0, 1), (20.5, 10.5)),
    ],
)
def test_turning_over_is_exact(name: str, pixels, point: tuple[float, float]) -> None:
    """No pixel is blended where none moves by a part of one."""
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    warp = draw_warp(
        plain_warp((32.0, 32.0), 1.0, 64), _bounds(name), np.random.default_rng(0), random_quarter_turns=False
    )
    assert warp.displacement is None
    assert np.array_equal(warp.pixels(image), pixels(image))
    assert np.allclose(warp.points(np.array([[10.5, 20.5]])), [point])


def test_a_whole_eye_is_turned_by_quarters_where_the_recipe_says_so() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    rng = np.random.default_rng(2)
    plain = plain_warp((32.0, 32.0), 1.0, 64)
    turned = [
        draw_warp(plain, _bounds("quarter_turns"), rng, random_quarter_turns=False).pixels(image) for _ in range(60)
    ]
    times = [sum(np.array_equal(each, np.rot90(image, quarters)) for each in turned) for quarters in range(4)]
    assert times[0] == 0
    assert min(times[1:]) > 8
    assert sum(times) == 60


def test_a_whole_eye_keeps_its_own_way_up() -> None:
    """Never turned by more than the bound, while a crop goes all four ways and both hands."""
    bounds = Augment(rotate_deg=15)

    def turns(random_quarter_turns: bool) -> list[np.ndarray]:
        rng = np.random.default_rng(2)
        base = plain_warp((32.0, 32.0), 1.0, 64)
        return [
            draw_warp(base, bounds, rng, random_quarter_turns=random_quarter_turns).matrix[:, :2] for _ in range(200)
        ]

    upright = [np.degrees(np.arctan2(-turn[0, 1], turn[1, 1])) for turn in turns(False)]
    assert np.abs(upright).max() <= 15 + 1e-9
    any_way = np.array([np.degrees(np.arctan2(-turn[0, 1], turn[1, 1])) % 360 for turn in turns(True)])
    for quarter in (0, 90, 180, 270):
        assert (np.abs((any_way - quarter + 180) % 360 - 180) <= 15.01).sum() > 20
    mirrored = sum(np.linalg.det(turn) < 0 for turn in turns(False))
    assert 70 < mirrored < 130


def test_rotation_scale_and_shift_come_together_as_often_as_the_recipe_says() -> None:
    bounds = Augment(mirror=0, rotate_deg=180, scale_frac=0.1, shift_frac=0.04, warp=0.4)
    rng = np.random.default_rng(3)
    plain, still = plain_warp((80.0, 80.0), 0.5, 64), 0
    for _ in range(300):
        warp = draw_warp(plain, bounds, rng, random_quarter_turns=False)
        still += np.array_equal(warp.matrix, plain.matrix)
        assert 0.45 - 1e-9 <= abs(np.linalg.det(warp.matrix[:, :2])) ** 0.5 <= 0.55 + 1e-9
        assert np.abs(warp.points(np.array([[80.0, 80.0]]))[0] - 32).max() <= 0.04 * 64 + 1e-9
    assert 150 < still < 210


def _first_draw_warp(warp: Warp, bounds: Augment, rng: np.random.Generator, random_quarter_turns: bool) -> np.ndarray:
    """The map of the first published recipe, as it was then."""
    angle = np.deg2rad(rng.uniform(-bounds.rotate_deg, bounds.rotate_deg))
    if random_quarter_turns:
        angle += np.pi / 2 * rng.integers(4)
    scale = 1 + rng.uniform(-bounds.scale_frac, bounds.scale_frac)
    flip = -1.0 if rng.random() < bounds.mirror else 1.0
    shift = rng.uniform(-bounds.shift_frac, bounds.shift_frac, 2) * warp.size_px
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([flip, 1.0])
    offset = warp.size_px / 2 + shift - turn @ np.full(2, warp.size_px / 2)
    return np.hstack([turn @ warp.matrix[:, :2], (turn @ warp.matrix[:, 2] + offset)[:, None]])


@pytest.mark.parametrize("random_quarter_turns", [False, True])
def test_a_recipe_without_the_newer_ones_sees_what_it_always_saw(random_quarter_turns: bool) -> None:
    plain = plain_warp((70.0, 90.0), 0.5, SIZE)
    for seed in range(50):
        before, now = np.random.default_rng(seed), np.random.default_rng(seed)
        expected = _first_draw_warp(plain, Augment(), before, random_quarter_turns)
        warp = draw_warp(plain, Augment(), now, random_quarter_turns=random_quarter_turns)
        assert warp.displacement is None
        assert np.allclose(warp.matrix, expected, rtol=0, atol=1e-12)
        assert now.random() == before.random(), "as many numbers were drawn"


def test_the_same_seed_draws_the_same_and_another_another() -> None:
    def drawn(seed: int) -> np.ndarray:
        warp = draw_warp(
            plain_warp((160.0, 160.0), 1.0, SIZE),
            _bounds("all at once"),
            np.random.default_rng(seed),
            random_quarter_turns=True,
        )
        return warp.points(np.array([[120.0, 140.0], [190.0, 160.0]]))

    assert np.array_equal(drawn(4), drawn(4))
    assert not np.array_equal(drawn(4), drawn(5))


def test_what_is_certain_takes_nothing_from_the_generator() -> None:
    rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
    assert [happens(probability, rng) for probability in (0.0, 1.0)] == [False, True]
    assert rng.random() == untouched.random()
    assert 30 < sum(happens(0.25, rng) for _ in range(200)) < 70


def test_a_plain_warp_of_the_whole_is_the_image_itself() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    points = np.array([[0.0, 0.0], [12.5, 63.5]])
    for displacement in (None, np.zeros((64, 64, 2), np.float32)):
        warp = Warp(plain_warp((32.0, 32.0), 1.0, 64).matrix, 64, displacement)
        assert np.array_equal(warp.pixels(image), image)
        assert np.array_equal(warp.points(points), points)
        assert warp.points(np.zeros((0, 2))).shape == (0, 2)


def test_beyond_the_frame_is_black() -> None:
    for displacement in (None, np.zeros((64, 64, 2), np.float32)):
        warp = Warp(plain_warp((0.0, 0.0), 1.0, 64).matrix, 64, displacement)
        plane = warp.pixels(np.full((64, 64), 255, np.uint8))
        assert (plane[:32] == 0).all()
        assert (plane[:, :32] == 0).all()
        assert (plane[32:, 32:] == 255).all()
