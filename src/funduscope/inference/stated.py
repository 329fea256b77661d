"""What a DICOM file says about its photo, next to what the photo shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from funduscope.i18n.messages import Message, message
from funduscope.imaging.dicom_file import DicomStatements, Laterality

DISC_MM: Final = (1.2, 2.9)
"""Diameters that an outlined disc may have. Normal discs have 1.65 to 2.54 mm, by their areas (Mansoori et al. 2011,
doi:10.4103/0301-4738.73716); outlines are not exact. A pixel spacing that gives another is not one on the retina."""

FIELD_MM: Final = (4, 30)
"""Widths on the retina that a field of view may have: 45 degrees are some 13 mm, 20 to 90 degrees 6 to 26 mm."""

FIELD_DEGREES: Final = (30, 60)
"""Fields of view that are near the 45 to 50 degrees of the photos that models here have learned from."""


def retina_pixel_mm(stated: DicomStatements, disc_diameter_px: float | None, field_px: float) -> float | None:
    """The side of a pixel on the retina; None if the file has none, or one that the photo contradicts.

    It must fit the disc, or the width of the field of view (field_px) where the disc's diameter is unknown.
    """
    if stated.pixel_mm is None:
        return None
    (least, most), seen_px = (DISC_MM, disc_diameter_px) if disc_diameter_px else (FIELD_MM, field_px)
    return stated.pixel_mm if least <= seen_px * stated.pixel_mm <= most else None


def undisputed_eye(found: Mapping[str, Any], stated: DicomStatements | None = None) -> Laterality | None:
    """The eye that findings name, otherwise the one that the file does, to be coded for other systems; None if they
    contradict each other.

    found: as in findings.json.
    """
    warned = {warning["code"] for warning in found["warnings"]}
    if warned & {"FILE_SAYS_RIGHT_EYE", "FILE_SAYS_LEFT_EYE"}:
        return None
    return found["laterality"] or (stated.laterality if stated else None)


def is_usual_field(stated: DicomStatements) -> bool:
    """Whether the stated field of view is near those that models learn from, or none is stated."""
    degrees = stated.field_degrees
    return degrees is None or FIELD_DEGREES[0] <= degrees <= FIELD_DEGREES[1]


def stated_warnings(
    stated: DicomStatements, side: Laterality | None, disc_diameter_px: float | None, field_px: float
) -> list[Message]:
    """Where the file contradicts the photo, or says that it is unlike those that models have learned from.

    side: which eye disc and fovea show; None if they do not, or were not both seen.
    """
    warnings = []
    if stated.laterality is not None and side is not None and stated.laterality != side:
        is_right = stated.laterality == "right"
        warnings.append(message("FILE_SAYS_RIGHT_EYE") if is_right else message("FILE_SAYS_LEFT_EYE"))
    if stated.pixel_mm is not None and retina_pixel_mm(stated, disc_diameter_px, field_px) is None:
        warnings.append(message("SPACING_CONTRADICTS_DISC" if disc_diameter_px else "SPACING_CONTRADICTS_FIELD"))
    if stated.field_degrees is not None and not is_usual_field(stated):
        warnings.append(message("UNUSUAL_FIELD", {"degrees": round(stated.field_degrees)}))
    return warnings
