"""People's own photos in a table: what is empty is unknown, what is wrong names its row and column."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from funduscope.data import table
from funduscope.data.case import ABSENT, LabelError, Labels
from funduscope.imaging.photo import Photo
from funduscope.testing.drawn_eyes import draw_eye


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (30, 20), (90, 40, 20)).save(tmp_path / f"photos/{name}.jpg")
    for row in (3, 9):
        plane = np.zeros((20, 30), np.uint8)
        plane[row, 5:10] = 255
        Image.fromarray(plane).save(tmp_path / f"ex{row}.png")
    Image.new("L", (10, 10), 255).save(tmp_path / "small.png")
    return tmp_path


def _write(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_bytes(text.encode())
    return path


def test_a_table_says_what_its_empty_masks_mean(folder: Path) -> None:
    Image.new("L", (30, 20)).save(folder / "empty.png")
    rows = [f"photos/{name}.jpg,empty.png,{word}" for name, word in (("a", "absent"), ("b", "Unknown"), ("c", ""))]
    written = _write(folder, "\n".join(["path,mask_EX,empty_masks", *rows, ""]))
    absent, unknown, error = (case.labels.masks["EX"] for case in table.read(written))
    marked = absent.load(20, 30)
    assert marked is not None
    assert not marked.any()
    assert unknown.load(20, 30) is None
    with pytest.raises(LabelError, match=r"empty\.png marks nothing"):
        error.load(20, 30)
    with pytest.raises(LabelError, match=r"row 2, column empty_masks"):
        table.read(_write(folder, "path,empty_masks\nphotos/a.jpg,maybe\n"))


def test_everything_that_a_row_can_say(folder: Path) -> None:
    head = "path,dr,dme,od_x,od_y,fovea_x,fovea_y,patient,quality,eye,fold,mask_MA,mask_EX,mask_OD"
    rows = "photos/a.jpg,2,1,5,6.5,15,7,P1,good,OS,3,None,ex3.png; .\\ex9.png,\nphotos\\b.jpg,,,,,,,P1,,OD,3,,,"
    first, second = table.read(_write(folder, f"{head}\n{rows}\n"))
    labels = first.labels
    assert (labels.grade, labels.dme, labels.quality, labels.laterality) == (2, 1, "good", "left")
    assert (labels.disc_xy, labels.fovea_xy) == ((5.0, 6.5), (15.0, 7.0))
    assert set(labels.masks) == {"MA", "EX"}
    assert labels.masks["MA"] == ABSENT
    assert labels.masks["EX"].load(20, 30).sum() == 10
    assert (first.key, first.dataset, first.fold) == ("table/photos/a.jpg", "table", 3)
    assert first.visit == second.visit
    assert second.labels == Labels(laterality="right"), "an empty cell is unknown"


def test_a_table_from_a_spreadsheet(folder: Path) -> None:
    path = _write(folder, "\ufeffpath,dr,,\r\nphotos/a.jpg,0,,\r\nphotos\\b.jpg,,,\r\n,,,\r\n")
    first, second = table.read(path)
    assert [(case.name, case.labels.grade) for case in (first, second)] == [("photos/a.jpg", 0), ("photos/b.jpg", None)]
    assert first.visit != second.visit, "without a patient every photo is a visit of its own"
    assert (first.fold, second.fold) == (None, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "path,dr\nphotos/a.jpg,bad",
            r"column dr: is 'bad'; expected 0 to 4 or one of No DR, Mild, Moderate, Severe, PDR",
        ),
        ("path,dr\nphotos/a.jpg,7", r"mine\.csv, row 2, column dr: is '7'; expected a whole number from 0 to 4"),
        ("path,dr\nphotos/a.jpg,1\nphotos/b.jpg,bad", "row 3, column dr: is 'bad'"),
        ("path,dme\nphotos/a.jpg,3", "row 2, column dme: is '3'; expected a whole number from 0 to 2"),
        ("path,grade\nphotos/a.jpg,1", "has a column grade; known are path, dr, dme"),
        ("photo,dr\nphotos/a.jpg,1", "lacks the column path"),
        ("path,dr\n", "has no row"),
        ("path,dr\nphotos/x.jpg,1", r"row 2, column path: no file photos/x\.jpg"),
        (f"path,dr\n{'x' * 300}.jpg,1", r"row 2, column path: no file x+\.jpg"),
        (f"path,mask_EX\nphotos/a.jpg,{'x' * 300}.png", r"row 2, column mask_EX: no file x+\.png"),
        ("path,dr\nphotos/a.jpg,1\nphotos/../photos/a.jpg,2", "row 3, column path: .* is also in row 2"),
        ("path,dr\nmine.csv,1", r"row 2, column path: mine\.csv cannot be opened"),
        ("path,quality\nphotos/a.jpg,poor", "row 2, column quality: is 'poor'; expected one of good, usable, reject"),
        ("path,eye\nphotos/a.jpg,both", "row 2, column eye"),
        ("path,od_x\nphotos/a.jpg,4", "row 2, column od_y: is empty while od_x is not"),
        ("path,od_x,od_y\nphotos/a.jpg,31,4", r"row 2, column od_x: \(31, 4\) lies outside the photo of 30x20 px"),
        ("path,mask_EX\nphotos/a.jpg,gone.png", r"row 2, column mask_EX: no file gone\.png .* write none"),
        ("path,mask_EX\nphotos/a.jpg,small.png", r"column mask_EX: small\.png is 10x10 px, its photo 30x20 px"),
        (
            "path,mask_EX\nphotos/a.jpg,;",
            "row 2, column mask_EX: is ';', which names no file; expected one, none",
        ),
        ("path,mask_EX\nphotos/a.jpg, ; ;", "row 2, column mask_EX: is '; ;', which names no file"),
        (
            "path,mask_EX\nphotos/a.jpg,mine.csv",
            r"row 2, column mask_EX: mine\.csv cannot be opened as a PNG or TIFF image",
        ),
        ("path,mask_EX\nphotos/a.jpg,photos/b.jpg", r"row 2, column mask_EX: b\.jpg cannot be opened as a PNG or TIFF"),
        ("path,patient\nphotos/a.jpg,NA", "row 2, column patient: is 'NA'; expected the cell to be empty"),
        ("path,patient\nphotos/a.jpg,unknown", "row 2, column patient: is 'unknown'"),
        (
            "path,patient\nphotos/a.jpg,017\nphotos/b.jpg,17",
            "row 3, column patient: is '17', and '017' in an earlier row: spell one patient in one way",
        ),
        ('path,dr,patient\nphotos/a.jpg,0,"P1\nphotos/b.jpg,1,P2\n', "cannot be read as CSV"),
        ("path,patient,fold\nphotos/a.jpg,P,0\nphotos/b.jpg,P,1", "row 3, column fold: patient P has another fold"),
    ],
)
def test_what_is_wrong_names_row_and_column(text: str, says: str, folder: Path) -> None:
    with pytest.raises(LabelError, match=says):
        table.read(_write(folder, text))


def test_whole_numbers_that_became_fractions_are_the_same_patient(folder: Path) -> None:
    first, second, third = table.read(_write(folder, "path,patient\nphotos/a.jpg,17\nphotos/b.jpg,17.0\nphotos/c.jpg,"))
    assert first.visit == second.visit != third.visit


def test_a_name_with_an_accent_is_found_however_it_is_spelled(folder: Path) -> None:
    stored = unicodedata.normalize("NFC", "photos/M\u00fcller.jpg")
    (folder / "photos/a.jpg").rename(folder / stored)
    (only,) = table.read(_write(folder, f"path\n{unicodedata.normalize('NFD', stored)}\n"))
    assert only.path.is_file()


def test_every_row_that_has_a_fault_is_named(folder: Path) -> None:
    rows = ["photos/a.jpg,7", "photos/b.jpg,1", *(f"gone{number}.jpg,1" for number in range(12))]
    with pytest.raises(LabelError, match=r"row 2, column dr: is .*unknown\. Rows 4, 5, .*, 13 and 2 more"):
        table.read(_write(folder, "\n".join(["path,dr", *rows])))
    with pytest.raises(LabelError, match=r"unknown\. Row 4 has a fault, too\.$"):
        table.read(_write(folder, "\n".join(["path,dr", *rows[:3]])))
    with pytest.raises(LabelError, match=r"row 2, column dr: .*Rows 4, 5 have a fault, too\.$"):
        table.read(_write(folder, "\n".join(["path,dr", *rows[:2], "photos/b.jpg,1", "photos/c.jpg,9"])))


def test_what_is_known_of_a_photo_task_is_a_class_or_several() -> None:
    labels = Labels(grade=2, classes={"dme": frozenset({1, 2})})
    assert [labels.known_classes(task) for task in ("grade", "dme", "other")] == [2, {1, 2}, None]
    assert [labels.class_of(task) for task in ("grade", "dme", "other")] == [2, None, None]
    assert [labels.possible_classes(task) for task in ("grade", "dme", "other")] == [[], [1, 2], []]


def test_a_photo_may_be_a_dicom_file_of_one_frame(folder: Path) -> None:
    pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")
    from tests.cli.test_predict_dicom import write_dicom

    eye = draw_eye(3, width_px=400).pixels
    write_dicom(folder / "one.dcm", eye[None], "R")
    write_dicom(folder / "two.dcm", np.stack([eye, eye]), "R")
    Image.new("L", eye.shape[1::-1], 255).save(folder / "whole.png")
    (case,) = table.read(_write(folder, "path,dr,mask_EX\none.dcm,2,whole.png\n"))
    assert case.labels.masks["EX"].load(*eye.shape[:2]).sum() == eye[..., 0].size
    assert Photo.open(case.path).pixels.shape == eye.shape
    with pytest.raises(LabelError, match=r"row 2, column path: two\.dcm is a DICOM file of 2 frames"):
        table.read(_write(folder, "path,dr\ntwo.dcm,2\n"))
    (folder / "cut.dcm").write_bytes((folder / "one.dcm").read_bytes()[:300])
    with pytest.raises(LabelError, match=r"row 2, column path: cut\.dcm: the DICOM file is cut off"):
        table.read(_write(folder, "path,dr\ncut.dcm,2\n"))
