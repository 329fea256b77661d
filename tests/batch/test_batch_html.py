"""The page of a batch says what its tables say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from funduscope.batch.batch_html import PagePatients, page, read_page_columns
from funduscope.batch.columns import finding_columns
from funduscope.batch.patients import patient_rows
from funduscope.batch.photo_list import ListedPhoto
from funduscope.batch.reader import ReadingSettings
from funduscope.batch.results import Result, StoredResult
from funduscope.batch.run import write_tables
from funduscope.batch.store import Store
from funduscope.cli.main import main

NOTHING: dict[str, int] = dict.fromkeys(("given", "read", "refused", "failed"), 0)


def test_the_page_names_patients_cameras_failures_and_the_least_certain(
    eyes: Path, reading: ReadingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(eyes / "first" / "eye0.png", tmp_path / "a <b>.png")
    shutil.copy(eyes / "first" / "eye1.png", tmp_path / "b.png")
    (tmp_path / "year.csv").write_text(
        "path,patient,eye,date,camera,secret\n"
        "a <b>.png,Anna,right,2026-01-02,Camera 1,do-not-copy\n"
        "b.png,Anna,left,2026-01-03,Camera 2,do-not-copy\n"
        "gone.png,Bert,,2026-01-03,Camera 2,do-not-copy\n"
    )
    out = tmp_path / "out"
    command = ["batch", str(tmp_path / "year.csv"), "--out", str(out), "--model", str(reading.model[0]), "--force"]
    assert main([*command, "--json"]) == 1
    assert '{"event": "done", "given": 3, "read": 2, "refused": 0, "failed": 1}' in capsys.readouterr().out
    text = (out / "batch.html").read_text()
    assert all(word in text for word in ("Anna", "Camera 1", "2026-01-03", "E_NOT_FOUND", "a &lt;b&gt;.png"))
    assert "a <b>" not in text
    assert not [path for path in out.iterdir() if path.is_file() and b"do-not-copy" in path.read_bytes()]
    assert "do-not-copy" not in str(pq.read_table(out / "shards").to_pylist())


def test_every_eye_that_cannot_be_read_is_listed_first_with_the_reason(tmp_path: Path) -> None:
    found = {"gradable": {"ok": False, "advice": "refuse", "reasons": [{"code": "TOO_DARK", "says": "It is dark."}]}}
    photos = [
        StoredResult(f"{number}.jpg", "refused", found=found, place=f"{number}.jpg", known={"patient": f"P{number:02}"})
        for number in range(30)
    ]
    patients = PagePatients()
    assert len(list(patients.noting(patient_rows(photos)))) == 30
    counts = {"given": 30, "read": 0, "refused": 30, "failed": 0}
    text = page_of(tmp_path, [], counts, patients)
    to_retake = text.partition("Take these photos again now")[2].partition("Who must be seen first")[0]
    assert [f"P{number:02}" in to_retake for number in range(30)] == [True] * 30
    assert to_retake.count("It is dark.") == 30


def page_of(
    folder: Path,
    photos: Sequence[tuple[ListedPhoto, *tuple[Result, ...]]],
    counts: Mapping[str, int] = NOTHING,
    patients: PagePatients | None = None,
    files: str = "",
) -> str:
    """The page of these photos, each with the results of its frames."""
    with closing(Store(folder, {})) as store:
        store.update(photo for photo, *_ in photos)
        for photo, *results in photos:
            store.put(photo.place, results)
        card: Any = SimpleNamespace(structures=(), witnesses=False)
        write_tables(store, folder, finding_columns(card, ()), ())
        findings = read_page_columns(folder / "findings.parquet")
        model = {"name": "m", "version": "1", "sha256": "0" * 64}
        return page(store, findings, counts, model, patients or PagePatients(), files)


def _of_two_frames(place: str, patient: str, content: str) -> tuple[ListedPhoto, Result, Result]:
    """Two equal frames of a file. content: a digit, equal in equal files."""
    result = Result(place, "read", found={"photo": {"sha256": content * 64}})
    return ListedPhoto(place, "1", known={"patient": patient}), result, result


def _read(number: int, camera: str, date: str, brightness: float, distance: float) -> tuple[ListedPhoto, Result]:
    """A photo of grade `number` % 5, less certain the higher its number."""
    place = f"{number:03}.jpg"
    found = {"predicted_grade": number % 5, "dme": {"risk": 0}, "advice": {"urgency": "soon"}}
    found |= {"photo": {"sha256": f"{number:064}"}}
    found |= {"training_distance": {"value": distance, "percentile": 99.5 if distance > 2 else 40.0}}
    found |= {"headline": {"grade": {"says": f"Grade of {number}"}, "dme": None}}
    known = {"camera": camera, "date": date, "patient": place}
    result = Result(place, "read", found=found, measures={"brightness": brightness}, uncertainty=number / 200)
    return ListedPhoto(place, "1", known=known), result


def _row(page: str, *first: str) -> list[str]:
    """The cells of the row that begins with these."""
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    (found,) = [cells for cells in rows if cells[: len(first)] == [*first]]
    return found[len(first) :]


def test_the_page_counts_refusals_shows_drift_and_names_the_hundred_least_certain(tmp_path: Path) -> None:
    photos = [_read(number, "Old", "2026-01-02", 100, 1.0) for number in range(60)]
    photos += [_read(number, "Old", f"2026-01-03 10:{number % 60:02}", 50, 3.0) for number in range(60, 110)]
    refused = Result("dark.jpg", "refused", found={"gradable": {"reasons": [{"code": "TOO_DARK"}]}}, measures={})
    photos.append((ListedPhoto("dark.jpg", "1", known={"camera": "New", "date": "2026-01-03"}), refused))
    photos.append((ListedPhoto("cut.jpg", "1"), Result("cut.jpg", "failed", "E_TRUNCATED", "cut")))
    text = page_of(tmp_path, photos, {"given": 112, "read": 110, "refused": 1, "failed": 1}, files="files")
    assert "The same file" not in text
    assert _row(text, "Old", "2026-01-02")[:5] == ["60", "0 %", "0 %", "1", "100"]
    assert _row(text, "Old", "2026-01-03")[:5] == ["50", "0 %", "100 %", "3", "50"]
    assert _row(text, "New", "2026-01-03")[:4] == ["1", "100 %", "", ""]
    assert re.search(r"TOO_DARK</th>.*>1</td>", text)
    assert re.search(r"E_TRUNCATED</th>.*>1</td>", text)
    assert re.search(r"3: Severe</th>.*>22</td>", text)
    named = re.findall(r'<a href="files/../(\d+)_\w+/report.html">', text)
    assert named == [f"{number:03}" for number in range(109, 9, -1)]
    assert "0.545</td><td>Grade of 109" in text


def test_of_many_days_the_latest_are_shown_and_the_page_says_so(tmp_path: Path) -> None:
    days = [f"{year}-{month:02}-{day:02}" for year in (2025, 2026) for month in range(1, 10) for day in range(1, 16)]
    photos = [_read(number, camera, day, 100, 1.0) for number, (camera, day) in enumerate(product("AB", days))]
    text = page_of(tmp_path, photos, {"given": len(photos), "read": len(photos), "refused": 0, "failed": 0})
    assert "The latest days alone, 400 rows" in text
    for camera in "AB":
        assert _row(text, camera, days[-1])[0] == "1"
    assert text.count(f'<td class="short">{days[0]}</td>') == 0


def test_a_file_in_several_places_is_named_those_of_several_patients_first(tmp_path: Path) -> None:
    names = {"a.jpg": ("anna", "1"), "b.jpg": ("anna", "1"), "c.jpg": ("bert", "2"), "d.jpg": ("carl", "2")}
    names |= {"e.jpg": ("carl", "3"), "f.jpg": ("anna", "1")}
    photos = [_of_two_frames(place, patient, content) for place, (patient, content) in names.items()]
    text = page_of(tmp_path, photos)
    assert _row(text, "2", "2") == ["c.jpg", "d.jpg"]
    assert _row(text, "3", "1") == ["a.jpg", "f.jpg"]
    assert text.index(">d.jpg<") < text.index(">f.jpg<")
    assert ">e.jpg<" not in text.partition("The same file")[2].partition("Drift")[0]


def test_a_file_in_several_places_without_patients_is_of_as_many_as_places(tmp_path: Path) -> None:
    names = {"a.jpg": "", "b.jpg": "", "c.jpg": "anna", "d.jpg": "anna"}
    text = page_of(tmp_path, [_of_two_frames(place, patient, "1") for place, patient in names.items()])
    assert _row(text, "4", "3") == ["a.jpg", "d.jpg"]
