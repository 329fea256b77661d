"""One photo: large, with layers and thresholds, next to its answer and what a person corrects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any, Final

import streamlit as st

from funduscope.app.answers import escaped, show_answers, show_headline, show_warnings
from funduscope.app.drafts import drafts_folder
from funduscope.app.edits import apply_edit
from funduscope.app.explain_view import show_explanation
from funduscope.app.printing import show_printing
from funduscope.app.reviewed import (
    MAX_NAME_LENGTH,
    Corrections,
    describe,
    grade_name,
    mark_complete,
    with_advice,
)
from funduscope.app.saving_view import show_saving
from funduscope.app.session import OpenPhoto, Session
from funduscope.app.uploads import grade_anyway, open_photo
from funduscope.app.viewer_component import media_address, new_edits, show_panel, show_photo
from funduscope.app.viewer_data import move_threshold, threshold_sliders, viewer_data
from funduscope.i18n.languages import Words
from funduscope.imaging.limits import LIMITS
from funduscope.imaging.photo_names import safe_stem
from funduscope.inference.findings import Findings
from funduscope.report.outline import Palette
from funduscope.vocabulary import CODES, DME_RISKS, FURTHER_TASKS, GRADES, REFERABLE_FROM

UNSTATED: Final = -1
"""In a list of grades: the person gave none. (Streamlit takes None for an empty field.)"""

GRADER: Final = "grader"
"""In Streamlit's state: the name of who corrects."""

NAMED: Final = "files-named"
"""In Streamlit's state: whether files are named after their photos."""

CHOICE: Final = "photo-choice"
"""In Streamlit's state: the photo that was chosen in the list."""

STEPS: Final = {"next": 1, "previous": -1}
"""Edits of the photo that show another one; after the last comes the first."""


def show_one(session: Session, words: Words, palette: Palette) -> None:
    """The view of the photo that was chosen last."""
    key = _current(session)
    opened = session.opened.get(key)
    if opened is None:
        with st.spinner(words("upload.reading", {"number": 1, "count": 1})):
            opened = open_photo(session, key)
    if opened is None:
        _show_name(session, key, words)
        st.warning(words("photo.removed"))
        show_headline(session.found(key), words)
        return
    session.open(key, opened)
    history = session.history(key)
    left, right = st.columns([15, 8], gap="small")
    shown, drawn = _drawn(session, opened, key, palette)
    with left, st.container(key="photo"):
        keys = list(session.entries)
        _show_name(session, key, words)
        show_photo(
            drawn | _sliders(session, opened, key),
            media_address(opened.jpeg, f"photo-{key[:16]}"),
            words,
            position=(keys.index(key) + 1, len(keys)),
            can_undo=bool(history.before),
            can_redo=bool(history.undone),
            unsaved=bool(session.unsaved),
            on_edit=lambda: _take_edits(session, palette),
        )
    found = with_advice(shown.to_dict(), history.now)
    with right:
        show_headline(found, words)
        if not history.now.is_empty:
            st.info(escaped(f"{describe(history.now, words)}."))
        if history.is_draft:
            st.info(words("draft.restored", {"undo": words("correct.undo")}))
        if history.is_replaced:
            st.info(words("correct.replaced", {"undo": words("correct.undo")}))
        show_panel()
        show_answers(found, words)
        if found["gradable"]["ok"]:
            _ask_complete(session, key, shown, words)
            _show_corrections(session, key, shown, found, words)
            if not history.now.is_empty:
                values = {"folder": drafts_folder(), "forget": words("upload.clear")}
                st.caption(words("draft.kept", values))
        else:
            _offer_anyway(session, key, words, palette)
        show_explanation(shown, opened, (dict(session.thresholds.get(key, {})), history.now), words)
        named = st.toggle(words("files.named"), key=NAMED, help=words("files.named_help"))
        show_saving(session, words, named=named)
        show_printing(
            shown, history.now, words, palette, name=safe_stem(session.entries[key].name, set(), key) if named else None
        )
        show_warnings(found, words)


def _current(session: Session) -> str:
    """The key of the photo to show: the one that was opened last, otherwise the newest."""
    current = st.session_state.get("current")
    st.session_state.current = current if current in session.entries else list(session.entries)[-1]
    return st.session_state.current


def _show_name(session: Session, key: str, words: Words) -> None:
    """The photo's name; of several photos a list to choose from."""
    names = session.labels()  # Streamlit takes the last of equal ones, whichever was chosen
    if len(names) == 1:
        st.html(f"<h2 class='fs-name'>{escape(names[key])}</h2>")
        return
    st.session_state[CHOICE] = key
    st.selectbox(
        words("photo.choose"),
        list(names),
        format_func=names.__getitem__,
        key=CHOICE,
        on_change=_take_choice,  # before the list is drawn anew: another photo may have come into it
        label_visibility="collapsed",
    )


def _take_choice() -> None:
    st.session_state.current = st.session_state[CHOICE]


def _offer_anyway(session: Session, key: str, words: Words, palette: Palette) -> None:
    """A button that has a refused photo graded; the answer is marked as not to be trusted."""
    if session.entries[key].data is None:
        return
    if st.button(words("gradable.anyway"), help=words("gradable.anyway_help")):
        with st.spinner(words("upload.reading", {"number": 1, "count": 1})):
            failure = grade_anyway(session, key, palette)
        if failure is None:
            st.rerun()
        says = words.error(failure.code, failure.says, LIMITS.message_values)
        st.error(escaped(f"{says} ({failure.code})"))


def _drawn(session: Session, opened: OpenPhoto, key: str, palette: Palette) -> tuple[Findings, dict[str, Any]]:
    """The current findings and what is drawn of them; both are kept until something changes."""
    now = session.history(key).now
    state = palette, dict(session.thresholds.get(key, {})), now
    if opened.latest is None or opened.latest[0] != state:
        shown = session.shown(key, opened)
        opened.latest = state, shown, viewer_data(shown, palette, now)
    return opened.latest[1], opened.latest[2]


def _sliders(session: Session, opened: OpenPhoto, key: str) -> dict[str, Any]:
    """What the browser needs to redraw while a threshold slider moves."""
    transform = opened.findings.transform
    names = {code: f"plane-{key[:16]}-{code}" for code in opened.planes}
    return {
        "thresholds": threshold_sliders(opened.findings, session.thresholds.get(key, {}), session.history(key).now),
        "planes": {code: media_address(opened.planes[code], name, "image/png") for code, name in names.items()},
        "frame": [transform.left_px, transform.top_px, transform.size_px],
    }


def _take_edits(session: Session, palette: Palette) -> None:
    """Applies the new edits in order, each to the photo in which it was made: the page may show another one by now."""
    current = st.session_state.get("current")
    chosen = current
    for edit in new_edits():
        key = str(edit.get("photo"))
        if edit.get("what") not in STEPS:
            _take_edit(session, key, edit, palette)
        elif key == current:  # a key that stays pressed does not step on from a photo that was not shown yet
            keys = list(session.entries)
            chosen = keys[(keys.index(key) + STEPS[edit["what"]]) % len(keys)]
    if chosen != current:  # last, because Streamlit may end the call here to run again
        st.session_state.current = chosen


def _take_edit(session: Session, key: str, edit: Mapping[str, Any], palette: Palette) -> None:
    """Applies an edit to a photo, which is read again where others were opened in the meantime."""
    opened = open_photo(session, key) if key in session.entries else None
    if opened is None:
        return
    session.open(key, opened)
    history, moved = session.history(key), session.thresholds.get(key, {})
    what = edit.get("what")
    if what == "threshold":
        session.thresholds[key] = move_threshold(opened.findings, moved, edit, history.now)
        return
    if what == "thresholds_reset":  # a confirmed mask was copied under its threshold, which therefore stays
        session.thresholds[key] = {code: value for code, value in moved.items() if code in history.now.masks}
        return
    if what == "undo":
        history.undo()
    elif what == "redo":
        history.redo()
    else:
        shown, _ = _drawn(session, opened, key, palette)
        session.correct(key, apply_edit(shown, history.now, edit))


def _set_widgets(session: Session, key: str, codes: tuple[str, ...], language: str) -> str:
    """Sets the correction widgets to the current corrections; returns the start of the widgets' keys.

    codes: the structures that can be called complete. The keys name the language: Streamlit takes what was chosen in
    another one for a text of the person's own. Only what changed since the widgets were set last is set, so that
    a choice that the person made meanwhile in another of them stays.
    """
    prefix, now = f"correct-{language}-{key[:16]}", session.history(key).now
    before = session.in_widgets.get(key)
    shown = {} if before is None else _widget_values(before, codes)
    for name, value in _widget_values(now, codes).items():
        if f"{prefix}-{name}" not in st.session_state or shown.get(name) != value:
            st.session_state[f"{prefix}-{name}"] = value
    session.in_widgets[key] = now
    return prefix


def _widget_values(stated: Corrections, codes: tuple[str, ...]) -> dict[str, int | list[str]]:
    """The values of the correction widgets, by the ends of their keys."""
    return {
        "grade": UNSTATED if stated.grade is None else stated.grade,
        "dme": UNSTATED if stated.dme is None else stated.dme,
        **{task.name: stated.classes.get(task.name, UNSTATED) for task in FURTHER_TASKS},
        "complete": [code for code in codes if code in stated.complete],
    }


def _ask_complete(session: Session, key: str, shown: Findings, words: Words) -> None:
    """Asks of a corrected kind whether it is complete now: a deleted lesion alone does not say so."""
    history, deferred = session.history(key), session.deferred.setdefault(key, set())
    deferred &= history.now.unfinished  # a kind that is corrected afresh is asked for again
    code = next((code for code in CODES if code in history.now.unfinished - deferred), None)
    if code is None:
        return
    with st.container(border=True):
        st.markdown(escaped(words("correct.ask", {"kind": words.structure(code)})))
        yes, no = st.columns(2)
        if yes.button(words("correct.ask_yes"), key=f"complete-yes-{key[:16]}-{code}", width="stretch"):
            session.correct(key, mark_complete(shown, history.now, history.now.complete | {code}))
            st.rerun()
        if no.button(words("correct.ask_no"), key=f"complete-no-{key[:16]}-{code}", width="stretch"):
            deferred.add(code)
            st.rerun()


def _show_corrections(session: Session, key: str, shown: Findings, found: Mapping[str, Any], words: Words) -> None:
    """Widgets for the photo tasks and complete structures; each change becomes a step of this photo, though the page
    may show another one by then. found: as in findings.json, with the advice that follows from the corrections."""
    history, codes = session.history(key), tuple(code for code in CODES if code in shown.codes)
    now = history.now
    with st.expander(words("correct.title"), expanded=not now.is_empty):
        st.caption(words("correct.note"))
        _ask_name(session, words)
        prefix = _set_widgets(session, key, codes, words.language)
        unstated = words("correct.unstated")

        def bound(name: str) -> dict[str, Any]:
            taken = {"on_change": _take_correction, "args": (session, key, shown, name, f"{prefix}-{name}")}
            return {"key": f"{prefix}-{name}"} | taken

        st.selectbox(
            words("correct.grade"),
            [UNSTATED, *range(len(GRADES))],
            format_func=lambda value: unstated if value == UNSTATED else grade_name(value, words),
            **bound("grade"),
        )
        _ask_edema(found, now, words)
        st.selectbox(
            words("correct.dme"),
            [UNSTATED, *range(len(DME_RISKS))],
            format_func=lambda value: unstated if value == UNSTATED else f"{value} {words(f'dme.{value}')}",
            **bound("dme"),
        )
        for task in FURTHER_TASKS:
            st.selectbox(
                words.task(task),
                [UNSTATED, *range(len(task.classes))],
                format_func=lambda value, task=task: unstated if value == UNSTATED else words.photo_class(task, value),
                **bound(task.name),
            )
        st.pills(
            words("correct.complete"),
            codes,
            selection_mode="multi",
            format_func=words.structure,
            help=words("correct.complete_help"),
            **bound("complete"),
        )
        st.caption(words("correct.complete_help"))


def _ask_name(session: Session, words: Words) -> None:
    """Asks who corrects: a record names the person."""
    st.session_state[GRADER] = session.grader  # Streamlit forgets it while another view is shown
    st.text_input(
        words("correct.grader"),
        key=GRADER,
        max_chars=MAX_NAME_LENGTH,
        help=words("correct.grader_help"),
        on_change=lambda: session.name_grader(st.session_state[GRADER].strip()),
    )


def _ask_edema(found: Mapping[str, Any], now: Corrections, words: Words) -> None:
    """Asks for the edema risk next to a grade that refers nobody, and says what the referral still rests on."""
    if now.grade is None or now.grade >= REFERABLE_FROM or now.dme is not None:
        return
    question = words("correct.ask_dme", {"grade": now.grade})
    if not found["advice"]["refer"]:
        st.info(escaped(question))
        return
    reasons = " ".join(words.message(reason) for reason in found["advice"]["because"])
    st.warning(escaped(f"{question} {words('correct.rests_on')} {reasons}"))


def _take_correction(session: Session, key: str, shown: Findings, name: str, widget: str) -> None:
    """Makes a widget's value a step of the photo that the widget is of. shown: the photo's findings as drawn."""
    if key not in session.entries:
        return
    history, value = session.history(key), st.session_state[widget]
    if isinstance(value, str):  # a text that Streamlit did not recognize as a choice
        return
    now = history.now
    if name == "complete":
        unasked = now.complete - frozenset(shown.codes)  # of a model of more structures: this page cannot ask for them
        after = mark_complete(shown, now, frozenset(value or ()) | unasked)
    else:
        label = None if value in (None, UNSTATED) else value
        if name in ("grade", "dme"):
            after = replace(now, **{name: label})
        else:
            others = {task: one for task, one in now.classes.items() if task != name}
            after = replace(now, classes=others if label is None else others | {name: label})
    session.correct(key, after)
