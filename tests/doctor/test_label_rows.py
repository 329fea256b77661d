"""Rows matched to photos: by path, by name, by split, and what is no label file."""

from __future__ import annotations

from pathlib import Path

import pytest

from funduscope.doctor.inventory import split_of, stem_of, take_inventory
from funduscope.doctor.label_rows import LabelRows, read_label_rows
from funduscope.doctor.mask_files import read_outlines

TRAIN, TEST = "a. Training Set", "b. Testing Set"
B = "B. Disease Grading"


def _photos(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\xff\xd8\xff")


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _read(root: Path) -> LabelRows:
    return read_label_rows(take_inventory(root))


def test_one_number_in_both_splits_is_distinguished_by_the_files_own_split(tmp_path: Path) -> None:
    photos = [f"{B}/1. Original Images/{split}/IDRiD_001.jpg" for split in (TRAIN, TEST)]
    _photos(tmp_path, *photos)
    _text(tmp_path / f"{B}/2. Groundtruths/a. Training Labels.csv", "Image name,Retinopathy grade\nIDRiD_001,1\n")
    _text(tmp_path / f"{B}/2. Groundtruths/b. Testing Labels.csv", "Image name,Retinopathy grade\nIDRiD_001,4\n")
    _text(tmp_path / "boxes.csv", "image,structure,x0,y0,x1,y1\nIDRiD_001,EX,1,1,2,2\n")
    rows = _read(tmp_path)
    assert [rows.value(tmp_path / photo, "grade") for photo in photos] == [1, 4]
    assert [len(list(rows.boxes(tmp_path / photo, "EX"))) for photo in photos] == [1, 0]


def test_points_of_c_are_about_the_photos_of_b(tmp_path: Path) -> None:
    photo = f"{B}/1. Original Images/{TRAIN}/IDRiD_001.jpg"
    _photos(tmp_path, photo, f"C. Localization/1. Original Images/{TRAIN}/IDRiD_001.jpg")
    points = "C. Localization/2. Groundtruths/2. Fovea Center Location/Training Set.csv"
    _text(tmp_path / points, "Image No,X- Coordinate,Y - Coordinate\nIDRiD_001,5,6\n")
    (row,) = _read(tmp_path).by_photo[tmp_path / photo]
    assert row.point("fovea") == (5.0, 6.0)


@pytest.mark.parametrize(
    ("written", "stem"),
    [("45522_(2357).dcm", "45522_(2357).dcm"), ("a.b.JPG", "a.b"), ("x\\y\\eye.tif", "eye"), ("images/A27.jpg", "A27")],
)
def test_only_a_pictures_suffix_is_cut_off(written: str, stem: str) -> None:
    assert stem_of(written) == stem


def test_a_path_relative_to_the_file_comes_before_a_name(tmp_path: Path) -> None:
    _photos(tmp_path, "one/eye.jpg", "two/eye.jpg")
    _text(tmp_path / "labels.csv", "path,dr\ntwo\\eye.jpg,3\n")
    assert _read(tmp_path).value(tmp_path / "two/eye.jpg", "grade") == 3


def test_splits_in_paths() -> None:
    assert split_of("B. Disease Grading/b. Testing Set/x.jpg") == "test"
    assert split_of("data/train/latest/x.jpg") == "train"
    assert split_of("images/x.jpg") is None
    assert split_of("TestingSet/x.jpg") == split_of("test_images1/x.jpg") == split_of("testset/x.jpg") == "test"


@pytest.mark.parametrize("name", ["contest_1.jpg", "photos/test.jpg", "greatest/x.jpg", "trained/x.jpg", "test.jpg"])
def test_only_a_whole_word_of_a_folders_name_is_a_split(name: str) -> None:
    assert split_of(name) is None


def test_a_label_files_own_name_says_its_split(tmp_path: Path) -> None:
    _photos(tmp_path, "test/eye.jpg", "train/eye.jpg")
    _text(tmp_path / "testLabels.csv", "image,dr\neye,3\n")
    assert _read(tmp_path).value(tmp_path / "test/eye.jpg", "grade") == 3


def test_a_models_answers_and_other_tables_are_no_labels(tmp_path: Path) -> None:
    _photos(tmp_path, "eye.jpg")
    _text(tmp_path / "summary.csv", "photo,image,gradable,grade,grade_name\neye.jpg,eye,yes,2,Moderate\n")
    _text(tmp_path / "prices.csv", "item,price\na,2\n")
    assert _read(tmp_path).tables == ()


def test_masks_find_their_photos_and_structures(tmp_path: Path) -> None:
    _photos(tmp_path, "images/e_1.jpg", "masks/e_1_EX.png", "masks/Hard Exudates/e_1.png", "masks/lost_MA.png")
    inventory = take_inventory(tmp_path)
    outlines = {outline.file.name: outline for outline in read_outlines(inventory, read_label_rows(inventory))}
    assert {name: (one.code, one.photo is not None) for name, one in outlines.items()} == {
        "e_1_EX.png": ("EX", True),
        "e_1.png": ("EX", True),
        "lost_MA.png": ("MA", False),
    }
