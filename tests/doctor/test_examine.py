"""From a folder to doctor.html and doctor.json: planted faults are found, correct data sets have no error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from funduscope.data.case import LabelError
from funduscope.doctor.examine import Report, check_data, read_cases
from funduscope.doctor.kinds import KINDS
from funduscope.inference.runtime import ModelError
from funduscope.testing.drawn_eyes import draw_eye, write_idrid

WIDTH = 480


def _photo(path: Path, pixels: np.ndarray, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=90, **how)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos without labels, with a fault of each sort among them."""
    folder = tmp_path_factory.mktemp("clinic")
    eyes = [draw_eye(seed, width_px=WIDTH).pixels for seed in range(8)]
    for number, pixels in enumerate(eyes):
        _photo(folder / f"good {number}.jpg", pixels)
    _photo(folder / "train/again.jpg", cv2.resize(eyes[1], None, fx=0.9, fy=0.9))
    _photo(folder / "test/mirrored.png", eyes[1][:, ::-1])
    _photo(folder / "blurred.jpg", cv2.GaussianBlur(draw_eye(21, width_px=WIDTH).pixels, (0, 0), 4))
    whole = (folder / "good 3.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.jpg").write_bytes(b"this is text")
    _photo(folder / "masks/good 1.png", np.zeros((40, 40), np.uint8))
    return folder


@pytest.fixture(scope="module")
def report(data: Path, cache: Path) -> Report:
    return check_data(data, cache=cache, workers=0)


def test_what_was_planted_is_found_and_nothing_else(report: Report) -> None:
    reported = {(one.kind, one.severity, *one.files) for one in report.findings if KINDS[one.kind].group != "Labels"}
    assert reported == {
        ("truncated", "error", "truncated.jpg"),
        ("unreadable", "error", "notes.jpg"),
        ("blurred", "warning", "blurred.jpg"),
        ("same_photo", "warning", "good 1.jpg", "train/again.jpg"),
        ("same_photo", "warning", "good 1.jpg", "test/mirrored.png"),
        ("same_photo", "error", "test/mirrored.png", "train/again.jpg"),
    } | {
        entry for entry in reported if entry[0] in ("mixed_sizes", "mask_size", "mask_empty", "duplicates_across_folds")
    }


def test_a_report_is_written_in_another_thread_than_it_was_made_in(data: Path, cache: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(check_data, data, cache=cache, workers=0).result()
    made.write(tmp_path)
    assert (tmp_path / "doctor.html").stat().st_size > 10_000


def test_the_files_are_what_the_issue_says(report: Report, data: Path, tmp_path: Path) -> None:
    report.write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["doctor.html", "doctor.json"]
    reported = json.loads((tmp_path / "out/doctor.json").read_text())
    assert reported["schema"] == "funduscope-doctor/1"
    assert reported["photos"] == 13
    assert sum(reported["counts"].values()) == len(reported["findings"])
    for one in reported["findings"]:
        assert set(one) == {"kind", "severity", "files", "says", "evidence", "advice"}
        assert one["kind"] in KINDS
        assert all((data / file).exists() for file in one["files"])
    pairs = [one for one in reported["findings"] if one["kind"] in ("same_photo", "same_eye")]
    assert all(len(one["files"]) == 2 for one in pairs)
    page = (tmp_path / "out/doctor.html").read_text()
    assert "One photograph under two names" in page
    assert page.count("data:image/jpeg") > 6
    assert report.has_errors


def test_a_second_run_says_the_same_and_opens_no_photo_to_look(
    report: Report, data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    monkeypatch.setattr("funduscope.doctor.scan.scan_photo", lambda *job: looked.append(job))
    again = check_data(data, cache=cache, workers=0)
    assert looked == []
    assert again.to_dict() == report.to_dict()


def test_progress_is_reported(data: Path, cache: Path) -> None:
    reported: list[str] = []

    def progress(items: Iterable[Any], words: str, _total: int | None) -> Iterator[Any]:
        reported.append(words)
        yield from items

    check_data(data, cache=cache, workers=0, progress=progress)
    assert reported[:2] == ["Scanning photos", "Comparing photos"]


def test_a_sound_data_set_has_no_error(tmp_path: Path, cache: Path) -> None:
    write_idrid(tmp_path / "idrid", graded=5, masked=1, width_px=400)
    report = check_data(tmp_path / "idrid", cache=cache, workers=0)
    assert [one for one in report.findings if one.severity == "error"] == []
    assert report.photos == 6
    assert not report.has_errors


def test_a_data_set_that_no_reader_takes_is_examined_all_the_same(tmp_path: Path, cache: Path) -> None:
    write_idrid(tmp_path / "one", graded=3, masked=0, width_px=400)
    write_idrid(tmp_path / "other", graded=3, masked=0, width_px=400, seed=1)
    (labels,) = (tmp_path / "one").rglob("*Disease Grading_Training Labels.csv")
    labels.write_text(labels.read_text().replace("IDRiD_002,1", "IDRiD_002,7"))
    cases, findings = read_cases(tmp_path)
    assert [(one.kind, one.files) for one in findings] == [("labels_unreadable", ("one",))]
    assert len(cases) == 3
    report = check_data(tmp_path, cache=cache, workers=0)
    assert {"labels_unreadable", "impossible_value"} <= {one.kind for one in report.findings}
    assert report.photos == 6


def test_a_table_by_a_relative_path_is_checked_against_its_folds(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic = tmp_path / "my-clinic"
    for number in range(3):
        _photo(clinic / f"{number}.jpg", draw_eye(number, width_px=WIDTH).pixels)
    (clinic / "photos.csv").write_text("path,dr,patient\n0.jpg,0,p\n1.jpg,1,p\n2.jpg,2,q\n")
    (clinic / "folds.csv").write_text("subset,image,visit,fold\ntable,0.jpg,v0,0\ntable,1.jpg,v1,1\n")
    monkeypatch.chdir(tmp_path)
    reported = check_data(Path("my-clinic/photos.csv"), cache=cache, workers=0).to_dict()["findings"]
    by_kind = {one["kind"]: one["files"] for one in reported}
    assert by_kind["visit_across_folds"] == ["folds.csv", "0.jpg", "1.jpg"]
    assert by_kind["folds_missing_photo"] == ["folds.csv", "2.jpg"]
    assert reported == check_data(clinic / "photos.csv", cache=cache, workers=0).to_dict()["findings"]


def test_a_photo_that_a_table_names_and_that_is_missing_is_reported_as_that_alone(tmp_path: Path, cache: Path) -> None:
    for number in range(2):
        _photo(tmp_path / f"{number}.jpg", draw_eye(number, width_px=WIDTH).pixels)
    (tmp_path / "photos.csv").write_text("path,dr\n0.jpg,0\n1.jpg,1\ngone.jpg,2\n")
    report = check_data(tmp_path / "photos.csv", cache=cache, workers=0)
    assert {one.kind: one.files for one in report.findings if "gone.jpg" in one.says} == {
        "labels_unreadable": ("photos.csv",),
        "row_without_photo": ("photos.csv",),
    }
    assert not any(one.kind in ("unreadable", "missing_row") for one in report.findings)
    assert report.photos == 2


def test_a_model_that_cannot_judge_is_refused_before_a_photo_is_scanned(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ModelError, match="names no test fold"):
        check_data(data, models=[tmp_path], cache=tmp_path / "cache", workers=0)
    assert not (tmp_path / "cache").exists()


def test_the_same_photo_in_the_folder_of_another_task_is_no_duplicate(tmp_path: Path, cache: Path) -> None:
    """IDRiD's release has the photos of B again in C: nothing is wrong with that."""
    write_idrid(tmp_path / "idrid", graded=3, masked=0, width_px=400)
    for path in list((tmp_path / "idrid/B. Disease Grading").rglob("*.jpg")):
        copy = tmp_path / "idrid/C. Localization/1. Original Images/a. Training Set" / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    report = check_data(tmp_path / "idrid", cache=cache, workers=0)
    assert report.photos == 6
    assert [one.files for one in report.findings if one.kind == "same_photo"] == []


def test_an_empty_folder_and_no_folder(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    report = check_data(tmp_path / "empty", cache=cache, workers=0)
    report.write(tmp_path / "out")
    assert (report.photos, report.findings) == (0, ())
    with pytest.raises(LabelError, match="is not there"):
        check_data(tmp_path / "nothing", cache=cache)


def test_a_half_written_page_is_never_left(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="No space"):
        report.write(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
