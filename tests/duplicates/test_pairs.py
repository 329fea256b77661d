"""Duplicates are found whatever was done to the copy, and nothing else is called one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from funduscope.data.case import Case, Labels
from funduscope.data.folds import make_folds
from funduscope.data.grouping import grouped
from funduscope.data.readers.idrid import SAME_PHOTO
from funduscope.duplicates.candidates import candidates
from funduscope.duplicates.descriptor import Descriptor, describe
from funduscope.duplicates.pairs import DuplicatePair
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.testing.drawn_eyes import STYLES, draw_eye

Find = Callable[[dict[str, Descriptor]], dict[tuple[str, str], DuplicatePair]]

WIDTH_PX = 480
EYES = 20


def _eye(seed: int, **how: object) -> np.ndarray:
    return draw_eye(seed, width_px=WIDTH_PX, grade=seed % 5, **how).pixels  # pyright: ignore[reportArgumentType]


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    held = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(held, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def _cropped(pixels: np.ndarray) -> np.ndarray:
    """A tenth of width and height gone, more of it on one side than on the other."""
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(pixels[height // 50 : height - height * 4 // 50, width * 3 // 50 : width - width // 25])


def _smaller(pixels: np.ndarray) -> np.ndarray:
    scale = 256 / min(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _mirrored(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, ::-1])


COPIES = {
    "resized": _smaller,
    "recompressed": lambda pixels: _jpeg(pixels, 30),
    "cropped": _cropped,
    "mirrored": _mirrored,
    "turned": lambda pixels: np.ascontiguousarray(np.rot90(pixels)),
    "all of it": lambda pixels: _jpeg(_smaller(_mirrored(_cropped(pixels))), 30),
}


def _other_look(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Another photo of the eye: smaller field, elsewhere, turned, in other light, softer, with noise."""
    rng = np.random.default_rng(seed)
    side = 400
    image = frame(pixels, side).image
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-12, 12), rng.uniform(1.1, 1.3))
    turn[:, 2] += rng.uniform(-30, 30, 2)
    moved = cv2.warpAffine(image, turn, (side, side), flags=cv2.INTER_CUBIC).astype(float)
    across = (np.arange(side) - side / 2) / side
    moved = 255 * (moved / 255) ** rng.uniform(0.85, 1.2) * rng.uniform(0.6, 1.2) * (1 + 0.5 * across)[None, :, None]
    moved = cv2.GaussianBlur(moved, (0, 0), 1.0) + rng.normal(0, 2, moved.shape)
    field = np.hypot(across[:, None], across) < 0.49
    return (moved.clip(0, 255) * field[..., None]).astype(np.uint8)


@pytest.fixture(scope="module")
def others() -> dict[str, Descriptor]:
    """Eyes of which no two are the same, of both sides and several cameras."""
    styles = list(STYLES.values())
    return {f"eye {seed}": describe(_eye(100 + seed, style=styles[seed % 4])) for seed in range(EYES)}


@pytest.mark.slow
def test_no_two_eyes_are_duplicates(others: dict[str, Descriptor], find: Find) -> None:
    assert find(others) == {}


@pytest.mark.slow
def test_every_copy_is_found_among_others_and_called_one(others: dict[str, Descriptor], find: Find) -> None:
    source = _eye(110, style=list(STYLES.values())[10 % 4])
    found = find(others | {name: describe(change(source)) for name, change in COPIES.items()})
    for name in COPIES:
        pair = found.pop(min(("eye 10", name), (name, "eye 10")))
        assert pair.kind == "same_photo"
        assert pair.mirrored == (name in ("mirrored", "all of it"))
        assert pair.registration.residual_px < 2
        assert pair.evidence["levels_apart"] < 2.4
    assert all("eye" not in first + second for first, second in found), (
        "copies of one photo are duplicates of each other only"
    )


@pytest.mark.parametrize("number", [3, 9, 17])
def test_another_photo_of_an_eye_is_found_and_told_from_a_copy(
    others: dict[str, Descriptor], number: int, find: Find
) -> None:
    source = _eye(100 + number, style=list(STYLES.values())[number % 4])
    found = find(others | {"later": describe(_other_look(source, number))})
    assert list(found) == [(f"eye {number}", "later")]
    assert next(iter(found.values())).kind == "same_eye"


@pytest.mark.slow
def test_fellow_eyes_are_no_duplicates_even_in_a_mirror(find: Find) -> None:
    pairs = {}
    for seed in range(4):
        left, right = (_eye(seed + add, laterality=side) for add, side in ((0, "left"), (50, "right")))
        pairs |= {
            f"{seed} L": describe(left),
            f"{seed} R": describe(right),
            f"{seed} L mirrored": describe(_mirrored(left)),
        }
    assert set(find(pairs)) == {(f"{seed} L", f"{seed} L mirrored") for seed in range(4)}


def test_same_pixels_are_the_same_photo_even_without_vessels(find: Find) -> None:
    blurred = cv2.GaussianBlur(_eye(8), (0, 0), 25)
    other = cv2.GaussianBlur(_eye(9), (0, 0), 25)
    found = find({"a": describe(blurred), "b": describe(blurred.copy()), "c": describe(other), "d": describe(blurred)})
    assert set(found) == {("a", "b"), ("a", "d")}
    assert all(pair.kind == "same_photo" and pair.evidence["score"] == 1 for pair in found.values())


def test_pictures_that_show_nothing_are_nobodys_duplicates(find: Find) -> None:
    blank = np.full((300, 400, 3), 80, np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    assert find({"a": describe(blank), "b": describe(blank), "c": describe(noise), "d": describe(blank // 80)}) == {}


def test_only_near_ones_are_looked_at_where_there_are_many(others: dict[str, Descriptor]) -> None:
    source = _eye(110, style=list(STYLES.values())[10 % 4])
    many = others | {"later": describe(_other_look(source, 10)), "mirrored": describe(_mirrored(source))}
    (pairs,) = candidates(many, nearest=3)
    straight = {(pair.first, pair.second) for pair in pairs if not pair.mirrored}
    mirrored = {(pair.first, pair.second) for pair in pairs if pair.mirrored}
    assert ("eye 10", "later") in straight
    assert ("eye 10", "mirrored") in mirrored
    assert all(first < second for first, second in straight | mirrored)
    assert max(len(straight), len(mirrored)) <= 3 * len(many) < len(many) * (len(many) - 1) / 2
    assert list(candidates(many, nearest=3)) == [pairs]


def test_a_descriptor_is_small_and_comes_back_from_its_bytes() -> None:
    held = describe(_eye(1))
    data = held.to_bytes()
    again = Descriptor.from_bytes(data)
    assert len(data) < 30_000
    assert again.to_bytes() == data
    assert np.array_equal(again.green(), held.green())
    assert np.array_equal(again.field(), held.field())
    assert np.array_equal(again.keypoints().xy, held.keypoints().xy)
    assert np.array_equal(again.keypoints().descriptors, held.keypoints().descriptors)


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:40], lambda data: b"no" + data, lambda data: data[:-9], lambda _: b""]
)
def test_bytes_that_are_no_descriptor_are_refused(spoil) -> None:
    with pytest.raises(ValueError, match="make it again"):
        Descriptor.from_bytes(spoil(describe(_eye(1)).to_bytes()))


def test_a_descriptor_is_of_the_eye_however_it_is_given() -> None:
    pixels = _eye(2)
    whole = describe(pixels)
    assert describe(Photo.open(pixels)).to_bytes() == whole.to_bytes()
    assert len(describe(frame(pixels, 512)).places) == len(whole.places)


def _case(name: str, visit: str, fold: int | None = None) -> Case:
    return Case(f"set/{name}", "set", name, Path(name), visit, Labels(grade=0), fold)


def _pair(first: str, second: str) -> tuple[str, str]:
    return f"set/{first}", f"set/{second}"


def test_visits_of_duplicates_become_one_and_no_fold_parts_them() -> None:
    cases = [_case(name, f"visit {name}", 2) for name in "abcdefgh"]
    joined = grouped(cases, [_pair("f", "h"), _pair("b", "f"), _pair("c", "d"), _pair("a", "elsewhere")])
    assert [case.visit[-1] for case in joined] == list("abccebgb")
    assert [replace(case, visit="") for case in joined] == [replace(case, visit="") for case in cases]
    fold_of = {case.name: case.fold for case in make_folds(joined, count=5)}
    assert fold_of["b"] == fold_of["f"] == fold_of["h"]
    assert fold_of["c"] == fold_of["d"]


def test_all_photos_of_a_visit_go_with_one_that_has_a_duplicate() -> None:
    cases = [_case("a", "1"), _case("b", "1"), _case("c", "2"), _case("d", "2"), _case("e", "3")]
    assert [case.visit for case in grouped(cases, [_pair("b", "d")])] == ["1", "1", "1", "1", "3"]


@pytest.mark.slow
def test_crops_of_real_photos_find_what_they_were_cut_from(shared: Path, find: Find) -> None:
    """Middles of IDRiD's photos with masks find the graded photos that they are copies of, among photos of another
    clinic and both eyes of its patients."""
    photos = "1. Original Images/a. Training Set"
    pairs = [(f"crop {a}", f"whole {b}", a, b) for a, b in list(SAME_PHOTO.items())[:8]]
    descriptors = {}
    for crop, whole, a, b in pairs:
        pixels = Photo.open(shared / f"idrid/A. Segmentation/{photos}/IDRiD_{a:02d}.jpg").pixels
        descriptors[crop] = describe(Photo.open(np.ascontiguousarray(pixels[300:-300, 700:-700])))
        descriptors[whole] = describe(Photo.open(shared / f"idrid/B. Disease Grading/{photos}/IDRiD_{b:03d}.jpg"))
    for path in sorted((shared / "srahim/images").iterdir())[:32]:
        descriptors[path.stem] = describe(Photo.open(path))
    found = find(descriptors)
    assert set(found) == {(crop, whole) for crop, whole, _, _ in pairs}
    assert {pair.kind for pair in found.values()} == {"same_photo"}
