"""IDRiD in its official layout, in its mirrors' layouts, and with the errors that people make with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.workbooks import write_xlsx

from funduscope.data.case import Case, LabelError
from funduscope.data.readers import idrid

TRAIN, TEST = "a. Training Set", "b. Testing Set"
A_PHOTOS, A_MASKS = "A. Segmentation/1. Original Images", "A. Segmentation/2. All Segmentation Groundtruths"
B_PHOTOS, B_LABELS = "B. Disease Grading/1. Original Images", "B. Disease Grading/2. Groundtruths"
C_LABELS = "C. Localization/2. Groundtruths"
DISC_FILE = f"{C_LABELS}/1. Optic Disc Center Location/a. IDRiD_OD_Center_Training Set_Markups.csv"
FOVEA_FILE = f"{C_LABELS}/2. Fovea Center Location/IDRiD_Fovea_Center_Training Set_Markups.csv"
GRADES_FILE = f"{B_LABELS}/a. IDRiD_Disease Grading_Training Labels.csv"
GRADES_HEAD = "Image name,Retinopathy grade,Risk of macular edema ,,,,,,,,,\r\n"
POINTS_HEAD = "Image No,X- Coordinate,Y - Coordinate,,,,,,,,\r\n"


def _photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), (90, 40, 20)).save(path)


def _mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((40, 60), np.uint8)
    values[10:14, 20:26] = 1
    image = Image.fromarray(values)
    image.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    image.save(path)


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def _official(root: Path) -> Path:
    for split in (TRAIN, TEST):
        _photo(root / A_PHOTOS / split / "IDRiD_01.jpg")
        _photo(root / B_PHOTOS / split / "IDRiD_001.jpg")
    _photo(root / A_PHOTOS / TRAIN / "IDRiD_02.jpg")
    _mask(root / A_MASKS / TRAIN / "1. Microaneurysms/IDRiD_01_MA.tif")
    _mask(root / A_MASKS / TRAIN / "3. Hard Exudates/IDRiD_01_EX.tif")
    _mask(root / A_MASKS / TRAIN / "3. Hard Exudates/IDRiD_02_EX.tif")
    _mask(root / A_MASKS / TRAIN / "5. Optic Disc/IDRiD_01_OD.tif")
    (root / A_MASKS / TRAIN / "4. Soft Exudates").mkdir()
    _mask(root / A_MASKS / TEST / "2. Haemorrhages/IDRiD_01_HE.tif")
    _text(root / GRADES_FILE, GRADES_HEAD + "IDRiD_001,3,2,,,,,,,,,\r\n,,,,,,,,,,,\r\n")
    _text(
        root / B_LABELS / "b. IDRiD_Disease Grading_Testing Labels.csv",
        "Image name,Retinopathy grade,Risk of macular edema \nIDRiD_001,0,0\n",
    )
    _text(root / DISC_FILE, POINTS_HEAD + "IDRiD_001,41.5,20.25,,,,,,,,\r\n")
    _text(root / FOVEA_FILE, POINTS_HEAD + "IDRiD_001,25,22,,,,,,,,\r\n")
    return root


def _by_key(cases: list[Case]) -> dict[str, Case]:
    return {case.key: case for case in cases}


def test_the_official_layout(tmp_path: Path) -> None:
    root = _official(tmp_path / "data")
    assert idrid.recognize(root)
    cases = _by_key(idrid.read(root))
    assert set(cases) == {
        "idrid-A/train/IDRiD_01",
        "idrid-A/train/IDRiD_02",
        "idrid-A/test/IDRiD_01",
        "idrid-B/train/IDRiD_001",
        "idrid-B/test/IDRiD_001",
    }
    labels = cases["idrid-B/train/IDRiD_001"].labels
    assert (labels.grade, labels.dme, labels.disc_xy, labels.fovea_xy) == (3, 2, (41.5, 20.25), (25.0, 22.0))
    assert not labels.masks  # in B and C lesions are unknown


def test_one_number_in_train_and_test_is_two_photos(tmp_path: Path) -> None:
    cases = _by_key(idrid.read(_official(tmp_path)))
    test = cases["idrid-B/test/IDRiD_001"]
    assert (test.labels.grade, test.labels.disc_xy) == (0, None)
    assert test.visit != cases["idrid-B/train/IDRiD_001"].visit


def test_a_number_of_a_is_not_that_of_b(tmp_path: Path) -> None:
    labels = _by_key(idrid.read(_official(tmp_path)))["idrid-A/train/IDRiD_01"].labels
    assert (labels.grade, labels.dme, labels.disc_xy, labels.boxes) == (None, None, None, {})


def test_a_missing_mask_is_absence_where_its_kind_was_outlined(tmp_path: Path) -> None:
    cases = _by_key(idrid.read(_official(tmp_path)))
    first, second, test = (
        cases[f"idrid-A/{name}"].labels.masks for name in ("train/IDRiD_01", "train/IDRiD_02", "test/IDRiD_01")
    )
    assert {code: mask.is_absent for code, mask in first.items()} == {"MA": False, "EX": False, "SE": True, "OD": False}
    # No HE folder in train: unknown, not absent. A missing disc is unknown: every photo has one.
    assert {code: mask.is_absent for code, mask in second.items()} == {"MA": True, "EX": False, "SE": True}
    assert {code: mask.is_absent for code, mask in test.items()} == {"HE": False}
    assert first["MA"].load(40, 60).sum() == 24


@pytest.mark.parametrize("subset", ["A. Segmentation", "B. Disease Grading"])
def test_a_subset_alone_is_enough(subset: str, tmp_path: Path) -> None:
    root = _official(tmp_path) / subset
    assert idrid.recognize(root)
    assert {case.dataset for case in idrid.read(root)} == {f"idrid-{subset[0]}"}


def test_a_mirror_with_other_names(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}/{name}" for name in ("A.%20Segmentation", "B. Disease Grading", "C. Localization"))
    _photo(a / "OriginalImages/TrainingSet/IDRiD_01.jpg")
    _mask(a / "AllSegmentationGroundtruths/TrainingSet/Haemorrhages/IDRiD_01_HE.tif")
    _mask(a / "AllSegmentationGroundtruths/TrainingSet/Optic_Disc/IDRiD_01_OD.tif")
    _photo(b / "OriginalImages/TrainingSet/IDRiD_001.jpg")
    _photo(b / "__MACOSX/TrainingSet/._IDRiD_001.jpg")
    _text(b / "Groundtruths/IDRiD_Disease Grading_Training Labels.csv", "\ufeff" + GRADES_HEAD + "IDRiD_001,4,1,,\r\n")
    _text(c / "Groundtruths/Optic_Disc/IDRiD_OD_Center_Training Set_Markups.csv", POINTS_HEAD + "IDRiD_001,9,8\n")
    _text(c / "Groundtruths/Fovea/IDRiD_Fovea_Center_Training Set_Markups.csv", POINTS_HEAD + "IDRiD_001,7,6\n")
    assert idrid.recognize(tmp_path)
    cases = _by_key(idrid.read(tmp_path))
    labels = cases["idrid-B/train/IDRiD_001"].labels
    assert (labels.grade, labels.dme, labels.disc_xy, labels.fovea_xy) == (4, 1, (9.0, 8.0), (7.0, 6.0))
    assert set(cases["idrid-A/train/IDRiD_01"].labels.masks) == {"HE", "OD"}


def test_sheets_that_are_no_labels_are_passed_over(tmp_path: Path) -> None:
    root = _official(tmp_path / "idrid")
    before = _by_key(idrid.read(root))
    _text(root / B_LABELS / "~$labels.xlsx", "Excel has the workbook open")
    _text(root / "notes.csv", "my notes\nthe camera was cleaned, and so was the lens\n")
    assert _by_key(idrid.read(root)) == before


def test_a_damaged_sheet_of_labels_is_an_error(tmp_path: Path) -> None:
    root = _official(tmp_path / "idrid")
    _text(root / B_LABELS / "labels.xlsx", "no workbook")
    with pytest.raises(LabelError, match=r"labels\.xlsx"):
        idrid.read(root)


def test_markups_in_a_workbook(tmp_path: Path) -> None:
    root = _official(tmp_path)
    (root / DISC_FILE).unlink()
    texts = "".join(
        f"<c t='inlineStr'><is><t>{t}</t></is></c>" for t in ("Image No", "X- Coordinate", "Y - Coordinate")
    )
    row = "<c t='inlineStr'><is><t>IDRiD_001</t></is></c><c><v>11</v></c><c><v>12</v></c>"
    write_xlsx(root / DISC_FILE.replace(".csv", ".xlsx"), f"<row>{texts}</row><row>{row}</row>")
    assert _by_key(idrid.read(root))["idrid-B/train/IDRiD_001"].labels.disc_xy == (11.0, 12.0)


def test_own_images_of_c_serve_where_b_has_none(tmp_path: Path) -> None:
    root = _official(tmp_path)
    for number in (1, 2):
        _photo(root / "C. Localization/1. Original Images" / TRAIN / f"IDRiD_{number:03d}.jpg")
    _text(root / DISC_FILE, POINTS_HEAD + "IDRiD_001,41.5,20.25\nIDRiD_002,5,6\n")
    cases = _by_key(idrid.read(root))
    assert "B. Disease Grading" in str(cases["idrid-B/train/IDRiD_001"].path)
    assert "C. Localization" in str(cases["idrid-B/train/IDRiD_002"].path)
    assert (cases["idrid-B/train/IDRiD_002"].labels.disc_xy, cases["idrid-B/train/IDRiD_002"].labels.grade) == (
        (5, 6),
        None,
    )


def test_boxes_belong_to_the_training_photos_of_b(tmp_path: Path) -> None:
    root = _official(tmp_path)
    head = "image,structure,x0,y0,x1,y1\n"
    _text(root / "boxes.csv", head + "IDRiD_001,OD,36,15,47,26\nIDRiD_001,HE,1,2,3,4\nIDRiD_001,HE,5,6,7,8.5\n")
    cases = _by_key(idrid.read(root))
    boxes = cases["idrid-B/train/IDRiD_001"].labels.boxes
    assert boxes == {"OD": ((36, 15, 47, 26),), "HE": ((1, 2, 3, 4), (5, 6, 7, 8.5))}
    assert all(not case.labels.boxes for key, case in cases.items() if key != "idrid-B/train/IDRiD_001")
    _text(root / "boxes.csv", head + "IDRiD_001,OD,1,1,9,9\n")
    with pytest.raises(LabelError, match=r"boxes\.csv does not fit the photos"):
        idrid.read(root)
    _text(root / "boxes.csv", head + "IDRiD_001,HE,5,2,3,4\n")
    with pytest.raises(LabelError, match=r"boxes\.csv, row 2, column x1: the box .* is empty"):
        idrid.read(root)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("IDRiD_001,7,2", r"Training Labels\.csv, row 2, column Retinopathy grade: is '7'; expected .* 0 to 4"),
        ("IDRiD_001,3,5", "row 2, column Risk of macular edema: is '5'"),
        (
            "IDRiD_001,3,2\nIDRiD_001,2,2",
            "row 3, column Image name: IDRiD_001 is in two rows with different labels",
        ),
        ("photo1,3,2", "row 2, column Image name: is 'photo1'; expected a name like IDRiD_001"),
    ],
)
def test_wrong_grades_name_row_and_column(rows: str, says: str, tmp_path: Path) -> None:
    root = _official(tmp_path)
    _text(root / GRADES_FILE, GRADES_HEAD + rows)
    with pytest.raises(LabelError, match=says):
        idrid.read(root)


def test_missing_rows_and_photos_are_simply_unknown(tmp_path: Path) -> None:
    root = _official(tmp_path)
    _photo(root / B_PHOTOS / TRAIN / "IDRiD_009.jpg")
    _text(root / GRADES_FILE, GRADES_HEAD + "IDRiD_001,3,\nIDRiD_001,3,\nIDRiD_400,1,1\n")
    cases = _by_key(idrid.read(root))
    assert cases["idrid-B/train/IDRiD_009"].labels.grade is None
    assert (cases["idrid-B/train/IDRiD_001"].labels.grade, cases["idrid-B/train/IDRiD_001"].labels.dme) == (3, None)
    assert "idrid-B/train/IDRiD_400" not in cases


def test_points_of_another_release_are_refused(tmp_path: Path) -> None:
    root = _official(tmp_path)
    _text(root / FOVEA_FILE, POINTS_HEAD + "IDRiD_001,1500,20\n")
    with pytest.raises(LabelError, match=r"train/IDRiD_001: a point at \(1500, 20\) lies outside its photo of 60x40"):
        idrid.read(root)


def test_a_mask_in_the_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    root = _official(tmp_path)
    _mask(root / A_MASKS / TRAIN / "2. Haemorrhages/IDRiD_02_EX.tif")
    with pytest.raises(LabelError, match=r"IDRiD_02_EX\.tif lies in the folder 2\. Haemorrhages: EX or HE"):
        idrid.read(root)


def test_two_copies_and_no_split_are_refused(tmp_path: Path) -> None:
    root = _official(tmp_path / "one")
    _photo(root / "B. Disease Grading/copy" / TRAIN / "IDRiD_001.jpg")
    with pytest.raises(LabelError, match=r"IDRiD_001\.jpg is there twice"):
        idrid.read(root)
    _photo(tmp_path / "two/B. Disease Grading/IDRiD_001.jpg")
    with pytest.raises(LabelError, match="train or test"):
        idrid.read(tmp_path / "two")


def test_labels_without_photos_are_an_error(tmp_path: Path) -> None:
    _text(tmp_path / DISC_FILE, POINTS_HEAD + "IDRiD_001,1,2\n")
    with pytest.raises(LabelError, match="none of its photos"):
        idrid.read(tmp_path)


def test_what_nobody_looked_at_is_unknown(tmp_path: Path) -> None:
    """Somebody corrected the microaneurysms of one photo: that says nothing of its other lesions."""
    root = _official(tmp_path)
    _text(
        root / A_MASKS / TRAIN / "known.csv",
        "image,MA,HE,EX,SE,OD\nIDRiD_001,yes,no,no,,yes\nIDRiD_02,yes,yes,no,no,yes\n",
    )
    cases = _by_key(idrid.read(root))
    first, second = (cases[f"idrid-A/train/IDRiD_{number:02d}"].labels.masks for number in (1, 2))
    assert {code: mask.is_absent for code, mask in first.items()} == {"MA": False, "OD": False}
    # Looked for and not outlined: absent, even where the whole split has no such folder. A disc is never absent.
    assert {code: mask.is_absent for code, mask in second.items()} == {"MA": True, "HE": True}
    # Photos that the file does not list keep the layout's own meaning.
    assert set(cases["idrid-A/test/IDRiD_01"].labels.masks) == {"HE"}


@pytest.mark.parametrize(
    ("rows", "says"), [("IDRiD_01,perhaps\n", "yes"), ("IDRiD_01,yes\nIDRiD_01,no\n", "one a photo")]
)
def test_a_known_file_that_contradicts_itself(rows: str, says: str, tmp_path: Path) -> None:
    root = _official(tmp_path)
    _text(root / A_MASKS / TRAIN / "known.csv", f"image,MA\n{rows}")
    with pytest.raises(LabelError, match=says):
        idrid.read(root)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    """As shared stores have them: a kind whose masks were not seen would count as absent."""
    root = _official(tmp_path / "set")
    folder = root / A_MASKS / TRAIN / "3. Hard Exudates"
    folder.rename(tmp_path / "store")
    folder.symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "store/loop").symlink_to(root, target_is_directory=True)
    assert _by_key(idrid.read(root))["idrid-A/train/IDRiD_01"].labels.masks["EX"].paths


def test_a_linked_subset_is_read_by_its_own_name(tmp_path: Path) -> None:
    root = _official(tmp_path / "set")
    (root / "A. Segmentation").rename(tmp_path / "x")
    (root / "A. Segmentation").symlink_to(tmp_path / "x", target_is_directory=True)
    for folder in (root, root / "A. Segmentation"):
        assert idrid.recognize(folder)
        assert "idrid-A/train/IDRiD_01" in _by_key(idrid.read(folder))


@pytest.mark.parametrize("name", ["IDRiD_02_EX.bmp", "IDRiD_02_EX_mask.png", "IDRiD_02_Hard Exudates.tif"])
def test_a_picture_among_masks_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    """Its photo would count as known to have none of that lesion."""
    root = _official(tmp_path)
    folder = root / A_MASKS / TRAIN / "3. Hard Exudates"
    (folder / "IDRiD_02_EX.tif").rename(folder / name)
    (folder / "Thumbs.db").write_bytes(b"x")
    with pytest.raises(LabelError, match=r"expected names such as IDRiD_01_EX\.tif"):
        idrid.read(root)


def test_the_name_of_a_sheet_says_which_point_it_has(tmp_path: Path) -> None:
    root = _official(tmp_path)
    disc = root / DISC_FILE
    both = disc.parent.with_name("1. OD and Fovea")
    disc.parent.rename(both)
    labels = _by_key(idrid.read(root))["idrid-B/train/IDRiD_001"].labels
    assert (labels.disc_xy, labels.fovea_xy) == ((41.5, 20.25), (25, 22))


def test_grades_of_b_are_not_those_of_the_test_photos_of_a(tmp_path: Path) -> None:
    cases = _by_key(idrid.read(_official(tmp_path)))
    assert {key for key, case in cases.items() if case.same_photo} <= {f"idrid-A/train/IDRiD_{n:02d}" for n in (1, 2)}
    assert cases["idrid-A/test/IDRiD_01"].same_photo is None


def test_a_point_below_its_photo_is_refused(tmp_path: Path) -> None:
    root = _official(tmp_path)
    _text(root / DISC_FILE, POINTS_HEAD + "IDRiD_001,41.5,40.5,,,,,,,,\r\n")
    with pytest.raises(LabelError, match="outside"):
        idrid.read(root)
