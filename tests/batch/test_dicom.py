"""DICOM files among the photos of a batch: each frame a row, and nothing of the patient in what is written."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg

pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")

from pydicom import FileDataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from tests.cli.test_predict_dicom import assert_unmarked, write_dicom

from funduscope.batch.reader import ReadingSettings, read
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
    assert_unmarked(*(path.read_bytes() for path in out.iterdir() if path.is_file()))
    assert_unmarked(str(pq.read_table(out / "shards").to_pylist()).encode())


def test_a_damaged_frame_has_its_own_name_and_costs_no_other(reading: ReadingSettings, tmp_path: Path) -> None:
    eye = draw_eye(3, width_px=420).pixels
    shape, meta = eye.shape, FileMetaDataset()
    jpeg = simplejpeg.encode_jpeg(eye, 90, colorsubsampling="422")
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = JPEGBaseline8Bit, "1.2.840.10008.5.1.4.1.1.77.1.5.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID, file.NumberOfFrames = meta.MediaStorageSOPClassUID, "1.2.3.4.5", 3
    file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = *shape[:2], 3, "YBR_FULL_422"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    file.PlanarConfiguration, file.PixelData = 0, encapsulate([jpeg, jpeg[: len(jpeg) // 2], jpeg])
    file["PixelData"].is_undefined_length = True
    dcmwrite(tmp_path / "three.dcm", file, enforce_file_format=True)
    results = list(read(reading.load(), "three.dcm", tmp_path / "three.dcm", reading))
    assert [(one.name, one.state) for one in results] == [
        ("three_frame1.dcm", "read"),
        ("three_frame2.dcm", "failed"),
        ("three_frame3.dcm", "read"),
    ]
