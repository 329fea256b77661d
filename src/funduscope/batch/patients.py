"""A row a patient and visit: the worst of both eyes, who must be seen first at the top.

An eye's grade is the higher of the model's and of what the outlined lesions support, over all of its photos; so is its
macular edema risk. An eye with no photo that can be read and graded is named, since no answer of the other eye speaks
for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from funduscope.batch.columns import PROBABILITY, Column, Kind
from funduscope.batch.store import StoredResult

URGENCIES: Final = ("urgent", "soon", "retake", "routine")
"""From who must be seen first. retake: nothing found, but an eye without a photo that can be graded."""

EYES: Final = ("right", "left")


@dataclass
class Eye:
    """photos: how many. graded: how many could be; a refused photo that was answered all the same is none of them.
    grade, dme: the worst, None without an answer; decided_by, decided_name: place and name of the
    photo that shows it."""

    photos: int = 0
    graded: int = 0
    grade: int | None = None
    dme: int | None = None
    decided_by: str = ""
    decided_name: str = ""
    urgency: str = "routine"
    chance: float = 0.0
    because: list[str] = field(default_factory=list)

    def add(self, one: StoredResult) -> None:
        self.photos += 1
        found = one.found or {}
        if one.state != "read" or found.get("predicted_grade") is None:
            return
        self.graded += (found.get("gradable") or {}).get("advice") != "refuse"
        rules, advice = found.get("rules") or {}, found.get("advice") or {}
        grade = max(found["predicted_grade"], (rules.get("grade_range") or [0])[0])
        risk = max((found.get("dme") or {}).get("risk") or 0, rules.get("dme_risk") or 0)
        chance = (found.get("referable") or {}).get("probability") or 0.0
        urgency = advice.get("urgency") or ("soon" if advice.get("refer") else "routine")
        if self.grade is None or _order(urgency, grade, risk, chance) < _order(
            self.urgency, self.grade, self.dme or 0, self.chance
        ):
            self.decided_by, self.decided_name = one.place, one.name
            self.urgency, self.chance = urgency, chance
            self.because = [note["code"] for note in advice.get("because") or ()]
        self.grade, self.dme = max(grade, self.grade or 0), max(risk, self.dme or 0)


def _order(urgency: str, grade: int, risk: int, chance: float) -> tuple[float, ...]:
    return URGENCIES.index(urgency), -grade, -risk, -chance


def _column(name: str, kind: Kind = "text", unit: str = "") -> Column:
    return Column(name, kind, lambda row: row[name], unit)


PATIENT_COLUMNS: Final = (
    *(_column(name) for name in ("patient", "visit", "date", "urgency")),
    _column("refer", "bool"),
    *(_column(f"{eye}_{name}", "int") for eye in (*EYES, "other") for name in ("grade", "dme")),
    _column("referable_probability", "float", PROBABILITY),
    *(_column(name) for name in ("decided_by", "because", "ungradable_eyes")),
    *(_column(name, "int") for name in ("photos", "failed")),
)
"""other: photos of which neither the table nor the model says which eye they show. ungradable_eyes: those that have
photos, of which none can be graded."""


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
    return (*_order(row["urgency"], grade, risk, row["referable_probability"] or 0), row["patient"], row["visit"])


def _patient_and_visit(one: StoredResult) -> tuple[str, str]:
    known = one.known or {}
    return known.get("patient") or one.place, known.get("visit") or ""


def _row(patient: str, visit: str, photos: list[StoredResult]) -> dict[str, Any]:
    eyes = {name: Eye() for name in (*EYES, "other")}
    for one in photos:
        eyes[_eye(one)].add(one)
    answered = [eye for eye in eyes.values() if eye.grade is not None]
    worst = min(answered, key=lambda eye: _order(eye.urgency, eye.grade or 0, eye.dme or 0, eye.chance), default=Eye())
    both = all(eyes[name].graded for name in EYES)  # then a photo of an unknown eye hides neither
    ungradable = [name for name, eye in eyes.items() if eye.photos and not eye.graded and not both]
    failed = sum(one.state == "failed" for one in photos)
    urgency = worst.urgency if worst.urgency != "routine" or (answered and not ungradable) else "retake"
    row: dict[str, Any] = {"patient": patient, "visit": visit, "urgency": urgency}
    row["date"] = max(((one.known or {}).get("date") or "" for one in photos), default="") or None
    row["refer"] = worst.urgency != "routine" if answered else None
    for name, eye in eyes.items():
        row[f"{name}_grade"], row[f"{name}_dme"] = eye.grade, eye.dme
    row["referable_probability"] = worst.chance if answered else None
    row["decided_by"], row["because"] = worst.decided_by or None, " ".join(worst.because)
    row["decided_name"] = worst.decided_name
    row["ungradable_eyes"] = " ".join(ungradable)
    return row | {"photos": len(photos), "failed": failed}


def _eye(one: StoredResult) -> str:
    """Which eye a photo shows: the table's word, otherwise the model's."""
    named = (one.known or {}).get("eye") or (one.found or {}).get("laterality")
    return named if named in EYES else "other"
