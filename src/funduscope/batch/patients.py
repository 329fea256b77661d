"""A row per patient and visit: the worst of both eyes, who must be seen first at the top.

An eye's grade is the higher of the model's and of what the outlined lesions support, over all of its photos; so is its
macular edema risk. A model may answer one of them alone, or outline lesions only. An eye with no photo that can be read
and graded is named, since no answer of the other eye speaks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePath
from typing import Any, Final

from funduscope.batch.columns import PROBABILITY, Column, Kind, side_conflict
from funduscope.batch.store import StoredResult
from funduscope.inference.rules import more_careful, with_rules
from funduscope.inference.stated import undisputed_eye

PRIORITIES: Final = ("urgent", "soon", "retake", "person", "routine")
"""From who must be seen first. retake: nothing found, but an eye without a photo that can be graded; person: nothing
found, but an eye with none but photos that a person should grade."""

EYES: Final = ("right", "left")


@dataclass
class Eye:
    """photos: how many. graded: how many could be; a refused photo that was answered all the same is none of them.
    believed: how many of these the model may grade alone. answered: how many the model said anything of: grade, edema
    risk or lesions. grade, dme: the worst, None if nothing tells; decided_by: the photo that shows it; decided: its
    place, name and code. chance: of a grade that is referred, None of a model without grades."""

    photos: int = 0
    graded: int = 0
    believed: int = 0
    answered: int = 0
    grade: int | None = None
    dme: int | None = None
    decided_by: str | None = None
    decided: tuple[str, str, str | None] | None = None
    urgency: str = "routine"
    chance: float | None = None
    because: list[str] = field(default_factory=list)

    def add(self, one: StoredResult) -> None:
        self.photos += 1
        found = one.found or {}
        advice = found.get("advice")
        if one.state != "read" or advice is None:
            return
        referral = (found.get("headline") or {}).get("referral") or {}
        is_poor = (found.get("gradable") or {}).get("advice") in ("refuse", "retake")
        is_graded = not is_poor and referral.get("code") != "NO_REFERRAL_RETAKE"
        self.graded += is_graded
        self.believed += is_graded and referral.get("code") != "NO_REFERRAL_PERSON"
        grade, risk = with_rules(found)
        chance = (found.get("referable") or {}).get("probability")
        urgency = advice.get("urgency") or ("soon" if advice.get("refer") else "routine")
        if not self.answered or _order(urgency, grade, risk, chance) < self.order:
            self.decided_by, self.decided = _named(one), (one.place, one.name, one.code)
            self.urgency, self.chance = urgency, chance
            self.because = [note["code"] for note in advice.get("because") or ()]
        self.answered += 1
        self.grade, self.dme = more_careful(grade, self.grade), more_careful(risk, self.dme)

    @property
    def order(self) -> tuple[float, ...]:
        """By which the worst of several eyes is the least."""
        return _order(self.urgency, self.grade, self.dme, self.chance)


def _order(urgency: str, grade: int | None, risk: int | None, chance: float | None) -> tuple[float, ...]:
    return PRIORITIES.index(urgency), -(grade or 0), -(risk or 0), -(chance or 0.0)


def _column(name: str, kind: Kind = "text", unit: str = "") -> Column:
    return Column(name, kind, lambda row: row[name], unit)


PATIENT_COLUMNS: Final = (
    *(_column(name) for name in ("patient", "visit", "date", "urgency")),
    _column("refer", "bool"),
    *(_column(f"{eye}_{name}", "int") for eye in (*EYES, "other") for name in ("grade", "dme")),
    _column("referable_probability", "float", PROBABILITY),
    *(_column(name) for name in ("decided_by", "because", "ungradable_eyes", "person_eyes")),
    _column("side_conflicts"),
    *(_column(name, "int") for name in ("photos", "failed")),
)
"""other: photos of which neither the table nor the model says which eye they show, or of which the file contradicts the
model. ungradable_eyes: those that have photos, of which none can be graded. person_eyes: those of which a
person should grade every photo that can be. side_conflicts: the photos that show another eye than the
table, or their own file, says."""


def patient_rows(results: Iterable[StoredResult]) -> Iterator[dict[str, Any]]:
    """A row for each patient and visit of results that are in the order of both.

    A photo whose patient no table names is taken for a patient of its own, by its place.
    """
    for (patient, visit), photos in groupby(results, key=_patient_and_visit):
        yield _row(patient, visit, list(photos))


def sorting_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Who must be seen first: by urgency, then the worst grade and risk, then the chance that there is something."""
    grade = max(row[f"{eye}_grade"] or 0 for eye in (*EYES, "other"))
    risk = max(row[f"{eye}_dme"] or 0 for eye in (*EYES, "other"))
    return (*_order(row["urgency"], grade, risk, row["referable_probability"]), row["patient"], row["visit"])


def _patient_and_visit(one: StoredResult) -> tuple[str, str]:
    known = one.known or {}
    return known.get("patient") or one.place, known.get("visit") or ""


def _row(patient: str, visit: str, photos: list[StoredResult]) -> dict[str, Any]:
    eyes = {name: Eye() for name in (*EYES, "other")}
    for one in photos:
        eyes[_eye(one)].add(one)
    answered = [eye for eye in eyes.values() if eye.answered]
    worst = min(answered, key=lambda eye: eye.order, default=Eye())
    both = all(eyes[name].graded for name in EYES)  # then a photo of an unknown eye hides neither
    ungradable = [name for name, eye in eyes.items() if eye.photos and not eye.graded and not both]
    both = all(eyes[name].believed for name in EYES)
    by_person = [name for name, eye in eyes.items() if eye.graded and not eye.believed and not both]
    failed = sum(one.state == "failed" for one in photos)
    urgency = worst.urgency
    if urgency == "routine":
        urgency = "retake" if ungradable or not answered else "person" if by_person else "routine"
    row: dict[str, Any] = {"patient": patient, "visit": visit, "urgency": urgency}
    row["date"] = max(((one.known or {}).get("date") or "" for one in photos), default="") or None
    row["refer"] = worst.urgency != "routine" if answered else None
    for name, eye in eyes.items():
        row[f"{name}_grade"], row[f"{name}_dme"] = eye.grade, eye.dme
    row["referable_probability"] = worst.chance
    row["decided_by"], row["decided"], row["because"] = worst.decided_by, worst.decided, " ".join(worst.because)
    if not answered and (refused := next((one for one in photos if one.state == "refused"), None)):
        row["decided_by"], row["decided"] = _named(refused), (refused.place, refused.name, refused.code)
    row["ungradable_eyes"] = " ".join(ungradable)
    row["person_eyes"] = " ".join(by_person)
    row["side_conflicts"] = " ".join(_named(one) for one in photos if side_conflict(one))
    return row | {"photos": len(photos), "failed": failed}


def _named(one: StoredResult) -> str:
    """A photo's place; of a frame of several with the photo's name in place of the file's."""
    place = PurePath(one.place)
    return one.place if one.name == place.name else str(place.with_name(one.name))


def _eye(one: StoredResult) -> str:
    """Which eye a photo shows: the table's word, otherwise the model's, unless the file contradicts that."""
    found = one.found or {}
    named = (one.known or {}).get("eye") or (undisputed_eye(found) if found.get("laterality") else None)
    return named if named in EYES else "other"
