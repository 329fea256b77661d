"""What can be taken along from one photo: its page for the file, and the sheet for the patient."""

from __future__ import annotations

import streamlit as st

from funduscope.app.corrections import Corrections
from funduscope.app.printing import page_pdf, patient_html, patient_pdf
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Findings
from funduscope.report.outline import Palette


def offer_papers(shown: Findings, now: Corrections, words: Words, palette: Palette) -> None:
    """Three files, each made when it is asked for. None is named after the photo, whose name may be a person's."""
    with st.expander(words("print.title")):
        st.caption(words("print.note"))
        files = (
            ("page", "funduscope.pdf", "application/pdf", lambda: page_pdf(shown, now, words, palette)),
            ("sheet_pdf", "sheet.pdf", "application/pdf", lambda: patient_pdf(shown, now, words)),
            ("sheet_html", "sheet.html", "text/html", lambda: patient_html(shown, now, words)),
        )
        for name, file_name, kind, made in files:
            st.download_button(
                words(f"print.{name}"),
                made,
                file_name=file_name,
                mime=kind,
                on_click="ignore",
                key=f"print-{name}",
                width="stretch",
            )
