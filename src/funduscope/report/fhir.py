"""Findings as a FHIR bundle (R4B): report, observations, and the model as a device. docs/pacs.md names the codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from funduscope.inference.stated import undisputed_eye
from funduscope.report import clinical_codes as codes
from funduscope.report.clinical_codes import ClinicalCode
from funduscope.report.stable_ids import settings_seed, uuid_of
from funduscope.version import __version__
from funduscope.vocabulary import structure

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

SYSTEM: Final = "urn:funduscope:codes"
"""The local code system: for what has no code in LOINC or SNOMED CT, as far as was found."""

REFERENCE: Final = r"^\S{1,256}$"
"""What a reference to the patient may be, as a regular expression: "Patient/123", an address, a urn."""

_SYSTEMS: Final = {
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    codes.LOCAL: SYSTEM,
}
_LIMITS: Final = "Not a medical device. Computed for research, not verified by a person."


def to_fhir(findings: Findings, *, subject: str | None = None) -> dict[str, Any]:
    """A Bundle of type collection as JSON's plain values: DiagnosticReport (preliminary), Observations and Device.

    subject: a reference to the patient, such as "Patient/123", put into report and observations as it is; None: they
    have no subject. There is no other data of a patient, and neither the photo's name nor a date. Ids are derived from
    the photo, the model and the settings: the same findings give the same bundle.
    """
    found = findings.to_dict()
    found |= {"laterality": undisputed_eye(found, findings.photo.stated)}
    seed = f"{findings.photo.sha256} {settings_seed(findings)}"
    about = {"subject": {"reference": subject}} if subject is not None else {}
    device_url = _url(f"device {findings.model_sha256}")
    # Systems store observations one by one: each says that it was forced.
    forced = [{"text": found["headline"]["trust"]["says"]}] if findings.forced else []
    observations: list[tuple[str, dict[str, Any]]] = []
    for name, code, value in _observed(found):
        if forced:
            value |= {"note": [*forced, *value.get("note", ())]}
        resource = {"resourceType": "Observation", "status": "preliminary", "code": _concept(code), **about, **value}
        resource |= {"bodySite": _eye(found["laterality"]), "device": {"reference": device_url}}
        observations.append((_url(f"{seed} {name}"), resource))
    report = {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "code": _concept(codes.REPORT),
        **about,
        "result": [{"reference": url} for url, _ in observations],
        "conclusion": " ".join([*_sentences(found), _LIMITS]),
    }
    entries = [(_url(f"{seed} report"), report), *observations, (device_url, _device(findings))]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": url, "resource": resource} for url, resource in entries],
    }


def _observed(found: Mapping[str, Any]) -> Iterator[tuple[str, ClinicalCode, dict[str, Any]]]:
    """Name, code, and value with components of each observation."""
    gradable = found["gradable"]
    value: dict[str, Any] = {"valueBoolean": gradable["advice"] != "refuse"}
    if gradable["score"] is not None:
        value["component"] = [_number(codes.QUALITY, gradable["score"], "")]
    if gradable["reasons"]:
        value["note"] = [{"text": reason["says"]} for reason in gradable["reasons"]]
    yield "gradable", codes.GRADABLE, value
    if found["predicted_grade"] is not None:
        grade = _answer(codes.GRADES, found["predicted_grade"], found["probabilities"])
        yield "grade", codes.grade_question(found), grade
    if found["dme"] is not None:
        yield "dme", codes.EDEMA_RISK, _answer(codes.EDEMA_RISKS, found["dme"]["risk"], found["dme"]["probabilities"])
    if found["referable"] is not None:
        component = [_number(codes.PROBABILITY, found["referable"]["probability"], "")]
        yield "referable", codes.REFERABLE, {"valueBoolean": found["referable"]["value"], "component": component}
    if found["advice"] is not None:
        how_soon = {"code": _concept(codes.URGENCY)}
        how_soon["valueCodeableConcept"] = _concept(codes.URGENCIES[found["advice"]["urgency"]])
        value = {"valueBoolean": found["advice"]["refer"], "component": [how_soon]}
        value["note"] = [{"text": one["says"]} for one in found["advice"]["because"]]
        yield "referral", codes.REFERRAL, value
    for code, lesion in (found["lesions"] or {}).items() if gradable["ok"] else ():
        numbers = codes.lesion_numbers(lesion)
        component = [_number(code, value, unit) for code, value, unit in numbers if value is not None]
        value = {"valueInteger": lesion["count"], "component": component}
        yield code, codes.structure_code(code, structure(code).name), value


def _answer(classes: tuple[ClinicalCode, ...], answer: int, probabilities: list[float]) -> dict[str, Any]:
    """The most probable class, and as components the probability of each."""
    component = [_number(code, p, "") for code, p in zip(classes, probabilities, strict=True)]
    return {"valueCodeableConcept": _concept(classes[answer]), "component": component}


def _number(code: ClinicalCode, value: float, unit: str) -> dict[str, Any]:
    units = codes.UNITS[unit]
    quantity = {"value": value, "system": _SYSTEMS["UCUM"], "code": units.value}
    if unit:
        quantity["unit"] = units.meaning
    return {"code": _concept(code), "valueQuantity": quantity}


def _concept(code: ClinicalCode) -> dict[str, Any]:
    coding = {"system": _SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}
    return {"coding": [coding], "text": code.meaning}


def _eye(laterality: str | None) -> dict[str, Any]:
    """The eye, by one code: those of a concept must all mean the same."""
    return _concept(codes.SIDED_EYES.get(laterality or "", codes.EYE))


def _device(findings: Findings) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "deviceName": [{"name": f"funduscope {findings.card.name}", "type": "model-name"}],
        "version": [{"value": __version__}, {"value": f"model {findings.card.version}"}],
        "identifier": [{"system": "urn:funduscope:model-sha256", "value": findings.model_sha256}],
        "note": [{"text": _LIMITS}],
    }


def _sentences(found: Mapping[str, Any]) -> list[str]:
    """Headlines, evidence and warnings."""
    headline = (found["headline"][name] for name in ("trust", "grade", "dme", "referral"))
    return [f"{part['says'].rstrip('.')}." for part in (*headline, *found["evidence"], *found["warnings"]) if part]


def _url(seed: str) -> str:
    return f"urn:uuid:{uuid_of(seed)}"
