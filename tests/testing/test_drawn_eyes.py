"""Drawn eyes keep what they promise: targets that agree with each other and with the pixels."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from funduscope.testing.drawn_eyes import STYLES, DrawnEye, Style, dme_risk, draw_eye, write_idrid
from funduscope.vocabulary import CODES, LESIONS

WIDTH_PX = 512


@pytest.fixture(scope="module")
def eyes() -> list[DrawnEye]:
    """Four eyes of each grade."""
    return [draw_eye(seed, grade=seed % 5, width_px=WIDTH_PX) for seed in range(20)]


def _count(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8))[0] - 1


def _contrast(eye: DrawnEye, code: str) -> float:
    """Mean green level inside the mask less that of a ring around it, free of every structure."""
    mask = eye.masks[code]
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    ring = near & ~np.any([eye.masks[c] for c in CODES], axis=0)
    green = eye.pixels[..., 1].astype(float)
    return float(green[mask].mean() - green[ring].mean())


def test_same_seed_same_eye_other_seed_other_eye() -> None:
    one, again, other = (draw_eye(seed, width_px=256) for seed in (7, 7, 8))
    assert np.array_equal(one.pixels, again.pixels)
    assert all(np.array_equal(one.masks[code], again.masks[code]) for code in CODES)
    assert (one.grade, one.dme, one.disc_xy, one.laterality) == (
        again.grade,
        again.dme,
        again.disc_xy,
        again.laterality,
    )
    assert not np.array_equal(one.pixels, other.pixels)


def test_no_global_state_is_read() -> None:
    np.random.seed(0)
    cv2.setRNGSeed(1)
    before = draw_eye(3, width_px=256).pixels
    np.random.seed(9)
    cv2.setRNGSeed(5)
    assert np.array_equal(before, draw_eye(3, width_px=256).pixels)


@pytest.mark.parametrize("width_px", [128, 300, 512, 1440])
def test_sizes_and_types(width_px: int) -> None:
    eye = draw_eye(4, grade=3, width_px=width_px)
    height_px = round(width_px * 2848 / 4288)
    assert eye.pixels.shape == (height_px, width_px, 3)
    assert eye.pixels.dtype == np.uint8
    assert set(eye.masks) == set(CODES)
    assert all(mask.shape == (height_px, width_px) and mask.dtype == bool for mask in eye.masks.values())
    assert eye.masks["MA"].any()


def test_lesions_follow_the_grade(eyes: list[DrawnEye]) -> None:
    for eye in eyes:
        seen = {code for code in LESIONS if eye.masks[code].any()}
        if eye.grade == 0:
            assert seen == set()
        elif eye.grade == 1:
            assert seen == {"MA"}
        else:
            assert seen >= {"MA", "HE"}
    blots = [np.mean([_count(eye.masks["HE"]) for eye in eyes if eye.grade == grade]) for grade in (2, 3, 4)]
    assert blots[0] < 11 < min(blots[1:])


def test_severe_eyes_bleed_in_every_quadrant(eyes: list[DrawnEye]) -> None:
    for eye in (eye for eye in eyes if eye.grade >= 3):
        y, x = np.nonzero(eye.masks["HE"])
        quadrants = {(a, b) for a, b in zip(x > eye.fovea_xy[0], y > eye.fovea_xy[1], strict=True)}
        assert len(quadrants) == 4


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dme", [0, 1, 2])
def test_edema_risk_is_geometry(seed: int, dme: int) -> None:
    eye = draw_eye(seed, grade=2 + seed % 3, dme=dme, width_px=384)
    y, x = np.nonzero(eye.masks["EX"])
    away = np.hypot(x + 0.5 - eye.fovea_xy[0], y + 0.5 - eye.fovea_xy[1])
    nearest_dd = away.min() / eye.disc_diameter_px if len(away) else np.inf
    assert eye.dme == dme
    assert eye.dme == (0 if nearest_dd == np.inf else 2 if nearest_dd <= 1 else 1)


def test_edema_risk_at_exactly_one_diameter() -> None:
    mask = np.zeros((50, 50), bool)
    assert dme_risk(mask, (5.5, 5.5), 10.0) == 0
    mask[5, 15] = True
    assert dme_risk(mask, (5.5, 5.5), 10.0) == 2
    assert dme_risk(mask, (5.5, 5.5), 9.99) == 1


@pytest.mark.parametrize(("code", "sign"), [("MA", -1), ("HE", -1), ("EX", 1), ("SE", 1), ("OD", 1)])
def test_masks_lie_on_what_the_pixels_show(eyes: list[DrawnEye], code: str, sign: int) -> None:
    contrasts = [sign * _contrast(eye, code) for eye in eyes if eye.masks[code].any()]
    assert len(contrasts) >= 2
    assert min(contrasts) > 0
    assert np.mean(contrasts) > 5


def test_disc_and_fovea_are_where_they_are_said_to_be(eyes: list[DrawnEye]) -> None:
    for eye in eyes:
        y, x = np.nonzero(eye.masks["OD"])
        assert np.hypot(x.mean() + 0.5 - eye.disc_xy[0], y.mean() + 0.5 - eye.disc_xy[1]) < 0.5
        assert 2 * np.sqrt(len(x) / np.pi) == pytest.approx(eye.disc_diameter_px, rel=0.03)
        apart_dd = np.hypot(*np.subtract(eye.disc_xy, eye.fovea_xy)) / eye.disc_diameter_px
        assert 2.3 < apart_dd < 2.7
        assert eye.fovea_xy[1] > eye.disc_xy[1]


@pytest.mark.parametrize(("laterality", "disc_is_right"), [("right", True), ("left", False)])
def test_disc_lies_towards_the_nose(laterality: str, disc_is_right: bool) -> None:
    for seed in range(3):
        eye = draw_eye(seed, width_px=256, laterality=laterality)  # pyright: ignore[reportArgumentType]
        assert eye.laterality == laterality
        assert (eye.disc_xy[0] > eye.fovea_xy[0]) == disc_is_right


@pytest.mark.parametrize("name", STYLES)
def test_every_style_draws_its_field(name: str) -> None:
    style = STYLES[name]
    eye = draw_eye(11, grade=3, width_px=WIDTH_PX, style=style)
    height_px, width_px = eye.pixels.shape[:2]
    y, x = np.mgrid[:height_px, :width_px] + 0.5
    reach = np.hypot(x - eye.field_xy[0], y - eye.field_xy[1]) / eye.field_radius_px
    outside, inside = eye.pixels[reach > 1.12], eye.pixels[reach < 0.9]
    assert outside.mean(0) == pytest.approx(style.outside, abs=max(2.5, style.outside_noise))
    assert inside[:, 0].mean() > outside[:, 0].mean() + 20
    assert not any((mask & (reach > 1.02)).any() for code, mask in eye.masks.items() if code != "OD")
    assert eye.masks["OD"].any()


def test_an_unusable_photo_is_said_to_be_one() -> None:
    assert draw_eye(1, width_px=256).gradable
    assert not draw_eye(1, width_px=256, style=Style(blur_px=25)).gradable
    assert not draw_eye(1, width_px=256, style=Style(brightness=0.1)).gradable


@pytest.mark.parametrize(
    ("grade", "dme", "width_px", "says"),
    [(5, None, 256, "grades are 0-4"), (1, 2, 256, "need grade 2"), (2, 3, 256, "DME risk 3"), (0, 0, 64, "128 px")],
)
def test_impossible_eyes_are_refused(grade: int, dme: int | None, width_px: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        draw_eye(0, grade=grade, dme=dme, width_px=width_px)
    with pytest.raises(ValueError, match="outside the photo"):
        draw_eye(0, width_px=256, style=Style(center_frac=(0.05, 0.5)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("drawn") / "idrid"
    write_idrid(place, graded=10, masked=4, width_px=256, seed=2)
    return place


def _table(folder: Path, name: str) -> list[list[str]]:
    (path,) = folder.rglob(name)
    raw = path.read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n") == 11
    return list(csv.reader(raw.decode().splitlines()))


def test_csv_files_have_the_release_s_quirks(folder: Path) -> None:
    grades = _table(folder, "a. IDRiD_Disease Grading_Training Labels.csv")
    assert grades[0] == ["Image name", "Retinopathy grade", "Risk of macular edema ", *[""] * 9]
    assert [row[0] for row in grades[1:]] == [f"IDRiD_{number:03d}" for number in range(1, 11)]
    assert {row[1] for row in grades[1:]} == set("01234")
    assert all(len(row) == 12 and not any(row[3:]) for row in grades)
    for name in ("a. IDRiD_OD_Center_Training Set_Markups.csv", "IDRiD_Fovea_Center_Training Set_Markups.csv"):
        points = _table(folder, name)
        assert points[0][:3] == ["Image No", "X- Coordinate", "Y - Coordinate"]
        assert all(0 < float(row[1]) < 256 and 0 < float(row[2]) < 170 for row in points[1:])
        assert all(len(row) == 11 for row in points)


def test_mask_files_are_palette_tiffs_of_0_and_1(folder: Path) -> None:
    files = sorted(folder.rglob("*.tif"))
    assert len([path for path in files if path.stem.endswith("_OD")]) == 4
    assert any(not list(folder.rglob(f"IDRiD_{number:02d}_SE.tif")) for number in range(1, 5))
    for path in files:
        with Image.open(path) as picture:
            assert picture.mode == "P"
            assert picture.size == (256, 170)
            assert (picture.getpalette() or [])[:6] == [0, 0, 0, 255, 0, 0]
            assert set(np.unique(np.asarray(picture))) == {0, 1}


def test_a_number_of_a_is_another_eye_than_that_of_b(folder: Path) -> None:
    (a,), (b,) = folder.rglob("IDRiD_01.jpg"), folder.rglob("IDRiD_001.jpg")
    with Image.open(a) as one, Image.open(b) as other:
        assert one.format == other.format == "JPEG"
        assert np.abs(np.asarray(one, float) - np.asarray(other, float)).mean() > 5


def test_folds_list_every_photo_and_part_no_visit(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "folds.csv").read_text().splitlines()))
    assert len(rows) == 14
    assert {row["fold"] for row in rows} == set("01234")
    folds_of: dict[str, set[str]] = {}
    for row in rows:
        folds_of.setdefault(row["visit"], set()).add(row["fold"])
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert len(folds_of) == 9


def test_the_reader_gives_back_what_was_drawn(folder: Path) -> None:
    from funduscope.data.sources import read_data

    cases = {case.key: case for case in read_data([folder])}
    assert len(cases) == 14
    eye = draw_eye(2_000_003, grade=2, width_px=256, laterality="right")
    (graded,) = (case for case in cases.values() if case.name == "IDRiD_003")
    assert (graded.labels.grade, graded.labels.dme) == (eye.grade, eye.dme)
    assert graded.labels.disc_xy == pytest.approx(eye.disc_xy, abs=0.006)
    assert graded.labels.fovea_xy == pytest.approx(eye.fovea_xy, abs=0.006)
    assert graded.fold == 1
    eye = draw_eye(2_500_002, grade=4, dme=2, width_px=256)
    (masked,) = (case for case in cases.values() if case.name == "IDRiD_02")
    for code in CODES:
        assert np.array_equal(masked.labels.masks[code].load(170, 256), eye.masks[code])
