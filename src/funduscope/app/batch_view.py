"""Reading many photos as the page shows it: progress, time left, and a button that cancels it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import streamlit as st

from funduscope.app.batch_reading import BatchReading, UploadResult
from funduscope.app.session import Session
from funduscope.i18n.languages import Words

BATCH: Final = "batch-reading"
"""In Streamlit's state: the reading that runs."""

CANCELED: Final = "batch-canceled"
"""In Streamlit's state: how many files a canceled reading left unread."""

_INTERVAL_S: Final = 1.0
_SECONDS_BELOW_S: Final = 90
"""Below this estimate the page states seconds, from it on minutes."""


def show_batch(session: Session, words: Words, accept: Callable[[Session, UploadResult], object]) -> None:
    """Takes answers and shows the progress while a reading runs; afterwards what was left unread.

    accept: adds an answer to the session.
    """
    if BATCH in st.session_state:
        st.fragment(_progress, run_every=_INTERVAL_S)(session, words, accept)
    elif st.session_state.get(CANCELED):
        st.info(words("batch.canceled", {"count": st.session_state[CANCELED]}))


def cancel_batch() -> int:
    """Ends the reading that runs, if there is one; returns how many files stay unread."""
    reading: BatchReading | None = st.session_state.pop(BATCH, None)
    return 0 if reading is None else reading.cancel()


def waiting_count() -> int:
    """How many files of the reading that runs have no answer yet."""
    reading: BatchReading | None = st.session_state.get(BATCH)
    return 0 if reading is None else reading.left


def _progress(session: Session, words: Words, accept: Callable[[Session, UploadResult], object]) -> None:
    reading: BatchReading | None = st.session_state.get(BATCH)
    if reading is None:
        return
    answers = reading.take()
    for answer in answers:
        accept(session, answer)
    if not reading.left:
        del st.session_state[BATCH]
        if len(session.entries) == 1:  # a table of one photo helps nobody
            st.session_state["open-one"] = True
        st.rerun()
    line, button = st.columns([5, 1], vertical_alignment="center")
    line.progress(reading.done / reading.count, text=_line(reading, words))
    if button.button(words("batch.cancel"), key="batch-cancel", width="stretch"):
        st.session_state[CANCELED] = cancel_batch()
        st.rerun()
    # New rows in the table; a photo that is viewed meanwhile is left in peace.
    if answers and st.session_state.get("view") != "one":
        st.rerun()


def _line(reading: BatchReading, words: Words) -> str:
    line, seconds = words("batch.progress", {"number": reading.done, "count": reading.count}), reading.seconds_left
    if seconds is None:
        return line
    if seconds < _SECONDS_BELOW_S:
        return f"{line}, {words('batch.seconds', {'count': max(5, 5 * round(seconds / 5))})}"
    return f"{line}, {words('batch.minutes', {'count': round(seconds / 60)})}"
