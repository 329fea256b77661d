"""The answers as a Structured Report: TID 1500 Measurement Report, the algorithm identified by TID 4019.

Its numbers are those of findings.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from funduscope.dicom.algorithm import LIMITS, MANUFACTURER, algorithm_name, coded, parameters, text
from funduscope.inference.stated import undisputed_eye
from funduscope.report import clinical_codes as codes
from funduscope.report.clinical_codes import ClinicalCode
from funduscope.version import __version__
from funduscope.vocabulary import structure

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from funduscope.dicom.source import Source
    from funduscope.inference.findings import Findings


class Group(NamedTuple):
    """One group of measurements. numbers: (name, value, unit of `codes.UNITS`); None values are left out.

    answers: (name, value). texts: (name, sentence). finding, category: what the group is about.
    """

    name: str
    finding: ClinicalCode
    category: ClinicalCode | None = None
    numbers: Sequence[tuple[ClinicalCode, float | None, str]] = ()
    answers: Sequence[tuple[ClinicalCode, ClinicalCode]] = ()
    texts: Sequence[tuple[ClinicalCode, str]] = ()


def structured_report(findings: Findings, source: Source) -> Dataset:
    """The Structured Report, COMPLETE and UNVERIFIED. A refused photo has its reasons and no grade."""
    from highdicom.sr import ComprehensiveSR

    return ComprehensiveSR(
        evidence=[source.dataset],
        content=_content(findings, source),
        series_instance_uid=source.uid("SR series"),
        series_number=9002,
        sop_instance_uid=source.uid("SR"),
        instance_number=source.frame,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm_name(findings),
        software_versions=__version__,
        device_serial_number=findings.model_sha256[:64],
        is_complete=True,
        is_final=False,
        is_verified=False,
        content_date=source.content_date,
        content_time=source.content_time,
        series_description="funduscope: findings",
    )


def groups(found: Mapping[str, Any]) -> list[Group]:
    """The groups of a findings.json's object."""
    gradable = found["gradable"]
    photo = Group(
        "photo",
        codes.GRADABLE,
        numbers=[(codes.QUALITY, gradable["score"], "")],
        answers=[(codes.GRADABLE, codes.NO if gradable["advice"] == "refuse" else codes.YES)],
        texts=[
            *((codes.COMMENT, part["says"]) for part in found["headline"].values() if part),
            *((codes.REASON, reason["says"]) for reason in gradable["reasons"]),
            *((codes.COMMENT, one["says"]) for one in (*found["evidence"], *found["warnings"])),
            (codes.COMMENT, LIMITS),
        ],
    )
    lesions = [_lesion_group(code, lesion) for code, lesion in (found["lesions"] or {}).items()]
    others = [*_answer_groups(found), *_disc_group(found), *(lesions if gradable["ok"] else ())]
    # Systems take the groups apart: each of a photo that was refused and graded all the same says so.
    doubt = [(codes.COMMENT, found["headline"]["trust"]["says"])] if gradable["advice"] == "refuse" and others else []
    return [photo, *(one._replace(texts=[*doubt, *one.texts]) for one in others)]


def _answer_groups(found: Mapping[str, Any]) -> list[Group]:
    answers: list[Group] = []
    if found["predicted_grade"] is not None:
        grade = codes.GRADES[found["predicted_grade"]]
        answers.append(_answer("grade", codes.grade_question(found), grade, found["confidence"]))
    if found["dme"] is not None:
        risk = codes.EDEMA_RISKS[found["dme"]["risk"]]
        answers.append(_answer("edema risk", codes.EDEMA_RISK, risk, found["dme"]["confidence"]))
    if found["referable"] is not None:
        value = codes.YES if found["referable"]["value"] else codes.NO
        answers.append(_answer("referable", codes.REFERABLE, value, found["referable"]["probability"]))
    return answers


def _answer(name: str, question: ClinicalCode, value: ClinicalCode, probability: float) -> Group:
    return Group(name, question, numbers=[(codes.PROBABILITY, probability, "")], answers=[(question, value)])


def _disc_group(found: Mapping[str, Any]) -> list[Group]:
    disc = (found["landmarks"] or {}).get("optic_disc") or {}
    if not disc.get("diameter_px"):
        return []
    numbers = [(codes.DIAMETER, disc["diameter_px"], "px"), (codes.DIAMETER, disc.get("diameter_mm"), "mm")]
    return [Group("OD", codes.STRUCTURES["OD"], codes.ANATOMY, numbers)]


def _lesion_group(code: str, lesion: Mapping[str, Any]) -> Group:
    numbers = [(codes.COUNT, lesion["count"], ""), *codes.lesion_numbers(lesion)]
    return Group(code, codes.structure_code(code, structure(code).name), codes.ABNORMALITY, numbers)


def _content(findings: Findings, source: Source) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes as dicom_codes

    observer = sr.ObserverContext(
        observer_type=dicom_codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=source.uid("device"),
            name=algorithm_name(findings),
            manufacturer_name=MANUFACTURER,
            model_name=text(f"{findings.card.name} {findings.card.version}"),
            serial_number=findings.model_sha256,
        ),
    )
    found = findings.to_dict()
    found |= {"laterality": undisputed_eye(found, findings.photo.stated)}
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=dicom_codes.cid100.ImagingProcedure,
        imaging_measurements=[_group(one, found["laterality"], findings, source) for one in groups(found)],
        title=dicom_codes.cid7021.ImagingMeasurementReport,
    )


def _group(one: Group, laterality: str | None, findings: Findings, source: Source) -> Any:
    from highdicom import sr

    side = coded(codes.EYES[laterality]) if laterality else None
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(source.uid(f"group {one.name}"), one.name),
        finding_type=coded(one.finding),
        finding_category=coded(one.category) if one.category else None,
        algorithm_id=sr.AlgorithmIdentification(
            name=algorithm_name(findings),
            version=findings.card.version,
            parameters=parameters(findings),
            manufacturer=MANUFACTURER,
        ),
        finding_sites=[sr.FindingSite(coded(codes.RETINA), laterality=side)],
        measurements=[
            sr.Measurement(coded(name), value, coded(codes.UNITS[unit]))
            for name, value, unit in one.numbers
            if value is not None
        ],
        qualitative_evaluations=[sr.QualitativeEvaluation(coded(name), coded(value)) for name, value in one.answers],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                source.dataset.SOPClassUID,
                source.dataset.SOPInstanceUID,
                [source.frame] if source.is_multiframe else None,
            )
        ],
    )
    group[0].ContentSequence.extend(sr.TextContentItem(coded(name), text, "CONTAINS") for name, text in one.texts)
    return group
