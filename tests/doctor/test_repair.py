"""`--fix`: what follows from the files is repaired in a copy, the rest is listed, the original is untouched."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image
from tests.workbooks import write_xlsx

from funduscope.data.case import LabelError
from funduscope.data.folds import read_folds
from funduscope.data.sources import read_data
from funduscope.doctor import label_checks, split_checks
from funduscope.doctor.examine import Report
from funduscope.doctor.label_rows import read_label_rows
from funduscope.doctor.labeled_photo import check_photos
from funduscope.doctor.mask_checks import MaskChecks
from funduscope.doctor.mask_files import read_outlines
from funduscope.doctor.repair import changes_file, repair
from funduscope.doctor.repair_tables import Change
from funduscope.doctor.scan import Scan
from funduscope.duplicates.pairs import DuplicatePair

ScanOf = Callable[[Path], Scan]
GRADES = "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"
POINTS = "C. Localization/2. Groundtruths"
DISCS = f"{POINTS}/1. Optic Disc Center Location/a. IDRiD_OD_Center_Training Set_Markups.csv"
PHOTO = "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_{:03d}.jpg"
MASK = "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/5. Optic disc/IDRiD_{:02d}_OD.tif"


@dataclass(frozen=True)
class Pair:
    """The used fields of a `DuplicatePair`."""

    first: str
    second: str
    kind: str = "same_photo"


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8-sig").splitlines()


def _edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(_lines(path))) + "\n", "utf-8")


def _state(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _report(scan: Scan, pairs: Sequence[DuplicatePair] = ()) -> Report:
    """What the doctor finds in labels, masks and folds."""
    label_rows = read_label_rows(scan.inventory)
    outlines = read_outlines(scan.inventory, label_rows)
    findings = [*label_checks.examine(scan, label_rows), *split_checks.examine(scan, [], [], label_rows)]
    findings += check_photos(scan, label_rows, outlines, [MaskChecks(scan, label_rows, outlines)])
    return Report(scan.root, scan, tuple(findings), label_rows, tuple(outlines), pairs=tuple(pairs))


def _fixed(data: Path, scan: Scan, pairs: Sequence[DuplicatePair] = ()) -> tuple[Path, list[dict[str, str]]]:
    """Repairs next to the data, lays the copy over the original, and gives both the merged folder and the changes."""
    before, out = _state(data), data.parent / "fixed"
    repair(_report(scan, pairs), out)
    assert _state(data) == before
    with (out / "changes.csv").open(encoding="utf-8") as file:
        changes = list(csv.DictReader(file))
    merged = Path(shutil.copytree(data, data.parent / "merged"))
    shutil.copytree(out, merged, dirs_exist_ok=True)
    return merged, changes


def test_a_clean_set_is_copied_byte_by_byte(idrid: Path, scan_of: ScanOf) -> None:
    assert repair(_report(scan_of(idrid)), idrid.parent / "fixed") == []
    fixed, original = _state(idrid.parent / "fixed"), _state(idrid)
    assert fixed.pop("changes.csv")
    assert len(fixed) == 4
    assert all(original[name] == digest for name, digest in fixed.items())


def test_the_reader_takes_what_was_repaired(idrid: Path, scan_of: ScanOf) -> None:
    _edit(idrid / GRADES, lambda lines: [*lines[:3], "IDRiD_003,7,0", *lines[4:], lines[1]])
    _edit(idrid / DISCS, lambda lines: [*lines[:2], "IDRiD_002,-40,100", "IDRiD_003,12,", *lines[4:]])
    (idrid / "boxes.csv").write_text("image,structure,x0,y0,x1,y1\nIDRiD_004,HE,9,9,3,12\nIDRiD_004,HE,9,9,13,12\n")
    with pytest.raises(LabelError):
        read_data([idrid])
    merged, changes = _fixed(idrid, scan_of(idrid))
    cases = {case.key: case for case in read_data([merged])}
    third = cases["idrid-B/train/IDRiD_003"].labels
    assert (third.grade, third.dme, third.disc_xy) == (None, 0, None)
    assert cases["idrid-B/train/IDRiD_002"].labels.disc_xy is None
    assert len(cases["idrid-B/train/IDRiD_004"].labels.boxes["HE"]) == 1
    reported = {(change["file"], change["what"], change["before"], change["after"]) for change in changes}
    assert reported == {
        (GRADES, "row 4, column Retinopathy grade", "7", ""),
        (GRADES, "row 10", "IDRiD_001,0,0", ""),
        (DISCS, "row 3, column X- Coordinate", "'-40", ""),
        (DISCS, "row 3, column Y - Coordinate", "100", ""),
        (DISCS, "row 4, column X- Coordinate", "12", ""),
        ("boxes.csv", "row 2", "IDRiD_004,HE,9,9,3,12", ""),
    }
    assert all(change["why"].endswith(".") for change in changes)


def test_a_column_that_means_something_else_is_left(idrid: Path, scan_of: ScanOf) -> None:
    photos = [f"A. Segmentation/1. Original Images/a. Training Set/IDRiD_0{number}.jpg" for number in (1, 2, 3, 4)]
    rows = [
        f"{photo},{words}"
        for photo, words in zip(photos, ("0,Adequate", "1,Adequate", "2,Poor", "9,Fine"), strict=True)
    ]
    (idrid / "own.csv").write_text("\n".join(["path,dr,quality", *rows, ""]))
    merged, changes = _fixed(idrid, scan_of(idrid / "own.csv"))
    assert _lines(merged / "own.csv")[1:3] == rows[:2]
    assert _lines(merged / "own.csv")[4] == f"{photos[3]},,Fine"
    (left,) = (change for change in changes if change["what"] == "left as it is")
    assert left["before"] == "column quality"
    assert "4 of its 4 values are not" in left["why"]


def test_a_file_of_structures_without_boxes_keeps_its_rows(idrid: Path, scan_of: ScanOf) -> None:
    photo = "A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg"
    text = f"path,structure,dr\n{photo},EX,2\n"
    (idrid / "own.csv").write_text(text)
    merged, _ = _fixed(idrid, scan_of(idrid / "own.csv"))
    assert (merged / "own.csv").read_text() == text


def test_rows_that_contradict_each_other_are_left(idrid: Path, scan_of: ScanOf) -> None:
    _edit(idrid / GRADES, lambda lines: [*lines, "IDRiD_001,4,2"])
    merged, changes = _fixed(idrid, scan_of(idrid))
    assert changes == []
    assert (merged / GRADES).read_bytes() == (idrid / GRADES).read_bytes()


def test_masks_become_one_plane_of_0_and_255(idrid: Path, scan_of: ScanOf) -> None:
    path = idrid / MASK.format(2)
    inside = np.asarray(Image.open(path)) > 0
    planes = [inside * 255, inside * 0, inside * 0, np.full(inside.shape, 255)]
    Image.fromarray(np.dstack(planes).astype(np.uint8)).save(path)
    merged, changes = _fixed(idrid, scan_of(idrid))
    with Image.open(merged / MASK.format(2)) as image:
        assert (image.mode, image.format) == ("L", "TIFF")
        assert np.array_equal(np.asarray(image), inside * 255)
    assert {change["after"] for change in changes} == {"gray, 0 and 255"}
    assert (merged / MASK.format(1)).is_file()
    assert not _report(scan_of(merged)).findings


def test_a_cell_that_names_two_masks_names_both_by_their_new_files(idrid: Path, scan_of: ScanOf) -> None:
    photo = "A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg"
    for name in ("a.jpg", "aa.jpg"):
        inside = np.asarray(Image.open(idrid / MASK.format(1))) > 0
        Image.fromarray(inside.astype(np.uint8) * 255).save(idrid / name)
    (idrid / "own.csv").write_text(f"path,mask_OD\n{photo},a.jpg; aa.jpg\n")
    merged, _ = _fixed(idrid, scan_of(idrid / "own.csv"))
    assert _lines(merged / "own.csv")[1] == f"{photo},a.png; aa.png"
    assert (merged / "a.png").is_file()
    assert (merged / "aa.png").is_file()


def _soft(path: Path, inside: np.ndarray) -> None:
    """Saves a mask with a value between inside and outside."""
    values = inside.astype(np.uint8) * 200
    values[:9] = np.where(inside[:9], 200, 60)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def test_masks_of_one_name_in_sibling_folders_stay_two(idrid: Path, scan_of: ScanOf) -> None:
    photo = "A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg"
    inside = np.asarray(Image.open(idrid / MASK.format(1))) > 0
    _soft(idrid / "ex/1.png", inside)
    _soft(idrid / "he/1.png", inside[::-1])
    table = idrid / "labels/own.csv"
    table.parent.mkdir()
    table.write_text(f"path,mask_EX,mask_HE\n../{photo},../ex/1.png,../he/1.png\n")
    out = idrid / "fixed"
    changes = repair(_report(scan_of(table)), out)
    assert _lines(out / "own.csv")[1] == f"../{photo},ex/1.png,he/1.png"
    (case,) = read_data([out / "own.csv"])
    height, width = inside.shape
    assert np.array_equal(case.labels.masks["EX"].load(height, width), inside)
    assert np.array_equal(case.labels.masks["HE"].load(height, width), inside[::-1])
    assert [(change.file, change.what) for change in changes] == [
        ("../ex/1.png", "mask"), ("own.csv", "row 2, column mask_EX"),
        ("../he/1.png", "mask"), ("own.csv", "row 2, column mask_HE"),
    ]  # fmt: skip


def test_a_mask_replaces_no_other_file(idrid: Path, scan_of: ScanOf) -> None:
    photo = "A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg"
    inside = np.asarray(Image.open(idrid / MASK.format(1))) > 0
    for name in ("a.jpg", "a.png"):
        _soft(idrid / name, inside)
    (idrid / "own.csv").write_text(f"path,mask_OD\n{photo},a.jpg; a.png\n")
    merged, changes = _fixed(idrid, scan_of(idrid / "own.csv"))
    left = [change for change in changes if change["what"] == "left as it is"]
    assert [(change["file"], change["why"]) for change in left] == [
        ("a.jpg", "Stored anew, it would replace another file: a.png.")
    ]
    assert _lines(merged / "own.csv")[1] == f"{photo},a.jpg; a.png"


def test_a_mask_of_the_whole_photo_becomes_unknown_where_that_can_be_said(idrid: Path, scan_of: ScanOf) -> None:
    photo = "A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg"
    whole = np.ones(np.asarray(Image.open(idrid / photo)).shape[:2], np.uint8) * 255
    Image.fromarray(whole).save(idrid / "EX.png")
    (idrid / "own.csv").write_text(f"path,mask_EX,mask_SE\n{photo},EX.png,none\n")
    _, changes = _fixed(idrid, scan_of(idrid / "own.csv"))
    assert [(change["what"], change["before"], change["after"]) for change in changes] == [
        ("row 2, column mask_EX", "EX.png", "")
    ]
    assert _lines(idrid.parent / "fixed/own.csv")[1] == f"{photo},,none"


def test_a_mask_of_the_whole_photo_becomes_unknown_wherever_it_is_named(idrid: Path, scan_of: ScanOf) -> None:
    photos = [f"A. Segmentation/1. Original Images/a. Training Set/IDRiD_{number:02d}.jpg" for number in (1, 2)]
    whole = np.ones(np.asarray(Image.open(idrid / photos[0])).shape[:2], np.uint8) * 255
    Image.fromarray(whole).save(idrid / "all.png")
    (idrid / "own.csv").write_text(f"path,mask_EX,mask_SE\n{photos[0]},all.png,all.png\n{photos[1]},all.png,none\n")
    _fixed(idrid, scan_of(idrid / "own.csv"))
    assert _lines(idrid.parent / "fixed/own.csv")[1:] == [f"{photos[0]},,", f"{photos[1]},,none"]


def test_in_idrids_layout_it_is_left_since_no_file_would_say_absent(idrid: Path, scan_of: ScanOf) -> None:
    path = idrid / MASK.format(1)
    image = Image.fromarray(np.ones(np.asarray(Image.open(path)).shape, np.uint8))
    image.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    image.save(path)
    _, changes = _fixed(idrid, scan_of(idrid))
    assert [(change["file"], change["what"]) for change in changes] == [(MASK.format(1), "left as it is")]


def test_visits_of_duplicates_are_joined_and_stay_in_one_fold(idrid: Path, scan_of: ScanOf) -> None:
    pairs = [cast(DuplicatePair, Pair(PHOTO.format(1), PHOTO.format(8)))]
    before = read_folds(idrid / "folds.csv")
    merged, changes = _fixed(idrid, scan_of(idrid), pairs)
    after = read_folds(merged / "folds.csv")
    joined = {after["B", f"IDRiD_{number:03d}"] for number in (1, 2, 7, 8)}
    assert joined == {before["B", "IDRiD_001"]}
    assert {key: place for key, place in after.items() if place not in joined} == {
        key: place
        for key, place in before.items()
        if key[1] not in ("IDRiD_001", "IDRiD_002", "IDRiD_007", "IDRiD_008")
    }
    assert all(change["file"] == "folds.csv" for change in changes)


def test_photos_of_unknown_patients_are_not_joined(idrid: Path, scan_of: ScanOf) -> None:
    rows = [f"{PHOTO.format(k)},0,{'NA' if k < 5 else k},{k % 3}" for k in range(1, 9)]
    (idrid / "table.csv").write_text("\n".join(["path,dr,patient,fold", *rows]) + "\n")
    merged, changes = _fixed(idrid, scan_of(idrid / "table.csv"))
    assert {(change["before"], change["after"]) for change in changes} == {("NA", "")}
    cases = read_data([merged / "table.csv"])
    assert [case.fold for case in cases] == [k % 3 for k in range(1, 9)]
    assert len({case.visit for case in cases}) == 8


def test_folds_that_the_reader_refuses(idrid: Path, scan_of: ScanOf) -> None:
    _edit(idrid / "folds.csv", lambda lines: [lines[0], lines[1][:-1] + "3", *lines[2:], lines[4], "B,IDRiD_008,4,x"])
    with pytest.raises(LabelError):
        read_data([idrid])
    merged, _ = _fixed(idrid, scan_of(idrid))
    assert read_folds(merged / "folds.csv") == read_folds(_clean(idrid))


def _clean(idrid: Path) -> Path:
    """The folds as they were drawn: visit 1 in the fold that most of its photos are in, or the lower of two."""
    path = idrid.parent / "clean.csv"
    path.write_text(
        "\n".join(line for line in _lines(idrid / "folds.csv")[:-2]).replace("IDRiD_001,1,3", "IDRiD_001,1,0")
    )
    return path


@pytest.mark.parametrize("place", ["idrid/fixed", "idrid", "."])
def test_the_copy_lies_next_to_the_data_and_replaces_nothing(place: str, idrid: Path, scan_of: ScanOf) -> None:
    report = _report(scan_of(idrid))
    with pytest.raises(LabelError, match="next to it"):
        repair(report, idrid.parent / place)
    (idrid.parent / "other").mkdir()
    (idrid.parent / "other/file").write_text("mine")
    with pytest.raises(LabelError, match="is not empty"):
        repair(report, idrid.parent / "other")


def _table(idrid: Path, text: str | bytes, name: str = "table.csv") -> Path:
    data = text.encode() if isinstance(text, str) else text
    (idrid / name).write_bytes(data)
    return idrid / name


def test_a_row_with_a_cell_too_many_is_left_for_a_person(idrid: Path, scan_of: ScanOf) -> None:
    """A comma without quotes moves every cell behind it into the wrong column."""
    row = f"{PHOTO.format(2)},0,Smith, John,right,200,130"
    table = _table(idrid, f"path,dr,patient,laterality,disc_x,disc_y\n{PHOTO.format(1)},0,A,right,9,9\n{row}\n")
    merged, changes = _fixed(idrid, scan_of(table))
    assert (merged / "table.csv").read_bytes() == table.read_bytes()
    (left,) = changes
    assert left["what"] == "row 3"
    assert left["before"] == left["after"]
    assert left["why"].startswith("Left as it is. ")


def test_a_file_that_is_left_is_in_the_copy_too(idrid: Path, scan_of: ScanOf) -> None:
    text = f"path,dr,patient\n{PHOTO.format(1)},7,Müller\n{PHOTO.format(2)},1,B\n"
    table = _table(idrid, text.encode("cp1252"))
    out = idrid.parent / "fixed"
    (change,) = repair(_report(scan_of(table)), out)
    assert (out / "table.csv").read_bytes() == table.read_bytes()
    assert "save it as CSV UTF-8" in change.why


def test_another_encoding_is_among_the_changes(idrid: Path, scan_of: ScanOf) -> None:
    table = _table(idrid, f"path,dr\n{PHOTO.format(1)},1\n".encode("utf-16"))
    out = idrid.parent / "fixed"
    (change,) = repair(_report(scan_of(table)), out)
    assert (change.before, change.after) == ("UTF-16", "UTF-8")
    assert (out / "table.csv").read_text("utf-8").startswith("path,dr\n")


def test_neither_a_workbook_nor_the_list_of_changes_replaces_a_label_file(idrid: Path, scan_of: ScanOf) -> None:
    rows = (("path", "dr"), (PHOTO.format(1), "9"))
    cells = ("".join(f'<c t="inlineStr"><is><t>{text}</t></is></c>' for text in row) for row in rows)
    write_xlsx(idrid / "table.xlsx", "".join(f"<row>{row}</row>" for row in cells))
    for name in ("table.csv", "changes.csv"):
        _table(idrid, f"path,disc_x,disc_y\n{PHOTO.format(1)},9,9\n", name)
    out, report = idrid.parent / "fixed", _report(scan_of(idrid))
    repair(report, out)
    for name in ("table.csv", "changes.csv"):
        assert (out / name).read_bytes() == (idrid / name).read_bytes()
    assert (out / "table.xlsx.csv").read_text() == f"path,dr\n{PHOTO.format(1)},\n"
    assert "table.xlsx" in (out / changes_file(report)).read_text()


def test_rows_that_become_equal_by_a_repair_are_one_row(idrid: Path, scan_of: ScanOf) -> None:
    _edit(idrid / "folds.csv", lambda lines: [*lines, lines[1][:-1] + str(1 - int(lines[1][-1]) % 2)])
    merged, changes = _fixed(idrid, scan_of(idrid))
    assert len(_lines(merged / "folds.csv")) == len(set(_lines(merged / "folds.csv")))
    assert any("It equals row" in change["why"] for change in changes)
    assert _fixed_again(merged, scan_of) == []


def _fixed_again(data: Path, scan_of: ScanOf) -> list[Change]:
    return repair(_report(scan_of(data)), data.parent / "again")
