"""Codes of what is found, for DICOM and FHIR. docs/pacs.md names the source of each; none is invented.

Where no code of DICOM, SNOMED CT or LOINC was found, the code is funduscope's own: the scheme `99FUNDUSCOPE` in DICOM,
the code system `LOCAL` in FHIR.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

LOCAL: Final = "99FUNDUSCOPE"


class ClinicalCode(NamedTuple):
    """scheme: as DICOM calls it: SCT (SNOMED CT), LN (LOINC), DCM, UCUM or `LOCAL`."""

    value: str
    scheme: str
    meaning: str


EYES: Final = {
    "right": ClinicalCode("24028007", "SCT", "Right"),
    "left": ClinicalCode("7771000", "SCT", "Left"),
}
EYE: Final = ClinicalCode("81745001", "SCT", "Eye")
SIDED_EYES: Final = {
    "right": ClinicalCode("362502000", "SCT", "Entire right eye"),
    "left": ClinicalCode("362503005", "SCT", "Entire left eye"),
}
RETINA: Final = ClinicalCode("5665001", "SCT", "Retina")

STRUCTURES: Final = {
    "MA": ClinicalCode("25412000", "SCT", "Diabetic retinal microaneurysm"),
    "HE": ClinicalCode("50960005", "SCT", "Hemorrhage"),
    "EX": ClinicalCode("hard-exudate", LOCAL, "Hard exudate"),
    "SE": ClinicalCode("soft-exudate", LOCAL, "Soft exudate (cotton wool spot)"),
    "OD": ClinicalCode("81016008", "SCT", "Optic nerve head"),
}
"""By code of the vocabulary; `structure_code` also answers for structures that are not here."""

ANATOMY: Final = ClinicalCode("91723000", "SCT", "Anatomical Structure")
ABNORMALITY: Final = ClinicalCode("49755003", "SCT", "Morphologically Abnormal Structure")

REPORT: Final = ClinicalCode("photo-reading", LOCAL, "Automated reading of a fundus photograph")
"""Not LOINC 105914-6, which is of cleared autonomous devices."""

SEVERITY: Final = {
    "right": ClinicalCode("71491-5", "LN", "Right eye Diabetic retinopathy severity level by Ophthalmoscopy"),
    "left": ClinicalCode("71490-7", "LN", "Left eye Diabetic retinopathy severity level by Ophthalmoscopy"),
}
GRADE: Final = ClinicalCode("dr-grade", LOCAL, "Diabetic retinopathy grade (ICDR)")
"""Where the eye is not known."""

GRADES: Final = (
    ClinicalCode("LA18643-9", "LN", "No apparent retinopathy"),
    ClinicalCode("LA18644-7", "LN", "Mild non-proliferative retinopathy"),
    ClinicalCode("LA18645-4", "LN", "Moderate non-proliferative retinopathy"),
    ClinicalCode("LA18646-2", "LN", "Severe non-proliferative retinopathy"),
    ClinicalCode("LA18648-8", "LN", "Proliferative retinopathy"),
)
"""By grade; the answers of LOINC's list LL2117-1."""

EDEMA_RISK: Final = ClinicalCode("edema-risk", LOCAL, "Macular edema risk (IDRiD)")
EDEMA_RISKS: Final = (
    ClinicalCode("edema-risk-0", LOCAL, "No hard exudate"),
    ClinicalCode("edema-risk-1", LOCAL, "Hard exudates, none within a disc diameter"),
    ClinicalCode("edema-risk-2", LOCAL, "Hard exudate within a disc diameter"),
)
REFERABLE: Final = ClinicalCode("referable", LOCAL, "Referable diabetic retinopathy")
REFERRAL: Final = ClinicalCode("referral-advised", LOCAL, "Referral is advised, by model and lesions")
URGENCY: Final = ClinicalCode("urgency", LOCAL, "How soon the eye should be seen")
URGENCIES: Final = {
    "routine": ClinicalCode("urgency-routine", LOCAL, "Routine"),
    "soon": ClinicalCode("urgency-soon", LOCAL, "Soon"),
    "urgent": ClinicalCode("urgency-urgent", LOCAL, "Urgent"),
}
GRADABLE: Final = ClinicalCode("gradable", LOCAL, "Photo is gradable")
QUALITY: Final = ClinicalCode("gradable-score", LOCAL, "How well the photo can be graded, 0 to 1")
REASON: Final = ClinicalCode("quality-reason", LOCAL, "Why the photo is hard to grade")
YES: Final = ClinicalCode("373066001", "SCT", "Yes")
NO: Final = ClinicalCode("373067005", "SCT", "No")

PROBABILITY: Final = ClinicalCode("probability", LOCAL, "Probability, calibrated")
COUNT: Final = ClinicalCode("246206008", "SCT", "Number of lesions")
AREA: Final = ClinicalCode("42798000", "SCT", "Area")
DIAMETER: Final = ClinicalCode("81827009", "SCT", "Diameter")
COMMENT: Final = ClinicalCode("121106", "DCM", "Comment")
NEAREST_FOVEA: Final = ClinicalCode("nearest-fovea", LOCAL, "Distance of the nearest one from the fovea")

UNITS: Final = {
    "": ClinicalCode("1", "UCUM", "no units"),
    "px": ClinicalCode("{pixels}", "UCUM", "Pixels"),
    "dd": ClinicalCode("{dd}", "UCUM", "disc diameters"),
    "dd2": ClinicalCode("{dd2}", "UCUM", "squared disc diameters"),
    "mm": ClinicalCode("mm", "UCUM", "millimeter"),
    "mm2": ClinicalCode("mm2", "UCUM", "square millimeter"),
}
"""By the suffix that names have in findings.json; px also for areas, which are counts of pixels."""


def structure_code(code: str, name: str) -> ClinicalCode:
    """The code of a structure of the vocabulary; `name`: its name there."""
    return STRUCTURES.get(code) or ClinicalCode(code.lower(), LOCAL, name)


def grade_question(found: Mapping[str, Any]) -> ClinicalCode:
    """What the grade of a findings.json answers: of the right eye, the left one, or one that is not known."""
    return SEVERITY.get(found["laterality"] or "", GRADE)


def lesion_numbers(lesion: Mapping[str, Any]) -> list[tuple[ClinicalCode, float | None, str]]:
    """Area and distance of a kind of lesions in a findings.json, each in every unit: code, value (None where it is not
    known), unit."""
    return [
        (AREA, lesion["area_px"], "px"),
        (AREA, lesion["area_dd2"], "dd2"),
        (AREA, lesion.get("area_mm2"), "mm2"),
        (NEAREST_FOVEA, lesion["nearest_fovea_dd"], "dd"),
        (NEAREST_FOVEA, lesion.get("nearest_fovea_mm"), "mm"),
    ]
