"""A photo's answer as it stands by now: under its thresholds, with what a person corrected.

Grades and probabilities stay the model's own. The advice follows the person where one gave a grade or a risk, by the
rule of the patient's sheet, so that table, page and sheet never advise differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from funduscope.app.corrections import Corrections
from funduscope.i18n.languages import Words
from funduscope.i18n.messages import message
from funduscope.inference.findings import Findings
from funduscope.inference.rules import DME_REFERABLE_FROM
from funduscope.vocabulary import CODES, REFERABLE_FROM

_OF_GRADE: Final = ("GRADE_", "REFERABLE_", "ICDR_")
_OF_RISK: Final = ("DME_",)
_NOTHING: Final = "NOTHING_REFERABLE"


def told(findings: Findings) -> dict[str, Any]:
    """findings.json's content without the list of every lesion, which is the larger part of it."""
    found = findings.to_dict()
    for lesion in (found["lesions"] or {}).values():
        lesion["objects"] = []
    return found


def advised(found: Mapping[str, Any], now: Corrections) -> dict[str, Any]:
    """The findings with the advice that follows from a person's grade and risk, and from the rest where none was given.

    found: as in findings.json, under the corrected outlines.
    """
    found = dict(found)
    if found["lesions"] is not None:  # what a person outlined stands under no threshold
        found["lesions"] = {
            code: one | {"threshold": None} if code in now.by_hand else one for code, one in found["lesions"].items()
        }
    if now.grade is None and now.dme is None:
        return found
    because = [one for one in (found["advice"] or {}).get("because", ()) if one["code"] != _NOTHING]
    if now.grade is not None:
        because = [one for one in because if not one["code"].startswith(_OF_GRADE)]
        if now.grade >= REFERABLE_FROM:
            because.insert(0, message("GRADE_REFERABLE", {"grade": now.grade}).to_dict())
    if now.dme is not None:
        because = [one for one in because if not one["code"].startswith(_OF_RISK)]
        if now.dme >= DME_REFERABLE_FROM:
            because.append(message("DME_REFERABLE", {"risk": now.dme}).to_dict())
    found["advice"] = {"refer": bool(because), "because": because or [message(_NOTHING).to_dict()]}
    return found


def in_words(now: Corrections, words: Words, grade: str = "") -> str:
    """All that a person said of a photo, for the page and for paper; empty where nothing was said.

    grade: the name of the grade that was given.
    """
    parts = [] if now.grade is None else [f"{words('grade.title')}: {grade}"]
    parts += [] if now.dme is None else [f"{words('dme.title')}: {now.dme}"]
    confirmed = now.looked_at - now.by_hand
    for key, kinds in (("correct.by_hand", now.by_hand), ("correct.confirmed", confirmed)):
        if kinds:
            names = ", ".join(words.structure(code) for code in CODES if code in kinds)
            parts.append(f"{words(key)}: {names}")
    parts += [words(f"correct.{name}") for name, xy in (("optic_disc", now.disc_xy), ("fovea", now.fovea_xy)) if xy]
    return "; ".join(parts)
