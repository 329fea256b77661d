"""The sheet for the patient: what was looked at, what was found, what to do next, and what it does not mean.

For everybody: short sentences, no terms of the trade, no probabilities, nothing that frightens. Every sentence is
chosen by the codes and values of findings, in the language of the sheet; none is translated from another. What to do
follows from `advice`, so that the sheet never says less than the page for the clinician; who is asked, and when, is
for the clinic to fill in. Where a person corrected the grade or the edema risk, that word counts and not the model's.
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
"""What the clinic writes on it by hand."""

_POOR: Final = frozenset({*GROUPS, "TOO_DARK", "TOO_BRIGHT"})
"""Warnings that say that the photo could be better."""


@dataclass(frozen=True)
class Part:
    """One part of the sheet. points: a list below its sentences; after: what follows the list."""

    title: str
    says: tuple[str, ...]
    points: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatientLeaflet:
    """All that stands on it, in one language. fields: names of lines to be filled in by hand."""

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
    """What a person said of the photo; None where nothing was said."""

    grade: int | None = None
    dme: int | None = None


NOTHING_CORRECTED: Final = Corrected()


def compose(found: Mapping[str, Any], words: Words, corrected: Corrected = NOTHING_CORRECTED) -> PatientLeaflet:
    """The sheet of one photo. found: as in findings.json; corrected: a person's word, which counts before the model's.

    A photo that cannot be graded gets a sheet too: it says that a new photo is needed, and nothing of the eye.
    """
    looked = Part(words("sheet.looked"), (words("sheet.looked_says"),))
    told = _read(_Seen.of(found, corrected), words) if found["gradable"]["ok"] else _not_read(words)
    sha = found["photo"]["sha256"][:12]
    return PatientLeaflet(
        language=words.language,
        title=words("sheet.title"),
        subtitle=words("sheet.subtitle"),
        eye=words(f"sheet.eye.{found['laterality'] or 'unknown'}"),
        picture=words("sheet.picture"),
        parts=(looked, *told),
        contact=Part(words("sheet.contact"), (words("sheet.contact.says"),)),
        fields=tuple(words(f"sheet.contact.{name}") for name in FIELDS),
        small=f"{words('sheet.made_by')} {words('paper.photo', {'sha': sha})}",
    )


@dataclass(frozen=True)
class _Seen:
    """What the sheet speaks of. level: the grade that is told, None where nobody looked for it."""

    level: int | None
    risk: int | None
    kinds: tuple[str, ...]
    refer: bool | None
    is_unsure: bool
    is_poor: bool

    @classmethod
    def of(cls, found: Mapping[str, Any], corrected: Corrected) -> _Seen:
        rules = found["rules"] or {}
        model_risk = None if found["dme"] is None else found["dme"]["risk"]
        lowest = (rules.get("grade_range") or [None])[0]
        level = _more_careful(found["predicted_grade"], lowest) if corrected.grade is None else corrected.grade
        risk = _more_careful(model_risk, rules.get("dme_risk")) if corrected.dme is None else corrected.dme
        said = corrected != NOTHING_CORRECTED
        refer = None if found["advice"] is None else bool(found["advice"]["refer"])
        if said:  # the model's advice stands for whatever nobody corrected
            probable = corrected.grade is None and bool((found["referable"] or {}).get("value"))
            refer = probable or (level or 0) >= REFERABLE_FROM or (risk or 0) >= DME_REFERABLE_FROM
        # Referred, for what may be there, though the likeliest answer is an eye that need not be: say so.
        unlike = refer is True and (level or 0) < REFERABLE_FROM and (risk or 0) < DME_REFERABLE_FROM
        kinds = [code for code, one in (found["lesions"] or {}).items() if one["present"]]
        return cls(
            level,
            risk,
            tuple(kinds) if level != 0 or corrected.grade is None else (),
            refer,
            not said and (False in (rules.get("agrees"), rules.get("dme_agrees")) or unlike),
            any(note["code"] in _POOR for note in found["warnings"]),
        )


def _more_careful(one: int | None, other: int | None) -> int | None:
    said = [value for value in (one, other) if value is not None]
    return max(said) if said else None


def _read(seen: _Seen, words: Words) -> tuple[Part, ...]:
    has_marks = bool(seen.level) or bool(seen.risk) or bool(seen.kinds)
    level = min(max(seen.level or 0, int(has_marks)), len(GRADES) - 1)
    found = [words("sheet.found.not_looked" if seen.level is None and not has_marks else f"sheet.found.{level}")]
    after = []
    if seen.kinds:
        found.append(words("sheet.seen"))
    if seen.risk:
        after.append(words(f"sheet.edema.{seen.risk}" if "EX" in seen.kinds else "sheet.edema.unmarked"))
    after += [words(f"sheet.found.{name}") for name, so in (("unsure", seen.is_unsure), ("poor", seen.is_poor)) if so]
    step = "clinic" if seen.refer is None else "refer" if seen.refer else "no_referral"
    first = "sheet.not.lost" if has_marks else "sheet.not.healthy"
    return (
        Part(words("sheet.found"), tuple(found), tuple(_kind(code, words) for code in seen.kinds), tuple(after)),
        Part(words("sheet.next"), (words(f"sheet.next.{step}"), words("sheet.next.sudden"))),
        Part(words("sheet.not"), (), (words(first), words("sheet.not.diagnosis"), words("sheet.not.others"))),
    )


def _not_read(words: Words) -> tuple[Part, ...]:
    return (
        Part(words("sheet.found"), (words("sheet.found.not_read"),)),
        Part(words("sheet.next"), (words("sheet.next.again"), words("sheet.next.sudden"))),
        Part(words("sheet.not"), (), (words("sheet.not.wrong"), words("sheet.not.others"))),
    )


def _kind(code: str, words: Words) -> str:
    """A kind of lesion in plain words; its name where the vocabulary got it only yesterday."""
    key = f"sheet.seen.{code}"
    return words(key) if words.has(key) else words.structure(code)
