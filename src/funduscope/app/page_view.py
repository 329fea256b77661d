"""The page from top to bottom: language and colors, upload, refused files, and the view that was chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from funduscope.app.answers import STYLE, escaped, show_grade_first
from funduscope.app.many_view import show_many
from funduscope.app.one_view import FROM_FILE, show_one
from funduscope.app.saving_view import restore_corrections
from funduscope.app.server import UPLOAD_MB
from funduscope.app.session import Session
from funduscope.app.uploads import DEMO_PHOTO, demo_photo, model, preview_jpeg, read_upload
from funduscope.app.visits_view import show_visits
from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.imaging.photo import LIMITS
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.model import OnGrade
from funduscope.report.fonts import font_face
from funduscope.report.html_frame import printable
from funduscope.report.outline import Palette

PAGE_FONT: Final = "Source Sans"
"""Streamlit's font. It has no Devanagari, and some machines have no font for it either."""

DEVANAGARI: Final = "U+0900-097F, U+1CD0-1CFF, U+200C-200D, U+A8E0-A8FF"
ZIP: Final = b"PK\x03\x04"
VIEWS: Final = {"one": show_one, "many": show_many, "visits": show_visits}


def show() -> None:
    """One run of the page, from top to bottom."""
    st.set_page_config(page_title="funduscope", layout="wide")
    st.html(STYLE)
    model()
    session = st.session_state.setdefault("session", Session())
    words, palette = _header()
    font = font_face(words.language, PAGE_FONT, DEVANAGARI)
    if font:
        st.html(f"<style>{font}</style>")
    _uploader(session, words)
    _refused(session, words)
    if not session.entries:
        st.info(words("start.privacy"))
        st.caption(words("not_a_device"))
        return
    if st.session_state.pop("open-one", False) or "view" not in st.session_state:
        st.session_state.view = "one"
    view = st.segmented_control(
        words("views.label"),
        list(VIEWS),
        format_func=lambda name: words(f"views.{name}"),
        key="view",
        label_visibility="collapsed",
    )
    VIEWS[view or "one"](session, words, palette)


def requested_language() -> str:
    """The chosen language; without one, that of the address or of the browser."""
    name = st.session_state.get("language") or st.query_params.get("lang") or st.context.locale or "en"
    code = str(name)[:2].lower()
    return code if code in LANGUAGES else "en"


def _header() -> tuple[Words, Palette]:
    """Title, language and colors. The address names the language too, so that a reload keeps it."""
    title, language, colors = st.columns([3, 1, 1], vertical_alignment="bottom")
    if "language" not in st.session_state:
        st.session_state.language = requested_language()
    words = Words(st.session_state.language)
    st.query_params["lang"] = language.selectbox(
        words("language.label"), list(LANGUAGES), format_func=lambda code: LANGUAGES[code], key="language"
    )
    safe = colors.toggle(words("colors.safe"), key="safe", help=words("colors.help"))
    with title:
        st.markdown(f"## funduscope\n{words('start.what')}")
    return words, "safe" if safe else "standard"


def _uploader(session: Session, words: Words) -> None:
    """Uploads, the demo photo, and a button that forgets all photos."""
    with st.expander(words("upload.title"), expanded=not session.entries):
        batch = st.session_state.setdefault("batch", 0)  # a new key empties the uploader, which would keep the files
        limits = {"mb": UPLOAD_MB, "megapixels": LIMITS.max_pixels // 1_000_000, "side": LIMITS.min_side_px}
        files = st.file_uploader(
            words("upload.label"), accept_multiple_files=True, key=f"files-{batch}", help=words("upload.limits", limits)
        )
        st.caption(words("upload.limits", limits))
        if st.button(words("upload.demo"), key="demo"):
            _read_all(session, [(DEMO_PHOTO, "demo", demo_photo)], words)
        if session.entries and st.button(words("upload.clear"), key="clear"):
            session.clear()
            for name in ("current", *(name for name in st.session_state if str(name).startswith("visit"))):
                st.session_state.pop(name, None)
            st.rerun()
    if files:
        _read_all(session, [(file.name, file.file_id, file.getvalue) for file in files], words)


def _read_all(session: Session, files: list[tuple[str, str, Callable[[], bytes]]], words: Words) -> None:
    """Reads every file, with progress, and runs the page again. The grade of a single file is shown at once.

    files: name, id and a function that returns the bytes.
    """
    bar = st.progress(0.0, text=words("upload.reading", {"number": 1, "count": len(files)}))
    place = st.empty()

    def show_grade(findings: Findings) -> None:
        with place.container():
            show_grade_first(findings.to_dict(), preview_jpeg(findings.photo), words)

    for number, (name, file_id, data) in enumerate(files):
        bar.progress(number / len(files), text=words("upload.reading", {"number": number + 1, "count": len(files)}))
        if file_id not in session.done:  # a run that was interrupted may have read it
            key = _read_one(session, data(), printable(name), show_grade if len(files) == 1 else None)
            st.session_state.current = key or st.session_state.get("current")
            session.done.add(file_id)
            _remove_upload(file_id)
    bar.empty()
    place.empty()
    session.done.clear()
    st.session_state.batch += 1
    st.session_state.view = "many" if len(files) > 1 and len(session.entries) > 1 else "one"
    st.rerun()


def _remove_upload(file_id: str) -> None:
    """Removes an upload from Streamlit's own store, which would keep it for the whole session."""
    context = get_script_run_ctx()
    store = None if context is None else context.uploaded_file_mgr
    if context is not None and isinstance(store, MemoryUploadedFileManager):
        store.remove_file(context.session_id, file_id)


def _read_one(session: Session, data: bytes, name: str, on_grade: OnGrade | None) -> str | None:
    """Reads a photo or saved corrections; returns the photo's key, None for a refused file."""
    if data.startswith(ZIP):
        st.session_state[FROM_FILE] = True
        return restore_corrections(session, data, name)
    answer = read_upload(data, name, "safe" if st.session_state.get("safe") else "standard", on_grade)
    if isinstance(answer, Failure):
        session.refuse(answer)
        return None
    session.add(*answer)
    return answer[0].key


def _refused(session: Session, words: Words) -> None:
    """The refused files with their reasons, until they are dismissed."""
    if not session.refused:
        return
    lines = [
        f"{one.photo_name}: {words.error(one.code, one.says, LIMITS.in_sentences)} ({one.code})"
        for one in session.refused
    ]
    st.error("\n\n".join([words("refused.title", {"count": len(lines)}), *map(escaped, lines)]))
    if st.button(words("refused.dismiss"), key="dismiss"):
        session.refused.clear()
        st.rerun()
