"""Public data sets in the layouts that their authors publish, with the traps that each is known for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.workbooks import write_xlsx

from funduscope.data.case import ABSENT, Case, LabelError
from funduscope.data.prepare import prepare
from funduscope.data.readers import aptos, ddr, eophtha, eyepacs, messidor2, odir
from funduscope.data.sources import READERS, read_data
from funduscope.data.splits import SplitPlan
from funduscope.testing.drawn_eyes import draw_eye

SIZE = (420, 280)  # width, height


def _photo(path: Path, seed: int, *, squashed: bool = False, cropped: bool = False) -> None:
    picture = Image.fromarray(draw_eye(seed, width_px=SIZE[0], grade=2).pixels)
    picture = picture.crop((30, 8, 390, 272)) if cropped else picture.resize(SIZE)
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture.resize((300, 300)) if squashed else picture).save(path)


def _mask(path: Path, value: int, *, palette: bool = False) -> None:
    """A blot of 40 pixels of that value; value 0 marks nothing."""
    plane = np.zeros(SIZE[::-1], np.uint8)
    plane[80:84, 120:130] = value
    picture = Image.fromarray(plane)
    if palette:
        picture = picture.convert("P")
        picture.putpalette([0, 0, 0] * 256)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _aptos(root: Path) -> None:
    """A photo squashed to a square, one cut close, a byte-order mark, a grade as a word, a folder in itself."""
    _photo(root / "train_images/train_images/000c1434d8d7.png", 1, squashed=True)
    _photo(root / "train_images/train_images/001639a390f0.png", 2, cropped=True)
    (root / "train.csv").write_text("\ufeffid_code,diagnosis\r\n000c1434d8d7,2\r\n001639a390f0,Proliferate_DR\r\n")
    (root / "test.csv").write_text("id_code\n0005cfc8afb6\n")


def _eyepacs(root: Path) -> None:
    for name in ("10_left", "10_right", "13_left"):
        _photo(root / f"train/{name}.jpeg", 3)
    (root / "trainLabels.csv").write_text("image,level\n10_left,0\n10_right,4\n13_left,1\n")


def _messidor2(root: Path) -> None:
    """Suffixes in the label file and in the folder differ; one photo was not gradable."""
    _photo(root / "IMAGES/20051020_43808_0100_PP.png", 4)
    _photo(root / "IMAGES/20051020_43832_0100_PP.png", 5)
    _photo(root / "IMAGES/IM004811.JPG", 6)
    (root / "messidor_data.csv").write_text(
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n20051020_43808_0100_PP.png,0,0,1\n"
        "20051020_43832_0100_PP.png,3,1,1\nIM004811.jpg,2,1,0\n"
    )
    (root / "messidor-2.csv").write_text("left;right\n20051020_43832_0100_PP.png;20051020_43808_0100_PP.png\n")


def _ddr(root: Path) -> None:
    """Ungradable photos are grade 5; masks are 0 and 255, and empty where a lesion is absent; a masked test photo."""
    for split, names in {"train": ("007-0004-000", "20170323093305605"), "test": ("007-0007-000",)}.items():
        for name in names:
            _photo(root / f"DR_grading/{split}/{name}.jpg", 7)
    (root / "DR_grading/train.txt").write_text("007-0004-000.jpg 2\n20170323093305605.jpg 5\n")
    (root / "DR_grading/test.txt").write_text("007-0007-000.jpg 1\n")
    _photo(root / "DR_grading/train/007-0009-100.jpg", 7)
    with (root / "DR_grading/train.txt").open("a") as lines:
        lines.write("007-0009-100.jpg 0\n007-0010-000.jpg 3\n")
    _photo(root / "DR_grading/train/007-0010-000.jpg", 7)
    for split, label, name in (
        ("valid", "segmentation label", "007-0004-000"),
        ("test", "label", "007-0009-000"),
        ("test", "label", "007-0010-000"),
    ):
        place = root / "lesion_segmentation" / split
        _photo(place / f"image/{name}.jpg", 7)
        for code, value in {"MA": 255, "HE": 0, "EX": 255, "SE": 0}.items():
            _mask(place / label / code / f"{name}.tif", value)


def _eophtha(root: Path) -> None:
    """One photo is in both parts; masks are 0/255, 0/200 or palettes whose colors are all black."""
    for part, exam, name in (
        ("MA", "E0000404", "C0021833"),
        ("MA", "E0000043", "DS000DGS"),
        ("EX", "E0000404", "C0021833"),
    ):
        place = root / f"e_optha_{part}"
        _photo(place / part / exam / f"{name}.jpg", 8)
        suffix = "_EX" if part == "EX" else ""
        _mask(place / f"Annotation_{part}" / exam / f"{name}{suffix}.png", 200, palette=name == "DS000DGS")
        _photo(place / "healthy/E0000555" / f"{part}0000001.JPG", 9)


def _odir(root: Path) -> None:
    """`full_df.csv` has a row an eye; photos lie deep, and keywords have full-width commas."""
    for name in ("0_left", "0_right", "1_left", "1_right", "2_left", "2_right"):
        _photo(root / f"ODIR-5K/Training Images/{name}.jpg", 9)
    keywords = {
        0: ("moderate non proliferative retinopathy，drusen", "normal fundus"),
        1: ("suspected diabetic retinopathy", "cataract"),
        2: ("diabetic retinopathy", "anterior segment image"),
    }
    lines = ["ID,Patient Age,Left-Fundus,Right-Fundus,Left-Diagnostic Keywords,Right-Diagnostic Keywords,N,D,filename"]
    for patient, (left, right) in keywords.items():
        photos = f"{patient}_left.jpg,{patient}_right.jpg"
        lines.append(f"{patient},60,{photos},{left},{right},0,1,{patient}_left.jpg")
        lines.append(f"{patient},60,{photos},{left},{right},0,1,{patient}_right.jpg")
    (root / "full_df.csv").write_text("\n".join(lines) + "\n", "utf-8")


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "APTOS 2019": _aptos, "EyePACS": _eyepacs, "Messidor-2": _messidor2, "DDR": _ddr, "e-ophtha": _eophtha,
    "ODIR-5K": _odir,
}  # fmt: skip


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("downloads")
    for name, write in LAYOUTS.items():
        write(root / name)
    return root


@pytest.fixture(scope="module")
def cases(downloads: Path) -> dict[str, Case]:
    return {case.key: case for case in read_data([downloads])}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_recognized_by_its_own_reader_alone(name: str, downloads: Path) -> None:
    assert [other for other, reader in READERS.items() if reader.recognize(downloads / name)] == [name]


def test_a_folder_of_all_sets_is_read_whole_and_every_photo_can_be_framed(cases: dict[str, Case]) -> None:
    assert sorted(cases) == [
        "aptos/000c1434d8d7", "aptos/001639a390f0",
        "ddr/test/007-0007-000", "ddr/test/007-0009-000", "ddr/test/007-0010-000",
        "ddr/train/007-0004-000", "ddr/train/007-0009-100", "ddr/train/20170323093305605",
        "eophtha/C0021833", "eophtha/DS000DGS", "eophtha/EX0000001", "eophtha/MA0000001",
        "eyepacs/10_left", "eyepacs/10_right", "eyepacs/13_left",
        "messidor2/20051020_43808_0100_PP", "messidor2/20051020_43832_0100_PP", "messidor2/IM004811",
        "odir/0_left", "odir/0_right", "odir/1_left", "odir/1_right", "odir/2_left", "odir/2_right",
    ]  # fmt: skip
    for case in cases.values():
        prepared = prepare(case, 96)  # masks that are not of the photo's size would raise
        assert prepared.image[40:56, 40:56].mean() > 20, case.key


def test_grades_are_read_as_each_set_writes_them(cases: dict[str, Case]) -> None:
    grades = {key: case.labels.grade for key, case in cases.items() if case.labels.grade is not None}
    assert grades == {
        "aptos/000c1434d8d7": 2, "aptos/001639a390f0": 4,
        "eyepacs/10_left": 0, "eyepacs/10_right": 4, "eyepacs/13_left": 1,
        "messidor2/20051020_43808_0100_PP": 0, "messidor2/20051020_43832_0100_PP": 3,
        "ddr/train/007-0004-000": 2, "ddr/train/007-0009-100": 0,
        "ddr/test/007-0007-000": 1, "ddr/test/007-0010-000": 3,
        "odir/0_left": 2, "odir/0_right": 0,
    }  # fmt: skip
    rejected = [key for key, case in cases.items() if case.labels.quality == "reject"]
    assert sorted(rejected) == ["ddr/train/20170323093305605", "messidor2/IM004811"]


def test_eyes_of_one_patient_share_a_visit(cases: dict[str, Case]) -> None:
    left, right = cases["messidor2/20051020_43832_0100_PP"], cases["messidor2/20051020_43808_0100_PP"]
    assert (left.labels.laterality, right.labels.laterality) == ("left", "right")
    assert left.visit == right.visit != cases["messidor2/IM004811"].visit
    assert (left.labels.classes.get("dme"), right.labels.classes.get("dme")) == ({2}, {0, 1})
    assert cases["eyepacs/10_left"].visit == cases["eyepacs/10_right"].visit != cases["eyepacs/13_left"].visit
    assert cases["eyepacs/10_right"].labels.laterality == "right"


def test_masks_know_what_their_set_knows(cases: dict[str, Case]) -> None:
    both = cases["eophtha/C0021833"].labels.masks
    assert {code: mask.load(SIZE[1], SIZE[0]).sum() for code, mask in both.items()} == {"MA": 40, "EX|SE": 40}
    assert cases["eophtha/DS000DGS"].labels.masks["MA"].load(SIZE[1], SIZE[0]).sum() == 40
    assert cases["eophtha/MA0000001"].labels.masks == {"MA": ABSENT}
    assert cases["eophtha/EX0000001"].labels.masks == {"EX|SE": ABSENT}
    graded = cases["ddr/train/007-0004-000"]
    assert set(graded.labels.masks) == {"MA", "HE", "EX", "SE"}
    assert prepare(graded, 96).absent == ("HE", "SE")
    assert prepare(graded, 96).coverage.keys() == {"MA", "EX"}


def test_photos_of_one_patient_of_ddr_are_joined_and_masks_of_its_test_make_a_test_photo(
    cases: dict[str, Case],
) -> None:
    assert cases["ddr/train/007-0009-100"].visit == cases["ddr/test/007-0009-000"].visit
    assert "ddr/train/007-0010-000" not in cases
    assert cases["ddr/test/007-0010-000"].labels.grade == 3


def test_a_list_in_another_encoding_is_named(downloads: Path, tmp_path: Path) -> None:
    shutil.copytree(downloads / "DDR", tmp_path / "set")
    with (tmp_path / "set/DR_grading/train.txt").open("ab") as lines:
        lines.write(b"caf\xe9.jpg 1\n")
    with pytest.raises(LabelError, match=r"train\.txt is not in UTF-8"):
        ddr.read(tmp_path / "set")


def test_masks_of_e_ophtha_belong_to_their_examination(downloads: Path, tmp_path: Path) -> None:
    shutil.copytree(downloads / "e-ophtha", tmp_path / "set")
    place = tmp_path / "set/e_optha_MA"
    _photo(place / "MA/E0000999/C0021833.jpg", 8)
    _mask(place / "Annotation_MA/E0000999/C0021833.png", 200)
    with pytest.raises(LabelError, match="there twice"):
        eophtha.read(tmp_path / "set")


def test_what_macos_leaves_beside_a_photo_is_none(downloads: Path, tmp_path: Path) -> None:
    shutil.copytree(downloads / "e-ophtha", tmp_path / "set")
    before = eophtha.read(tmp_path / "set")
    for part in ("MA/E0000404", "healthy/E0000555"):
        (tmp_path / "set/e_optha_MA" / part / "._C0021833.jpg").write_bytes(b"no photo")
    (tmp_path / "set/__MACOSX").mkdir()
    assert eophtha.recognize(tmp_path / "set")
    assert [case.key for case in eophtha.read(tmp_path / "set")] == [case.key for case in before]


def test_of_a_photo_of_e_ophtha_without_a_count_nothing_is_known(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _photo(tmp_path / f"images/{name}.jpg", 8)
    (tmp_path / "masks").mkdir()
    (tmp_path / "labels.csv").write_text("image,patient,MA_count\na,p1,\nb,p2,0\n")
    assert [case.labels.masks for case in eophtha.read(tmp_path)] == [{}, {"MA": ABSENT}]


def test_an_examination_of_messidor_2_may_have_a_right_eye_alone(downloads: Path, tmp_path: Path) -> None:
    shutil.copytree(downloads / "Messidor-2", tmp_path / "set")
    with (tmp_path / "set/messidor-2.csv").open("a") as pairs:
        pairs.write(";IM004811.JPG\n")
    case = {case.name: case for case in messidor2.read(tmp_path / "set")}["IM004811"]
    assert case.labels.laterality == "right"


def test_photos_of_an_official_test_get_no_fold(cases: dict[str, Case]) -> None:
    plan = SplitPlan.of(cases.values(), 0)
    assert {case.key for case in plan.cases if case.fold is None} == {
        *("ddr/test/007-0007-000", "ddr/test/007-0009-000", "ddr/test/007-0010-000", "ddr/train/007-0009-100")
    }
    assert plan.unassigned == []


@pytest.mark.parametrize(
    ("reader", "name", "gone", "says"),
    [
        (
            aptos,
            "APTOS 2019",
            "train_images/train_images/000c1434d8d7.png",
            r"train\.csv, row 2, column id_code: no photo",
        ),
        (eyepacs, "EyePACS", "train/10_right.jpeg", r"trainLabels\.csv, row 3, column image: no photo 10_right"),
        (
            messidor2,
            "Messidor-2",
            "IMAGES/IM004811.JPG",
            r"row 4, column image_id: no photo IM004811 among the 2 there",
        ),
        (ddr, "DDR", "DR_grading/train/007-0004-000.jpg", r"DR_grading/train\.txt, line 1: no photo 007-0004-000"),
        (eophtha, "e-ophtha", "e_optha_MA/Annotation_MA/E0000043/DS000DGS.png", "DS000DGS.jpg has no mask"),
    ],
)
def test_a_missing_file_is_named(
    reader: object, name: str, gone: str, says: str, downloads: Path, tmp_path: Path
) -> None:
    shutil.copytree(downloads / name, tmp_path / "set")
    (tmp_path / "set" / gone).unlink()
    with pytest.raises(LabelError, match=says):
        reader.read(tmp_path / "set")  # pyright: ignore[reportAttributeAccessIssue]


def test_a_grade_that_is_none_is_named(downloads: Path, tmp_path: Path) -> None:
    shutil.copytree(downloads / "DDR", tmp_path / "set")
    (tmp_path / "set/DR_grading/train.txt").write_text("007-0004-000.jpg 6\n")
    with pytest.raises(LabelError, match=r"train\.txt, line 1: '007-0004-000\.jpg 6'; expected a photo and a grade"):
        ddr.read(tmp_path / "set")


def test_odir_keywords_state_a_grade_or_leave_it_unknown(cases: dict[str, Case]) -> None:
    grades = {name: cases[f"odir/{name}"].labels.known_classes("grade") for name in ("0_left", "0_right", "2_left")}
    assert grades == {"0_left": 2, "0_right": 0, "2_left": {1, 2, 3, 4}}

    for unknown in ("1_left", "1_right", "2_right"):
        assert cases[f"odir/{unknown}"].labels.known_classes("grade") is None
    assert cases["odir/2_right"].labels.quality == "not_fundus"
    assert cases["odir/1_right"].labels.finding == "cataract"
    assert cases["odir/1_left"].visit == cases["odir/1_right"].visit


def _sheet_row(number: int, cells: list[str]) -> str:
    """A workbook's row of texts."""
    parts = [
        f'<c r="{chr(65 + column)}{number}" t="inlineStr"><is><t>{text}</t></is></c>'
        for column, text in enumerate(cells)
    ]
    return f'<row r="{number}">{"".join(parts)}</row>'


def test_odir_workbook_has_a_row_for_both_eyes(tmp_path: Path) -> None:
    for name in ("7_left", "7_right"):
        _photo(tmp_path / f"ODIR-5K_Training_Dataset/{name}.jpg", 9)
    columns = ["ID", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords", "Right-Diagnostic Keywords", "N"]
    keywords = ["severe proliferative diabetic retinopathy", "lens dust，normal fundus"]
    row = ["7", "7_left.jpg", "7_right.jpg", *keywords, "0"]
    sheet = _sheet_row(1, columns) + _sheet_row(2, row)
    write_xlsx(tmp_path / "ODIR-5K_Training_Annotations(Updated)_V2.xlsx", sheet)

    left, right = odir.read(tmp_path)
    assert (left.labels.grade, right.labels.grade) == (4, 0)
    assert left.visit == right.visit
