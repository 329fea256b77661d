"""Findings as DICOM objects: a Structured Report, a Segmentation, and the overlay as a Secondary Capture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from funduscope.dicom.secondary_capture import secondary_capture
from funduscope.dicom.segmentation import segmentation
from funduscope.dicom.source import Source, read_source
from funduscope.dicom.structured_report import structured_report
from funduscope.imaging.dicom_file import without_warnings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from funduscope.inference.findings import Findings
    from funduscope.report.outline import Palette


@dataclass(frozen=True, eq=False)
class DicomResults:
    """The objects of one photo. segmentation: None if the photo was refused or nothing was segmented.

    secondary_capture: the overlay, None unless it was asked for. All are UNVERIFIED and carry the patient and the study
    of the source; nothing else that is written does.
    """

    structured_report: Dataset
    segmentation: Dataset | None = None
    secondary_capture: Dataset | None = None

    def files(self) -> dict[str, bytes]:
        """The bytes of each object as a DICOM file (explicit little endian), by SR, SEG and SC; equal in every run."""
        objects = {"SR": self.structured_report, "SEG": self.segmentation, "SC": self.secondary_capture}
        return {kind: _bytes(dataset) for kind, dataset in objects.items() if dataset is not None}


def to_dicom(
    findings: Findings,
    source: bytes | bytearray | memoryview | str | os.PathLike[str],
    *,
    overlay: bool = False,
    palette: Palette = "standard",
) -> DicomResults:
    """The findings as DICOM objects in the study of `source`, the DICOM file that the photo was read from.

    source: the file's bytes or its path. The frame is the photo's own (`Photo.dicom_frame`). overlay: whether the
    overlay is given, too, as a Secondary Capture; palette: of its colors.

    UIDs are derived from the source's instance, the frame, the model's hash and the settings, and dates and times are
    the source's, so that the same input gives the same bytes and an archive replaces instead of multiplying.

    Raises `PhotoError` (E_FORMAT) if the photo was not read from this file or the file is no DICOM, and
    `ModuleNotFoundError` if the extra `dicom` is not installed.
    """
    data = Path(source).read_bytes() if isinstance(source, str | os.PathLike) else bytes(source)
    with without_warnings():
        about = read_source(findings, data)
        report, masks = structured_report(findings, about), segmentation(findings, about)
        picture = secondary_capture(findings, about, palette) if overlay else None
    for dataset in (report, masks, picture):
        if dataset is not None:
            _set_times(dataset, about)
    return DicomResults(report, masks, picture)


def _set_times(dataset: Dataset, source: Source) -> None:
    """Puts the source's date and time in place of the present ones."""
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = source.content_date, source.content_time
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = source.content_date + source.content_time


def _bytes(dataset: Dataset) -> bytes:
    from pydicom import dcmwrite

    buffer = BytesIO()
    with without_warnings():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
