"""The overlay as a Secondary Capture: the photo with what was found drawn on it, for viewers without segmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funduscope.dicom.algorithm import FORCED, LIMITS, MANUFACTURER, algorithm_name
from funduscope.dicom.source import LOSSY
from funduscope.report.overlay import overlay
from funduscope.version import __version__

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from funduscope.dicom.source import Source
    from funduscope.inference.findings import Findings
    from funduscope.report.outline import Palette


def secondary_capture(findings: Findings, source: Source, palette: Palette) -> Dataset:
    """The overlay of `report.overlay`, RGB, with the source's frame as its reference."""
    from highdicom.sc import SCImage

    dataset = SCImage.from_ref_dataset(
        source.dataset,
        pixel_array=overlay(findings, palette=palette),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=source.uid("SC series"),
        series_number=9003,
        sop_instance_uid=source.uid(f"SC {palette}"),
        instance_number=source.frame,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm_name(findings),
        software_versions=__version__,
        patient_orientation=("L", "F"),  # demanded here, and replaced below by the source's
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        content_date=source.content_date,
        content_time=source.content_time,
        series_description="funduscope: overlay",
    )
    _fit(dataset, source)
    dataset.ImageComments = f"{FORCED}. {LIMITS}" if findings.forced else LIMITS
    return dataset


def _fit(dataset: Dataset, source: Source) -> None:
    """Replaces what highdicom demanded by what is true of the source, and refers to it."""
    from pydicom.dataset import Dataset

    dataset.PatientOrientation = source.dataset.get("PatientOrientation") or ""
    stated = source.dataset.get("ImageLaterality")  # of photographs; a series' `Laterality` says the same
    dataset.Laterality = stated if stated in ("R", "L") else source.dataset.get("Laterality") or ""
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = source.content_date, source.content_time
    dataset.BurnedInAnnotation = "YES"  # the legend
    for name in LOSSY:
        if name in source.dataset:
            setattr(dataset, name, source.dataset[name].value)
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.dataset.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.dataset.SOPInstanceUID
    if source.is_multiframe:
        reference.ReferencedFrameNumber = source.frame
    dataset.SourceImageSequence = [reference]
