"""Folds and official splits with one fault each; the folds of the drawn set have none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from funduscope.data.sources import read_data
from funduscope.doctor import split_checks
from funduscope.doctor.finding import Finding
from funduscope.doctor.scan import Scan
from funduscope.doctor.split_checks import _chance
from funduscope.duplicates.pairs import DuplicatePair

ScanOf = Callable[[Path], Scan]
PHOTO = "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_{:03d}.jpg"
GRADES = "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"


@dataclass(frozen=True)
class Pair:
    """The used fields of a `DuplicatePair`."""

    first: str
    second: str
    kind: str = "same_eye"


def _pairs(*pairs: tuple[str, str]) -> list[DuplicatePair]:
    return [cast(DuplicatePair, Pair(one, two)) for one, two in pairs]


def _only(findings: list[Finding], kind: str) -> Finding:
    assert [one.kind for one in findings] == [kind], [(one.kind, one.says) for one in findings]
    return findings[0]


def _edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


@pytest.mark.parametrize("with_cases", [True, False])
def test_the_drawn_folds_have_no_finding(with_cases: bool, idrid: Path, scan_of: ScanOf) -> None:
    cases = read_data([idrid]) if with_cases else []
    assert [(one.kind, one.says) for one in split_checks.examine(scan_of(idrid), cases)] == []


def test_folds_beside_the_data_set_are_examined_too(idrid: Path, scan_of: ScanOf) -> None:
    (idrid / "folds.csv").rename(idrid.parent / "folds.csv")
    _edit(idrid.parent / "folds.csv", lambda lines: [*lines, "B,IDRiD_200,900,1"])
    assert _only(list(split_checks.examine(scan_of(idrid))), "folds_unknown_photo").files == ("../folds.csv",)


@pytest.mark.parametrize("readable", [("one", "two"), ("two",)])
def test_two_data_sets_with_the_same_names_have_each_its_own_folds(
    readable: tuple[str, ...], idrid: Path, scan_of: ScanOf
) -> None:
    """Names and subsets are the same in both; the folds of one do not apply to the other's photos, read or not."""
    for word in ("one", "two"):
        shutil.copytree(idrid, idrid.parent / "both" / word)
    both = idrid.parent / "both"
    cases = [case for word in readable for case in read_data([both / word])]
    pair = tuple(f"one/{PHOTO.format(number)}" for number in (1, 3))
    found = _only(
        list(split_checks.examine(scan_of(both), cases, _pairs((pair[0], pair[1])))), "duplicates_across_folds"
    )
    assert found.files == ("one/folds.csv", *pair)


def test_rows_twice_unknown_and_missing(idrid: Path, scan_of: ScanOf) -> None:
    def change(lines: list[str]) -> list[str]:
        return [*lines[:3], *lines[4:], lines[1], "B,IDRiD_200,900,1", "elsewhere,photo,901,2"]

    _edit(idrid / "folds.csv", change)
    by_kind = {one.kind: one for one in split_checks.examine(scan_of(idrid))}
    assert set(by_kind) == {"folds_row_twice", "folds_unknown_photo", "folds_missing_photo"}
    assert by_kind["folds_row_twice"].evidence["rows"] == [2, 13]
    assert (by_kind["folds_unknown_photo"].evidence["row"], by_kind["folds_unknown_photo"].evidence["value"]) == (
        14,
        "IDRiD_200",
    )
    assert by_kind["folds_missing_photo"].files == ("folds.csv", PHOTO.format(3))


def test_a_visit_in_two_folds(idrid: Path, scan_of: ScanOf) -> None:
    _edit(idrid / "folds.csv", lambda lines: [lines[0], "B,IDRiD_001,1,3", *lines[2:]])
    found = _only(list(split_checks.examine(scan_of(idrid))), "visit_across_folds")
    assert (found.evidence["rows"], found.evidence["value"]) == ([2, 3], [3, 0])
    assert found.files == ("folds.csv", PHOTO.format(1), PHOTO.format(2))


def test_folds_of_a_table_of_ones_own_are_examined_in_its_folder(tmp_path: Path, scan_of: ScanOf) -> None:
    """A visit in two folds, and a row of a photo that is gone; no reader takes the folder, so there are no cases."""
    names = [f"{side}/{number}.png" for side in ("left", "right") for number in range(2)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "photos.csv").write_text("\n".join(["path,dr", *(f"{name},0" for name in names)]))
    rows = [f"table,{name},visit{name[0] if name.endswith('0.png') else name},{at}" for at, name in enumerate(names)]
    rows[2] = rows[2].replace("visitr", "visitl")
    (tmp_path / "folds.csv").write_text("\n".join(["subset,image,visit,fold", *rows, "table,gone.png,x,0"]))
    kinds = {one.kind: one for one in split_checks.examine(scan_of(tmp_path))}
    assert kinds.keys() == {"visit_across_folds", "folds_unknown_photo"}
    assert kinds["visit_across_folds"].files[1:] == ("left/0.png", "right/0.png")
    assert kinds["folds_unknown_photo"].evidence["value"] == "gone.png"


def test_a_patient_of_the_labels_in_two_folds(idrid: Path, scan_of: ScanOf) -> None:
    rows = ["image,dr,patient", *(f"IDRiD_{k:03d},{(k - 1) % 5},{'p' if k in (1, 7) else k}" for k in range(1, 9))]
    _edit(idrid / GRADES, lambda _: rows)
    found = _only(list(split_checks.examine(scan_of(idrid))), "visit_across_folds")
    assert found.files[1:] == (PHOTO.format(1), PHOTO.format(7))


def test_duplicates_in_two_folds_and_in_two_splits(idrid: Path, scan_of: ScanOf) -> None:
    together, apart = (PHOTO.format(1), PHOTO.format(2)), (PHOTO.format(1), PHOTO.format(8))
    found = _only(list(split_checks.examine(scan_of(idrid), pairs=_pairs(together, apart))), "duplicates_across_folds")
    assert [one["photos"] for one in found.evidence["pairs"]] == [list(apart)]
    test = PHOTO.format(8).replace("a. Training", "b. Testing")
    (idrid / test).parent.mkdir()
    (idrid / PHOTO.format(8)).rename(idrid / test)
    findings = list(split_checks.examine(scan_of(idrid), pairs=_pairs((PHOTO.format(1), test))))
    official = [one for one in findings if one.kind == "duplicates_across_folds"]
    assert official[0].evidence["pairs"][0]["splits"] == ["train", "test"]


def test_a_patient_on_both_sides_of_a_split(idrid: Path, scan_of: ScanOf) -> None:
    for number, split in ((1, "train"), (2, "test"), (3, "train")):
        target = idrid / f"own/{split}/eye{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        (idrid / PHOTO.format(number)).rename(target)
    (idrid / "own/labels.csv").write_text("image,dr,patient\neye1,0,p1\neye2,1,p1\neye3,2,p2\n")
    found = _only(list(split_checks.examine(scan_of(idrid / "own"))), "visit_across_splits")
    assert found.files == ("test/eye2.jpg", "train/eye1.jpg")


def test_folds_of_unequal_size_and_of_other_grades(idrid: Path, scan_of: ScanOf, tmp_path: Path) -> None:
    rows, labels = ["subset,image,visit,fold"], ["image,dr"]
    folder = tmp_path / "own"
    folder.mkdir()
    for number in range(60):
        (folder / f"p{number}.jpg").write_bytes((idrid / PHOTO.format(1)).read_bytes())
        fold, grade = (0, number % 2) if number < 20 else (1, 2 if number < 50 else number % 2)
        rows.append(f"own,p{number},{number},{fold}")
        labels.append(f"p{number},{grade}")
    (folder / "folds.csv").write_text("\n".join(rows) + "\n")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    scan = _unseen(folder, tmp_path)
    by_kind = {one.kind: one for one in split_checks.examine(scan)}
    assert by_kind["fold_classes"].says == "Fold 0 of own has no photo of grade 2, of which there are 30."
    assert "fold_sizes" not in by_kind
    (folder / "folds.csv").write_text(
        "\n".join(row[:-1] + ("0" if int(row.split(",")[2]) > 9 else "1") for row in rows[1:]).join(
            ["subset,image,visit,fold\n", "\n"]
        )
    )
    assert {one.kind for one in split_checks.examine(_unseen(folder, tmp_path))} >= {"fold_sizes"}


def test_folds_in_a_column_of_a_table_are_examined_too(idrid: Path, tmp_path: Path) -> None:
    rows = ["path,dr,fold"]
    for number in range(60):
        (tmp_path / f"p{number}.jpg").write_bytes((idrid / PHOTO.format(1)).read_bytes())
        rows.append(f"p{number}.jpg,{4 * (number < 20)},{2 if number < 20 else 1 if number < 28 else 0}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    by_kind = {one.kind: one for one in split_checks.examine(_unseen(tmp_path / "table.csv", tmp_path))}
    assert by_kind["fold_classes"].says == "Fold 0 of table.csv has no photo of grade 4, of which there are 20."
    assert by_kind["fold_sizes"].says == "The folds of table.csv have 32, 8, 20 photos."


def _unseen(folder: Path, tmp_path: Path) -> Scan:
    """A scan without records: splits need none."""
    from funduscope.doctor.inventory import take_inventory

    return Scan(take_inventory(folder), tmp_path / "unseen")


def test_chance_is_by_visits() -> None:
    """Grades that follow visits are as uneven by chance; the same grades spread photo by photo are not."""
    visits = [str(k // 10) for k in range(100)]
    folds, grades = [k // 50 for k in range(100)], [int(k >= 50) for k in range(100)]
    assert _chance(visits, folds, grades) > 0.005
    assert _chance([str(k) for k in range(100)], folds, grades) < 0.001


def test_many_separated_visits_are_reported_once(idrid: Path, scan_of: ScanOf) -> None:
    """A split by photo separates nearly every patient: one finding, not hundreds."""
    rows = [f"C,{number:04d},v{number // 2},{number % 2}" for number in range(240)]
    _edit(idrid / "folds.csv", lambda lines: [*lines, *rows])
    found = _only(list(split_checks.examine(scan_of(idrid))), "visit_across_folds")
    assert (found.evidence["count"], found.files) == (120, ("folds.csv",))
