"""What the objects of results take from the photo's DICOM file: patient, study, references, dates; and their UIDs."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from funduscope.dicom.algorithm import text
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.dicom_file import is_dicom, read_attributes
from funduscope.imaging.photo import frame_sha256
from funduscope.report.stable_ids import settings_seed, uuid_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from funduscope.inference.findings import Findings

NO_STUDY: Final = (
    "the photo is not from a DICOM file, and DICOM results go into the study of their source: leave them out for it"
)
_PATIENT_AND_STUDY: Final = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
LOSSY: Final = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
"""What every image that is made of a lossy one must say, too."""
_IMAGE: Final = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "NumberOfFrames", "Rows", "Columns"),
    *("PixelSpacing", "PatientOrientation", "ImageLaterality", "Laterality", *LOSSY),
)
_TEXTS: Final = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "StudyID", "StudyDescription", "AccessionNumber"),
    "ReferringPhysicianName",
)
_TIMES: Final = ("ContentDate", "ContentTime", "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime")
_TYPE_2: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""What every object must have, be it without a value. Cameras leave out some of it."""

_NO_DATE, _NO_TIME = "19000101", "000000"
"""For a source without any date: the standard demands one, and the present day would make every run different."""


@dataclass(frozen=True, eq=False)
class Source:
    """The photo's file. dataset: what is taken of it, complete and valid. frame: from 1. content_date, content_time:
    those of the source; seed: what all UIDs of one photo's results are derived from.
    """

    dataset: Dataset
    frame: int
    content_date: str
    content_time: str
    seed: str

    @property
    def is_multiframe(self) -> bool:
        """Whether a reference to the image must name its frame."""
        return int(self.dataset.get("NumberOfFrames") or 1) > 1

    def uid(self, name: str) -> str:
        """The same UID for the same source, frame, model, settings and name."""
        return _uid(f"{self.seed} {name}")


def read_source(findings: Findings, data: bytes) -> Source:
    """The source of the findings' photo. Raises `PhotoError` if the photo is not of this file, or it is damaged."""
    photo = findings.photo
    if not is_dicom(data) or photo.dicom_frame is None:
        raise PhotoError("E_FORMAT", NO_STUDY)
    dataset = read_attributes(data, (*_PATIENT_AND_STUDY, *_IMAGE, *_TIMES))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frame_sha256(data, photo.dicom_frame if frames > 1 else None) != photo.sha256:
        raise PhotoError("E_FORMAT", "the DICOM file is not the one that the photo was read from; expected that file")
    date, time = _content_date_and_time(dataset)
    _complete(dataset, hashlib.sha256(data).hexdigest(), f"{findings.card.name} {findings.card.version}")
    _state_loss(dataset, dataset.file_meta.TransferSyntaxUID, len(data))
    seed = f"{dataset.SOPInstanceUID} {photo.dicom_frame} {settings_seed(findings)}"
    return Source(dataset, photo.dicom_frame, date, time, seed)


def _uid(seed: str) -> str:
    """A UID of the form 2.25.N, where N is a UUID that is made of the seed's hash."""
    return f"2.25.{uuid_of(seed).int}"


def _complete(dataset: Dataset, sha256: str, model: str) -> None:
    """Gives the data set what highdicom and the standard demand, and takes out what would make its copies invalid.

    model: its name and version, which the objects will have, too.
    """
    from pydicom.multival import MultiValue

    _use_unicode(dataset, model)
    for name, is_valid in _OPTIONAL.items():
        if name in dataset and not _holds(dataset, name, is_valid):
            del dataset[name]
    if "PixelSpacing" in dataset:  # a decimal text has at most 16 characters
        dataset.PixelSpacing = [f"{value:.10g}" for value in dataset.PixelSpacing]
    for name in _TEXTS:
        if isinstance(dataset.get(name), MultiValue):  # a backslash in a text, which parts values
            setattr(dataset, name, " ".join(map(str, dataset[name].value)))
        if _CHINESE_ESCAPE in str(dataset.get(name)):
            setattr(dataset, name, str(dataset[name].value).replace(_CHINESE_ESCAPE, ""))
    for name, most in (("StudyID", 16), ("StudyDescription", 64)):  # what identifies nobody is cut as cameras should
        if dataset.get(name):
            setattr(dataset, name, text(str(dataset[name].value), most))
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        # Archives know a study by the UID that it has, be it one that the standard forbids, such as 1.02.
        value = str(dataset.get(name) or "")
        if value and not re.fullmatch(r"[0-9.]+", value):
            raise PhotoError("E_FORMAT", f"the file's {name} is no UID: results cannot be filed with it")
        if not value:
            setattr(dataset, name, _uid(f"{sha256} {name}"))
    for name in _TYPE_2:
        if name not in dataset or dataset.get(name) is None:
            setattr(dataset, name, "")
    for name, kind in (("PatientBirthDate", "DA"), ("StudyDate", "DA"), ("StudyTime", "TM")):
        if not _is_valid(str(dataset.get(name) or ""), kind):
            setattr(dataset, name, "")
    if dataset.PatientSex not in ("M", "F", "O"):
        dataset.PatientSex = ""
    if not dataset.get("Modality"):
        dataset.Modality = "OP"


def _state_loss(dataset: Dataset, syntax: str, size_bytes: int) -> None:
    """States the lossy compression of a file whose camera leaves it out. The ratio is that of the file's bytes."""
    if syntax in _LOSSY_METHODS:
        dataset.LossyImageCompression = "01"
        plain_bytes = 3 * int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
        for name, value in zip(LOSSY[1:], (f"{plain_bytes / size_bytes:.6g}", _LOSSY_METHODS[syntax]), strict=True):
            if name not in dataset:
                setattr(dataset, name, value)


def _use_unicode(dataset: Dataset, model: str) -> None:
    """Texts in Unicode, unless theirs is a character set that highdicom takes: it takes one, without extensions."""
    texts = (model, *(str(dataset.get(name) or "") for name in _TEXTS))
    if "SpecificCharacterSet" not in dataset and all(map(str.isascii, texts)):
        return
    if not model.isascii() or dataset.get("SpecificCharacterSet") not in _PLAIN:
        dataset.decode()
        dataset.SpecificCharacterSet = _UNICODE


def _holds(dataset: Dataset, name: str, is_valid: Callable[[Any], bool]) -> bool:
    try:
        return is_valid(dataset[name].value)
    except (ValueError, TypeError):  # rubbish is seen as the value is taken
        return False


def _are_positive(values: Any) -> bool:
    return all(0 < float(value) < math.inf for value in values)


def _each(value: Any) -> list[Any]:
    """The values of an attribute that may have one or several."""
    from pydicom.multival import MultiValue

    return list(value) if isinstance(value, MultiValue) else [value]


_UNICODE: Final = "ISO_IR 192"
_CHINESE_ESCAPE: Final = "\x1b$)A"
"""Begins Chinese in ISO 2022 IR 58. pydicom leaves it in the text that it decodes."""
_LOSSY_METHODS: Final = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
}
"""Transfer syntaxes that are always lossy, of JPEG; near-lossless JPEG-LS and JPEG 2000 may be without loss, too."""
_PLAIN: Final = (
    *(f"ISO_IR {number}" for number in (100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 192, 203)),
    *("GB18030", "GBK"),
)
"""Character sets without code extensions that the standard names, but for the one of Japanese half-width letters."""
_OPTIONAL: Final[Mapping[str, Callable[[Any], bool]]] = {
    "PixelSpacing": lambda value: len(value) == 2 and _are_positive(value),
    "PatientOrientation": lambda value: len(value) == 2 and all(re.fullmatch("[LRAPHF]{1,3}", one) for one in value),
    "Laterality": lambda value: value in ("R", "L"),
    "LossyImageCompression": lambda value: value in ("00", "01"),
    "LossyImageCompressionRatio": lambda value: _are_positive(_each(value)),
    "LossyImageCompressionMethod": lambda value: all(isinstance(one, str) and one for one in _each(value)),
}
"""What is copied only if it is valid, by name: elsewhere it is left out."""


def _content_date_and_time(dataset: Dataset) -> tuple[str, str]:
    """The first valid one of acquisition date and time, content, acquisition and study date, with its time, if any."""
    at = str(dataset.get("AcquisitionDateTime") or "")
    pairs = [(at[:8], at[8:14])]
    pairs += [(str(dataset.get(f"{kind}Date") or ""), str(dataset.get(f"{kind}Time") or "")) for kind in _KINDS]
    for date, time in pairs:
        if _is_valid(date, "DA") and date:
            return date, time if time and _is_valid(time, "TM") else _NO_TIME
    return _NO_DATE, _NO_TIME


_KINDS: Final = ("Content", "Acquisition", "Study")


def _is_valid(text: str, kind: str) -> bool:
    from pydicom.valuerep import DA, TM

    try:
        DA(text) if kind == "DA" else TM(text)
    except (ValueError, TypeError):
        return False
    return kind == "TM" or len(text) in (0, 8)
