"""The patient leaflet: what was examined, what was found, what to do next, and what it does not mean.

It is for everybody: short sentences, no technical terms, no probabilities, nothing that frightens. Every sentence is
chosen by the codes and values of findings, in the language of the leaflet; none is translated from another. What to do
follows from `advice`, so that the leaflet never says less than the page for the clinician; whom to see, and when, is
filled in by the clinic. A grade or edema risk that a person corrected replaces the model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from funduscope.i18n.languages import Words
from funduscope.inference.headline import headline
from funduscope.inference.rules import DME_REFERABLE_FROM, advice_after, is_hardly_visible, with_rules
from funduscope.inference.stated import undisputed_eye
from funduscope.inference.urgency import urgency
from funduscope.vocabulary import REFERABLE_FROM

FIELDS: Final = ("name", "clinic", "phone", "visit")
"""Lines that the clinic fills in by hand."""


@dataclass(frozen=True)
class Part:
    """One part of the leaflet: sentences, a list of points below them, and sentences after the list."""

    title: str
    says: tuple[str, ...]
    points: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatientLeaflet:
    """The texts of a leaflet in one language. fields: names of the lines to fill in by hand."""

    language: str
    title: str
    subtitle: str
    eye: str
    picture: str
    parts: tuple[Part, ...]
    contact: Part
    fields: tuple[str, ...]
    small: str


def compose(
    found: Mapping[str, Any], words: Words, *, grade: int | None = None, dme: int | None = None
) -> PatientLeaflet:
    """The leaflet of one photo. found: as in findings.json; grade, dme: a person's, instead of the model's.

    The leaflet of a photo that is not gradable, or shows hardly anything, says that a new photo is needed, and nothing
    about the eye, also if someone asked for an answer nevertheless.
    """
    is_refused = found["gradable"]["advice"] == "refuse"
    is_refused |= is_hardly_visible(found) and grade is None and dme is None
    looked = [words("sheet.looked_says")]
    if is_refused or _looked(found):
        looked.append(words("sheet.looked_for"))
    examined = Part(words("sheet.looked"), (" ".join(looked),))
    parts = _not_gradable(found, words) if is_refused else _gradable(found, words, grade, dme)
    eye = None if is_refused else undisputed_eye(found)
    sha = found["photo"]["sha256"][:12]
    return PatientLeaflet(
        language=words.language,
        title=words("sheet.title"),
        subtitle=words("sheet.subtitle"),
        eye=words(f"sheet.eye.{eye or 'unknown'}"),
        picture=words("sheet.picture"),
        parts=(examined, *parts),
        contact=Part(words("sheet.contact"), (words("sheet.contact.says"),)),
        fields=tuple(words(f"sheet.contact.{name}") for name in FIELDS),
        small=f"{words('sheet.made_by')} {words('paper.photo', {'sha': sha})}",
    )


def _looked(found: Mapping[str, Any]) -> bool:
    """Whether the model answers anything about damage from diabetes. Some find disc and fovea alone."""
    return any(found[name] is not None for name in ("predicted_grade", "dme", "lesions"))


_DOUBTS: Final = frozenset({"TRUST_UNLIKE_TRAINING", "GRADE_UNDECIDED", "DME_UNDECIDED", "DME_UNDECIDED_LESIONS"})
"""Headlines of an answer that a person should look at."""


def _gradable(found: Mapping[str, Any], words: Words, grade: int | None, dme: int | None) -> tuple[Part, ...]:
    rules = found["rules"] or {}
    level, risk = with_rules(found)
    level, risk = level if grade is None else grade, risk if dme is None else dme
    is_referable = (level or 0) >= REFERABLE_FROM or (risk or 0) >= DME_REFERABLE_FROM
    is_referable |= urgency(level, risk, refer=False) != "routine"  # by a clinic's own table
    refer = None if found["advice"] is None else found["advice"]["refer"]
    if grade is None and dme is None:
        # Referred because of what may be there, though the likeliest answer needs no referral: the leaflet says so.
        # Where model and lesions disagree and neither is referable, the headline sends nobody to a person either.
        is_unsure = refer is not False and False in (rules.get("agrees"), rules.get("dme_agrees"))
        is_unsure |= refer is True and not is_referable
        is_unsure |= not _DOUBTS.isdisjoint(part["code"] for part in found["headline"].values() if part)
        is_unsure |= any(warning["code"] == "FOVEA_NOT_FOUND" for warning in found["warnings"])
    else:  # the model's answer counts where nothing was corrected
        is_unsure = dme is None and any(warning["code"] == "FOVEA_NOT_FOUND" for warning in found["warnings"])
        advice = advice_after(found, grade, dme)
        refer, found = advice["refer"], {**found, "advice": advice}
    stated = headline(found, grade=grade, dme=dme)
    said = (stated["referral"] or {}).get("code")
    if grade is not None or dme is not None:  # what was stated is not undecided any more
        doubts = _DOUBTS if grade is None else _DOUBTS - {"TRUST_UNLIKE_TRAINING"}
        is_unsure |= not doubts.isdisjoint(part["code"] for part in stated.values() if part)
    kinds = [code for code, one in (found["lesions"] or {}).items() if one["present"] and grade != 0]
    has_marks = bool(level or kinds or dme)
    without_grade = "nothing" if _looked(found) else "not_looked"
    is_undecided = grade is None and not kinds and (found["headline"]["grade"] or {}).get("code") == "GRADE_UNDECIDED"
    is_undecided |= bool(risk) and not has_marks  # an edema risk alone, of which nothing is outlined
    what = without_grade if level is None and not has_marks else max(level or 0, int(has_marks))
    says = [words(f"sheet.found.{'undecided' if is_undecided else what}")]
    if kinds:
        says.append(words("sheet.seen"))
    lowest, highest = rules.get("dme_range") or (None, None)
    is_placed = "EX" in kinds and (dme is not None or lowest == highest == risk)  # they lie where it says
    after = [words(f"sheet.edema.{risk}" if is_placed else "sheet.edema.unmarked")] if risk else []
    is_poor = found["gradable"]["advice"] == "retake"
    after += [words(f"sheet.found.{name}") for name, so in (("unsure", is_unsure), ("poor", is_poor)) if so]
    is_open = level is None or said == "NO_REFERRAL_PERSON"
    step = {None: "clinic", True: "refer", False: "clinic" if is_open else "no_referral"}[refer]
    if refer and (found["advice"] or {}).get("urgency") == "urgent":
        step = "urgent"
    steps = ["again"] if is_poor or (not refer and said == "NO_REFERRAL_RETAKE") else []
    first = "sheet.not.lost" if has_marks else "sheet.not.healthy"
    return (
        Part(words("sheet.found"), tuple(says), tuple(_kind(code, words) for code in kinds), tuple(after)),
        Part(words("sheet.next"), tuple(words(f"sheet.next.{name}") for name in (*steps, step, "sudden"))),
        Part(words("sheet.not"), (), (words(first), words("sheet.not.diagnosis"), words("sheet.not.others"))),
    )


def _not_gradable(found: Mapping[str, Any], words: Words) -> tuple[Part, ...]:
    if any(reason["code"] == "SEVERAL_PHOTOS" for reason in found["gradable"]["reasons"]):  # each may be a good one
        return (
            Part(words("sheet.found"), (words("sheet.found.several"),)),
            Part(words("sheet.next"), (words("sheet.next.clinic"), words("sheet.next.sudden"))),
            Part(words("sheet.not"), (), (words("sheet.not.several"), words("sheet.not.others"))),
        )
    return (
        Part(words("sheet.found"), (words("sheet.found.not_read"),)),
        Part(words("sheet.next"), (words("sheet.next.again"), words("sheet.next.sudden"))),
        Part(words("sheet.not"), (), (words("sheet.not.wrong"), words("sheet.not.others"))),
    )


def _kind(code: str, words: Words) -> str:
    """A kind of lesion in plain words; its name if a new entry of the vocabulary has no plain words yet."""
    key = f"sheet.seen.{code}"
    return words(key) if words.has(key) else words.structure(code)
