"""The masks as a DICOM Segmentation: binary, one segment per structure, pixel by pixel over the source's frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from funduscope.dicom.algorithm import FAMILY, FORCED, MANUFACTURER, algorithm_name, coded
from funduscope.report.clinical_codes import ABNORMALITY, ANATOMY, RETINA, structure_code
from funduscope.version import __version__
from funduscope.vocabulary import structure

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from funduscope.dicom.source import Source
    from funduscope.inference.findings import Findings


def segmentation(findings: Findings, source: Source) -> Dataset | None:
    """The Segmentation; None if the photo was refused or no structure was segmented.

    Structures without a pixel have their segment, too: not found differs from not sought.
    """
    if not findings.gradable_ok or not findings.codes:
        return None
    from highdicom.seg import Segmentation

    masks = np.stack([findings.mask(code) for code in findings.codes], axis=-1)[None]
    dataset = Segmentation(
        source_images=[_single_frame(source)],
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=[_segment(findings, source, n, code) for n, code in enumerate(findings.codes, 1)],
        series_instance_uid=source.uid("SEG series"),
        series_number=9001,
        sop_instance_uid=source.uid("SEG"),
        instance_number=source.frame,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm_name(findings),
        software_versions=__version__,
        device_serial_number=findings.model_sha256[:64],
        content_description=FORCED if findings.forced else "Not a medical device, unverified",
        content_label="FUNDUSCOPE",
        content_date=source.content_date,
        content_time=source.content_time,
        series_description="funduscope: structures",
        omit_empty_frames=False,
    )
    _fit(dataset, source)
    return dataset


def _segment(findings: Findings, source: Source, number: int, code: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription

    one = structure(code)
    identification = AlgorithmIdentificationSequence(
        name=algorithm_name(findings),
        family=coded(FAMILY),
        version=findings.card.version,
        source=MANUFACTURER,
        parameters={"threshold": f"{findings.card.thresholds[code]:.4f}", "model SHA-256": findings.model_sha256},
    )
    return SegmentDescription(
        segment_number=number,
        segment_label=one.name,
        segmented_property_category=coded(ABNORMALITY if one.is_lesion else ANATOMY),
        segmented_property_type=coded(structure_code(code, one.name)),
        algorithm_type="AUTOMATIC",
        algorithm_identification=identification,
        tracking_uid=source.uid(f"segment {code}"),
        tracking_id=code,
        anatomic_regions=[coded(RETINA)],
    )


def _single_frame(source: Source) -> Dataset:
    """The source as highdicom accepts it: it takes an eye photograph for one with functional groups, and needs them.

    It has one frame, whichever of the source's was read: without a frame of reference highdicom takes no other. `_fit`
    names the true one.
    """
    from copy import deepcopy

    from pydicom.dataset import Dataset

    dataset = deepcopy(source.dataset)
    dataset.NumberOfFrames = 1
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = dataset.get("PixelSpacing") or [1, 1]
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    return dataset


def _fit(dataset: Dataset, source: Source) -> None:
    """Replaces what highdicom had to be given by what is true of the source, and what differs between two runs."""
    if not source.dataset.get("PixelSpacing"):
        dataset.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence", None)
    if "PatientOrientation" not in dataset:
        dataset.PatientOrientation = source.dataset.get("PatientOrientation") or ""
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = source.uid("dimensions")
    for item in dataset.get("DimensionOrganizationSequence", []):
        item.DimensionOrganizationUID = source.uid("dimensions")
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in frame.DerivationImageSequence:
            for image in derivation.SourceImageSequence:
                image.pop("ReferencedFrameNumber", None)
                if source.is_multiframe:
                    image.ReferencedFrameNumber = source.frame
