"""`funduscope doctor` from the command line: what it prints, writes, leaves alone, and returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from funduscope.cli.terminal import doctor_lines
from funduscope.doctor.kinds import KINDS
from funduscope.testing.drawn_eyes import write_idrid

Command = Callable[..., tuple[int, str, str]]
TABLE = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "idrid"
    write_idrid(folder, graded=4, masked=0, width_px=400)
    return folder


def _labels(data: Path) -> Path:
    (labels,) = data.rglob("*Disease Grading_Training Labels.csv")
    return labels


def test_a_sound_set_ends_with_zero(command: Command, data: Path, tmp_path: Path) -> None:
    code, out, err = command("doctor", data, "--out", tmp_path / "out", "--workers", 0)
    assert (code, err) == (0, "")
    assert "4 photos, " in out
    assert "0 errors" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["doctor.html", "doctor.json"]


def test_a_folder_without_photos_does_not_pass(command: Command, tmp_path: Path) -> None:
    """A wrong folder, or a disk that is not mounted, is no sound data set."""
    code, _, err = command("doctor", tmp_path)
    assert code == 1
    assert "no photo was found" in err


def test_one_is_counted_in_the_singular() -> None:
    finding = {"severity": "warning", "kind": "gray", "says": "The picture has no color.", "files": []}
    report = {"photos": 1, "findings": [finding], "counts": {"error": 0, "warning": 1, "info": 0}}
    assert list(doctor_lines(report))[-1] == "1 photo, 1 finding: 0 errors, 1 warning, 0 info."


def test_an_error_ends_with_one(command: Command, data: Path) -> None:
    labels = _labels(data)
    labels.write_text(labels.read_text().replace("IDRiD_002,1", "IDRiD_002,7"))
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    code, out, err = command("doctor", data, "--workers", 0)
    assert (code, err) == (1, "")
    assert "error: impossible_value: " in out
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_json_is_all_that_is_printed(command: Command, data: Path, tmp_path: Path) -> None:
    code, out, _ = command("doctor", data, "--json", "--out", tmp_path / "out", "--workers", 0)
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "doctor.json").read_text())


def test_the_page_in_docs_has_every_kind() -> None:
    text = TABLE.read_text("utf-8")
    rows = {f"| {kind.group} | `{name}` | {kind.severity} | {kind.title} |" for name, kind in KINDS.items()}
    table = text[text.index("| about | kind |") :]
    assert {line for line in table.splitlines() if "| `" in line} == rows
