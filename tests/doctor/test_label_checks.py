"""Label files with one fault each: all are found, with row and column, and a clean set has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from funduscope.doctor import label_checks
from funduscope.doctor.anatomy_checks import AnatomyChecks
from funduscope.doctor.finding import Finding
from funduscope.doctor.label_rows import read_label_rows
from funduscope.doctor.labeled_photo import check_photos
from funduscope.doctor.mask_files import read_outlines
from funduscope.doctor.scan import Scan
from funduscope.doctor.wrong_eye import WrongEyeChecks
from funduscope.testing.drawn_eyes import draw_eye

ScanOf = Callable[[Path], Scan]
Kinds = Callable[..., list[str]]
GRADES = "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"
POINTS = "C. Localization/2. Groundtruths"
DISCS = f"{POINTS}/1. Optic Disc Center Location/a. IDRiD_OD_Center_Training Set_Markups.csv"
FOVEAS = f"{POINTS}/2. Fovea Center Location/IDRiD_Fovea_Center_Training Set_Markups.csv"
PHOTO = "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_{:03d}.jpg"
BOXES = "image,structure,x0,y0,x1,y1\n"


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8-sig").splitlines()


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _with_row(path: Path, row: int, text: str) -> None:
    """Replaces a row, counted as in a spreadsheet; one after the last is added."""
    lines = _lines(path)
    lines[row - 1 : row] = [text]
    _write(path, lines)


def _only(findings: list[Finding], kind: str) -> Finding:
    matching = [one for one in findings if one.kind == kind]
    assert len(matching) == 1, [(one.kind, one.says) for one in findings]
    return matching[0]


def _examine(scan: Scan) -> list[Finding]:
    """Findings about label files, and about anatomy."""
    label_rows = read_label_rows(scan.inventory)
    outlines = read_outlines(scan.inventory, label_rows)
    return [*label_checks.examine(scan, label_rows), *check_photos(scan, label_rows, outlines, [AnatomyChecks()])]


def test_a_clean_set_has_no_finding(idrid: Path, scan_of: ScanOf) -> None:
    assert [(one.kind, one.says) for one in _examine(scan_of(idrid))] == []


def test_every_impossible_value_is_reported_with_its_place(idrid: Path, scan_of: ScanOf) -> None:
    _with_row(idrid / GRADES, 2, "IDRiD_001,7,0")
    _with_row(idrid / GRADES, 4, "IDRiD_003,2,x")
    _with_row(idrid / FOVEAS, 3, "IDRiD_002,12;5,100")
    findings = [one for one in _examine(scan_of(idrid)) if one.kind == "impossible_value"]
    places = {(one.files[0], one.evidence["row"], one.evidence["column"], one.evidence["value"]) for one in findings}
    assert places == {
        (GRADES, 2, "Retinopathy grade", "7"),
        (GRADES, 4, "Risk of macular edema", "x"),
        (FOVEAS, 3, "X- Coordinate", "12;5"),
    }
    assert findings[0].files[1] == PHOTO.format(1)
    assert all(one.severity == "error" for one in findings)


def test_rows_twice_are_distinguished_by_what_they_say(idrid: Path, scan_of: ScanOf) -> None:
    lines = _lines(idrid / GRADES)
    first, second = lines[1].split(","), lines[2].split(",")
    other = [second[0], "4" if second[1] != "4" else "3", second[2]]
    _write(idrid / GRADES, [*lines, ",".join(first), ",".join(other)])
    findings = _examine(scan_of(idrid))
    assert _only(findings, "duplicated_row").evidence["rows"] == [2, 10]
    contradiction = _only(findings, "contradicting_rows")
    assert contradiction.evidence["rows"] == [3, 11]
    assert list(contradiction.evidence["differ"]) == ["Retinopathy grade"]


def test_rows_that_complete_each_other_are_not_called_equal(idrid: Path, scan_of: ScanOf) -> None:
    lines = _lines(idrid / GRADES)
    name, grade, risk = lines[1].split(",")[:3]
    _write(idrid / GRADES, [lines[0], f"{name},{grade},", *lines[2:], f"{name},,{risk}"])
    one = _only(_examine(scan_of(idrid)), "duplicated_row")
    assert "complete each other" in one.says


def test_files_that_contradict_each_other(idrid: Path, scan_of: ScanOf) -> None:
    second = idrid / "B. Disease Grading/2. Groundtruths/second reading Training.csv"
    _write(second, ["image,dr", "IDRiD_001,0", "IDRiD_002,4"])
    findings = _examine(scan_of(idrid))
    reported = _only(findings, "contradicting_rows").evidence["labels"]
    assert [one["value"] for one in reported] == ["1", "4"]
    assert _only(findings, "contradicting_rows").files[-1] == PHOTO.format(2)


def test_photos_without_rows_and_rows_without_photos(idrid: Path, scan_of: ScanOf) -> None:
    lines = _lines(idrid / GRADES)
    _write(idrid / GRADES, [*lines[:4], *lines[5:], "IDRiD_300,1,0", "IDRiD_0O5,1,0"])
    findings = _examine(scan_of(idrid))
    assert _only(findings, "missing_row").files == (GRADES, PHOTO.format(4))
    lost = [one.evidence for one in findings if one.kind == "row_without_photo"]
    assert [(one["row"], one["value"]) for one in lost] == [(9, "IDRiD_300"), (10, "IDRiD_0O5")]


def test_an_empty_grade_is_reported_where_others_have_one(idrid: Path, scan_of: ScanOf) -> None:
    _with_row(idrid / GRADES, 6, "IDRiD_005,,0")
    found = _only(_examine(scan_of(idrid)), "empty_label")
    assert (found.evidence["row"], found.severity) == (6, "info")


def test_many_empty_grades_are_one_finding(idrid: Path, scan_of: ScanOf) -> None:
    """A finding each for the first fifty would say that there are no others."""
    rows = [f"{PHOTO.format(k % 8 + 1)},{'' if k % 5 < 2 else 0}" for k in range(200)]
    _write(idrid / "table.csv", ["path,dr", *rows])
    found = _only(_examine(scan_of(idrid / "table.csv")), "empty_label")
    assert len(found.evidence["rows"]) == 80
    assert "80 rows have no dr, which 120 other rows have" in found.says


def test_rows_without_their_photo_do_not_count_as_labeled(idrid: Path, scan_of: ScanOf) -> None:
    rows = [f"{PHOTO.format(1)},2", f"{PHOTO.format(2)},3", f"{PHOTO.format(3)},", *(f"gone{k}.jpg," for k in range(9))]
    _write(idrid / "table.csv", ["path,dr", *rows])
    assert "has no dr, which 2 other rows have" in _only(_examine(scan_of(idrid / "table.csv")), "empty_label").says


def test_an_unknown_patient_is_no_name(idrid: Path, scan_of: ScanOf) -> None:
    _write(idrid / "table.csv", ["path,dr,patient", f"{PHOTO.format(1)},0,NA", f"{PHOTO.format(2)},0,P2"])
    found = _only(_examine(scan_of(idrid / "table.csv")), "impossible_value")
    assert (found.evidence["row"], found.evidence["value"]) == (2, "NA")


@pytest.mark.parametrize(
    ("content", "kind", "row"),
    [
        (b"image,dr\nIDRiD_001,0,2,0\n", "table_form", 2),
        (b"image,dr,dr\nIDRiD_001,0,\n", "table_form", 1),
        ("image,dr,note\nIDRiD_001,0,Müller\n".encode("cp1252"), "table_form", 2),
        ("image,dr\nIDRiD_001,0\n".encode("utf-16"), "table_form", None),
        (b"image,dr\n\0\0\0", "table_unreadable", None),
        (b"", "table_unreadable", None),
    ],
)
def test_a_table_that_is_broken_is_read_as_far_as_it_goes(
    content: bytes, kind: str, row: int | None, idrid: Path, scan_of: ScanOf
) -> None:
    (idrid / "B. Disease Grading/more Training.csv").write_bytes(content)
    found = _only(_examine(scan_of(idrid)), kind)
    assert found.files == ("B. Disease Grading/more Training.csv",)
    assert found.evidence.get("row") == row


def test_points_outside_the_photo_and_the_field(idrid: Path, scan_of: ScanOf) -> None:
    _with_row(idrid / DISCS, 2, "IDRiD_001,900,100")
    _with_row(idrid / FOVEAS, 3, "IDRiD_002,440,290")
    findings = _examine(scan_of(idrid))
    outside, beyond = _only(findings, "point_outside"), _only(findings, "point_outside_field")
    assert (outside.files, outside.evidence["row"]) == ((DISCS, PHOTO.format(1)), 2)
    assert (beyond.files, beyond.evidence["row"]) == ((FOVEAS, PHOTO.format(2)), 3)
    assert beyond.pictures[0].draw() is not None


def test_points_of_another_release_are_reported_once(idrid: Path, scan_of: ScanOf, kinds: Kinds) -> None:
    lines = _lines(idrid / DISCS)
    scaled = [
        f"{n},{float(x) * 9.6:.1f},{float(y) * 9.6:.1f}" for n, x, y, *_ in (line.split(",") for line in lines[1:])
    ]
    _write(idrid / DISCS, [lines[0], *scaled])
    assert kinds(_examine(scan_of(idrid))) == ["points_of_another_size"]


def test_points_of_another_size_are_counted_by_landmark(idrid: Path, scan_of: ScanOf) -> None:
    rows = [f"{PHOTO.format(number)},4000,3000,5000,3000" for number in range(1, 5)]
    rows += [f"{PHOTO.format(number)},,,," for number in range(5, 9)]
    _write(idrid / "table.csv", ["path,od_x,od_y,fovea_x,fovea_y", *rows])
    findings = [one for one in _examine(scan_of(idrid / "table.csv")) if one.kind == "points_of_another_size"]
    assert [one.says.split(" lie")[0] for one in findings] == ["4 of 4 disc points", "4 of 4 fovea points"]


def test_disc_and_fovea_too_near_or_above_each_other(idrid: Path, scan_of: ScanOf) -> None:
    fovea = [float(cell) for cell in _lines(idrid / FOVEAS)[1].split(",")[1:3]]
    _with_row(idrid / DISCS, 2, f"IDRiD_001,{fovea[0] + 12},{fovea[1]}")
    fovea = [float(cell) for cell in _lines(idrid / FOVEAS)[2].split(",")[1:3]]
    _with_row(idrid / DISCS, 3, f"IDRiD_002,{fovea[0] + 5},{fovea[1] - 110}")
    findings = [one for one in _examine(scan_of(idrid)) if one.kind == "landmarks_implausible"]
    assert [one.files[-1] for one in findings] == [PHOTO.format(1), PHOTO.format(2)]
    assert findings[1].evidence["angle_deg"] > 80


def test_boxes_against_labels(idrid: Path, scan_of: ScanOf) -> None:
    # Grades are drawn 0, 1, 2, 3, 4, 0, ...: IDRiD_001 is healthy, IDRiD_002 mild.
    rows = ["IDRiD_001,HE,150,100,190,130", "IDRiD_002,HE,150,100,190,130", "IDRiD_002,EX,150,100,190,130"]
    (idrid / "boxes.csv").write_text(BOXES + "\n".join(rows) + "\n")
    findings = _examine(scan_of(idrid))
    above = [(one.files[-1], one.evidence["lesions"]) for one in findings if one.kind == "lesions_above_grade"]
    assert above == [(PHOTO.format(1), {"HE": "boxed (1)"}), (PHOTO.format(2), {"EX": "boxed (1)"})]
    assert _only(findings, "dme_contradicts").files[-1] == PHOTO.format(2)


def test_boxes_that_cannot_be(idrid: Path, scan_of: ScanOf, kinds: Kinds) -> None:
    rows = ["IDRiD_003,HE,190,100,150,130", "IDRiD_003,HE,100,100,1500,130", "IDRiD_003,XX,10,10,20,20"]
    rows += ["IDRiD_003,OD,100,100,300,250", "IDRiD_003,HE,,100,150,130"]
    (idrid / "boxes.csv").write_text(BOXES + "\n".join(rows) + "\n")
    expected = ["box_implausible", "box_outside", "impossible_value", "impossible_value", "impossible_value"]
    assert kinds(_examine(scan_of(idrid))) == expected


def test_edema_and_maculopathy_against_the_grade(idrid: Path, scan_of: ScanOf) -> None:
    _with_row(idrid / GRADES, 2, "IDRiD_001,0,2")
    second = idrid / "B. Disease Grading/2. Groundtruths/maculopathy Training.csv"
    _write(second, ["image,maculopathy", "IDRiD_006,1", "IDRiD_002,1"])
    findings = _examine(scan_of(idrid))
    reported = [(one.files, one.evidence["column"]) for one in findings if one.kind == "dme_contradicts"]
    assert reported == [
        ((GRADES, PHOTO.format(1)), "Risk of macular edema"),
        (("B. Disease Grading/2. Groundtruths/maculopathy Training.csv", PHOTO.format(6)), "maculopathy"),
    ]


def test_macular_edema_of_messidor2_is_no_edema_risk(scan_of: ScanOf, tmp_path: Path) -> None:
    """Its `dme` is yes or no: 1 contradicts grade 1, which excludes exudates; and no row is another eye's for that."""
    (tmp_path / "images").mkdir()
    rows = ["image,dr,dme,group"]
    for seed in range(4):
        Image.fromarray(draw_eye(seed, width_px=448).pixels).save(tmp_path / f"images/IM{seed}.jpg")
        rows.append(f"IM{seed},1,1,{seed}")
    _write(tmp_path / "labels.csv", rows)
    scan = scan_of(tmp_path)
    reported = [one for one in _examine(scan) if one.kind == "dme_contradicts"]
    assert len(reported) == 4
    assert reported[0].says == "Macular edema means hard exudates near the fovea, which grade 1 excludes."
    label_rows = read_label_rows(scan.inventory)
    found = check_photos(scan, label_rows, [], [AnatomyChecks(), WrongEyeChecks(scan, label_rows, [])])
    assert {one.kind for one in found} == {"dme_contradicts"}


@pytest.mark.parametrize(("lowest", "warned"), [(1, True), (0, False), (2, False)])
def test_grades_from_1_on_may_be_of_another_scale(lowest: int, warned: bool, scan_of: ScanOf, tmp_path: Path) -> None:
    Image.fromarray(draw_eye(1, width_px=448).pixels).save(tmp_path / "eye.jpg")
    rows = [f"eye{number}.jpg,{lowest + number % 3}" for number in range(24)]
    _write(tmp_path / "labels.csv", ["image,dr", "eye.jpg,3", *rows])
    kinds = [one.kind for one in _examine(scan_of(tmp_path))]
    assert ("grade_0_missing" in kinds) == warned


def test_edema_risk_against_boxes_near_the_fovea(idrid: Path, scan_of: ScanOf) -> None:
    lines = _lines(idrid / GRADES)
    x, y = (float(cell) for cell in _lines(idrid / FOVEAS)[3].split(",")[1:3])
    _with_row(idrid / GRADES, 4, f"{lines[3].split(',')[0]},2,1")
    (idrid / "boxes.csv").write_text(f"{BOXES}IDRiD_003,EX,{x - 8},{y - 8},{x + 8},{y + 8}\n")
    found = _only(_examine(scan_of(idrid)), "dme_contradicts")
    assert found.evidence["nearest_dd"] < 0.5
    assert (found.evidence["row"], found.evidence["value"]) == (4, "1")


def test_a_table_of_ones_own(idrid: Path, scan_of: ScanOf) -> None:
    photo, masks = PHOTO, "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set"
    folder = "A. Segmentation/1. Original Images/a. Training Set"
    rows = [
        "path,dr,dme,quality,mask_MA,mask_HE,mask_EX,mask_SE",
        f"{photo.format(1)},4,0,reject,none,none,none,none",
        f"{folder}/IDRiD_01.jpg,0,0,good,,,{masks}/3. Hard exudates/IDRiD_01_EX.tif,",
        "nowhere.jpg,1,0,,,,,",
    ]
    _write(idrid / "table.csv", rows)
    findings = _examine(scan_of(idrid / "table.csv"))
    assert _only(findings, "grade_without_lesions").evidence["row"] == 2
    assert _only(findings, "lesions_above_grade").evidence["lesions"] == {"EX": "outlined"}
    assert _only(findings, "dme_contradicts").evidence["row"] == 3
    assert _only(findings, "row_without_photo").evidence["row"] == 4
    assert _only(findings, "graded_reject").evidence["rows"] == [2]
