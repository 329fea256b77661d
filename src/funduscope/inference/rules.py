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

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import numpy as np

from funduscope.i18n.messages import Message, message
from funduscope.inference.anatomy import QUADRANTS, Anatomy
from funduscope.inference.objects import LesionObject, nearest_fovea_dd
from funduscope.inference.urgency import (
    URGENCIES,
    Urgency,
    UrgencyTable,
    most_urgent,
    urgency,
    urgency_table,
)
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

HARDLY_VISIBLE: Final = "HARDLY_VISIBLE"
"""The code, among the reasons of a photo's quality, of one that shows hardly anything: no referral rests on it."""

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

    is_grade_by_hand: bool = False
    """Whether a person outlined lesions that make the grade."""

    exudate_areas_dd2: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """By edema risk the area of the hard exudates that make it (none, all, those near the fovea), in squares of the
    disc's diameter: infinite where a person outlined them, 0 where the disc's size is unknown."""

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
class ModelAnswer:
    """Calibrated probabilities of the grades and of the edema risks; None where the model gives no such answer."""

    grade_probs: Sequence[float] | None = None
    dme_probs: Sequence[float] | None = None
    referable_threshold: float = 0.5

    @property
    def grade(self) -> int | None:
        return None if self.grade_probs is None else int(np.argmax(self.grade_probs))

    @property
    def risk(self) -> int | None:
        return None if self.dme_probs is None else int(np.argmax(self.dme_probs))

    @property
    def referable_probability(self) -> float:
        return float(sum((self.grade_probs or ())[REFERABLE_FROM:]))


@dataclass(frozen=True)
class Referral:
    """How soon an eye should be seen because of one thing, and the reasons, none where it asks for no referral."""

    urgency: Urgency = "routine"
    because: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Advice:
    """Whether to refer and how soon, by the more careful of model and lesions, and the reasons.

    by_grade, by_dme: how soon because of either.
    """

    by_grade: Urgency
    by_dme: Urgency
    because: tuple[Message, ...]

    @property
    def urgency(self) -> Urgency:
        return most_urgent(self.by_grade, self.by_dme)

    @property
    def refer(self) -> bool:
        return self.urgency != "routine"

    def to_dict(self) -> dict[str, Any]:
        return {
            "refer": self.refer,
            "urgency": self.urgency,
            "by_grade": self.by_grade,
            "by_dme": self.by_dme,
            "because": [reason.to_dict() for reason in self.because],
        }


def support(lesions: Lesions, anatomy: Anatomy, by_hand: Collection[str] = ()) -> Supported:
    """What the lesions of one photo support. by_hand: the kinds that a person outlined, of which any size counts.

    Where not all of `ICDR_KINDS` were segmented, lesions still support a grade, but their absence does not.
    """
    span, of_grade = _grades(lesions, anatomy)
    exudates = lesions.get("EX", ())
    knows_risk = "EX" in lesions and not anatomy.has_unusual_field
    risk, of_risk = _risk(exudates) if knows_risk else (None, ())
    checked = any(structure(code).lowest_grade == PROLIFERATIVE for code in lesions)

    near = [lesion for lesion in exudates if lesion.nearest_fovea_dd is not None and lesion.nearest_fovea_dd <= NEAR_DD]
    areas = [_area_dd2(group, anatomy, "EX" in by_hand) for group in ((), exudates, near)]
    is_by_hand = any(lesions[code] and structure(code).lowest_grade for code in lesions if code in by_hand)
    return Supported(span, risk, (*of_grade, *of_risk), checked, is_by_hand, (areas[0], areas[1], areas[2]))


def check(supported: Supported, grade: int | None, risk: int | None) -> Checked:
    """Compares a model's grade and edema risk (None if it gives none) with what the lesions support."""
    agrees, of_grade = _grade_agrees(supported, grade)
    dme_agrees, of_risk = _risk_agrees(supported.dme_range, risk)
    return Checked(supported, agrees, dme_agrees, (*of_grade, *of_risk))


def advise(supported: Supported, answer: ModelAnswer) -> Advice:
    """How soon to refer, with the evidence that docs/reports.md states for each urgency."""
    table = urgency_table()
    by_grade = _first_most_urgent(_by_grade(answer, table), _by_lesions(supported, answer, table))
    by_dme = _first_most_urgent(_by_risk(supported, answer, table), _by_exudates(supported, answer, table))
    because = (*by_grade.because, *by_dme.because)
    how_soon = most_urgent(by_grade.urgency, by_dme.urgency)
    return Advice(by_grade.urgency, by_dme.urgency, because or (without_reason(how_soon),))


def advise_nothing() -> Advice:
    """The advice where a photo shows hardly anything, whatever the model answers."""
    return Advice("routine", "routine", (message(HARDLY_VISIBLE),))


def advice_after(found: Mapping[str, Any], grade: int | None, risk: int | None) -> dict[str, Any]:
    """The advice, as in findings.json, once a person has given grade or edema risk (None: the model's counts).

    found: as in findings.json.
    """
    before = found["advice"] or Advice("routine", "routine", ()).to_dict()
    is_reason = {*WITHOUT_REASON.values(), HARDLY_VISIBLE}.isdisjoint
    because = [reason for reason in before["because"] if is_reason([reason["code"]])]
    by_grade, by_dme = before["by_grade"], before["by_dme"]
    if grade is not None:
        by_grade = urgency(grade, None, refer=grade >= REFERABLE_FROM)
        because = [reason for reason in because if not reason["code"].startswith(_GRADE_CODES)]
        if grade >= REFERABLE_FROM:
            because.insert(0, message("GRADE_REFERABLE", {"grade": grade}).to_dict())
    if risk is not None:
        by_dme = urgency(None, risk, refer=risk >= DME_REFERABLE_FROM)
        because = [reason for reason in because if not reason["code"].startswith(_DME_CODES)]
        if risk >= DME_REFERABLE_FROM:
            because.append(message("DME_REFERABLE", {"risk": risk}).to_dict())

    how_soon = most_urgent(by_grade, by_dme)
    reasons = because or [without_reason(how_soon).to_dict()]
    return Advice(by_grade, by_dme, ()).to_dict() | {"because": reasons}


def without_reason(how_soon: Urgency) -> Message:
    """What is said where nothing is referable: that, or that a clinic's own table has the eye seen early."""
    return message(WITHOUT_REASON[how_soon])


def with_rules(found: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Grade and edema risk, each the more careful of the model's answer and of what the lesions support.

    Neither is known of a photo that shows hardly anything. found: as in findings.json.
    """
    if is_hardly_visible(found):
        return None, None
    rules = found.get("rules") or {}
    grade = more_careful(found.get("predicted_grade"), (rules.get("grade_range") or [None])[0])
    return grade, more_careful((found.get("dme") or {}).get("risk"), rules.get("dme_risk"))


def is_hardly_visible(found: Mapping[str, Any]) -> bool:
    """Whether the photo shows hardly anything, so that no answer leads. found: as in findings.json."""
    reasons = (found.get("gradable") or {}).get("reasons", ())
    return any(reason["code"] == HARDLY_VISIBLE for reason in reasons)


def more_careful(one: int | None, other: int | None) -> int | None:
    """The higher of two grades or risks of which either may be unknown."""
    return max((value for value in (one, other) if value is not None), default=None)


def _first_most_urgent(*referrals: Referral) -> Referral:
    return max(referrals, key=lambda referral: URGENCIES.index(referral.urgency))


def _by_grade(answer: ModelAnswer, table: UrgencyTable) -> Referral:
    """The referral that the model's grade asks for, or its probability of a referable one."""
    grade = answer.grade
    if answer.grade_probs is None or grade is None:
        return Referral()

    how_soon = table.grade[grade]
    if grade >= REFERABLE_FROM:  # even where grades 0 and 1 together are more probable
        return Referral(most_urgent(how_soon, "soon"), (message("GRADE_REFERABLE", {"grade": grade}),))
    probability, threshold = answer.referable_probability, answer.referable_threshold
    if probability >= threshold:
        values = {"probability": round(probability, 4), "threshold": round(threshold, 4)}
        return Referral(most_urgent(how_soon, "soon"), (message("REFERABLE_PROBABLE", values),))
    return Referral(how_soon)


def _by_lesions(supported: Supported, answer: ModelAnswer, table: UrgencyTable) -> Referral:
    """The referral that the outlined lesions ask for: at most soon where the model's grade does not."""
    if supported.grade_range is None:
        return Referral()

    lowest = supported.grade_range[0]
    how_soon = table.grade[lowest]
    if how_soon == "urgent" and answer.grade is not None and not supported.is_grade_by_hand:
        how_soon = "soon"
    if lowest < REFERABLE_FROM:
        return Referral(how_soon)
    because = tuple(reason for reason in supported.because if reason.code.startswith("ICDR"))
    return Referral(most_urgent(how_soon, "soon"), because)


def _by_exudates(supported: Supported, answer: ModelAnswer, table: UrgencyTable) -> Referral:
    """The referral that the outlined exudates ask for: at most soon where the model's edema risk does not."""
    risk = supported.dme_risk or 0
    area = supported.exudate_areas_dd2[risk]
    is_sure = area == inf or (answer.risk is None and area >= table.evidence.exudate_area_dd2)
    how_soon = table.dme[risk]
    if how_soon == "urgent" and not is_sure:
        how_soon = "soon"
    if risk < DME_REFERABLE_FROM:
        return Referral(how_soon)
    because = tuple(reason for reason in supported.because if reason.code.startswith("DME"))
    return Referral(most_urgent(how_soon, "soon"), because)


def _by_risk(supported: Supported, answer: ModelAnswer, table: UrgencyTable) -> Referral:
    """The referral that the model's edema risk asks for: urgent if it is probable and exudates of some size agree."""
    risk = answer.risk
    if answer.dme_probs is None or risk is None:
        return Referral()

    how_soon = table.dme[risk]
    if how_soon == "urgent" and not _is_urgent_risk(supported, answer.dme_probs, table):
        how_soon = "soon"
    if risk < DME_REFERABLE_FROM:
        return Referral(how_soon)
    low, high = supported.dme_range or (0, 0)
    is_outlined = low <= risk <= high
    exudates = tuple(reason for reason in supported.because if reason.code.startswith("DME"))
    reasons = exudates if is_outlined else (message("DME_REFERABLE", {"risk": risk}),)
    return Referral(most_urgent(how_soon, "soon"), reasons)


def _is_urgent_risk(supported: Supported, probs: Sequence[float], table: UrgencyTable) -> bool:
    chance, evidence = _chance(probs, table.dme), table.evidence
    if supported.dme_range is None:  # no exudates were outlined that could agree
        return chance >= evidence.dme_probability_alone
    lowest_urgent = table.dme.index("urgent")
    area = supported.exudate_areas_dd2[lowest_urgent]
    return chance >= evidence.dme_probability and area >= evidence.exudate_area_dd2


def _chance(probs: Sequence[float], row: Sequence[Urgency]) -> float:
    """The probability of the classes that are urgent."""
    return float(sum(prob for prob, how_soon in zip(probs, row, strict=True) if how_soon == "urgent"))


def _area_dd2(lesions: Sequence[LesionObject], anatomy: Anatomy, by_hand: bool) -> float:
    """The area of lesions in squares of the disc's diameter: infinite of a person's, 0 if the disc's is unknown."""
    if lesions and by_hand:
        return inf
    if not anatomy.disc_diameter_px:
        return 0.0
    return sum(lesion.area_px for lesion in lesions) / anatomy.disc_diameter_px**2


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
