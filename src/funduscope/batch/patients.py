"""A row per patient and visit: the worst of both eyes, who must be seen first at the top."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import PurePath
from typing import Any, Final

from funduscope.batch.columns import PROBABILITY, Column, Kind, side_conflict
from funduscope.batch.results import StoredResult
from funduscope.inference.stated import undisputed_eye
from funduscope.inference.worklist import (
    EYES,
    Eye,
    PhotoAnswer,
    State,
    answer_of,
    decisive,
    is_referred,
    open_eyes,
    order,
    patient_state,
    reasons_to_retake,
)

EYE_NAMES: Final = (*EYES, "other")
"""other: photos of which neither the table nor the model says which eye they show, or of which the file contradicts the
model."""

OPEN_STATES: Final[tuple[State, ...]] = ("retake", "examine", "person")
"""Each has a column of the eyes that are in it."""


def _column(name: str, kind: Kind = "text", unit: str = "") -> Column:
    return Column(name, kind, lambda row: row[name], unit)


PATIENT_COLUMNS: Final = (
    *(_column(name) for name in ("patient", "visit", "date", "urgency")),
    _column("refer", "bool"),
    *(_column(f"{eye}_{name}", "int") for eye in EYE_NAMES for name in ("grade", "dme")),
    _column("referable_probability", "float", PROBABILITY),
    *(_column(name) for name in ("decided_by", "because")),
    *(_column(f"{state}_eyes") for state in OPEN_STATES),
    _column("side_conflicts"),
    *(_column(name, "int") for name in ("photos", "failed")),
)
"""retake_eyes: those of which a photo is to be taken again. examine_eyes: those of which it was, in vain. person_eyes:
those of which a person should grade every photo that can be. side_conflicts: the photos that show another eye than the
table, or their own file, says."""


def patient_rows(results: Iterable[StoredResult]) -> Iterator[dict[str, Any]]:
    """A row for each patient and visit of results that are in the order of both.

    A photo whose patient no table names is taken for a patient of its own, by its place.
    """
    for (patient, visit), photos in groupby(results, key=_patient_and_visit):
        yield _row(patient, visit, list(photos))


def sorting_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Who must be seen first: by urgency, then the worst grade and risk, then the chance that there is something."""
    grade = max(row[f"{eye}_grade"] or 0 for eye in EYE_NAMES)
    risk = max(row[f"{eye}_dme"] or 0 for eye in EYE_NAMES)
    return (*order(row["urgency"], grade, risk, row["referable_probability"]), row["patient"], row["visit"])


def _patient_and_visit(one: StoredResult) -> tuple[str, str]:
    known = one.known or {}
    return known.get("patient") or one.place, known.get("visit") or ""


def _row(patient: str, visit: str, photos: list[StoredResult]) -> dict[str, Any]:
    """A patient's row. `decided` and `unread` are for the page, and no columns."""
    answers: dict[str, list[PhotoAnswer]] = {name: [] for name in EYE_NAMES}
    for photo in photos:
        answers[_eye(photo)].append(answer_of(photo, photo.found))
    eyes = {name: Eye(given) for name, given in answers.items()}
    states, state = open_eyes(eyes), patient_state(eyes)

    row: dict[str, Any] = {"patient": patient, "visit": visit, "urgency": state}
    row["date"] = max(((photo.known or {}).get("date") or "" for photo in photos), default="") or None
    row["refer"] = is_referred(state)
    for name, eye in eyes.items():
        row[f"{name}_grade"], row[f"{name}_dme"] = eye.grade, eye.risk

    worst = decisive(answer for given in answers.values() for answer in given)
    row["referable_probability"] = None if worst is None else worst.chance
    row |= _decision(photos, worst)
    for open_state in OPEN_STATES:
        row[f"{open_state}_eyes"] = " ".join(name for name in states if states[name] == open_state)
    row["unread"] = _unread(eyes, states)
    row["side_conflicts"] = " ".join(_named(photo) for photo in photos if side_conflict(photo))
    row["photos"] = len(photos)
    row["failed"] = sum(photo.state == "failed" for photo in photos)
    return row


def _decision(photos: Iterable[StoredResult], worst: PhotoAnswer | None) -> dict[str, Any]:
    """The photo that decides, and why; of a patient without an answer, a photo that was refused."""
    if worst is not None:
        photo = worst.photo
        because = " ".join(note["code"] for note in photo.found["advice"]["because"])
    else:
        photo = next((photo for photo in photos if photo.state == "refused"), None)
        because = ""
    if photo is None:
        return {"decided_by": None, "decided": None, "because": because}
    return {"decided_by": _named(photo), "decided": _report_place(photo), "because": because}


def _unread(eyes: Mapping[str, Eye], states: Mapping[str, State]) -> list[dict[str, Any]]:
    """The eyes without a photo that can be graded, with the last photo of each and what is wrong with it."""
    unread = []
    for name, state in states.items():
        if state == "person":
            continue
        photo: StoredResult = eyes[name].answers[-1].photo
        if photo.found is None:
            reasons = [photo.says or photo.code or ""]
        else:
            reasons = [note["says"] for note in reasons_to_retake(photo.found)]
        line = {"eye": name, "state": state, "why": " ".join(reasons), "place": _named(photo)}
        unread.append(line | {"report": _report_place(photo)})
    return unread


def _report_place(photo: StoredResult) -> tuple[str, str, str | None]:
    """What names the folder of a photo's report: place, name and code."""
    return photo.place, photo.name, photo.code


def _named(one: StoredResult) -> str:
    """A photo's place; of a frame of several with the photo's name in place of the file's."""
    place = PurePath(one.place)
    return one.place if one.name == place.name else str(place.with_name(one.name))


def _eye(one: StoredResult) -> str:
    """Which eye a photo shows: the table's word, otherwise the model's, unless the file contradicts that."""
    found = one.found or {}
    named = (one.known or {}).get("eye") or (undisputed_eye(found) if found.get("laterality") else None)
    return named if named in EYES else "other"
