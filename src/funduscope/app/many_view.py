"""All photos of the session by patient, the most urgent first; also as CSV, and as a PDF with a page for each photo."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from typing import Any, Final

import streamlit as st

from funduscope.app.batch_view import waiting_count
from funduscope.app.patients import EYE_NAMES, Patient, PhotoRow, patients, rows
from funduscope.app.printing import offer_file, pages_pdf
from funduscope.app.reviewed import Corrections, describe
from funduscope.app.session import Session
from funduscope.app.viewer_component import media_address, viewer
from funduscope.data.csv_cells import spreadsheet_cell
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Failure
from funduscope.inference.worklist import State, reasons_of
from funduscope.report.html import further_answers
from funduscope.report.outline import Palette
from funduscope.report.summary_csv import COLUMNS, SummaryRow, spreadsheet_cells
from funduscope.vocabulary import CLASSES, CODES

CORRECTION_COLUMNS: Final = (
    *(f"corrected_{task}" for task in CLASSES),
    *("corrected_outlines", "corrected_edits", "corrected_by", "corrected_at"),
)
"""Columns next to those of summary.csv: a person's classes, the kinds whose outlines are a person's, what was done to
them, by whom and when."""

MANY: Final = "many"
"""In Streamlit's state: the component that shows the patients."""

_ORDERS: Final[dict[str, Callable[[Patient], Any]]] = {
    "many.urgency": lambda patient: patient.sort_key,
    "many.uncertainty": lambda patient: -patient.uncertainty,
    "many.name": lambda patient: patient.name.casefold(),
}


def as_csv(photos: Iterable[PhotoRow], refused: Iterable[Failure]) -> bytes:
    """The photos in the format of summary.csv with a person's corrections, then the refused files.

    UTF-8 with a byte order mark, by which spreadsheets recognize it.
    """
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*COLUMNS, *CORRECTION_COLUMNS])
    for photo in photos:
        cells = spreadsheet_cells(SummaryRow(photo.name, found=photo.found))
        table.writerow([*cells, *_correction_cells(photo.corrections)])
    for failure in refused:
        blank = [None] * len(CORRECTION_COLUMNS)
        table.writerow([*spreadsheet_cells(SummaryRow(failure.photo_name, failure.code)), *blank])
    return file.getvalue().encode("utf-8-sig", "replace")


def _correction_cells(corrections: Corrections) -> list[Any]:
    """The cells of `CORRECTION_COLUMNS`."""
    by_hand = [code for code in CODES if code in corrections.by_hand]
    edits = [
        f"{code} {edit} {count}" for code in by_hand for edit, count in sorted(corrections.edits.get(code, {}).items())
    ]
    at = None if corrections.at is None else corrections.at.isoformat(timespec="minutes")
    graders = spreadsheet_cell(", ".join(corrections.graders))
    return [*(corrections.label(task) for task in CLASSES), " ".join(by_hand), ", ".join(edits), graders, at]


def show_many(session: Session, words: Words, _: Palette) -> None:
    """The patients; choosing a photo opens it."""
    worklist = patients(session)
    counts = {
        "patients": len(worklist),
        "count": len(session.entries),
        "referred": sum(patient.is_referred for patient in worklist),
        "retake": sum(_has_eye(patient, "retake") for patient in worklist),
        "examine": sum(_has_eye(patient, "examine") for patient in worklist),
    }
    st.markdown(words("many.counts", counts))
    st.caption(words("many.note"))

    order = st.segmented_control(
        words("many.sort"), list(_ORDERS), format_func=words, key="many-sort", default="many.urgency", required=True
    )
    worklist = sorted(worklist, key=_ORDERS[order or "many.urgency"])
    data = {"patients": [_patient_data(patient, session, words) for patient in worklist], "language": words.language}
    viewer("many")(key=MANY, data=data, on_open_change=lambda: _open_photo(session))

    left, right = st.columns([1, 1, 2])[:2]
    offer_file("many.csv", "summary.csv", as_csv(rows(session), session.refused), words, left)
    offer_file(
        "many.pdf",
        "funduscope.pdf",
        lambda: pages_pdf(session, [row.key for row in rows(session)], words),
        words,
        right,
        ready=not waiting_count(),
    )


def _open_photo(session: Session) -> None:
    """Shows the photo that was chosen, unless it was dropped from the session meanwhile."""
    key = getattr(st.session_state.get(MANY), "open", None)
    if key in session.entries:
        st.session_state.current = key
        st.session_state["open-one"] = True


def _has_eye(patient: Patient, state: State) -> bool:
    return any(state in patient.states_of(name) for name in EYE_NAMES if patient.of_eye(name))


def _state_text(state: State, words: Words) -> str:
    if state in ("urgent", "soon"):
        return words.sentence(f"REFER_{state.upper()}", {})
    return words("advice.no_referral" if state == "routine" else f"state.{state}")


def _patient_data(patient: Patient, session: Session, words: Words) -> dict[str, Any]:
    """What the browser draws of a patient: the texts of each eye and of its photos."""
    eyes = [
        {
            "eye": name,
            "title": words(f"photo.eye.{name}"),
            "states": [{"state": state, "text": _state_text(state, words)} for state in patient.states_of(name)],
            "photos": [_photo_data(photo, session, words) for photo in patient.of_eye(name)],
        }
        for name in EYE_NAMES
        if patient.of_eye(name)
    ]
    return {"name": patient.name, "state": patient.state, "text": _state_text(patient.state, words), "eyes": eyes}


def _photo_data(photo: PhotoRow, session: Session, words: Words) -> dict[str, Any]:
    """The texts of a photo: its answers, why its eye has its state, and what a person corrected."""
    headline = photo.found["headline"]
    answers = [words.message(headline[name]) for name in ("grade", "dme") if headline[name] is not None]
    answers += [f"{task.title}: {task.names[task.chosen]}" for task in further_answers(photo.found, words)]

    notes = []
    if photo.uncertainty is not None:
        notes.append(f"{words('many.uncertainty')}: {words.number(photo.uncertainty, '.0%')}")
    if not photo.corrections.is_empty:
        notes.append(describe(photo.corrections, words))
    return {
        "key": photo.key,
        "name": photo.name,
        "picture": media_address(session.entries[photo.key].thumbnail, f"thumbnail-{photo.key[:16]}"),
        "answers": answers,
        "reasons": [words.message(reason) for reason in reasons_of(photo.found, photo.answer)],
        "notes": notes,
    }
