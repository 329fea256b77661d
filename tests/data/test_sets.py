"""What each of the smaller data sets knows, and what it leaves unknown."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from funduscope.data.case import ABSENT, LabelError
from funduscope.data.readers import diaretdb1, drimdb, eophtha, eyepacs, heimed, messidor2, odir, srahim
from funduscope.data.sources import READERS


def _photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20), (90, 40, 20)).save(path)


def _gray(path: Path, value: int, row: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plane = np.zeros((20, 30), np.uint8)
    plane[row, 5:10] = value
    Image.fromarray(plane).save(path)


def _srahim(root: Path) -> None:
    for name in ("Patient001_L", "Patient001_R", "Patient002_L"):
        _photo(root / f"images/{name}.jpg")
    (root / "labels.csv").write_text(
        "image,patient,eye,dr,maculopathy,note\r\nPatient001_L,Patient001,L,0,0,\r\n"
        "Patient001_R,Patient001,R,2,1,\r\nPatient002_L,Patient002,L,4,,advanced diabetic eye disease\r\n"
    )


def _eyepacs(root: Path) -> None:
    for name in ("10_left", "10_right"):
        _photo(root / f"images/{name}.jpg")
    (root / "labels.csv").write_text("image,patient,eye,dr,quality\n10_left,10,L,2,reject\n10_right,10,R,3,\n")


def _heimed(root: Path) -> None:
    for name in ("00000074", "45522_(2357).dcm", "00000003"):
        _photo(root / f"images/{name}.jpg")
    _gray(root / "masks/00000074_EX.png", 255)
    _gray(root / "masks/00000074_SE.png", 255, row=9)
    _gray(root / "masks/45522_(2357).dcm_other.png", 255)
    (root / "labels.csv").write_text(
        "image,od_x,od_y,EX_px_full,SE_px_full,other_px_full,EX_regions\n"
        "00000074,15.5,8,1,1,0,1\n45522_(2357).dcm,3,4,0,0,5,0\n00000003,,,0,0,0,0\n"
    )


def _diaretdb1(root: Path) -> None:
    _photo(root / "images/001.jpg")
    _gray(root / "votes/001_MA.png", 240)
    _gray(root / "votes/001_NV.png", 60)
    (root / "labels.csv").write_text("image,MA,HE,EX,SE,IRMA,NV,od_x,od_y\n001,4,0,0,0,0,1,9.5,8\n")


def _messidor2(root: Path) -> None:
    for name in ("20051020_43808_0100_PP", "IM004811", "IM004812"):
        _photo(root / f"images/{name}.jpg")
    (root / "labels.csv").write_text(
        "image,dr,dme,group\n20051020_43808_0100_PP,0,0,0\nIM004811,2,1,1\nIM004812,1,,1\n"
    )


def _eophtha(root: Path) -> None:
    for name in ("C0000886", "C0000887", "DS000DGS"):
        _photo(root / f"images/{name}.jpg")
    _gray(root / "masks/C0000886_MA.png", 255)
    _gray(root / "masks/C0000887_MA.png", 200)
    (root / "labels.csv").write_text(
        "image,patient,width_px_full,MA_count\nC0000886,E1,1440,1\nC0000887,E1,1440,1\nDS000DGS,E2,1440,0\n"
    )


def _odir(root: Path) -> None:
    for name in ("2680_left", "2680_right", "103_left"):
        _photo(root / f"images/{name}.jpg")
    (root / "labels.csv").write_text(
        "image,patient,eye,dr,finding\n2680_left,2680,L,0,normal\n2680_right,2680,R,0,glaucoma\n"
        "103_left,103,L,0,cataract\n"
    )


def _drimdb(root: Path) -> None:
    for name in ("bad_bad10", "good_good80", "outlier_outlier1"):
        _photo(root / f"images/{name}.jpg")
    (root / "labels.csv").write_text("image,quality\nbad_bad10,reject\ngood_good80,good\noutlier_outlier1,outlier\n")


SETS = {
    srahim: _srahim, eyepacs: _eyepacs, heimed: _heimed, diaretdb1: _diaretdb1, messidor2: _messidor2,
    eophtha: _eophtha, odir: _odir, drimdb: _drimdb,
}  # fmt: skip


@pytest.mark.parametrize("reader", SETS, ids=lambda reader: reader.__name__.rsplit(".", 1)[-1])
def test_each_set_is_recognized_by_its_own_reader_alone(reader: ModuleType, tmp_path: Path) -> None:
    SETS[reader](tmp_path)
    assert [other for other in READERS.values() if other.recognize(tmp_path)] == [reader]


def test_srahim_maculopathy_is_a_constraint(tmp_path: Path) -> None:
    _srahim(tmp_path)
    left, right, other = srahim.read(tmp_path)
    assert [case.labels.grade for case in (left, right, other)] == [0, 2, 4]
    assert [case.labels.classes.get("dme") for case in (left, right, other)] == [{0}, {1, 2}, None]
    assert all(case.labels.dme is None and not case.labels.masks for case in (left, right, other))
    assert (left.labels.laterality, right.labels.laterality) == ("left", "right")
    assert left.visit == right.visit != other.visit


def test_eyepacs_grade_of_a_rejected_photo_is_unknown(tmp_path: Path) -> None:
    _eyepacs(tmp_path)
    left, right = eyepacs.read(tmp_path)
    assert (left.labels.grade, left.labels.quality) == (None, "reject")
    assert (right.labels.grade, right.labels.quality) == (3, None)
    assert left.visit == right.visit
    assert (left.labels.laterality, right.labels.laterality) == ("left", "right")
    (tmp_path / "labels.csv").write_text("image,patient,eye,dr,quality\n10_left,10,L,7,reject\n")
    with pytest.raises(LabelError, match=r"labels\.csv, row 2, column dr: is '7'"):
        eyepacs.read(tmp_path)


@pytest.mark.parametrize(
    ("folder", "dataset"), [("eyepacs1024", "eyepacs1024"), ("EyePACS400", "eyepacs400"), ("photos", "eyepacs400")]
)
def test_eyepacs_copy_is_named_by_its_folder(folder: str, dataset: str, tmp_path: Path) -> None:
    root = tmp_path / folder
    _eyepacs(root)
    assert {case.dataset for case in eyepacs.read(root)} == {dataset}


def test_odir_copy_has_grade_and_other_finding(tmp_path: Path) -> None:
    _odir(tmp_path)
    cases = {case.name: case for case in odir.read(tmp_path)}
    assert [case.labels.grade for case in cases.values()] == [0, 0, 0]
    assert cases["2680_right"].labels.finding == "glaucoma"
    assert cases["2680_left"].visit == cases["2680_right"].visit != cases["103_left"].visit
    assert cases["2680_left"].labels.laterality == "left"


def test_drimdb_knows_quality_alone(tmp_path: Path) -> None:
    _drimdb(tmp_path)
    cases = drimdb.read(tmp_path)
    assert [case.labels.quality for case in cases] == ["reject", "good", "not_fundus"]
    assert all(case.labels.grade is None for case in cases)


def test_heimed_knows_every_bright_lesion_and_no_red_one(tmp_path: Path) -> None:
    _heimed(tmp_path)
    both, drusen, clear = heimed.read(tmp_path)
    assert both.labels.masks["EX|SE"].load(20, 30).sum() == 10
    assert (both.labels.disc_xy, both.labels.negatives) == ((15.5, 8.0), ABSENT)
    assert drusen.name == "45522_(2357).dcm"
    assert drusen.labels.masks == clear.labels.masks == {"EX|SE": ABSENT}
    assert drusen.labels.negatives is not None
    assert drusen.labels.negatives.load(20, 30).sum() == 5
    assert clear.labels.disc_xy is None


def test_diaretdb1_gives_votes_and_no_masks(tmp_path: Path) -> None:
    _diaretdb1(tmp_path)
    (case,) = diaretdb1.read(tmp_path)
    assert set(case.labels.votes) == {"MA", "NV"}
    assert case.labels.experts == {"MA": 4, "HE": 0, "EX": 0, "SE": 0, "IRMA": 0, "NV": 1}
    assert not case.labels.masks
    assert case.labels.disc_xy == (9.5, 8.0)
    (tmp_path / "votes/001_MA.png").unlink()
    with pytest.raises(LabelError, match=r"row 2, column MA: 4 experts saw it, but votes/001_MA\.png is not there"):
        diaretdb1.read(tmp_path)


def test_messidor2_edema_is_a_constraint_and_its_group_a_visit(tmp_path: Path) -> None:
    _messidor2(tmp_path)
    no, yes, unknown = messidor2.read(tmp_path)
    assert [case.labels.grade for case in (no, yes, unknown)] == [0, 2, 1]
    assert [case.labels.classes.get("dme") for case in (no, yes, unknown)] == [{0, 1}, {2}, None]
    assert all(case.labels.dme is None and not case.labels.masks for case in (no, yes, unknown))
    assert yes.visit == unknown.visit != no.visit


def test_eophtha_knows_microaneurysms_alone(tmp_path: Path) -> None:
    _eophtha(tmp_path)
    first, second, none = eophtha.read(tmp_path)
    assert all(set(case.labels.masks) == {"MA"} and case.labels.grade is None for case in (first, second, none))
    assert second.labels.masks["MA"].load(20, 30).sum() == 5
    assert none.labels.masks["MA"] == ABSENT
    assert first.visit == second.visit != none.visit
    (tmp_path / "masks/C0000886_MA.png").unlink()
    with pytest.raises(LabelError, match=r"row 2, column MA_count: 1 are counted, but masks/C0000886_MA\.png is not"):
        eophtha.read(tmp_path)


def test_rows_and_photos_must_meet_once(tmp_path: Path) -> None:
    _srahim(tmp_path)
    head = "image,patient,eye,dr,maculopathy\n"
    (tmp_path / "labels.csv").write_text(head + "Patient009_L,Patient009,L,0,0\n")
    with pytest.raises(LabelError, match="row 2, column image: no photo Patient009_L among the 3 there"):
        srahim.read(tmp_path)
    (tmp_path / "labels.csv").write_text(head + "Patient001_L,Patient001,L,0,0\n" * 2)
    with pytest.raises(LabelError, match="row 3, column image: Patient001_L is in two rows"):
        srahim.read(tmp_path)
    (tmp_path / "images/._Patient001_L.jpg").write_bytes(b"what macOS leaves behind")
    (tmp_path / "labels.csv").write_text(head + "Patient001_L,Patient001,L,0,0\n._Patient001_L,Patient001,L,0,0\n")
    with pytest.raises(LabelError, match=r"no photo \._Patient001_L among the 3 there"):
        srahim.read(tmp_path)
    (tmp_path / "labels.csv").write_text(head + "Patient001_L,Patient001,L,0,0\n")
    _photo(tmp_path / "images/Patient001_L.png")
    with pytest.raises(LabelError, match="have one name"):
        srahim.read(tmp_path)
