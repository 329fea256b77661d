"""All photos of the session in one table, the most urgent first; also as CSV, and as a PDF with a page for each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import streamlit as st

from funduscope.app.printing import offer_file, pages_pdf
from funduscope.app.reviewed import grade_name
from funduscope.app.session import Session
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Failure
from funduscope.report.html import further_answers
from funduscope.report.outline import Palette
from funduscope.report.summary_csv import COLUMNS, SummaryRow, spreadsheet_cells
from funduscope.vocabulary import CLASSES, CODES, FURTHER_TASKS, LESIONS

CORRECTION_COLUMNS: Final = (*(f"corrected_{task}" for task in CLASSES), "corrected_outlines")
"""Columns next to those of summary.csv: a person's classes, and the kinds whose outlines are a person's."""


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
    def refer(self) -> bool:
        """Whether referral is advised; for an ungradable photo only where a person's correction advises it."""
        return bool((self.found["advice"] or {}).get("refer"))

    @property
    def uncertainty(self) -> float | None:
        """One minus the probability of the predicted grade; None without a grade."""
        return None if self.found["confidence"] is None else 1 - self.found["confidence"]

    @property
    def urgency(self) -> tuple[int, float]:
        """The sort key: referrals first, then photos to take again, then the rest; the uncertain ones first in each."""
        order = 0 if self.refer else 1 if not self.gradable else 2
        return order, -(self.uncertainty or 0.0)


def rows(session: Session) -> list[Row]:
    """Every photo of the session, the most urgent first."""
    found = []
    for key, entry in session.entries.items():
        now = session.history(key).now
        by_hand = tuple(code for code in CODES if code in now.by_hand)
        stated = {task: now.label(task) for task in CLASSES}
        found.append(Row(key, entry.name, session.found(key), stated, by_hand))
    return sorted(found, key=lambda row: row.urgency)


def as_csv(photos: Iterable[Row], refused: Iterable[Failure]) -> bytes:
    """The rows in the format of summary.csv with a person's corrections, then the refused files.

    UTF-8 with a byte order mark, by which spreadsheets recognize it.
    """
    given = [(SummaryRow(row.name, found=row.found), (*row.stated.values(), " ".join(row.by_hand))) for row in photos]
    given += [(SummaryRow.of(failure.to_dict()), (*(None for _ in CLASSES), "")) for failure in refused]
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*COLUMNS, *CORRECTION_COLUMNS])
    table.writerows([*spreadsheet_cells(row), *corrections] for row, corrections in given)
    return b"\xef\xbb\xbf" + file.getvalue().encode("utf-8", "replace")


def show_many(session: Session, words: Words, _: Palette) -> None:
    """The table; selecting a row opens its photo."""
    photos = rows(session)
    counts = {
        "count": len(photos),
        "referred": sum(row.refer for row in photos),
        "ungradable": sum(not row.gradable for row in photos),
    }
    st.markdown(words("many.counts", counts))
    st.caption(words("many.note"))
    table = st.dataframe(
        [_cells(row, words) for row in photos],
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"many-{st.session_state.get('many-shown', 0)}",
        placeholder="–",
        column_config={words("many.uncertainty"): st.column_config.NumberColumn(format="%d %%")},
    )
    selected = table["selection"]["rows"]
    if selected and selected[0] < len(photos):
        st.session_state.current = photos[selected[0]].key
        st.session_state["many-shown"] = st.session_state.get("many-shown", 0) + 1
        st.session_state["open-one"] = True
        st.rerun()
    left, right = st.columns([1, 1, 2])[:2]
    offer_file("many.csv", "summary.csv", lambda: as_csv(rows(session), session.refused), words, left)
    offer_file(
        "many.pdf",
        "funduscope.pdf",
        lambda: pages_pdf(session, [row.key for row in rows(session)], words),
        words,
        right,
    )


def _cells(row: Row, words: Words) -> dict[str, Any]:
    found = row.found
    grade = found["predicted_grade"]
    lesions = found["lesions"] or {}
    cells: dict[str, Any] = {
        words("many.photo"): row.name,
        words("many.advice"): words(_advice(row)),
        words("grade.title"): None if grade is None else grade_name(grade, words),
        words("many.uncertainty"): None if row.uncertainty is None else round(100 * row.uncertainty),
        words("dme.title"): None if found["dme"] is None else found["dme"]["risk"],
    }
    cells |= {answer.title: answer.names[answer.chosen] for answer in further_answers(found, words)}
    cells |= {code: (lesions.get(code) or {}).get("count") for code in LESIONS}
    stated = [] if row.stated["grade"] is None else [str(row.stated["grade"])]
    stated += [words.photo_class(task, label) for task in FURTHER_TASKS if (label := row.stated[task.name]) is not None]
    return cells | {words("many.yours"): " ".join([*stated, *row.by_hand])}


def _advice(row: Row) -> str:
    if row.refer:
        return "advice.refer"
    return "advice.no_referral" if row.gradable else "many.again"
