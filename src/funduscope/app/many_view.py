"""All photos in one table, sorted by referral and uncertainty; as CSV and as a PDF with a page for each."""

from __future__ import annotations

from typing import Any

import streamlit as st

from funduscope.app.answers import grade_name
from funduscope.app.many import Row, as_csv, rows
from funduscope.app.printing import pages_pdf
from funduscope.app.session import Session
from funduscope.i18n.languages import Words
from funduscope.report.outline import Palette
from funduscope.vocabulary import LESIONS


def show_many(session: Session, words: Words, _: Palette) -> None:
    """The table; choosing a row opens its photo."""
    told = rows(session)
    referred = sum(row.refer for row in told)
    ungradable = sum(not row.gradable for row in told)
    counts = {"count": len(told), "referred": referred, "ungradable": ungradable}
    st.markdown(words("many.counts", counts))
    st.caption(words("many.note"))
    chosen = st.dataframe(
        [_cells(row, words) for row in told],
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"many-{st.session_state.get('many-shown', 0)}",
        placeholder="–",
        column_config={words("many.uncertainty"): st.column_config.NumberColumn(format="%d %%")},
    )
    picked = chosen["selection"]["rows"]
    if picked and picked[0] < len(told):
        st.session_state.current = told[picked[0]].key
        st.session_state["many-shown"] = st.session_state.get("many-shown", 0) + 1
        st.session_state["open-one"] = True
        st.rerun()
    left, right = st.columns([1, 1, 2])[:2]
    left.download_button(
        words("many.csv"),
        lambda: as_csv(rows(session), session.refused),
        file_name="summary.csv",
        mime="text/csv",
        on_click="ignore",
        key="many-csv",
        width="stretch",
    )
    right.download_button(
        words("many.pdf"),
        lambda: pages_pdf(session, rows(session), session.refused, words),
        file_name="funduscope.pdf",
        mime="application/pdf",
        on_click="ignore",
        key="many-pdf",
        width="stretch",
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
    cells |= {code: (lesions.get(code) or {}).get("count") for code in LESIONS}
    return cells | {words("many.yours"): _yours(row)}


def _yours(row: Row) -> str:
    """What a person said: the grade, and the kinds whose count is theirs."""
    return " ".join(["" if row.grade is None else str(row.grade), *row.by_hand]).strip()


def _advice(row: Row) -> str:
    if row.refer:
        return "advice.refer"
    return "advice.no_referral" if row.gradable else "many.again"
