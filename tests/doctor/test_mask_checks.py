"""Masks with one fault each, on drawn eyes; the clean set has none."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from funduscope.data.masks import read_mask
from funduscope.data.sources import read_data
from funduscope.doctor.finding import Finding
from funduscope.doctor.label_rows import read_label_rows
from funduscope.doctor.labeled_photo import check_photos
from funduscope.doctor.mask_checks import MaskChecks
from funduscope.doctor.mask_files import read_outlines, read_stored
from funduscope.doctor.scan import Scan

ScanOf = Callable[[Path], Scan]
TRUTH = "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set"
PHOTOS = "A. Segmentation/1. Original Images/a. Training Set"
FOLDERS = {
    "MA": "1. Microaneurysms", "HE": "2. Haemorrhages", "EX": "3. Hard exudates", "SE": "4. Soft exudates",
    "OD": "5. Optic disc",
}  # fmt: skip


def _mask(code: str, number: int = 1) -> str:
    return f"{TRUTH}/{FOLDERS[code]}/IDRiD_{number:02d}_{code}.tif"


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def _store(values: np.ndarray, path: Path) -> None:
    Image.fromarray(values).save(path)


def _examined(scan_of: ScanOf, data: Path) -> list[Finding]:
    scan = scan_of(data)
    label_rows = read_label_rows(scan.inventory)
    outlines = read_outlines(scan.inventory, label_rows)
    return list(check_photos(scan, label_rows, outlines, [MaskChecks(scan, label_rows, outlines)]))


def _only(findings: list[Finding], kind: str) -> Finding:
    assert [one.kind for one in findings] == [kind], [(one.kind, one.says) for one in findings]
    return findings[0]


def test_a_clean_set_has_no_finding(idrid: Path, scan_of: ScanOf) -> None:
    assert [(one.kind, one.says) for one in _examined(scan_of, idrid)] == []


@pytest.mark.parametrize("inside", [255, 76, 1])
def test_a_mask_stored_otherwise_than_the_rest(inside: int, idrid: Path, scan_of: ScanOf) -> None:
    path = idrid / _mask("EX", 2)
    _store((_read(path) > 0).astype(np.uint8) * inside, path)
    found = _only(_examined(scan_of, idrid), "mask_conventions")
    assert found.files == (_mask("EX", 2),)
    assert "palette" in found.evidence["usual"]


@pytest.mark.parametrize("kind", ["on white", "cup and disc on white", "class numbers", "component numbers"])
def test_what_is_inside_is_what_training_reads(kind: str, tmp_path: Path) -> None:
    """But for a soft border, half of which is outside."""
    away = np.hypot(*(np.mgrid[:200, :200] - 100.0))
    soft = cv2.GaussianBlur((away < 40).astype(np.float32), (0, 0), 2)
    values = {
        "on white": np.rint(255 - 255 * soft).astype(np.uint8),
        "cup and disc on white": np.where(away < 20, 0, np.where(away < 40, 128, 255)).astype(np.uint8),
        "class numbers": ((away < 40) + (away < 20) + (away < 10) * 1).astype(np.uint8),
        "component numbers": ((away < 40) * np.arange(1, 201)).astype(np.uint16),
    }[kind]
    Image.fromarray(values).save(tmp_path / "mask.png")
    stored = read_stored(tmp_path / "mask.png")
    assert not isinstance(stored, str)
    assert np.array_equal(stored.inside, away < 40) or (stored.inside ^ (away < 40)).sum() < 20
    assert not (stored.inside & ~read_mask(tmp_path / "mask.png")).any()


def test_an_opaque_alpha_plane(idrid: Path, scan_of: ScanOf) -> None:
    path = idrid / _mask("EX")
    inside = _read(path) > 0
    _store(np.dstack([inside * 255, inside * 0, inside * 0, np.full(inside.shape, 255)]).astype(np.uint8), path)
    findings = _examined(scan_of, idrid)
    assert sorted(one.kind for one in findings) == ["mask_alpha", "mask_conventions"]
    assert "marks 100.0% of the photo" in next(one.says for one in findings if one.kind == "mask_alpha")


def test_a_smoothed_mask(idrid: Path, scan_of: ScanOf) -> None:
    path = idrid / _mask("OD", 3)
    disc = Image.fromarray((_read(path) > 0).astype(np.uint8) * 255)
    disc.resize((100, 67)).resize(disc.size, Image.Resampling.BILINEAR).save(path)
    assert _only(_examined(scan_of, idrid), "mask_soft").files == (_mask("OD", 3),)


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda inside: inside & False, "mask_empty"),
        (lambda inside: inside | True, "mask_whole"),
        (lambda inside: ~inside, "mask_whole"),
        (lambda inside: inside[:, :-20], "mask_size"),
        (lambda inside: np.roll(inside, -140, axis=1), "mask_outside_field"),
    ],
)
def test_what_a_mask_marks(spoil: Callable[[np.ndarray], np.ndarray], kind: str, idrid: Path, scan_of: ScanOf) -> None:
    for number in (1, 2):
        disc = _read(idrid / _mask("OD", number)) > 0
        left = np.flatnonzero(disc.any(axis=0))[0]
        if kind != "mask_outside_field" or left < 180:
            break
    path = idrid / _mask("OD", number)
    image = Image.fromarray(spoil(disc).astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    image.save(path)
    found = _only(_examined(scan_of, idrid), kind)
    assert found.files[0] == _mask("OD", number)


def test_swapped_classes_are_seen_by_their_light(idrid: Path, scan_of: ScanOf) -> None:
    first, second = idrid / _mask("EX"), idrid / _mask("HE")
    exudates = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(exudates)
    findings = _examined(scan_of, idrid)
    assert sorted((one.kind, one.files) for one in findings) == [
        ("mask_swapped", (_mask("HE"), f"{PHOTOS}/IDRiD_01.jpg")),
        ("mask_swapped", (_mask("EX"), f"{PHOTOS}/IDRiD_01.jpg")),
    ]
    assert findings[0].pictures[0].draw() is not None


def test_another_eyes_mask_does_not_fit(idrid: Path, scan_of: ScanOf) -> None:
    path = idrid / _mask("OD", 4)
    turned = Image.open(path)
    turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    assert _only(_examined(scan_of, idrid), "mask_misfit").files[0] == _mask("OD", 4)


def test_one_mask_in_two_places(idrid: Path, scan_of: ScanOf) -> None:
    shutil.copy(idrid / _mask("HE", 2), idrid / _mask("HE", 3))
    findings = [one for one in _examined(scan_of, idrid) if one.kind == "mask_copied"]
    assert [one.files for one in findings] == [(_mask("HE", 2), _mask("HE", 3))]


def test_masks_of_everything_are_no_copies_of_each_other(idrid: Path, scan_of: ScanOf) -> None:
    for number in (1, 2):
        path = idrid / _mask("EX", number)
        _store(np.full_like(_read(path), 255), path)
    kinds = [one.kind for one in _examined(scan_of, idrid)]
    assert sorted(kinds) == ["mask_conventions", "mask_whole", "mask_whole"]


def test_one_mask_for_two_structures(idrid: Path, scan_of: ScanOf) -> None:
    shutil.copy(idrid / _mask("EX", 2), idrid / _mask("SE", 2))
    findings = [one for one in _examined(scan_of, idrid) if one.kind == "mask_copied"]
    assert [set(one.files[:2]) for one in findings] == [{_mask("EX", 2), _mask("SE", 2)}]


def test_one_file_that_a_table_names_for_two_structures_and_two_photos(idrid: Path, scan_of: ScanOf) -> None:
    mask, first, second = _mask("EX", 2), f"{PHOTOS}/IDRiD_02.jpg", f"{PHOTOS}/IDRiD_03.jpg"
    (idrid / "own.csv").write_text(f"path,mask_EX,mask_SE\n{first},{mask},{mask}\n{second},{mask},\n")
    findings = [one for one in _examined(scan_of, idrid / "own.csv") if one.kind == "mask_copied"]
    assert {one.files for one in findings} == {(mask, first), (mask, first, second)}


def test_a_fault_of_a_file_that_is_named_twice_is_reported_once(idrid: Path, scan_of: ScanOf) -> None:
    _store(np.zeros_like(_read(idrid / _mask("EX", 2))), idrid / "empty.png")
    rows = [f"{PHOTOS}/IDRiD_{number:02d}.jpg,empty.png,empty.png" for number in (2, 3)]
    (idrid / "own.csv").write_text("\n".join(["path,mask_EX,mask_SE", *rows]) + "\n")
    assert _only(_examined(scan_of, idrid / "own.csv"), "mask_empty").files == ("empty.png",)


@pytest.mark.parametrize("word", ["absent", "unknown"])
def test_a_table_may_say_what_empty_masks_mean(word: str, idrid: Path, scan_of: ScanOf) -> None:
    _store(np.zeros_like(_read(idrid / _mask("EX", 2))), idrid / "empty.png")
    (idrid / "own.csv").write_text(f"path,mask_EX,empty_masks\n{PHOTOS}/IDRiD_02.jpg,empty.png,{word}\n")
    assert read_data([idrid / "own.csv"])
    assert "mask_empty" not in {one.kind for one in _examined(scan_of, idrid / "own.csv")}


def test_a_mask_that_no_training_reads_is_an_error(idrid: Path, scan_of: ScanOf) -> None:
    values = _read(idrid / _mask("EX", 2))
    Image.fromarray(((values > 0) * 255).astype(np.uint8)).save(idrid / "ex.jpg")
    (idrid / "own.csv").write_text(f"path,mask_EX\n{PHOTOS}/IDRiD_02.jpg,ex.jpg\n")
    finding = next(one for one in _examined(scan_of, idrid / "own.csv") if one.kind == "mask_soft")
    assert (finding.files, finding.severity) == (("ex.jpg",), "error")


def test_masks_of_no_photo_misplaced_and_unreadable(idrid: Path, scan_of: ScanOf) -> None:
    shutil.copy(idrid / _mask("MA", 1), idrid / _mask("MA", 77))
    shutil.move(idrid / _mask("EX", 2), idrid / f"{TRUTH}/{FOLDERS['HE']}/IDRiD_02_EX.tif")
    (idrid / _mask("HE", 3)).write_bytes((idrid / _mask("HE", 3)).read_bytes()[:200])
    by_kind = {one.kind: one.files for one in _examined(scan_of, idrid)}
    assert by_kind == {
        "mask_unknown_photo": (_mask("MA", 77),),
        "mask_misplaced": (f"{TRUTH}/{FOLDERS['HE']}/IDRiD_02_EX.tif",),
        "mask_unreadable": (_mask("HE", 3),),
    }


def test_masks_that_a_table_names_and_votes_that_it_counts(idrid: Path, scan_of: ScanOf) -> None:
    (idrid / "own.csv").write_text(f"path,mask_EX\n{PHOTOS}/IDRiD_01.jpg,nowhere/EX.png\n")
    (idrid / "votes").mkdir()
    size = _read(idrid / _mask("OD")).shape
    _store(
        np.where(np.arange(size[1])[None, :].repeat(size[0], 0) % 40 == 20, 61, 0).astype(np.uint8),
        idrid / "votes/IDRiD_02_EX.png",
    )
    _store(np.where(_read(idrid / _mask("HE", 3)) > 0, 240, 0).astype(np.uint8), idrid / "votes/IDRiD_03_HE.png")
    rows = ["image,MA,HE,EX,SE", "IDRiD_01,1,,,", "IDRiD_03,,2,,"]
    (idrid / "A. Segmentation/seen Training.csv").write_text("\n".join(rows) + "\n")
    findings = _examined(scan_of, idrid)
    reported = sorted((one.kind, one.files[0]) for one in findings)
    assert reported == [
        ("mask_missing", "A. Segmentation/seen Training.csv"),
        ("mask_missing", "own.csv"),
        ("votes_wrong", "votes/IDRiD_02_EX.png"),
        ("votes_wrong", "votes/IDRiD_03_HE.png"),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes among files")
def test_a_pipe_with_a_masks_name_is_no_mask_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "eye_MA.tif")
    assert read_stored(tmp_path / "eye_MA.tif") == "It is not a file."
