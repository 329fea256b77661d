"""The cache of prepared photos: keyed by what it was made of, whole or not there, and nobody's loss when deleted."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from funduscope.data import prepare as module
from funduscope.data.case import ABSENT, Case, Empty, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.data.prepare import (
    CACHE_VARIABLE,
    DISC_IN_BOX,
    cached,
    default_cache,
    prepare,
    read_prepared,
    reader_id,
    unusable_masks,
)
from funduscope.i18n.errors import CodedError
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.vocabulary import EITHER_EXUDATE

SIDE = 128
EYE = draw_eye(21, grade=3, dme=2, width_px=400)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A photo with masks of EX and the disc."""
    Image.fromarray(EYE.pixels).save(tmp_path / "eye.png")
    masks = {}
    for code in ("EX", "OD"):
        Image.fromarray(EYE.masks[code].astype(np.uint8) * 255).save(tmp_path / f"{code}.png")
        masks[code] = Mask((tmp_path / f"{code}.png",), read_mask)
    return Case("set/eye", "set", "eye", tmp_path / "eye.png", "eye", Labels(grade=3, masks=masks))


def _relabeled(case: Case, **changes: object) -> Case:
    return replace(case, labels=replace(case.labels, **changes))


def test_what_comes_back_is_what_was_made(case: Case, tmp_path: Path) -> None:
    case = _relabeled(case, grade=1, masks={**case.labels.masks, EITHER_EXUDATE: case.labels.masks["EX"]})
    made, read = prepare(case, SIDE), read_prepared(cached(case, SIDE, tmp_path / "cache"))
    assert (read.transform, read.absent) == (made.transform, made.absent)
    assert np.array_equal(read.image, made.image)
    for name in ("coverage", "known"):
        planes, own = getattr(read, name), getattr(made, name)
        assert planes.keys() == own.keys()
        assert all(np.array_equal(planes[code], own[code]) and planes[code].dtype == own[code].dtype for code in own)


def test_masks_lie_where_the_photo_shows_them(case: Case) -> None:
    """The frame's disc is around the frame's disc center, and its area is the photo's."""
    made = prepare(case, SIDE)
    disc = made.coverage["OD"] / 255
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    center = np.array([[(x * disc).sum(), (y * disc).sum()]]) / disc.sum()
    assert np.abs(made.transform.to_photo(center)[0] - EYE.disc_xy).max() < 1.0
    assert disc.sum() * made.transform.px_per_frame_px**2 == pytest.approx(EYE.masks["OD"].sum(), rel=0.02)


def test_the_second_time_nothing_is_made(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cached(case, SIDE, tmp_path / "cache")
    monkeypatch.setattr(module, "prepare", None)
    assert cached(case, SIDE, tmp_path / "cache") == path


def test_a_file_that_was_cut_off_is_made_again(case: Case, tmp_path: Path) -> None:
    path = cached(case, SIDE, tmp_path / "cache")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert cached(case, SIDE, tmp_path / "cache") == path
    assert np.array_equal(read_prepared(path).image, prepare(case, SIDE).image)


def test_what_older_code_framed_is_made_again(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = cached(case, SIDE, tmp_path / "cache")
    hashed: list[str] = []
    monkeypatch.setattr(module, "code_version", lambda files: hashed.extend(files) or "of other code")
    assert cached(case, SIDE, tmp_path / "cache") != older
    assert {
        "data/masks.py",
        "imaging/dicom_file.py",
        "imaging/field_of_view.py",
        "imaging/framing.py",
        "imaging/photo_parts.py",
    } <= set(hashed)


def test_it_may_be_deleted_any_time(case: Case, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = cached(case, SIDE, cache)
    data = first.read_bytes()
    shutil.rmtree(cache)
    assert cached(case, SIDE, cache) == first
    assert {name: array.tobytes() for name, array in np.load(first).items()}
    assert len(first.read_bytes()) == len(data)


def test_names_places_and_folds_make_no_other_file(case: Case, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = cached(case, SIDE, cache)
    moved = tmp_path / "elsewhere.png"
    shutil.copy(case.path, moved)
    assert cached(replace(case, path=moved, key="other/name", name="name", fold=3), SIDE, cache) == path


def test_whatever_it_is_made_of_makes_another_file(case: Case, tmp_path: Path) -> None:
    cache, box = tmp_path / "cache", ((1.0, 2.0, 60.0, 70.0),)
    paths = [cached(case, SIDE, cache), cached(case, SIDE + 32, cache)]
    votes = tmp_path / "votes.png"
    Image.fromarray((EYE.masks["HE"] * 60).astype(np.uint8)).save(votes)
    changes = (
        {"masks": {}},
        {"masks": {"EX": case.labels.masks["EX"]}},
        {"masks": {"EX": ABSENT, "OD": case.labels.masks["OD"]}},
        {"masks": {"SE": case.labels.masks["EX"], "OD": case.labels.masks["OD"]}},
        *({"masks": {"EX": replace(case.labels.masks["EX"], empty=empty)}} for empty in ("absent", "unknown")),
        {"grade": 0},
        {"dme": 0, "masks": {}},
        {"boxes": {"OD": box}, "masks": {}},
        {"votes": {"HE": votes}, "experts": {"HE": 1}},
        {"experts": {"HE": 0}},
    )
    paths += [cached(_relabeled(case, **change), SIDE, cache) for change in changes]
    pixels = EYE.pixels.copy()
    pixels[200, 200] += 1
    Image.fromarray(pixels).save(case.path)
    paths.append(cached(case, SIDE, cache))
    mask = EYE.masks["EX"].copy()
    mask[200, 200] ^= True
    Image.fromarray(mask.astype(np.uint8) * 255).save(case.labels.masks["EX"].paths[0])
    paths.append(cached(case, SIDE, cache))
    assert len({path.name for path in paths}) == len(paths)


def test_a_write_that_fails_leaves_no_file_behind_its_name(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk does it: half the bytes, then an error."""
    cache = tmp_path / "cache"

    def half(file, **arrays):
        file.write(b"PK" + bytes(500))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half)
        with pytest.raises(OSError, match="No space"):
            cached(case, SIDE, cache)
    assert not list(cache.glob("*.npz"))
    assert read_prepared(cached(case, SIDE, cache)).image.shape == (SIDE, SIDE, 3)


def test_a_mask_that_cannot_be_used_costs_itself_alone(case: Case, tmp_path: Path) -> None:
    """Its structure is unknown, even where the grade would say that it is absent; the rest is as it was."""
    Image.fromarray(EYE.masks["EX"][::2, ::2].astype(np.uint8) * 255).save(tmp_path / "EX.png")
    for _ in range(2):  # made, and read again
        path = cached(_relabeled(case, grade=0), SIDE, tmp_path / "cache")
        assert "EX.png" in unusable_masks(path)["EX"]
    read = read_prepared(path)
    assert read.coverage.keys() == {"OD"}
    assert read.absent == ("HE", "MA", "SE")


@pytest.mark.parametrize(
    ("empty", "absent", "unusable"), [("absent", True, False), ("unknown", False, False), ("error", False, True)]
)
def test_an_empty_mask_means_what_its_data_set_says(
    empty: Empty, absent: bool, unusable: bool, case: Case, tmp_path: Path
) -> None:
    Image.new("L", EYE.pixels.shape[1::-1]).save(tmp_path / "EX.png")
    case = _relabeled(case, masks={**case.labels.masks, "EX": Mask((tmp_path / "EX.png",), read_mask, empty)})
    path = cached(case, SIDE, tmp_path / "cache")
    assert "EX" not in read_prepared(path).coverage
    assert ("EX" in read_prepared(path).absent, "EX" in unusable_masks(path)) == (absent, unusable)


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "named"))
    assert default_cache() == tmp_path / "named"
    monkeypatch.setenv(CACHE_VARIABLE, "~/named")  # as in a file that no shell reads
    assert default_cache() == Path("~/named").expanduser()
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg/funduscope"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache/funduscope"


def test_a_user_without_a_home_is_told_to_name_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise KeyError("no such user")

    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", refuse)
    with pytest.raises(CodedError, match="set FUNDUSCOPE_CACHE"):
        default_cache()

    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(CodedError, match="set FUNDUSCOPE_CACHE"):
        default_cache()


def test_another_reader_of_the_same_mask_makes_another_file(case: Case, tmp_path: Path) -> None:
    """Of a file with several classes, say."""
    path = case.labels.masks["EX"].paths[0]
    readers = read_mask, lambda path: np.asarray(Image.open(path)) == 255, lambda path: np.asarray(Image.open(path)) > 1
    cases = [_relabeled(case, masks={"EX": Mask((path,), read)}) for read in readers]
    assert len({cached(one, SIDE, tmp_path / "cache") for one in cases}) == 3


def _above(path: Path, threshold: int = 128, *, times: int = 1) -> np.ndarray:
    return np.asarray(Image.open(path)) * times > threshold


def _closed_over(threshold: int) -> Callable[[Path], np.ndarray]:
    return lambda path: _above(path, threshold)


def _with_default(threshold: int) -> Callable[[Path], np.ndarray]:
    def read(path: Path, threshold: int = threshold) -> np.ndarray:
        return max([_above(path, threshold)], key=lambda mask: mask.sum())

    return read


@pytest.mark.parametrize(
    "reader_at",
    [lambda one: partial(_above, threshold=one), lambda one: partial(_above, times=one), _closed_over, _with_default],
)
def test_readers_that_differ_in_a_value_alone_are_two(reader_at: Callable[[int], Callable[[Path], np.ndarray]]) -> None:
    assert reader_id(reader_at(50)) == reader_id(reader_at(50)), "the same, made twice"
    assert reader_id(reader_at(50)) != reader_id(reader_at(150))


def test_a_drawn_exudate_is_not_absent_as_either_kind(case: Case) -> None:
    drawn = case.labels.masks["EX"]
    framed = prepare(_relabeled(case, masks={"EX": drawn, EITHER_EXUDATE: ABSENT}), SIDE)
    assert "EX" in framed.coverage
    assert {"SE", EITHER_EXUDATE} == {*framed.absent} & {"EX", "SE", EITHER_EXUDATE}


@pytest.mark.parametrize("side", [64, 512])
def test_the_disc_in_a_box_has_the_area_of_its_ellipse(case: Case, side: int) -> None:
    framed = prepare(_relabeled(case, masks={}, boxes={"OD": ((100.0, 90.0, 160.0, 170.0),)}), side)
    corners = framed.transform.to_frame(np.array([[100.0, 90.0], [160.0, 170.0]]))
    width, height = (corners[1] - corners[0]) * DISC_IN_BOX
    plane = framed.coverage["OD"] / 255
    assert plane.sum() == pytest.approx(np.pi / 4 * width * height, rel=0.01)
    x, y = ((plane.sum(axis) * (np.arange(side) + 0.5)).sum() / plane.sum() for axis in (0, 1))
    np.testing.assert_allclose((x, y), corners.mean(0), atol=0.02)
