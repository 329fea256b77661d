"""The page of a batch says what its tables say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from funduscope.batch.reader import ReadingSettings
from funduscope.cli.main import main


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
    page = (out / "batch.html").read_text()
    assert all(word in page for word in ("Anna", "Camera 1", "2026-01-03", "E_NOT_FOUND", "a &lt;b&gt;.png"))
    assert "a <b>" not in page
    assert not [path for path in out.iterdir() if b"do-not-copy" in path.read_bytes()]
