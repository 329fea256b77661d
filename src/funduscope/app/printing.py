"""What the page offers on paper, made when it is asked for: photos as pages of a PDF, and patient leaflets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from funduscope.app.reviewed import Corrections, describe, with_advice
from funduscope.app.session import Session
from funduscope.app.uploads import model
from funduscope.i18n.languages import Words
from funduscope.imaging.limits import LIMITS
from funduscope.inference.findings import Findings
from funduscope.report.outline import Palette
from funduscope.report.patient_leaflet import PatientLeaflet, compose
from funduscope.report.patient_leaflet_html import patient_leaflet_html
from funduscope.report.patient_leaflet_pdf import patient_leaflet_pdf
from funduscope.report.pdf import Document
from funduscope.report.pdf_page import PageContent, failure_page, footer, page
from funduscope.report.photo_jpegs import marked_jpeg, unmarked_jpeg


def show_printing(shown: Findings, now: Corrections, words: Words, palette: Palette, *, name: str | None) -> None:
    """Three files of one photo. name: what they are named after; None for neutral names."""

    def leaflet() -> tuple[PatientLeaflet, bytes]:
        return compose(shown.to_dict(), words, grade=now.grade, dme=now.dme), unmarked_jpeg(shown.photo)

    page_name, sheet_name = ("funduscope", "sheet") if name is None else (name, f"{name}-sheet")
    with st.expander(words("print.title")):
        st.caption(words("print.note"))
        offer_file("print.page", f"{page_name}.pdf", lambda: page_pdf(shown, now, words, palette), words)
        offer_file("print.leaflet_pdf", f"{sheet_name}.pdf", lambda: patient_leaflet_pdf(*leaflet()), words)
        offer_file("print.leaflet_html", f"{sheet_name}.html", lambda: patient_leaflet_html(*leaflet()).encode(), words)


def offer_file(
    key: str, file_name: str, make: Callable[[], bytes] | bytes, words: Words, place: Any = st, *, ready: bool = True
) -> None:
    """A download button as wide as its place. key: of its text. make: the file, or called when the button is pressed,
    which fails where the page runs again meanwhile. ready: whether the button can be pressed."""
    kinds = {"pdf": "application/pdf", "html": "text/html", "csv": "text/csv"}
    place.download_button(
        words(key),
        make,
        file_name=file_name,
        mime=kinds[file_name.rpartition(".")[2]],
        on_click="ignore",
        key=key.replace(".", "-"),
        width="stretch",
        disabled=not ready,
    )


def pages_pdf(session: Session, keys: Sequence[str], words: Words) -> bytes:
    """A page for each of these photos and for each refused file, at least one in all."""
    document = Document(words.language)
    count, figures = len(keys) + len(session.refused), model().card.about.get("figures", ())
    for number, key in enumerate(keys, start=1):
        entry, found = session.entries[key], session.found(key)
        corrections = describe(session.history(key).now, words)
        on_paper = PageContent(found, session.picture(key), entry.palette, figures, corrections)
        line = f"{footer(found, words)} {words('paper.page', {'number': number, 'count': count})}"
        document.add(page(on_paper, words), line)
    for number, one in enumerate(session.refused, start=len(keys) + 1):
        sentence = words.error(one.code, one.says, LIMITS.message_values)
        line = words("paper.page", {"number": number, "count": count})
        document.add(failure_page(one.photo_name, sentence, one.code, words), line)
    return document.to_bytes()


def page_pdf(shown: Findings, now: Corrections, words: Words, palette: Palette) -> bytes:
    """The page of one photo as it is shown, with its thresholds and corrections."""
    found = with_advice(shown.to_dict(), now)
    figures = shown.card.about.get("figures", ())
    document = Document(words.language)
    on_paper = PageContent(found, marked_jpeg(shown, palette), palette, figures, describe(now, words))
    document.add(page(on_paper, words), footer(found, words))
    return document.to_bytes()
