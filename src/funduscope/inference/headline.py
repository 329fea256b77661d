"""The headlines, shown largest wherever findings are shown: whether to trust the answer, grade, edema risk, referral.

One function makes it from probabilities, the set of grades, the rules, the photo's quality and what a person stated, so
that page, reports, terminal and tables say one thing.

A doubtful answer is called doubtful: "undecided" below a probability of `UNDECIDED`, "probably" below `SURE`, where a
grade cannot be excluded, where the outlined lesions support another answer, where a grade below 2 comes with a chance
of more that is referred for, and of edema where the fovea was not found. Where an undecided answer leads to no
referral, a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from funduscope.i18n.messages import Message, message
from funduscope.inference.rules import is_hardly_visible
from funduscope.inference.urgency import most_urgent, urgency
from funduscope.vocabulary import REFERABLE_FROM

UNDECIDED: Final = 0.5
"""An answer less probable than this is called undecided."""

SURE: Final = 0.8
"""An answer less probable than this is called probable."""

UNLIKE: Final = frozenset({"NO_COLOR", "FAR_FROM_TRAINING"})
"""Warnings of a photo that is unlike those that the model learned from: a person should grade it."""

UNUSUAL_FIELD: Final = frozenset({"UNUSUAL_FIELD", "FIELD_LOOKS_WIDE", "FIELD_LOOKS_NARROW"})
"""Warnings of a field of view in which neither edema risk nor distances are given."""

_REFERRALS: Final = {
    "soon": ("REFER_SOON", "REFER_SOON_CHANCE", "REFER_SOON_LESIONS"),
    "urgent": ("REFER_URGENT", "REFER_URGENT_CHANCE", "REFER_URGENT_LESIONS"),
}
"""By urgency the codes of a referral: by grade or edema risk, by the chance of grade 2 or more, by lesions alone."""

Found = Mapping[str, Any]
"""As in findings.json."""


def headline(found: Found, *, grade: int | None = None, dme: int | None = None) -> dict[str, dict[str, Any] | None]:
    """The four headlines as messages of findings.json; null where there is nothing to say.

    trust: a warning that belongs above every answer, with what to do. grade, dme: the answers, with their doubt.
    referral: what follows. found: as in findings.json, with the advice that follows from `grade` and `dme`, the answers
    of a person (None if the person gave none).
    """
    parts = {
        "trust": _trust(found),
        "grade": _grade(found, grade),
        "dme": _dme(found, dme),
        "referral": _referral(found, grade, dme),
    }
    return {name: None if part is None else part.to_dict() for name, part in parts.items()}


def _trust(found: Found) -> Message | None:
    gradable = found["gradable"]
    if not gradable["ok"]:
        if _several_photos(gradable):
            return message("TRUST_SEVERAL_PHOTOS")
        codes = {reason["code"] for reason in gradable["reasons"]}
        if "RETINA_HIDDEN" in codes:
            return message("TRUST_RETINA_HIDDEN")
        return message("TRUST_NOT_FUNDUS" if "NOT_FUNDUS" in codes else "TRUST_NOT_GRADABLE")
    if gradable["advice"] == "refuse":
        return message("TRUST_FORCED")
    if gradable["advice"] == "retake":
        return message("TRUST_HARDLY_VISIBLE" if is_hardly_visible(found) else "TRUST_RETAKE")
    if _warned(found) & UNUSUAL_FIELD:
        return message("TRUST_UNUSUAL_FIELD")
    return message("TRUST_UNLIKE_TRAINING") if _warned(found) & UNLIKE else None


def _warned(found: Found) -> set[str]:
    return {warning["code"] for warning in found.get("warnings", ())}


def _several_photos(gradable: Found) -> bool:
    return any(reason["code"] == "SEVERAL_PHOTOS" for reason in gradable["reasons"])


def _grade(found: Found, stated: int | None) -> Message | None:
    grade = found["predicted_grade"]
    if stated is not None:
        return message("GRADE_YOURS" if grade is None else "GRADE_YOURS_MODEL", {"grade": stated, "model": grade})
    if grade is None:
        return None
    if is_hardly_visible(found):
        return message("GRADE_NOT_KNOWN")
    values = {"grade": grade, "chance": found["confidence"]}
    if found["confidence"] < UNDECIDED:
        return message("GRADE_UNDECIDED", values)
    referable, rules = found["referable"] or {}, found["rules"] or {}
    is_doubtful = (
        found["confidence"] < SURE
        or len(found.get("grade_set") or ()) > 1
        or rules.get("agrees") is False
        or (grade < REFERABLE_FROM and referable.get("value"))
    )
    return message("GRADE_PROBABLE" if is_doubtful else "GRADE", values)


def _dme(found: Found, stated: int | None) -> Message | None:
    dme, rules = found["dme"], found["rules"] or {}
    if stated is not None:
        values = {"risk": stated, "model": None if dme is None else dme["risk"]}
        return message("DME_YOURS" if dme is None else "DME_YOURS_MODEL", values)
    if dme is None:
        return message("DME_NOT_GIVEN") if _warned(found) & UNUSUAL_FIELD else None
    if is_hardly_visible(found):
        return message("DME_NOT_KNOWN")
    values = {"risk": dme["risk"], "chance": dme["confidence"]}
    if dme["confidence"] < UNDECIDED:
        if rules.get("dme_risk") is None:
            return message("DME_UNDECIDED", values)
        return message("DME_UNDECIDED_LESIONS", {**values, "supported": rules["dme_risk"]})
    is_doubtful = dme["confidence"] < SURE or rules.get("dme_agrees") is False
    is_doubtful |= "FOVEA_NOT_FOUND" in _warned(found)
    return message("DME_PROBABLE" if is_doubtful else "DME", values)


def _referral(found: Found, grade: int | None, dme: int | None) -> Message | None:
    advice, gradable = found["advice"], found["gradable"]
    if found.get("partial"):
        return message("REFERRAL_NOT_YET")
    if advice is not None and advice["refer"]:
        return _refer(found, grade, dme)
    if _several_photos(gradable):
        return None  # each of them may be a good one, and what to do is said above
    if not gradable["ok"] or gradable["advice"] == "refuse" or is_hardly_visible(found):
        return message("RETAKE_OR_EXAMINE") if advice is None or grade is None else message("NO_REFERRAL")
    if advice is None:
        return None
    assessed = grade, found["predicted_grade"], (found["rules"] or {}).get("grade_range")
    if assessed == (None, None, None):
        return message("REFERRAL_OPEN")
    # Without the macula in the photo nothing is known of edema.
    is_unseen = "FOVEA_NOT_FOUND" in _warned(found) and found["dme"] is not None and dme is None
    if gradable["advice"] == "retake" or is_unseen:
        return message("NO_REFERRAL_RETAKE")
    is_doubtful = _warned(found) & (UNLIKE | UNUSUAL_FIELD) and grade is None
    is_doubtful = is_doubtful or _is_undecided(_grade(found, grade)) or _is_undecided(_dme(found, dme))
    return message("NO_REFERRAL_PERSON" if is_doubtful else "NO_REFERRAL")


def _is_undecided(answer: Message | None) -> bool:
    return answer is not None and "UNDECIDED" in answer.code


def _refer(found: Found, grade: int | None, dme: int | None) -> Message:
    """The referral, with its reason where the answers in the headline do not give it."""
    own_grade = found["predicted_grade"] if grade is None else grade
    own_risk = (found["dme"] or {}).get("risk") if dme is None else dme
    how_soon = found["advice"]["urgency"]
    by_answers, by_chance, by_lesions = _REFERRALS[how_soon]
    if most_urgent(how_soon, urgency(own_grade, own_risk, refer=True)) != urgency(own_grade, own_risk, refer=True):
        return message(by_lesions)  # more urgent than the answers are
    if (own_grade or 0) >= REFERABLE_FROM or own_risk or urgency(own_grade, own_risk, refer=False) == how_soon:
        return message(by_answers)
    if any(reason["code"] == "REFERABLE_PROBABLE" for reason in found["advice"]["because"]):
        return message(by_chance, {"chance": found["referable"]["probability"]})
    return message(by_lesions)
