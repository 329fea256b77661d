"""DICOM photos are examined as photos of any other format, and what names a patient is reported by its attribute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from funduscope.doctor import photo_checks
from funduscope.doctor.finding import Finding
from funduscope.doctor.record import scan_photo
from funduscope.duplicates.cache import _DESCRIBED_BY
from funduscope.testing.drawn_eyes import draw_eye

EYE = draw_eye(3, width_px=432).pixels
NO_PATIENT = {"PatientIdentityRemoved": "YES", "PatientName": "Anonymous"}


def _write(path: Path, frames: np.ndarray, **attributes: str) -> Path:
    """An ophthalmic photograph of (N, H, W, 3) frames."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, generate_uid()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = frames.tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def test_a_dicom_photo_is_examined_as_the_same_pixels_elsewhere(
    tmp_path: Path, kinds: Callable[[list[Finding]], list[str]]
) -> None:
    Image.fromarray(EYE).save(tmp_path / "eye.png")
    other = scan_photo(tmp_path / "eye.png", "eye.png")
    scanned = scan_photo(_write(tmp_path / "eye.dcm", EYE[None], **NO_PATIENT), "eye.dcm")
    record = scanned.record
    assert (record.kind, record.error, record.metadata) == ("DICOM", None, ())
    assert (record.width, record.height) == (EYE.shape[1], EYE.shape[0])
    assert (record.pixels_sha256, record.measures) == (other.record.pixels_sha256, other.record.measures)
    assert scanned.descriptor == other.descriptor
    assert kinds(list(photo_checks.examine([record]))) == kinds(list(photo_checks.examine([other.record])))


def test_several_frames_are_refused_in_words(tmp_path: Path) -> None:
    record = scan_photo(_write(tmp_path / "eye.dcm", np.stack([EYE, EYE])), "eye.dcm").record
    assert (record.kind, record.error) == ("DICOM", "E_MULTIPAGE")
    assert "several frames" in (record.error_says or "")


def test_who_is_named_is_reported_but_never_repeated(tmp_path: Path) -> None:
    path = _write(tmp_path / "eye.dcm", EYE[None], PatientName="Roe^Jane", PatientID="7", InstitutionName="")
    record = scan_photo(path, "eye.dcm").record
    assert record.metadata == ("DICOM PatientID", "DICOM PatientName")
    assert "Roe" not in record.to_json()


def test_rows_of_photos_depend_on_all_code_that_decodes_and_frames_them() -> None:
    assert {"imaging/dicom_file.py", "imaging/photo_parts.py", "imaging/photo.py"} <= set(_DESCRIBED_BY)
