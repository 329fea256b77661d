"""All photos of the session in one table, the most urgent first; also as CSV, and as a PDF with a page for each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import streamlit as st

from funduscope.app.batch_view import waiting_count
from funduscope.app.printing import offer_file, pages_pdf
from funduscope.app.reviewed import grade_name
from funduscope.app.session import Session
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Failure
from funduscope.inference.model_scores import UNKNOWN
from funduscope.inference.uncertainty import uncertainty
from funduscope.report.html import further_answers
from funduscope.report.outline import Palette
from funduscope.report.summary_csv import COLUMNS, SummaryRow, spreadsheet_cells
from funduscope.vocabulary import CLASSES, CODES, FURTHER_TASKS, LESIONS

CORRECTION_COLUMNS: Final = (*(f"corrected_{task}" for task in CLASSES), "corrected_outlines")
"""Columns next to those of summary.csv: a person's classes, and the kinds whose outlines are a person's."""

DRAWN: Final = "many-drawn"
"""In Streamlit's state: the keys of the table's rows as they were drawn last."""


@dataclass(frozen=True)
class Row:
    """One photo.

    found: with the photo's thresholds and corrections, and the advice from them. stated: the class that the person gave
    for each photo task of the vocabulary, None without one. by_hand: the kinds whose outlines are a person's.
    """

    key: str
    name: str
    found: dict[str, Any]
    stated: dict[str, int | None]
    by_hand: tuple[str, ...] = ()

    @property
    def gradable(self) -> bool:
        return self.found["gradable"]["ok"]

    @property
    def retake(self) -> bool:
        """Whether the photo should be taken again: it was not graded, its grade is not to be relied on, or the macula
        is not in it."""
        if self.several:
            return False
        poor = not self.gradable or self.found["gradable"].get("advice") not in (None, "grade")
        return poor or self.referral == "NO_REFERRAL_RETAKE"

    @property
    def several(self) -> bool:
        """Whether it is a picture of several photos."""
        return any(reason["code"] == "SEVERAL_PHOTOS" for reason in self.found["gradable"]["reasons"])

    @property
    def referral(self) -> str | None:
        """The code of the headline that says what follows."""
        return (self.found["headline"]["referral"] or {}).get("code")

    @property
    def refer(self) -> bool:
        """Whether referral is advised; for an ungradable photo only if a person's correction advises it."""
        return bool((self.found["advice"] or {}).get("refer"))

    @property
    def uncertainty(self) -> float | None:
        """How unsure the model is of the photo, from 0 to 1; None without a grade."""
        return uncertainty(self.found)

    @property
    def sort_key(self) -> tuple[int, float]:
        """The sort key: urgent referrals first, then the others, then photos to take again or to be graded by a person,
        then the rest; the uncertain ones first in each."""
        is_open = self.retake or self.several or self.referral == "NO_REFERRAL_PERSON"
        order = (0 if self.urgent else 1) if self.refer else 2 if is_open else 3
        return order, -(self.uncertainty or 0.0)

    @property
    def urgent(self) -> bool:
        """Whether an urgent referral is advised."""
        return self.refer and self.found["advice"]["urgency"] == "urgent"


def rows(session: Session) -> list[Row]:
    """Every photo of the session, the most urgent first."""
    found = []
    for key, entry in list(session.entries.items()):  # a download reads them while the page adds photos
        now = session.history(key).now
        by_hand = tuple(code for code in CODES if code in now.by_hand)
        stated = {task: now.label(task) for task in CLASSES}
        found.append(Row(key, entry.name, session.found(key), stated, by_hand))
    return sorted(found, key=lambda row: row.sort_key)


def as_csv(photos: Iterable[Row], refused: Iterable[Failure]) -> bytes:
    """The rows in the format of summary.csv with a person's corrections, then the refused files.

    UTF-8 with a byte order mark, by which spreadsheets recognize it.
    """
    given = [(SummaryRow(row.name, found=row.found), (*row.stated.values(), " ".join(row.by_hand))) for row in photos]
    given += [(SummaryRow(failure.photo_name, failure.code), (*(None for _ in CLASSES), "")) for failure in refused]
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*COLUMNS, *CORRECTION_COLUMNS])
    table.writerows([*spreadsheet_cells(row), *corrections] for row, corrections in given)
    return file.getvalue().encode("utf-8-sig", "replace")


def show_many(session: Session, words: Words, _: Palette) -> None:
    """The table; selecting a row opens its photo."""
    photos = rows(session)
    counts = {
        "count": len(photos),
        "referred": sum(row.refer for row in photos),
        "retake": sum(row.retake for row in photos),
    }
    st.markdown(words("many.counts", counts))
    st.caption(words("many.note"))
    photos = _sorted(photos, words)
    # A click means the row as it was drawn: meanwhile a photo may have been added.
    drawn = st.session_state.get(DRAWN, [])
    st.session_state[DRAWN] = [row.key for row in photos]
    table = st.dataframe(
        [_cells(row, words) for row in photos],
        hide_index=True,
        on_select="rerun",
        selection_mode=["single-row", "single-cell"],
        key=f"many-{st.session_state.get('many-shown', 0)}",
        placeholder="–",
        column_config={words("many.uncertainty"): st.column_config.NumberColumn(format="%d %%")},
    )
    selected = [*table["selection"]["rows"], *(row for row, _ in table["selection"]["cells"])]
    if selected and selected[0] < len(drawn):
        st.session_state.current = drawn[selected[0]]
        st.session_state["many-shown"] = st.session_state.get("many-shown", 0) + 1
        st.session_state["open-one"] = True
        st.rerun()
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


def _sorted(photos: list[Row], words: Words) -> list[Row]:
    """The rows in the order that the person chose: by referral, by uncertainty, or by name."""
    orders = {"many.advice": None, "many.uncertainty": _most_uncertain, "many.photo": lambda row: row.name.casefold()}
    chosen = st.segmented_control(
        words("many.sort"), list(orders), format_func=words, key="many-sort", default="many.advice", required=True
    )
    order = orders.get(chosen or "")
    return photos if order is None else sorted(photos, key=order)


def _most_uncertain(row: Row) -> float:
    """The sort key by uncertainty; photos without a grade come last."""
    return 1.0 if row.uncertainty is None else -row.uncertainty


def _cells(row: Row, words: Words) -> dict[str, Any]:
    found = row.found
    grade = found["predicted_grade"]
    lesions = found["lesions"] or {}
    cells: dict[str, Any] = {
        words("many.photo"): row.name,
        words("many.advice"): _advice(row, words),
        words("grade.title"): None if grade is None else grade_name(grade, words),
        words("many.uncertainty"): None if row.uncertainty is None else round(100 * row.uncertainty),
        words("dme.title"): None if found["dme"] is None else found["dme"]["risk"],
    }
    cells |= {answer.title: answer.names[answer.chosen] for answer in further_answers(found, words)}
    cells |= {code: (lesions.get(code) or {}).get("count") for code in LESIONS}
    stated = [] if row.stated["grade"] is None else [str(row.stated["grade"])]
    stated += [words.photo_class(task, label) for task in FURTHER_TASKS if (label := row.stated[task.name]) is not None]
    return cells | {words("many.yours"): " ".join([*stated, *row.by_hand])}


def _advice(row: Row, words: Words) -> str:
    """How soon to refer, and what else is to be done with the photo."""
    parts = [words.sentence("REFER_URGENT" if row.urgent else "REFER_SOON", {})] if row.refer else []
    parts += [words("many.again")] if row.retake else []
    parts += [words.sentence("TRUST_SEVERAL_PHOTOS", {})] if row.several else []
    if parts:
        return "; ".join(parts)
    if row.referral == "NO_REFERRAL_PERSON":
        return words.sentence(row.referral, {})
    return UNKNOWN if row.referral in (None, "REFERRAL_OPEN") else words("advice.no_referral")
