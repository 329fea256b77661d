"""`predict --dicom` and `--fhir`: valid objects of the source's study, with the masks and numbers of the findings."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import CARD

pytest.importorskip("highdicom", reason="DICOM needs the extra dicom")

import highdicom
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from funduscope.cli.predict_photos import ClinicalOutputs
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import Photo
from funduscope.report.clinical_codes import AREA, COUNT, GRADES, NEAREST_FOVEA, PROBABILITY, STRUCTURES
from funduscope.report.results_folder import OutputOptions
from funduscope.testing.drawn_eyes import draw_eye

Command = Callable[..., tuple[int, str, str]]
CLASSES = {
    "OP": "1.2.840.10008.5.1.4.1.1.77.1.5.1",
    "SC": "1.2.840.10008.5.1.4.1.1.7",
    "VL": "1.2.840.10008.5.1.4.1.1.77.1.4",
}
COMPLETE = {
    "StudyID": "7",
    "StudyDate": "20240102",
    "StudyTime": "101112",
    "ImageLaterality": "R",
    "PatientOrientation": ["L", "F"],
    "Modality": "OP",
    "ContentDate": "20240102",
    "ContentTime": "101113",
    "PatientBirthDate": "19500101",
    "PatientSex": "F",
    "PixelSpacing": [0.02, 0.02],
}


def write_source(path: Path, kind: str = "OP", frames: int = 1, *, jpeg: bool = False, **attributes: Any) -> Path:
    """A DICOM photo as cameras write it, with hardly more than a patient, a study and the pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CLASSES[kind]
    meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CLASSES[kind], "1.2.3.4.5"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "X1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.1"
    pixels = draw_eye(1, width_px=480).pixels
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = np.stack([pixels, pixels[:, ::-1]][:frames]).tobytes()
    if frames > 1:
        dataset.NumberOfFrames = frames
    if jpeg:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        meta.TransferSyntaxUID, dataset.PhotometricInterpretation = JPEGBaseline8Bit, "YBR_FULL_422"
        dataset.PixelData = encapsulate([buffer.getvalue()])
    for name, value in attributes.items():
        setattr(dataset, name, value)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def errors(file: Path) -> list[str]:
    """What dciodvfy finds wrong."""
    checked = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True, check=False)
    return [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith(("Error", "Abort"))]


SOURCES: dict[str, dict[str, Any]] = {
    "complete": COMPLETE,
    "as cameras write it": {},
    "two frames": COMPLETE | {"frames": 2},
    "secondary capture": {"kind": "SC"},
    "VL": {"kind": "VL"},
    "Japanese": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
    "Korean": {"SpecificCharacterSet": ["", "ISO 2022 IR 149"], "PatientName": "Hong^Gildong=洪^吉洞=홍^길동"},
    "an empty character set": {"SpecificCharacterSet": ""},
    "one term with extensions": {"SpecificCharacterSet": "ISO 2022 IR 100", "PatientName": "Müller^Jürgen"},
    "a character set that there is not": {"SpecificCharacterSet": "ISO_IR 149"},
    "a long description of two lines": {"StudyDescription": "eye\r\n" * 20, "StudyID": "7" * 20},
    "a character set by a common name": {"SpecificCharacterSet": "UTF-8", "PatientName": "Müller^Jürgen"},
    "rubbish in what is optional": {
        "PixelSpacing": "0.01",
        "Laterality": "BOTH",
        "PatientOrientation": "L",
        "LossyImageCompression": "YES",
        "ReferringPhysicianName": ["Roe^A", "Poe^B"],
    },
    "lossy twice": {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": ["5", "2.5"],
        "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_10918_1"],
    },
    "lossy, which nothing states": {"jpeg": True},
    "no spacing": {"PixelSpacing": ["0", "0"]},
    "rubbish in dates and sex": {"PatientSex": "X", "StudyDate": "", "ContentDate": ""},
}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of the Debian package dicom3tools")
@pytest.mark.parametrize("name", SOURCES)
def test_every_object_is_valid(name: str, command: Command, tiny: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "eye.dcm", **SOURCES[name])
    code, _, complained = command("predict", source, "--model", tiny, "--out", tmp_path / "out", "--dicom-overlay")
    assert (code, complained) == (0, "")
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert len(files) == 3 * SOURCES[name].get("frames", 1)
    assert {file.name: errors(file) for file in files} == {file.name: [] for file in files}
    named = {str(pydicom.dcmread(file).PatientName) for file in files}
    assert named == {SOURCES[name].get("PatientName", "Doe^Jane")}
    images = [pydicom.dcmread(file) for file in files if not file.stem.endswith("_SR")]
    assert {image.get("LossyImageCompression", "00") for image in images} == {
        "01" if name.startswith("lossy") else "00"
    }
    captured = {pydicom.dcmread(file).Laterality for file in files if file.stem.endswith("_SC")}
    assert captured == {SOURCES[name].get("ImageLaterality", "")}, "the eye that the source states"


def test_a_chinese_name_is_copied_without_its_escape_sequences(
    command: Command,
    tiny: Path,
    tmp_path: Path,
) -> None:
    family = b"\x1b$)A" + "王".encode("gb2312")
    given = b"\x1b$)A" + "小东".encode("gb2312")
    name = b"Wang^XiaoDong=" + family + b"^" + given
    character_sets = ["", "ISO 2022 IR 58"]
    source = write_source(
        tmp_path / "eye.dcm",
        SpecificCharacterSet=character_sets,
        PatientName=name,
    )
    assert name in source.read_bytes()

    command("predict", source, "--model", tiny, "--out", tmp_path / "out", "--dicom")
    [report] = (tmp_path / "out").rglob("*_SR.dcm")
    assert str(pydicom.dcmread(report).PatientName) == "Wang^XiaoDong=王^小东"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of the Debian package dicom3tools")
@pytest.mark.parametrize("source", ["as cameras write it", "one term with extensions"])
def test_a_model_may_have_any_name(
    source: str, command: Command, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model.onnx", replace(CARD, name="Modèle α\\β"))
    photo = write_source(tmp_path / "eye.dcm", **SOURCES[source])
    code, _, complained = command("predict", photo, "--model", model, "--out", tmp_path / "out", "--dicom-overlay")
    assert (code, complained) == (0, "")
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert {file.name: errors(file) for file in files} == {file.name: [] for file in files}
    for file in files:
        dataset = pydicom.dcmread(file)
        assert str(dataset.PatientName) == str(pydicom.dcmread(photo).PatientName)
    assert pydicom.dcmread(tmp_path / "out" / "eye" / "eye_SR.dcm").ManufacturerModelName == "funduscope Modèle α β"


def test_the_frames_of_a_file_are_counted_as_photos(command: Command, tiny: Path, tmp_path: Path) -> None:
    """Each has its line, its row of summary.csv and its page of summary.pdf, with the number of pages."""
    pdfium = pytest.importorskip("pypdfium2", reason="reading PDFs back needs pypdfium2")
    source, out = write_source(tmp_path / "eye.dcm", frames=2), tmp_path / "out"
    code, said, complained = command("predict", source, "--model", tiny, "--out", out, "--pdf")
    assert (code, complained) == (0, "")
    assert "2 of 2 photos read." in said
    assert all(f"eye_frame{number}" in said for number in (1, 2))
    assert len((out / "summary.csv").read_text("utf-8").splitlines()) == 3
    pages = pdfium.PdfDocument(out / "summary.pdf")
    texts = [page.get_textpage().get_text_bounded() for page in pages]
    assert [f"age {number} of 2" in text for number, text in enumerate(texts, 1)] == [True, True]
    other = write_source(tmp_path / "other.dcm")
    _, said, _ = command("predict", source, other, "--model", tiny, "--out", tmp_path / "more")
    assert "3 of 3 photos read." in said


def test_the_segmentation_holds_the_masks_of_its_frame(command: Command, tiny: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "eye.dcm", frames=2)
    assert command("predict", source, "--model", tiny, "--out", tmp_path / "out", "--dicom")[0] == 0
    for number in (1, 2):
        folder = tmp_path / "out" / f"eye_frame{number}"
        seg = highdicom.seg.segread(folder / f"eye_frame{number}_SEG.dcm")
        assert (seg.StudyInstanceUID, str(seg.PatientName)) == ("1.2.3.4", "Doe^Jane")
        planes = np.atleast_3d(seg.pixel_array.T).T.astype(bool)
        for item, plane in zip(seg.PerFrameFunctionalGroupsSequence, planes, strict=True):
            image = item.DerivationImageSequence[0].SourceImageSequence[0]
            assert (image.ReferencedSOPInstanceUID, image.ReferencedFrameNumber) == ("1.2.3.4.5", number)
            segment = seg.SegmentSequence[item.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1]
            mask = np.asarray(Image.open(folder / f"eye_frame{number}_{segment.TrackingID}.tif")) > 0
            assert np.array_equal(plane, mask)
        assert len(planes) == 5


def test_the_reports_numbers_are_those_of_the_findings(command: Command, tiny: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "eye.dcm", **COMPLETE)
    assert command("predict", source, "--model", tiny, "--out", tmp_path / "out", "--dicom")[0] == 0
    folder = tmp_path / "out" / "eye"
    found = json.loads((folder / "findings.json").read_bytes())
    report = highdicom.sr.srread(folder / "eye_SR.dcm")
    assert (report.VerificationFlag, report.ContentDate) == ("UNVERIFIED", "20240102")
    groups = {g.tracking_identifier: g for g in report.content.get_image_measurement_groups()}
    grade = groups["grade"]
    assert grade.get_qualitative_evaluations()[0].value.value == GRADES[found["predicted_grade"]].value
    assert _number(grade, PROBABILITY) == found["confidence"]
    assert _number(groups["edema risk"], PROBABILITY) == found["dme"]["confidence"]
    assert _number(groups["referable"], PROBABILITY) == found["referable"]["probability"]
    for code, lesion in found["lesions"].items():
        assert groups[code].finding_type.value == STRUCTURES[code].value
        assert _number(groups[code], COUNT) == lesion["count"]
        assert _number(groups[code], AREA) == lesion["area_px"]
        assert _number(groups[code], NEAREST_FOVEA) == lesion["nearest_fovea_dd"]
    assert found["model"]["sha256"] in (folder / "eye_SR.dcm").read_bytes().decode("latin-1")


def test_the_report_says_what_the_headlines_and_the_evidence_say(command: Command, tiny: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "eye.dcm")
    assert command("predict", source, "--model", tiny, "--out", tmp_path / "out", "--dicom")[0] == 0
    found = json.loads((tmp_path / "out" / "eye" / "findings.json").read_bytes())
    report = highdicom.sr.srread(tmp_path / "out" / "eye" / "eye_SR.dcm")
    photo = report.content.get_image_measurement_groups()[0]
    texts = [item.TextValue for item in photo[0].ContentSequence if item.ValueType == "TEXT"]
    said = [part["says"] for part in (*found["headline"].values(), *found["evidence"]) if part]
    assert len(said) > 2
    assert set(said) <= set(texts)


def _number(group: Any, name: Any) -> float | None:
    return next((m.value for m in group.get_measurements() if m.name.value == name.value), None)


def test_the_same_source_gives_the_same_bytes_and_another_model_other_uids(
    command: Command, tiny: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    source = write_source(tmp_path / "eye.dcm")
    models = {"one": tiny, "again": tiny, "other": make_model(tmp_path / "other.onnx", seed=1)}
    written: dict[str, dict[str, bytes]] = {}
    for name, model in models.items():
        assert command("predict", source, "--model", model, "--out", tmp_path / name, "--dicom-overlay")[0] == 0
        written[name] = {file.name: file.read_bytes() for file in (tmp_path / name).rglob("*.dcm")}
    assert written["one"] == written["again"]
    uids = {name: pydicom.dcmread(tmp_path / name / "eye" / "eye_SR.dcm").SOPInstanceUID for name in models}
    assert uids["one"] != uids["other"]


def test_a_photo_without_a_study_is_refused_in_a_sentence(
    command: Command, tiny: Path, save_eye: Callable[..., Path], tmp_path: Path
) -> None:
    photo = save_eye(tmp_path / "eye.jpg")
    code, _, complained = command("predict", photo, "--model", tiny, "--out", tmp_path / "out", "--dicom")
    assert code == 1
    assert "E_FORMAT: --dicom: the photo is not from a DICOM file" in complained
    assert not (tmp_path / "out" / "eye").exists()
    ask = ClinicalOutputs(OutputOptions(dicom=True)).needs_study(lambda photo: pytest.fail("the model read it"))
    with pytest.raises(PhotoError, match="not from a DICOM file"):
        ask(Photo.open(photo))


def test_the_fhir_bundle_is_valid_and_names_no_patient(command: Command, tiny: Path, tmp_path: Path) -> None:
    bundles = pytest.importorskip("fhir.resources.R4B.bundle", reason="validated by fhir.resources")
    source = write_source(tmp_path / "eye.dcm", **COMPLETE)
    assert command("predict", source, "--model", tiny, "--out", tmp_path / "out", "--fhir")[0] == 0
    text = (tmp_path / "out" / "eye" / "eye_fhir.json").read_text()
    found = json.loads((tmp_path / "out" / "eye" / "findings.json").read_bytes())
    bundle = bundles.Bundle.model_validate_json(text)
    kinds = [entry.resource.__resource_type__ for entry in bundle.entry]
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("DiagnosticReport", "Device", {"Observation"})
    assert {entry.resource.status for entry in bundle.entry[:-1]} == {"preliminary"}
    urls = {entry.fullUrl for entry in bundle.entry}
    assert {one.reference for one in bundle.entry[0].resource.result} < urls
    for hidden in ("Doe", "X1", "1950", "2024", "subject"):
        assert hidden not in text
    observations = {entry.resource.code.coding[0].code: entry.resource for entry in bundle.entry[1:-1]}
    for code, lesion in found["lesions"].items():
        assert observations[STRUCTURES[code].value].valueInteger == lesion["count"]
    probabilities = [float(p.valueQuantity.value) for p in observations["edema-risk"].component]
    assert probabilities == found["dme"]["probabilities"]
    advice = observations["referral-advised"]
    assert advice.valueBoolean is found["advice"]["refer"]
    urgency = advice.component[0].valueCodeableConcept.coding[0].code
    assert urgency == f"urgency-{found['advice']['urgency']}"
    assert [one["says"] for one in found["advice"]["because"]] == [note.text for note in advice.note]
    said = [one["says"].rstrip(".") for one in (*found["evidence"], *found["warnings"])]
    assert said
    assert all(one in bundle.entry[0].resource.conclusion for one in said)


def test_a_reference_to_the_patient_ends_without_a_newline(command: Command, tiny: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "eye.dcm", **COMPLETE)
    arguments = ("predict", source, "--model", tiny, "--out", tmp_path / "out", "--fhir", "--fhir-subject")
    assert command(*arguments, "Patient/1\n")[0] == 2
    assert not (tmp_path / "out").exists()


def test_every_observation_of_a_photo_that_was_forced_says_so(command: Command, tiny: Path, tmp_path: Path) -> None:
    Image.new("RGB", (500, 400)).save(tmp_path / "black.png")
    arguments = ("predict", tmp_path / "black.png", "--model", tiny, "--fhir", "--force", "--out", tmp_path / "out")
    assert command(*arguments)[0] == 0
    bundle = json.loads((tmp_path / "out" / "black" / "black_fhir.json").read_text("utf-8"))
    observations = [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "Observation"]
    assert len(observations) > 3
    assert all("Not to be trusted" in one["note"][0]["text"] for one in observations)
    assert observations[0]["valueBoolean"] is False, "it is not gradable"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of the Debian package dicom3tools")
def test_every_object_of_a_photo_that_was_forced_says_so(command: Command, tiny: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "eye.dcm", PixelData=bytes(480 * 480 * 3), Rows=480, Columns=480)
    out = tmp_path / "out"
    assert command("predict", source, "--model", tiny, "--out", out, "--dicom-overlay", "--force")[0] == 0
    found = json.loads((out / "eye" / "findings.json").read_bytes())
    assert found["gradable"]["advice"] == "refuse"
    files = {file.stem[-3:].strip("_"): file for file in (out / "eye").glob("*.dcm")}
    assert {kind: errors(file) for kind, file in files.items()} == {"SR": [], "SEG": [], "SC": []}
    groups = highdicom.sr.srread(files["SR"]).content.get_image_measurement_groups()
    gradable = groups[0].get_qualitative_evaluations()[0]
    assert gradable.value.meaning == "No"
    assert len(groups) > 3
    for group in groups:
        texts = [item.TextValue for item in group[0].ContentSequence if item.ValueType == "TEXT"]
        assert found["headline"]["trust"]["says"] in texts
    assert "not to be trusted" in pydicom.dcmread(files["SEG"]).ContentDescription
    assert "not to be trusted" in pydicom.dcmread(files["SC"]).ImageComments


def test_codes_of_dicom_and_snomed_are_those_of_the_standard() -> None:
    from pydicom.sr._concepts_dict import concepts

    from funduscope.dicom.algorithm import FAMILY
    from funduscope.report import clinical_codes

    known = {(scheme, value) for scheme, names in concepts.items() for codes in names.values() for value in codes}
    ours = [one for one in vars(clinical_codes).values() if isinstance(one, clinical_codes.ClinicalCode)]
    for table in (clinical_codes.EYES, clinical_codes.STRUCTURES):
        ours += table.values()
    # SNOMED CT's microaneurysm, and an eye with its side, are in no context group; docs/pacs.md names their source.
    public = {one[1::-1] for one in [*ours, FAMILY] if one.scheme in ("SCT", "DCM")} - {("SCT", "25412000")}
    assert len(public) >= 15
    assert public <= known
    for one in ours:
        assert len(one.value) <= 16, "the standard's limit of a short code"
        assert len(one.meaning) <= 64


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of the Debian package dicom3tools")
def test_a_refused_photo_has_its_reasons_and_no_grade(command: Command, tiny: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "eye.dcm", PixelData=bytes(480 * 480 * 3), Rows=480, Columns=480)
    assert command("predict", source, "--model", tiny, "--out", tmp_path / "out", "--dicom")[0] == 0
    folder = tmp_path / "out" / "eye"
    found = json.loads((folder / "findings.json").read_bytes())
    assert not found["gradable"]["ok"]
    assert [file.name for file in folder.glob("*.dcm")] == ["eye_SR.dcm"]
    assert errors(folder / "eye_SR.dcm") == []
    report = highdicom.sr.srread(folder / "eye_SR.dcm")
    assert [g.tracking_identifier for g in report.content.get_image_measurement_groups()] == ["photo"]
    assert found["gradable"]["reasons"][0]["says"].encode() in (folder / "eye_SR.dcm").read_bytes()


def test_results_stay_in_the_study_whatever_its_uids_look_like(command: Command, tiny: Path, tmp_path: Path) -> None:
    """Vendors put times into UIDs, with leading zeros that the standard forbids; archives know the study by them."""
    named = {"StudyInstanceUID": "1.2.276.0.20240102.093015.1", "SOPInstanceUID": "1.2.276.0.20240102.093015.1.01"}
    source = write_source(tmp_path / "eye.dcm", **COMPLETE, **named)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a remark on the UIDs would quote them on the terminal
        assert command("predict", source, "--model", tiny, "--out", tmp_path / "out", "--dicom", "--force")[0] == 0
    report = pydicom.dcmread(tmp_path / "out" / "eye" / "eye_SR.dcm")
    assert report.StudyInstanceUID == named["StudyInstanceUID"]
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == named["SOPInstanceUID"]


def test_a_study_that_cannot_be_named_is_a_reason_and_the_photo_has_no_page_of_results(
    command: Command, tiny: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pypdfium2", reason="pages are read with it")
    import pypdfium2

    (tmp_path / "in").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_source(tmp_path / "in" / "bad.dcm", **COMPLETE | {"StudyInstanceUID": "STUDY-2024-001"})
    write_source(tmp_path / "in" / "good.dcm", **COMPLETE)
    out = tmp_path / "out"
    _, _, err = command("predict", tmp_path / "in", "--model", tiny, "--out", out, "--dicom", "--pdf", "--force")
    assert "E_FORMAT: the file's StudyInstanceUID is no UID" in err
    pages = [page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(out / "summary.pdf")]
    assert len(pages) == 2
    assert "E_FORMAT" in pages[0]
    assert "Page 2 of 2" in pages[1]


def test_the_eye_that_the_file_names_is_coded_where_the_photo_does_not_show_it(
    command: Command, tiny: Path, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "eye.dcm", PixelData=bytes(480 * 480 * 3), Rows=480, Columns=480, **COMPLETE)
    assert command("predict", source, "--model", tiny, "--out", tmp_path / "out", "--dicom", "--fhir")[0] == 0
    folder = tmp_path / "out" / "eye"
    assert "24028007" in pydicom.dcmread(folder / "eye_SR.dcm").to_json(), "right"
    bundle = json.loads((folder / "eye_fhir.json").read_bytes())
    sites = [one["resource"]["bodySite"] for one in bundle["entry"] if one["resource"]["resourceType"] == "Observation"]
    assert {coding["code"] for site in sites for coding in site["coding"]} == {"362502000"}
