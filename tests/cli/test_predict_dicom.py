"""`predict` on DICOM files: each frame a photo, and nothing of the patient in what is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="DICOM needs the extra dicom")

import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from funduscope.testing.drawn_eyes import draw_eye

Command = Callable[..., tuple[int, str, str]]
OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
MARKER, DAY, MARKER_UID = "Zmarker", "19010203", "1.2.826.0.1.99999.7"
EVERYTHING = "--sheet", "--pdf", "--fhir", "--probabilities"


def _marks() -> dict[str, object]:
    """A value that can be searched for, for every attribute of the dictionary that can have one.

    PS3.15's basic profile is a part of it. Left out: file meta information, and what says how pixels are to be read.
    """
    values: dict[str, object] = {"DA": DAY, "DT": f"{DAY}101112", "TM": "101112", "UI": MARKER_UID, "AS": "099Y"}
    values["CS"] = MARKER.upper()
    values |= dict.fromkeys(("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), MARKER)
    marks: dict[str, object] = {}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if keyword and tag >> 16 not in (0x0000, 0x0002, 0x0028) and keyword != "SpecificCharacterSet":
            if vr in values:
                marks[keyword] = values[vr]
            elif vr == "SQ":
                item = Dataset()
                item.PatientName, item.PatientBirthDate, item.CodeMeaning = MARKER, DAY, MARKER
                marks[keyword] = [item]
    return marks


def write_dicom(path: Path, frames: np.ndarray, laterality: str) -> None:
    """A DICOM file of (N, H, W, 3) frames, with a mark in every attribute, nested and private ones too."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, OPHTHALMIC
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=MARKER.encode().ljust(128, b"\0"))
    for keyword, value in _marks().items():
        setattr(dataset, keyword, value)
    block = dataset.private_block(0x0011, MARKER, create=True)
    block.add_new(1, "LO", MARKER)
    block.add_new(2, "OB", MARKER.encode() * 2)
    dataset.SOPClassUID, dataset.SOPInstanceUID = OPHTHALMIC, meta.MediaStorageSOPInstanceUID
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.ImageLaterality, dataset.PixelData = laterality, frames.tobytes()
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def assert_unmarked(*written: bytes) -> None:
    for data in written:
        for mark in (MARKER, MARKER.upper(), DAY, "1901-02-03", MARKER_UID, "099Y"):
            assert mark.encode() not in data
            assert mark.encode("utf-16-le") not in data


def test_each_frame_gets_its_results_and_nothing_of_the_patient_is_written(
    command: Command, tiny: Path, tmp_path: Path
) -> None:
    pixels = draw_eye(1, width_px=480).pixels
    write_dicom(tmp_path / "visit.dcm", np.stack([pixels, pixels[:, ::-1]]), "L")
    out = tmp_path / "out"
    code, printed, complained = command("predict", tmp_path / "visit.dcm", "--model", tiny, "--out", out, *EVERYTHING)
    assert (code, complained) == (0, "")
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert folders == ["visit_frame1", "visit_frame2"]
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert_unmarked(*(path.read_bytes() for path in written), printed.encode())
    assert not [path for path in written if MARKER in path.name]


def test_a_damaged_dicom_file_fails_in_one_line_without_its_values(
    command: Command, tiny: Path, tmp_path: Path
) -> None:
    write_dicom(tmp_path / "cut.dcm", draw_eye(1, width_px=480).pixels[None], "R")
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "cut.dcm").read_bytes()[:-5000])
    code, printed, complained = command("predict", tmp_path / "cut.dcm", "--model", tiny, "--json")
    assert code == 1
    assert json.loads(printed)["error"]["code"] == "E_TRUNCATED"
    assert MARKER not in printed + complained


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_a_crash_leaves_nothing_of_the_patient(end: signal.Signals, tiny: Path, tmp_path: Path) -> None:
    """Ended while it writes the second photo: results, temporary files, home, and what it printed."""
    eye = draw_eye(1, width_px=480).pixels
    write_dicom(tmp_path / "visit.dcm", np.stack([eye, eye[:, ::-1], eye[::-1], eye]), "L")
    around = tmp_path / "around"
    for name in ("home", "temporary", "out"):
        (around / name).mkdir(parents=True)
    places = {"HOME": around / "home", "TMPDIR": around / "temporary", "XDG_CACHE_HOME": around / "home"}
    command = [sys.executable, "-X", "faulthandler", "-m", "funduscope", "predict", tmp_path / "visit.dcm"]
    with (around / "printed").open("wb") as printed:
        process = subprocess.Popen(
            [*command, "--model", tiny, "--out", around / "out", *EVERYTHING[:1]],
            **dict.fromkeys(("stdout", "stderr"), printed),
            cwd=around,
            env=os.environ | {name: str(place) for name, place in places.items()},
        )
        while process.poll() is None and len(list((around / "out").glob("*/findings.json"))) < 2:
            time.sleep(0.01)
        process.send_signal(end)
        assert process.wait(60) != 0
    written = [path for path in around.rglob("*") if path.is_file()]
    assert len(written) > 1
    assert_unmarked(*(path.read_bytes() for path in written), *(str(path).encode() for path in written))
