"""What the visible lesions support by the written definitions, compared with the model's answer.

Retinopathy: the International Clinical Diabetic Retinopathy scale, Wilkinson et al., "Proposed international clinical
diabetic retinopathy and diabetic macular edema disease severity scales", Ophthalmology 110(9), 2003. 0: no
abnormality; 1: microaneurysms only; 2: more than that, less than 3; 3: more than 20 intraretinal haemorrhages in each
of four quadrants, or venous beading in two, or prominent IRMA in one; 4: new vessels, vitreous or preretinal
haemorrhage. Macular edema risk: Porwal et al., "Indian Diabetic Retinopathy Image Dataset (IDRiD)", Data 3(3), 2018,
after Messidor: 0 no hard exudate; 1 all further than one disc diameter from the fovea; 2 one within.

Of any other kind of lesion the vocabulary has the lowest grade. Where a model segments none that makes grade 4 (such as
new vessels), lesions beyond microaneurysms support a range, 2 to 3, and grade 4 can be neither reached nor excluded:
the check then reports that it cannot check. Quadrants are those around the fovea in one photo, a part of the scale's
four fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from funduscope.i18n.messages import Message, message
from funduscope.inference.anatomy import QUADRANTS, Anatomy
from funduscope.inference.objects import LesionObject, nearest_fovea_dd
from funduscope.inference.urgency import Urgency, urgency
from funduscope.vocabulary import ICDR_KINDS, REFERABLE_FROM, structure

MANY_HAEMORRHAGES: Final = 20
"""More than this many in each quadrant make grade 3."""

NEAR_DD: Final = 1.0
"""A hard exudate within this many disc diameters of the fovea makes risk 2."""

SEVERE, PROLIFERATIVE = 3, 4
DME_REFERABLE_FROM: Final = 1

WITHOUT_REASON: Final[Mapping[Urgency, str]] = {
    "routine": "NOTHING_REFERABLE",
    "soon": "CLINIC_SOON",
    "urgent": "CLINIC_URGENT",
}
"""By urgency the code of `without_reason`."""

_GRADE_CODES: Final = ("GRADE_", "REFERABLE_", "ICDR_")
_DME_CODES: Final = ("DME_",)

Lesions = Mapping[str, Sequence[LesionObject]]
"""Code to objects, for every kind of lesion that was segmented."""


@dataclass(frozen=True)
class Supported:
    """What lesions support. grade_range, dme_range: lowest and highest. None if unknown. because: the reasons.

    proliferative_checked: whether a kind of lesion that makes grade 4 was segmented.
    """

    grade_range: tuple[int, int] | None
    dme_range: tuple[int, int] | None
    because: tuple[Message, ...]
    proliferative_checked: bool = False

    @property
    def dme_risk(self) -> int | None:
        """The lowest risk that the exudates support; None if unknown."""
        return None if self.dme_range is None else self.dme_range[0]


@dataclass(frozen=True)
class Checked:
    """A model's answers compared with what the lesions support; agrees and dme_agrees: None if not checkable."""

    supported: Supported
    agrees: bool | None
    dme_agrees: bool | None
    messages: tuple[Message, ...]

    def to_dict(self) -> dict[str, Any]:
        span, risks = self.supported.grade_range, self.supported.dme_range
        return {
            "grade_range": None if span is None else list(span),
            "agrees": self.agrees,
            "dme_risk": self.supported.dme_risk,
            "dme_range": None if risks is None else list(risks),
            "dme_agrees": self.dme_agrees,
        }

    @property
    def evidence(self) -> tuple[Message, ...]:
        """The reasons from the lesions, then where the model's answer differs."""
        return (*self.supported.because, *self.messages)


@dataclass(frozen=True)
class Advice:
    """Whether to refer and how soon, by the more careful of model and lesions, and the reasons."""

    refer: bool
    urgency: Urgency
    because: tuple[Message, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"refer": self.refer, "urgency": self.urgency, "because": [one.to_dict() for one in self.because]}


def support(lesions: Lesions, anatomy: Anatomy) -> Supported:
    """What the lesions of one photo support.

    Where not all of `ICDR_KINDS` were segmented, lesions still support a grade, but their absence does not.
    """
    span, of_grade = _grades(lesions, anatomy)
    risk, of_risk = _risk(lesions["EX"]) if "EX" in lesions else (None, ())
    checked = any(structure(code).lowest_grade == PROLIFERATIVE for code in lesions)
    return Supported(span, risk, (*of_grade, *of_risk), checked)


def check(supported: Supported, grade: int | None, risk: int | None) -> Checked:
    """Compares a model's grade and edema risk (None if it gives none) with what the lesions support."""
    agrees, of_grade = _grade_agrees(supported, grade)
    dme_agrees, of_risk = _risk_agrees(supported.dme_range, risk)
    return Checked(supported, agrees, dme_agrees, (*of_grade, *of_risk))


def advise(
    supported: Supported, grade: int | None, referable: tuple[bool, float, float] | None, risk: int | None
) -> Advice:
    """The more careful of model and lesions. referable: the model's answer, its probability and its threshold."""
    because: list[Message] = []
    if grade is not None and grade >= REFERABLE_FROM:  # even where grades 0 and 1 together are more probable
        because.append(message("GRADE_REFERABLE", {"grade": grade}))
    elif referable is not None and referable[0]:
        values = {"probability": round(referable[1], 4), "threshold": round(referable[2], 4)}
        because.append(message("REFERABLE_PROBABLE", values))
    elif supported.grade_range is not None and supported.grade_range[0] >= REFERABLE_FROM:
        because += [one for one in supported.because if one.code.startswith("ICDR")]
    if supported.dme_risk is not None and supported.dme_risk >= DME_REFERABLE_FROM:
        because += [one for one in supported.because if one.code.startswith("DME")]
    if risk is not None and risk >= DME_REFERABLE_FROM and risk > (supported.dme_risk or 0):
        because.append(message("DME_REFERABLE", {"risk": risk}))
    lowest = None if supported.grade_range is None else supported.grade_range[0]
    how_soon = urgency(more_careful(grade, lowest), more_careful(risk, supported.dme_risk), bool(because))
    return Advice(how_soon != "routine", how_soon, tuple(because) or (without_reason(how_soon),))


def advice_after(found: Mapping[str, Any], grade: int | None, risk: int | None) -> dict[str, Any]:
    """The advice, as in findings.json, once a person has given grade or edema risk (None: the model's counts).

    found: as in findings.json.
    """
    before = (found["advice"] or {}).get("because", ())
    because = [reason for reason in before if reason["code"] not in WITHOUT_REASON.values()]
    if grade is not None:
        because = [reason for reason in because if not reason["code"].startswith(_GRADE_CODES)]
        if grade >= REFERABLE_FROM:
            because.insert(0, message("GRADE_REFERABLE", {"grade": grade}).to_dict())
    if risk is not None:
        because = [reason for reason in because if not reason["code"].startswith(_DME_CODES)]
        if risk >= DME_REFERABLE_FROM:
            because.append(message("DME_REFERABLE", {"risk": risk}).to_dict())
    own_grade, own_risk = with_rules(found)
    how_soon = urgency(own_grade if grade is None else grade, own_risk if risk is None else risk, bool(because))
    because = because or [without_reason(how_soon).to_dict()]
    return {"refer": how_soon != "routine", "urgency": how_soon, "because": because}


def without_reason(how_soon: Urgency) -> Message:
    """What is said where nothing is referable: that, or that a clinic's own table has the eye seen early."""
    return message(WITHOUT_REASON[how_soon])


def with_rules(found: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Grade and edema risk, each the more careful of the model's answer and of what the lesions support.

    found: as in findings.json.
    """
    rules = found.get("rules") or {}
    grade = more_careful(found.get("predicted_grade"), (rules.get("grade_range") or [None])[0])
    return grade, more_careful((found.get("dme") or {}).get("risk"), rules.get("dme_risk"))


def more_careful(one: int | None, other: int | None) -> int | None:
    """The higher of two grades or risks of which either may be unknown."""
    return max((value for value in (one, other) if value is not None), default=None)


def _grades(lesions: Lesions, anatomy: Anatomy) -> tuple[tuple[int, int] | None, tuple[Message, ...]]:
    lowest = {code: structure(code).lowest_grade for code, objects in lesions.items() if objects}
    beyond = [code for code, grade in lowest.items() if grade and code != "MA"]
    if not beyond and not all(code in lesions for code in ICDR_KINDS):
        return None, ()
    if not beyond and "MA" not in lowest:
        return (0, 0), (message("ICDR_0_NONE"),)
    if not beyond:
        return (1, 1), (message("ICDR_1_MA_ONLY", {"count": len(lesions["MA"])}),)
    at_least = max(lowest[code] for code in beyond)
    if at_least != SEVERE - 1:  # by the kind itself, whatever there is apart from it
        kinds = [code for code in beyond if lowest[code] == at_least]
        because = (message("ICDR_KIND", {"at_least": at_least, "kinds": kinds}),)
        return (at_least, max(at_least, SEVERE)), because
    more = message("ICDR_2_BEYOND_MA", {"at_least": 2, "kinds": beyond})
    if anatomy.laterality is not None and all(
        sum(one.quadrant == quadrant for one in lesions.get("HE", ())) > MANY_HAEMORRHAGES for quadrant in QUADRANTS
    ):
        return (3, 3), (more, message("ICDR_3_HAEMORRHAGES", {"at_least": 3, "each": MANY_HAEMORRHAGES}))
    return (2, 3), (more,)


def _risk(exudates: Sequence[LesionObject]) -> tuple[tuple[int, int], tuple[Message, ...]]:
    if not exudates:
        return (0, 0), (message("DME_0_NO_EXUDATE"),)
    nearest = nearest_fovea_dd(exudates)
    if nearest is None:
        return (1, 2), (message("DME_1_DISTANCE_UNKNOWN"),)
    risk, code = (2, "DME_2_NEAR_FOVEA") if nearest <= NEAR_DD else (1, "DME_1_FAR")
    return (risk, risk), (message(code, {"distance_dd": round(nearest, 3)}),)


def _grade_agrees(supported: Supported, grade: int | None) -> tuple[bool | None, tuple[Message, ...]]:
    if supported.grade_range is None or grade is None:
        return None, ()
    low, high = supported.grade_range
    if grade == PROLIFERATIVE and high == SEVERE and not supported.proliferative_checked:
        return None, (message("ICDR_4_NOT_CHECKED"),)
    if low <= grade <= high:
        return True, ()
    code = "GRADE_BELOW_LESIONS" if grade < low else "GRADE_ABOVE_LESIONS"
    return False, (message(code, {"grade": grade, "low": low, "high": high}),)


def _risk_agrees(supported: tuple[int, int] | None, risk: int | None) -> tuple[bool | None, tuple[Message, ...]]:
    if supported is None or risk is None:
        return None, ()
    low, high = supported
    if low <= risk <= high:
        return True, ()
    code, limit = ("DME_BELOW_LESIONS", low) if risk < low else ("DME_ABOVE_LESIONS", high)
    return False, (message(code, {"risk": risk, "supported": limit}),)
