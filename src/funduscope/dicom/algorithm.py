"""Who found it: the model, as the objects name it, and codes as highdicom takes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from funduscope.report.clinical_codes import ClinicalCode
from funduscope.version import __version__

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

MANUFACTURER: Final = "funduscope"
FAMILY: Final = ClinicalCode("123110", "DCM", "Artificial Intelligence")
LIMITS: Final = (
    "Not a medical device. Computed for research, not verified by a person. Answers for diabetic retinopathy and "
    "macular edema risk alone; no other disease is looked for."
)

FORCED: Final = "Refused and computed all the same, not to be trusted"
"""At most 64 characters, as a short description in DICOM may have."""


def algorithm_name(findings: Findings) -> str:
    """The model's name with the package's, as `text`."""
    return text(f"funduscope {findings.card.name}")


def text(value: str, most: int = 64) -> str:
    """A text as DICOM's short ones may be: no backslash, which parts values, no control character, not too long."""
    return re.sub(r"[\x00-\x1f\x7f\\]+", " ", value).strip()[:most]


def parameters(findings: Findings) -> list[str]:
    """What identifies the weights and the settings, one `name = value` each."""
    forced = ["graded although refused = yes"] if findings.forced else []
    return [f"model SHA-256 = {findings.model_sha256}", f"funduscope = {__version__}", *forced]


def coded(code: ClinicalCode) -> Any:
    """As highdicom's coded concept; meanings are cut at the standard's 64 characters."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning[:64])
