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
from funduscope.inference.rules import DME_REFERABLE_FROM
from funduscope.quality.gradability import GROUPS
from funduscope.vocabulary import GRADES, REFERABLE_FROM

FIELDS: Final = ("name", "clinic", "phone", "visit")
"""Lines that the clinic fills in by hand."""

_POOR: Final = frozenset({*GROUPS, "TOO_DARK", "TOO_BRIGHT"})
"""Warnings about the quality of the photo."""


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


@dataclass(frozen=True)
class Corrected:
    """A person's corrections; None where there is none."""

    grade: int | None = None
    dme: int | None = None


NOTHING_CORRECTED: Final = Corrected()


def compose(found: Mapping[str, Any], words: Words, corrected: Corrected = NOTHING_CORRECTED) -> PatientLeaflet:
    """The leaflet of one photo. found: as in findings.json; corrected: replaces the model's answers.

    The leaflet of a photo that is not gradable says that a new photo is needed, and nothing about the eye.
    """
    examined = Part(words("sheet.looked"), (words("sheet.looked_says"),))
    parts = _gradable(_Content.of(found, corrected), words) if found["gradable"]["ok"] else _not_gradable(words)
    sha = found["photo"]["sha256"][:12]
    return PatientLeaflet(
        language=words.language,
        title=words("sheet.title"),
        subtitle=words("sheet.subtitle"),
        eye=words(f"sheet.eye.{found['laterality'] or 'unknown'}"),
        picture=words("sheet.picture"),
        parts=(examined, *parts),
        contact=Part(words("sheet.contact"), (words("sheet.contact.says"),)),
        fields=tuple(words(f"sheet.contact.{name}") for name in FIELDS),
        small=f"{words('sheet.made_by')} {words('paper.photo', {'sha': sha})}",
    )


@dataclass(frozen=True)
class _Content:
    """What the leaflet reports. level: the grade; None if neither model nor person graded the photo."""

    level: int | None
    risk: int | None
    kinds: tuple[str, ...]
    refer: bool | None
    is_unsure: bool
    is_poor: bool

    @classmethod
    def of(cls, found: Mapping[str, Any], corrected: Corrected) -> _Content:
        rules = found["rules"] or {}
        model_risk = None if found["dme"] is None else found["dme"]["risk"]
        lowest = (rules.get("grade_range") or [None])[0]
        level = _more_careful(found["predicted_grade"], lowest) if corrected.grade is None else corrected.grade
        risk = _more_careful(model_risk, rules.get("dme_risk")) if corrected.dme is None else corrected.dme
        is_corrected = corrected != NOTHING_CORRECTED
        refer = None if found["advice"] is None else bool(found["advice"]["refer"])
        if is_corrected:  # the model's answer counts where nothing was corrected
            probable = corrected.grade is None and bool((found["referable"] or {}).get("value"))
            refer = probable or (level or 0) >= REFERABLE_FROM or (risk or 0) >= DME_REFERABLE_FROM
        # Referred because of what may be there, though the likeliest answer needs no referral: the leaflet says so.
        only_possible = refer is True and (level or 0) < REFERABLE_FROM and (risk or 0) < DME_REFERABLE_FROM
        kinds = [code for code, one in (found["lesions"] or {}).items() if one["present"]]
        return cls(
            level,
            risk,
            tuple(kinds) if level != 0 or corrected.grade is None else (),
            refer,
            not is_corrected and (False in (rules.get("agrees"), rules.get("dme_agrees")) or only_possible),
            any(note["code"] in _POOR for note in found["warnings"]),
        )


def _more_careful(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return max(known) if known else None


def _gradable(content: _Content, words: Words) -> tuple[Part, ...]:
    has_marks = bool(content.level) or bool(content.risk) or bool(content.kinds)
    is_unknown = content.level is None and not has_marks
    level = min(max(content.level or 0, int(has_marks)), len(GRADES) - 1)
    found = [words("sheet.found.not_looked" if is_unknown else f"sheet.found.{level}")]
    after = []
    if content.kinds:
        found.append(words("sheet.seen"))
    if content.risk:
        after.append(words(f"sheet.edema.{content.risk}" if "EX" in content.kinds else "sheet.edema.unmarked"))
    after += [
        words(f"sheet.found.{name}") for name, so in (("unsure", content.is_unsure), ("poor", content.is_poor)) if so
    ]
    step = "clinic" if content.refer is None else "refer" if content.refer else "no_referral"
    first = "sheet.not.lost" if has_marks else "sheet.not.healthy"
    return (
        Part(words("sheet.found"), tuple(found), tuple(_kind(code, words) for code in content.kinds), tuple(after)),
        Part(words("sheet.next"), (words(f"sheet.next.{step}"), words("sheet.next.sudden"))),
        Part(words("sheet.not"), (), (words(first), words("sheet.not.diagnosis"), words("sheet.not.others"))),
    )


def _not_gradable(words: Words) -> tuple[Part, ...]:
    return (
        Part(words("sheet.found"), (words("sheet.found.not_read"),)),
        Part(words("sheet.next"), (words("sheet.next.again"), words("sheet.next.sudden"))),
        Part(words("sheet.not"), (), (words("sheet.not.wrong"), words("sheet.not.others"))),
    )


def _kind(code: str, words: Words) -> str:
    """A kind of lesion in plain words; its name if a new entry of the vocabulary has no plain words yet."""
    key = f"sheet.seen.{code}"
    return words(key) if words.has(key) else words.structure(code)
