"""The photos of the session by patient and eye, who must be seen first at the top.

A patient is known by the photos' names: `P17_left.jpg` and `P17_right.jpg` are of one, and so are the frames of a file.
A photo whose name gives no eye is of a patient of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final

from funduscope.app.reviewed import Corrections
from funduscope.app.session import Entry, Session
from funduscope.data.case import Laterality
from funduscope.data.rows import split_side
from funduscope.inference.stated import undisputed_eye
from funduscope.inference.uncertainty import uncertainty
from funduscope.inference.worklist import EYES, Eye, PhotoAnswer, State, answer_of, open_eyes, order, patient_state

EYE_NAMES: Final = (*EYES, "unknown")
"""unknown: neither the photo's name nor the photo tells the eye, or they contradict each other."""


@dataclass(frozen=True)
class PhotoRow:
    """One photo of a patient."""

    key: str
    name: str

    found: Mapping[str, Any]
    """As in findings.json, with the photo's thresholds and corrections, and the advice from them."""

    corrections: Corrections

    eye: str
    """One of `EYE_NAMES`."""

    answer: PhotoAnswer
    """What it says of its eye. Its grade and risk are a person's where one gave them."""

    @property
    def uncertainty(self) -> float | None:
        """How unsure the model is of the photo, from 0 to 1; None without a grade."""
        return uncertainty(self.found)


@dataclass(frozen=True)
class Patient:
    """The photos of one patient."""

    name: str
    photos: tuple[PhotoRow, ...]

    @property
    def eyes(self) -> dict[str, Eye]:
        """What the photos of each eye say together, by `EYE_NAMES`."""
        return {name: Eye([photo.answer for photo in self.of_eye(name)]) for name in EYE_NAMES}

    def of_eye(self, name: str) -> list[PhotoRow]:
        """The photos of one of `EYE_NAMES`, in the order in which they came."""
        return [photo for photo in self.photos if photo.eye == name]

    @property
    def state(self) -> State:
        """What is to be done, by the eye that must be seen to first."""
        return patient_state(self.eyes)

    @property
    def is_referred(self) -> bool:
        return self.state in ("urgent", "soon")

    def states_of(self, name: str) -> list[State]:
        """What is to be done about one eye: a referral, and what its photos leave open."""
        referral, unread = self.eyes[name].referral, open_eyes(self.eyes).get(name)
        if unread is None:
            return [referral]
        return [unread] if referral == "routine" else [referral, unread]

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """Who must be seen first: by state, then the worst grade and edema risk, then the chance of a referral."""
        grade = max(photo.answer.grade or 0 for photo in self.photos)
        risk = max(photo.answer.risk or 0 for photo in self.photos)
        chance = max(photo.answer.chance or 0.0 for photo in self.photos)
        return *order(self.state, grade, risk, chance), self.name.casefold()

    @property
    def uncertainty(self) -> float:
        """That of the photo of which the model is least sure; -1 if no photo has a grade."""
        return max(-1.0 if photo.uncertainty is None else photo.uncertainty for photo in self.photos)


def patients(session: Session) -> list[Patient]:
    """The patients of the session, who must be seen first at the top."""
    groups: dict[str, list[PhotoRow]] = {}
    names: dict[str, str] = {}
    for key, entry in list(session.entries.items()):  # a download reads them while the page adds photos
        name, side = _patient_and_side(entry)
        group = key if name is None else f"{name.casefold()}/"
        names.setdefault(group, name or PurePath(entry.name).stem)
        groups.setdefault(group, []).append(_photo_row(session, key, entry, side))

    of_session = [Patient(names[group], tuple(photos)) for group, photos in groups.items()]
    return sorted(of_session, key=lambda patient: patient.sort_key)


def rows(session: Session) -> list[PhotoRow]:
    """Every photo of the session, in the order of its patients and eyes."""
    return [photo for patient in patients(session) for photo in by_eye(patient)]


def by_eye(patient: Patient) -> Iterator[PhotoRow]:
    """A patient's photos, right eye first."""
    for name in EYE_NAMES:
        yield from patient.of_eye(name)


def _photo_row(session: Session, key: str, entry: Entry, side: Laterality | None) -> PhotoRow:
    found, corrections = session.found(key), session.history(key).now
    answer = answer_of(key, found)
    if corrections.grade is not None:
        answer = replace(answer, grade=corrections.grade)
    if corrections.dme is not None:
        answer = replace(answer, risk=corrections.dme)

    seen = undisputed_eye(found) if found["laterality"] else None
    is_disputed = side is not None and seen is not None and side != seen
    eye = "unknown" if is_disputed else side or seen or "unknown"
    return PhotoRow(key, entry.name, found, corrections, eye, answer)


def _patient_and_side(entry: Entry) -> tuple[str | None, Laterality | None]:
    """The patient and the eye by the photo's name; None for what it does not tell."""
    stem = PurePath(entry.name).stem
    if entry.frame is not None:
        stem = stem.removesuffix(f"_frame{entry.frame}")
    patient, side = split_side(stem)
    has_patient = bool(patient) and (side is not None or entry.frame is not None)
    return patient if has_patient else None, side
