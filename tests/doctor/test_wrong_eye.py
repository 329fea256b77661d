"""Labels of other eyes on drawn eyes: discs in two places, exchanged points, sides, numbers of A taken for B's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from funduscope.data.rows import split_side
from funduscope.doctor.anatomy_checks import AnatomyChecks
from funduscope.doctor.finding import Finding
from funduscope.doctor.kinds import KINDS
from funduscope.doctor.label_rows import read_label_rows
from funduscope.doctor.labeled_photo import check_photos
from funduscope.doctor.mask_files import read_outlines
from funduscope.doctor.scan import Scan
from funduscope.doctor.wrong_eye import WrongEyeChecks
from funduscope.testing.drawn_eyes import draw_eye

ScanOf = Callable[[Path], Scan]
PHOTO = "B. Disease Grading/1. Original Images/a. Training Set/IDRiD_{:03d}.jpg"
OF_A = "A. Segmentation/1. Original Images/a. Training Set/IDRiD_{:02d}.jpg"
DISC_OF_A = "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/5. Optic disc/IDRiD_{:02d}_OD.tif"
GRADES = "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"
POINTS = "C. Localization/2. Groundtruths"
DISCS = f"{POINTS}/1. Optic Disc Center Location/a. IDRiD_OD_Center_Training Set_Markups.csv"
FOVEAS = f"{POINTS}/2. Fovea Center Location/IDRiD_Fovea_Center_Training Set_Markups.csv"


def _cells(path: Path, row: int) -> list[str]:
    return path.read_text().splitlines()[row - 1].split(",")[:3]


def _with_row(path: Path, row: int, cells: list[str]) -> None:
    lines = path.read_text().splitlines()
    lines[row - 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def _examine(scan: Scan) -> list[Finding]:
    """Findings about labels of other eyes, which build on those about anatomy."""
    label_rows = read_label_rows(scan.inventory)
    outlines = read_outlines(scan.inventory, label_rows)
    checks = [AnatomyChecks(), WrongEyeChecks(scan, label_rows, outlines)]
    found = check_photos(scan, label_rows, outlines, checks)
    return [one for one in found if KINDS[one.kind].group == "Joins"]


def _found(scan_of: ScanOf, data: Path, kind: str) -> list[Finding]:
    findings = _examine(scan_of(data))
    assert {one.kind for one in findings} == {kind}, [(one.kind, one.says) for one in findings]
    return findings


def test_a_clean_set_has_no_finding(idrid: Path, scan_of: ScanOf) -> None:
    assert [(one.kind, one.says) for one in _examine(scan_of(idrid))] == []


def test_a_disc_that_the_picture_shows_elsewhere(idrid: Path, scan_of: ScanOf) -> None:
    # The eyes are right and left in turn, so that a neighbor's disc is on the other side.
    _with_row(idrid / DISCS, 2, ["IDRiD_001", *_cells(idrid / DISCS, 3)[1:]])
    (found,) = _found(scan_of, idrid, "disc_elsewhere")
    assert found.files == (DISCS, FOVEAS, PHOTO.format(1))
    assert (found.evidence["row"], found.severity) == (2, "error")
    assert found.evidence["apart_dd"] > 1.2
    assert found.pictures[0].draw() is not None


def test_disc_and_fovea_exchanged(idrid: Path, scan_of: ScanOf) -> None:
    disc, fovea = _cells(idrid / DISCS, 4), _cells(idrid / FOVEAS, 4)
    _with_row(idrid / DISCS, 4, fovea)
    _with_row(idrid / FOVEAS, 4, disc)
    (found,) = _found(scan_of, idrid, "landmarks_swapped")
    assert found.files[-1] == PHOTO.format(3)


def test_a_box_and_a_point_of_two_discs(idrid: Path, scan_of: ScanOf) -> None:
    x, y = (float(cell) for cell in _cells(idrid / DISCS, 5)[1:])
    box = [x + 40, y - 25, x + 90, y + 25]
    (idrid / "boxes.csv").write_text(f"image,structure,x0,y0,x1,y1\nIDRiD_004,OD,{','.join(map(str, box))}\n")
    (found,) = _found(scan_of, idrid, "disc_elsewhere")
    assert set(found.evidence["places_px"]) == {"point", "box"}


def test_photos_of_a_with_the_points_of_b_of_their_numbers(idrid: Path, scan_of: ScanOf) -> None:
    """The disc's mask is this eye's, the point is the one that C has for B's photo of the same number."""
    rows = ["path,mask_OD,od_x,od_y,dr"]
    for number in range(1, 5):
        point = _cells(idrid / DISCS, number + 1)[1:]
        grade = _cells(idrid / GRADES, number + 1)[1]
        rows.append(",".join([OF_A.format(number), DISC_OF_A.format(number), *point, grade]))
    (idrid / "joined.csv").write_text("\n".join(rows) + "\n")
    by_number = [one for one in _examine(scan_of(idrid)) if one.kind == "joined_by_number"]
    assert [one.files for one in by_number] == [("joined.csv", *(OF_A.format(number) for number in range(1, 5)))]
    assert by_number[0].severity == "error"


def test_numbers_of_a_are_suspected_without_b_too(idrid: Path, scan_of: ScanOf, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (idrid / "A. Segmentation/1. Original Images/a. Training Set").rename(idrid / "images")
    (idrid / "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set").rename(idrid / "masks")
    own.mkdir()
    for name in ("images", "masks"):
        (idrid / name).rename(own / name)
    (own / "labels.csv").write_text("image,dr,dme\n" + "".join(f"IDRiD_{k:02d},0,0\n" for k in range(1, 5)))
    by_kind = {one.kind: one for one in _examine(scan_of(own))}
    assert by_kind["joined_by_number"].severity == "warning"
    # Every one of these eyes has lesions and exudates outlined, and the file says that there are none.
    assert by_kind["labels_of_other_eyes"].evidence["photos"] == 4


def test_too_many_contradictions_are_a_wrong_join(scan_of: ScanOf, tmp_path: Path) -> None:
    rows = ["path,od_x,od_y,fovea_x,fovea_y"]
    eyes = [draw_eye(seed, width_px=448, laterality="left" if seed % 2 else "right") for seed in range(4)]
    for seed, eye in enumerate(eyes):
        Image.fromarray(eye.pixels).save(tmp_path / f"eye{seed}.png")
        other = eyes[(seed + 1) % 4]
        rows.append(f"eye{seed}.png,{other.disc_xy[0]},{other.disc_xy[1]},{other.fovea_xy[0]},{other.fovea_xy[1]}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    findings = _examine(scan_of(tmp_path / "table.csv"))
    (found,) = [one for one in findings if one.kind == "labels_of_other_eyes"]
    assert found.files[0] == "table.csv"
    assert found.evidence["photos"] >= 3


@pytest.mark.parametrize(
    ("name", "side"),
    [("Patient001_L", "left"), ("10003_right", "right"), ("a OS", "left"), ("IDRiD_01", None), ("cellar", None)],
)
def test_sides_in_names(name: str, side: str | None) -> None:
    assert split_side(name)[1] == side


def _pairs(folder: Path, mirrored: int, count: int = 4) -> Path:
    """Drawn eyes with their sides; the first `mirrored` photos are mirrored."""
    rows = ["path,eye"]
    for seed in range(count):
        side = "left" if seed % 2 else "right"
        pixels = draw_eye(seed, width_px=448, laterality=side).pixels
        Image.fromarray(np.ascontiguousarray(pixels[:, ::-1]) if seed < mirrored else pixels).save(
            folder / f"p{seed}.png"
        )
        rows.append(f"p{seed}.png,{side}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


def test_a_mirrored_photo_is_the_other_side(scan_of: ScanOf, tmp_path: Path) -> None:
    table = _pairs(tmp_path, mirrored=2)
    findings = _found(scan_of, table, "side_conflict")
    assert [one.files for one in findings] == [("table.csv", "p0.png"), ("table.csv", "p1.png")]
    assert [one.evidence["row"] for one in findings] == [2, 3]


def test_sides_exchanged_in_a_whole_table_are_reported_once(scan_of: ScanOf, tmp_path: Path) -> None:
    (found,) = _found(scan_of, _pairs(tmp_path, mirrored=4), "side_conflict")
    assert found.severity == "error"
    assert found.evidence == {"photos": 4, "of": 4}


def test_a_side_that_the_photos_name_denies(scan_of: ScanOf, tmp_path: Path) -> None:
    Image.fromarray(draw_eye(3, width_px=448, laterality="left").pixels).save(tmp_path / "17_left.png")
    (tmp_path / "table.csv").write_text("path,eye\n17_left.png,R\n")
    (found,) = _found(scan_of, tmp_path / "table.csv", "side_conflict")
    assert found.evidence["by"] == "name"
