"""One photo: large, with its layers, its answers, its thresholds, and what a person corrects."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import Any, Final

import streamlit as st

from funduscope.app.answers import escaped, grade_name, show_answers, show_warnings
from funduscope.app.corrections import Corrections, History, corrected, looked_at, seen_with
from funduscope.app.explain_view import show_explanation
from funduscope.app.pdf_view import offer_papers
from funduscope.app.photo_view import address_of, last_edit, show_photo
from funduscope.app.reviewed import advised, in_words
from funduscope.app.saving_view import offer_saving
from funduscope.app.session import Entry, Opened, Session
from funduscope.app.threshold_sliders import thresholds, with_moved
from funduscope.app.uploads import reopened
from funduscope.app.viewer_data import viewer_data
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Findings
from funduscope.report.outline import Palette
from funduscope.vocabulary import CODES, DME_RISKS, GRADES

UNSAID: Final = -1
"""In a list of grades: nothing was said. (Streamlit takes None for an empty field.)"""


FROM_FILE: Final = "corrections-from-file"
"""In the session's state: corrections came from a file, and what the widgets said before counts no more."""


def show_one(session: Session, words: Words, palette: Palette) -> None:
    """The view of the photo that was chosen last."""
    entry = _chosen(session, words)
    opened = session.opened.get(entry.key) or _again(session, entry, words)
    if opened is None:
        st.warning(words("photo.let_go"))
        return
    session.look_at(entry.key, opened)
    history = session.history(entry.key)
    photo, beside = st.columns([3, 2], gap="medium")
    shown, drawn = _seen(session, opened, entry.key, palette)
    with photo:
        st.html(f"<h2 class='fs-name'>{escape(entry.name)}</h2>")
        show_photo(
            drawn | _live(session, opened, entry.key),
            address_of(opened.jpeg, f"photo-{entry.key[:16]}"),
            words,
            can_undo=bool(history.before),
            unsaved=session.unsaved,
            on_edit=lambda: _edited(session, entry.key, palette),
        )
        show_explanation(shown, opened, (dict(session.thresholds.get(entry.key, {})), history.now), words)
    found = advised(shown.to_dict(), history.now)
    with beside:
        if history.now.any:
            st.info(_corrected_line(history.now, words))
        if history.is_taken_over:
            st.info(words("correct.taken_over", {"undo": words("correct.undo")}))
        show_answers(found, words)
        if found["gradable"]["ok"]:
            _correct(entry.key, shown, history, words)
        offer_saving(session, words)
        offer_papers(shown, history.now, words, palette)
        show_warnings(found, words)


def _chosen(session: Session, words: Words) -> Entry:
    keys = list(session.entries)
    current = st.session_state.get("current")
    if current not in session.entries:
        current = keys[-1]
    if len(keys) > 1:
        current = st.selectbox(
            words("photo.choose"),
            keys,
            index=keys.index(current),
            format_func=lambda key: session.entries[key].name,
        )
    st.session_state.current = current
    return session.entries[current]


def _again(session: Session, entry: Entry, words: Words) -> Opened | None:
    with st.spinner(words("upload.reading", {"number": 1, "count": 1})):
        return reopened(entry)


def _seen(session: Session, opened: Opened, key: str, palette: Palette) -> tuple[Findings, dict]:
    """The findings as they are shown, and what is drawn of them; kept until something changes."""
    thresholds, now = session.thresholds.get(key, {}), session.history(key).now
    asked = palette, dict(thresholds), now
    if opened.latest is None or opened.latest[0] != asked:
        shown = seen_with(opened.findings, thresholds, now)
        opened.latest = asked, shown, viewer_data(shown, palette, now)
    return opened.latest[1], opened.latest[2]


def _live(session: Session, opened: Opened, key: str) -> dict[str, Any]:
    """What the browser redraws by itself while a threshold is moved."""
    transform = opened.findings.transform
    names = {code: f"plane-{key[:16]}-{code}" for code in opened.planes}
    return {
        "thresholds": thresholds(opened.findings, session.thresholds.get(key, {}), session.history(key).now),
        "planes": {code: address_of(opened.planes[code], name, "image/png") for code, name in names.items()},
        "home": [transform.left_px, transform.top_px, transform.size_px],
    }


def latest_findings(session: Session, key: str) -> Findings | None:
    """A photo's findings under its thresholds and corrections; None where its bytes were let go."""
    opened = session.opened.get(key) or reopened(session.entries[key])
    if opened is None:
        return None
    session.look_at(key, opened)
    return seen_with(opened.findings, session.thresholds.get(key, {}), session.history(key).now)


def _edited(session: Session, key: str, palette: Palette) -> None:
    """A step made in the photo; one that was sent for another photo is late and means nothing."""
    edit, opened = last_edit(), session.opened.get(key)
    if opened is None or edit.get("photo") != opened.findings.photo.sha256:
        return
    history, moved = session.history(key), session.thresholds.get(key, {})
    if edit.get("what") in ("threshold", "thresholds_reset"):
        now = history.now
        held = {code: value for code, value in moved.items() if code in now.masks}  # confirmed under that threshold
        after = held if edit["what"] == "thresholds_reset" else with_moved(opened.findings, moved, edit, now)
        session.thresholds[key] = after
        return
    if edit.get("what") == "undo":
        history.undo()
    else:
        shown, _ = _seen(session, opened, key, palette)
        history.step(corrected(shown, history.now, edit))
    _follow(key, history.now, anew=True)


def _follow(key: str, now: Corrections, *, anew: bool) -> str:
    """The widgets of the corrections show what the history says; the beginning of their keys."""
    prefix = f"correct-{key[:16]}"
    said = {
        "grade": _or_unsaid(now.grade),
        "dme": _or_unsaid(now.dme),
        "looked-at": [code for code in CODES if code in now.looked_at],
    }
    for name, value in said.items():
        if anew or f"{prefix}-{name}" not in st.session_state:
            st.session_state[f"{prefix}-{name}"] = value
    return prefix


def _or_unsaid(value: int | None) -> int:
    return UNSAID if value is None else value


def _correct(key: str, shown: Findings, history: History, words: Words) -> None:
    """Grade, risk, and of which structures the masks are complete; each becomes a step."""
    now = history.now
    with st.expander(words("correct.title"), expanded=now.any):
        st.caption(words("correct.note"))
        prefix = _follow(key, now, anew=st.session_state.pop(FROM_FILE, False))
        unsaid = words("correct.unsaid")
        grade = st.selectbox(
            words("correct.grade"),
            [UNSAID, *range(len(GRADES))],
            format_func=lambda value: unsaid if value == UNSAID else grade_name(value, words),
            key=f"{prefix}-grade",
        )
        risk = st.selectbox(
            words("correct.dme"),
            [UNSAID, *range(len(DME_RISKS))],
            format_func=lambda value: unsaid if value == UNSAID else f"{value} {words(f'dme.{value}')}",
            key=f"{prefix}-dme",
        )
        complete = st.pills(
            words("correct.looked_at"),
            [code for code in CODES if code in shown.codes],
            selection_mode="multi",
            format_func=words.structure,
            key=f"{prefix}-looked-at",
            help=words("correct.looked_at_help"),
        )
        st.caption(words("correct.looked_at_help"))
    after = replace(
        looked_at(shown, now, frozenset(complete)),
        grade=None if grade == UNSAID else grade,
        dme=None if risk == UNSAID else risk,
    )
    if after != now:
        history.step(after)
        st.rerun()


def _corrected_line(now: Corrections, words: Words) -> str:
    said = in_words(now, words, "" if now.grade is None else grade_name(now.grade, words))
    return escaped(f"{words('correct.yours')} {said}.")
