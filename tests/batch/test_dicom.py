"""DICOM files among the photos of a batch: each frame a row, and nothing of the patient in what is written."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")

from tests.cli.test_predict_dicom import assert_unmarked, write_dicom

from funduscope.batch.reader import ReadingSettings
from funduscope.batch.run import run_batch
from funduscope.testing.drawn_eyes import draw_eye


@pytest.mark.parametrize("is_zip", [False, True], ids=["folder", "zip"])
def test_each_frame_has_its_row_and_nothing_of_the_patient_is_written(
    eyes: Path, reading: ReadingSettings, tmp_path: Path, is_zip: bool
) -> None:
    folder, out = tmp_path / "eyes", tmp_path / "out"
    folder.mkdir()
    shutil.copy(eyes / "first" / "eye0.png", folder)
    write_dicom(folder / "two.dcm", np.stack([draw_eye(seed, width_px=420).pixels for seed in (3, 4)]), "L")
    write_dicom(folder / "IM0001", draw_eye(5, width_px=420).pixels[None], "R")  # most archives give no suffix
    source = folder
    if is_zip:
        source = tmp_path / "year.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"monday/{path.name}")
    run = run_batch(source, out, reading)
    assert run["photos"] == {"given": 4, "read": 4, "refused": 0, "failed": 0}
    rows = pq.read_table(out / "findings.parquet").to_pylist()
    start = "monday/" if is_zip else ""
    assert [(row["place"], row["photo"]) for row in rows] == [
        (f"{start}IM0001", "IM0001"),
        (f"{start}eye0.png", "eye0.png"),
        (f"{start}two.dcm", "two_frame1.dcm"),
        (f"{start}two.dcm", "two_frame2.dcm"),
    ]
    assert_unmarked(*(path.read_bytes() for path in out.iterdir()))
