"""The objects in an archive: Orthanc stores them, finds them by study, and gives them back as they were."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("highdicom", reason="DICOM needs the extra dicom")

import pydicom
import simplejpeg
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from tests.cli.test_predict_clinical import COMPLETE, write_source
from tests.serve.conftest import Service, running, wait_for

Command = Callable[..., tuple[int, str, str]]
ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
HAND_OVER = Path(__file__).parents[2] / "docs" / "orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        ORTHANC is None or not PLUGIN.exists() or shutil.which("storescu") is None,
        reason="needs the Debian packages orthanc, orthanc-dicomweb and dcmtk",
    ),
]


class Archive:
    """A running Orthanc. http: its address; port: of DICOM."""

    def __init__(self, http: str, port: int) -> None:
        self.http, self.port = http, port

    def get(self, path: str, accept: str = "application/json") -> bytes:
        request = urllib.request.Request(f"{self.http}{path}", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def store(self, *files: Path) -> None:
        """By the documented command, which also sends JPEG."""
        to = ["storescu", "-R", "-xy", "-aec", "ORTHANC", "127.0.0.1", str(self.port)]
        subprocess.run([*to, *files], check=True, timeout=60)

    def instance(self, file: Path) -> pydicom.Dataset:
        """What DICOMweb gives for the object in this file. Its meta information is written anew for the transfer."""
        one = pydicom.dcmread(file, stop_before_pixels=True)
        path = (
            f"/dicom-web/studies/{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}"
        )
        body = self.get(path, 'multipart/related; type="application/dicom"; transfer-syntax=*')
        return pydicom.dcmread(BytesIO(body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n--")]))

    def find(self, modality: str, study: str) -> list[str]:
        """The UIDs of a study's series of one modality, by C-FIND."""
        asked = ["findscu", "-S", "-aec", "ORTHANC", "127.0.0.1", str(self.port), "-k", "QueryRetrieveLevel=SERIES"]
        asked += ["-k", f"StudyInstanceUID={study}", "-k", f"Modality={modality}", "-k", "SeriesInstanceUID"]
        found = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
        return re.findall(r"UI \[([0-9.]+)[^\]]*\].*SeriesInstanceUID", found.stdout + found.stderr)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def orthanc(folder: Path, environment: Mapping[str, str] | None = None, **settings: Any) -> Iterator[Archive]:
    """Orthanc with the documented configuration, on loopback with free ports and a folder of its own."""
    http, dicom = _free_port(), _free_port()
    own = {"StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": http}
    own |= {"DicomPort": dicom, "HttpBindAddresses": ["127.0.0.1"], "LuaScripts": []}
    documented = json.loads((HAND_OVER / "orthanc.json").read_text("utf-8"))
    (folder / "orthanc.json").write_text(json.dumps(documented | own | settings), "utf-8")
    command = [str(ORTHANC), folder / "orthanc.json"]
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | (environment or {}))
    one = Archive(f"http://127.0.0.1:{http}", dicom)
    try:
        for _ in range(240):
            try:
                one.get("/system")
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (folder / "orthanc.log").read_text()
                time.sleep(0.25)
        yield one
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with orthanc(tmp_path) as one:
        yield one


def test_an_archive_gives_the_objects_back_unchanged_and_replaces_them(
    archive: Archive, command: Command, tiny: Path, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "eye.dcm", **COMPLETE)
    for run in ("one", "again"):
        assert command("predict", source, "--model", tiny, "--out", tmp_path / run, "--dicom-overlay")[0] == 0
        archive.store(source, *(tmp_path / run).rglob("*.dcm"))
    series = json.loads(archive.get("/dicom-web/studies/1.2.3.4/series"))
    assert sorted(one["00080060"]["Value"][0] for one in series) == ["OP", "OT", "SEG", "SR"]
    instances = json.loads(archive.get("/dicom-web/studies/1.2.3.4/instances"))
    assert len(instances) == 4, "the second reading replaced the first"
    for file in (tmp_path / "one").rglob("*.dcm"):
        assert archive.instance(file) == pydicom.dcmread(file)
    found = archive.find("SR", "1.2.3.4")
    report = pydicom.dcmread(tmp_path / "one" / "eye" / "eye_SR.dcm")
    assert found == [report.SeriesInstanceUID]


def test_a_camera_sends_a_photo_and_the_report_is_found_in_its_study(
    tiny: Path, command: Command, tmp_path: Path
) -> None:
    """Camera to archive by C-STORE, archive to service by the documented script, results back, found by C-FIND."""
    token = "t" * 32
    (tmp_path / "tokens").write_text(token, "utf-8")
    options = "--model", tiny, "--tokens", tmp_path / "tokens"
    with running(tmp_path / "service", *options) as service:
        wait_for(service.is_ready)
        where = {"FUNDUSCOPE_URL": service.address, "FUNDUSCOPE_TOKEN": token}
        script = [str(HAND_OVER / "funduscope.lua")]
        with orthanc(tmp_path, where, StableAge=1, LuaScripts=script) as archive:
            one = write_source(tmp_path / "one.dcm", **COMPLETE)
            two = write_source(tmp_path / "two.dcm", frames=2, **COMPLETE | {"SOPInstanceUID": "1.2.3.4.6"})
            archive.store(one, two)
            wait_for(lambda: len(json.loads(archive.get("/instances"))) == 2 + 3 * 2)
            assert command("predict", one, "--model", tiny, "--out", tmp_path / "out", "--dicom")[0] == 0
            for file in (tmp_path / "out").rglob("*.dcm"):
                assert archive.instance(file) == pydicom.dcmread(file)
            report = pydicom.dcmread(tmp_path / "out" / "one" / "one_SR.dcm")
            assert report.SeriesInstanceUID in archive.find("SR", "1.2.3.4")
            assert len(archive.find("SEG", "1.2.3.4")) == 3
            time.sleep(5)  # the study is stable once more
            assert readings(service) == 3
            archive.store(one)
            wait_for(lambda: readings(service) == 4)
            time.sleep(2)
            assert len(json.loads(archive.get("/instances"))) == 2 + 3 * 2, "the results replaced the earlier ones"


def test_a_frame_that_is_damaged_costs_the_others_nothing_and_is_not_read_for_ever(tiny: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "half.dcm", frames=2)
    half = pydicom.dcmread(source)
    frames = [simplejpeg.encode_jpeg(frame, 90) for frame in half.pixel_array]
    half.PixelData = encapsulate([frames[0], frames[1][: len(frames[1]) // 2]])
    half["PixelData"].VR = "OB"
    half.file_meta.TransferSyntaxUID, half.PhotometricInterpretation = JPEGBaseline8Bit, "YBR_FULL_422"
    pydicom.dcmwrite(source, half, enforce_file_format=True)
    with running(tmp_path / "service", "--model", tiny) as service:
        wait_for(service.is_ready)
        script = [str(HAND_OVER / "funduscope.lua")]
        with orthanc(tmp_path, {"FUNDUSCOPE_URL": service.address}, StableAge=1, LuaScripts=script) as archive:
            archive.store(source)
            wait_for(lambda: len(json.loads(archive.get("/instances"))) == 1 + 2)
            time.sleep(5)  # the study is stable once more
            assert readings(service, 422) == 3, "the damaged frame twice"


def readings(service: Service, *refusals: int) -> int:
    """How many photos the service has answered; all of them with findings, or with these statuses."""
    lines = [line for line in service.lines("request") if line["route"] == "/v1/findings"]
    assert {line["status"] for line in lines} <= {200, *refusals}
    return len(lines)
