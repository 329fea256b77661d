"""From paths to cases: one set, several, a table; and what is said where a path is none of these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from funduscope.data.case import Case, LabelError, Labels
from funduscope.data.sources import READERS, cases_of, read_data


def _photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20), (90, 40, 20)).save(path)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """EyePACS and IDRiD's B next to a folder that is no data set, and folds for two of the three photos."""
    root = tmp_path / "data"
    _photo(root / "eyes/images/10_left.jpg")
    (root / "eyes/labels.csv").write_text("image,patient,eye,dr,quality\n10_left,10,L,2,good\n")
    for split in ("a. Training Set", "b. Testing Set"):
        _photo(root / f"idrid/B. Disease Grading/1. Original Images/{split}/IDRiD_001.jpg")
    _photo(root / "demo/photo.jpg")
    (root / "folds.csv").write_text("subset,image,visit,fold\nB,IDRiD_001,51,2\neyepacs400,10_left,52,0\n")
    return root


def test_a_folder_of_several_with_folds(several: Path) -> None:
    cases = read_data([several])
    assert [(case.key, case.fold, case.visit) for case in cases] == [
        ("eyepacs400/10_left", 0, "52"),
        ("idrid-B/test/IDRiD_001", None, "idrid-B/test/IDRiD_001"),
        ("idrid-B/train/IDRiD_001", 2, "51"),
    ]


@pytest.mark.parametrize("deeper", ["idrid", "idrid/B. Disease Grading"])
def test_one_set_finds_the_folds_above_it(deeper: str, several: Path) -> None:
    assert [case.fold for case in read_data([several / deeper])] == [None, 2]


def test_several_paths_are_one_sorted_list(several: Path, tmp_path: Path) -> None:
    _photo(tmp_path / "own/a.jpg")
    (tmp_path / "own/mine.csv").write_text("path,dr,fold\na.jpg,1,3\n")
    one = read_data([tmp_path / "own/mine.csv", several / "idrid", several / "eyes"])
    assert one == read_data([several, tmp_path / "own/mine.csv"])
    assert [case.fold for case in one] == [0, None, 2, 3]


def test_the_same_data_twice_is_refused(several: Path) -> None:
    with pytest.raises(LabelError, match=r"eyepacs400/10_left is there twice: .* Give each data set once"):
        read_data([several, several / "eyes"])


def test_given_cases_are_told_apart_by_their_keys_and_keep_a_visit_in_one_fold(tmp_path: Path) -> None:
    left, right = (tmp_path / side / "0001.jpg" for side in ("left", "right"))
    cases = [Case.of("clinic", left, Labels(grade=0)), Case.of("clinic", right, Labels(grade=4))]
    with pytest.raises(LabelError, match=r"clinic/0001 is there twice: .*left.*right.* each Case a key of its own"):
        cases_of(cases)
    one, other = (replace(case, key=f"clinic/{n}", visit="7").in_fold(n) for n, case in enumerate(cases))
    with pytest.raises(LabelError, match=r"7 is in fold 0 with .* and in fold 1"):
        cases_of([one, other])
    assert cases_of([one, other.in_fold(0)]) == [one, other.in_fold(0)]


def test_two_tables_that_name_different_photos_alike_are_told_how_to_be_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _photo(tmp_path / name / "p/1.jpg")
        (tmp_path / name / "t.csv").write_text("path,dr\np/1.jpg,1\n")
    with pytest.raises(LabelError, match=r"table/p/1\.jpg is there twice: .* write one table, in a folder above both"):
        read_data([tmp_path / "a/t.csv", tmp_path / "b/t.csv"])
    with pytest.raises(LabelError, match="Give each data set once"):
        read_data([tmp_path / "a/t.csv", tmp_path / "a/t.csv"])


def test_a_patient_in_two_tables_stays_in_one_fold(tmp_path: Path) -> None:
    """By the tables' own column, and by a folds.csv that is older than what the table says of patients."""
    for name, fold in (("a", 0), ("b", 1)):
        _photo(tmp_path / name / f"p/{name}.jpg")
        (tmp_path / name / "t.csv").write_text(f"path,patient,fold\np/{name}.jpg,7,{fold}\n")
    with pytest.raises(LabelError, match=r"patient 7 is in fold 0 with .*a\.jpg and in fold 1 with .*b\.jpg"):
        read_data([tmp_path / "a/t.csv", tmp_path / "b/t.csv"])
    _photo(tmp_path / "a/p/c.jpg")
    (tmp_path / "a/t.csv").write_text("path,patient\np/a.jpg,7\np/c.jpg,7\n")
    (tmp_path / "a/folds.csv").write_text("subset,image,visit,fold\ntable,p/a.jpg,1,0\ntable,p/c.jpg,2,3\n")
    with pytest.raises(LabelError, match=r"patient 7 is in fold 0 .* and in fold 3"):
        read_data(tmp_path / "a/t.csv")
    (tmp_path / "a/folds.csv").write_text("subset,image,visit,fold\ntable,p/a.jpg,1,3\ntable,p/c.jpg,1,3\n")
    assert [case.fold for case in read_data(tmp_path / "a/t.csv")] == [3, 3]


def test_what_is_no_data_says_what_was_found_and_what_to_do(several: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"Found: photo\.jpg\. Expected .*IDRiD, .* write a table with a column path"):
        read_data([several / "demo"])
    with pytest.raises(LabelError, match="is not there; expected a data set's folder"):
        read_data([tmp_path / "nowhere"])
    with pytest.raises(LabelError, match=r"photo\.jpg is a file; expected"):
        read_data([several / "demo/photo.jpg"])
    with pytest.raises(LabelError, match="No data was given"):
        read_data([])


def test_a_folder_that_may_not_be_read_is_no_data_set(several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as lost+found, next to the data sets on a disk of their own."""
    before = [case.key for case in read_data(several)]
    (several / "lost+found").mkdir()
    iterdir, is_dir = Path.iterdir, Path.is_dir

    def refused(path: Path) -> None:
        if path.name == "lost+found" or path.parent.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", lambda path: refused(path) or iterdir(path))
    monkeypatch.setattr(Path, "is_dir", lambda path: path.name == "lost+found" or (refused(path) or is_dir(path)))
    assert [case.key for case in read_data(several)] == before
    with pytest.raises(LabelError, match=r"lost\+found cannot be read \(Permission denied\)"):
        read_data(several / "lost+found")


def test_a_broken_labels_file_is_not_mistaken_for_no_data(several: Path) -> None:
    (several / "eyes/labels.csv").write_text("image,patient,eye,dr,quality\n10_left,10,L,9,good\n")
    with pytest.raises(LabelError, match=r"eyes/labels\.csv, row 2, column dr: is '9'"):
        read_data([several])


def test_a_new_data_set_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/new.txt").write_text("hers")
    reader = ModuleType("new")
    monkeypatch.setattr(reader, "recognize", lambda folder: (folder / "new.txt").is_file(), raising=False)
    case = Case("new/one", "new", "one", tmp_path / "new/one.jpg", "new/one", Labels(grade=1))
    monkeypatch.setattr(reader, "read", lambda folder: [case], raising=False)
    monkeypatch.setitem(READERS, "new", reader)
    assert read_data([tmp_path]) == [case]
