"""The page from top to bottom: language and colors, upload, refused files, and the view that was chosen."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Final

import streamlit as st
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from funduscope.app.answers import STYLE, bullet_list, escaped, show_grade_first
from funduscope.app.batch_reading import ZIP, BatchReading, SavedCorrections, Upload, UploadResult
from funduscope.app.batch_view import BATCH, CANCELED, cancel_batch, show_batch, waiting_count
from funduscope.app.drafts import continue_draft, delete_drafts, draft_name, drafts, drafts_folder, keep_drafts
from funduscope.app.many_view import show_many
from funduscope.app.one_view import show_one
from funduscope.app.own_words import own_words
from funduscope.app.saving_view import restore_corrections
from funduscope.app.server import UPLOAD_MB
from funduscope.app.session import Session
from funduscope.app.uploads import model, preview_jpeg, read_upload
from funduscope.app.visits_view import show_visits
from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.imaging.demo_photo import DEMO_PHOTO, demo_photo
from funduscope.imaging.limits import LIMITS
from funduscope.imaging.photo import frame_name, frame_numbers
from funduscope.inference.findings import Failure, Findings
from funduscope.report.fonts import font_face
from funduscope.report.html_frame import printable
from funduscope.report.outline import Palette

PAGE_FONT: Final = "Source Sans"
"""Streamlit's font. It has no Devanagari, and some machines have no font for it either."""

DEVANAGARI: Final = "U+0900-097F, U+1CD0-1CFF, U+200C-200D, U+A8E0-A8FF"
MAX_REFUSED: Final = 8
"""Refused files that are listed without scrolling."""

_REFUSED_PX: Final = 360
_FORGETTING: Final = "forgetting"
_NOT_DELETED: Final = "drafts-not-deleted"
VIEWS: Final = {"one": show_one, "many": show_many, "visits": show_visits}


def show() -> None:
    """One run of the page, from top to bottom."""
    st.set_page_config(page_title="funduscope", layout="wide")
    st.html(STYLE)
    model()
    session = st.session_state.setdefault("session", Session())
    words, palette = _header()
    st.html(own_words(words))
    st.html(f"<script>document.documentElement.lang = '{words.language}'</script>", unsafe_allow_javascript=True)
    font = font_face(words.language, PAGE_FONT, DEVANAGARI)
    if font:
        st.html(f"<style>{font}</style>")
    _keep_drafts(session, words)
    if reason := st.session_state.pop(_NOT_DELETED, None):
        st.error(escaped(words("draft.not_deleted", {"reason": reason, "folder": drafts_folder()})))
    _uploader(session, words)
    if st.session_state.pop("open-one", False) or "view" not in st.session_state:
        st.session_state.view = "one"
    _refused(session, words)
    _repeated(session, words)
    show_batch(session, words, _accept)
    if not session.entries:
        _waiting_drafts(words)
        st.info(words("start.privacy", {"folder": drafts_folder()}))
        st.caption(words("not_a_device"))
        return
    view = st.segmented_control(
        words("views.label"),
        list(VIEWS),
        format_func=lambda name: words(f"views.{name}"),
        key="view",
        required=True,
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
    title, language, colors = st.columns([7, 2, 3], vertical_alignment="center")
    if "language" not in st.session_state:
        st.session_state.language = requested_language()
    words = Words(st.session_state.language)
    st.query_params["lang"] = language.selectbox(
        words("language.label"),
        list(LANGUAGES),
        format_func=lambda code: LANGUAGES[code],
        key="language",
        label_visibility="collapsed",
    )
    safe = colors.toggle(words("colors.safe"), key="safe", help=words("colors.help"))
    title.html(f"<h1 class='fs-top'><strong>funduscope</strong>{escape(words('start.what'))}</h1>")
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
            _read_now(session, demo_photo().read_bytes(), DEMO_PHOTO, words)
            st.session_state.view = "one"
            st.rerun()
        if session.entries or waiting_count():
            st.button(words("upload.clear"), key="clear", on_click=_ask_to_forget)
    if st.session_state.get(_FORGETTING):
        st.dialog(words("forget.title"), on_dismiss=_ask_no_longer)(_forget)(session, words)
    if files:
        _read_all(session, files, words)


def _ask_to_forget() -> None:
    """Keeps the question open in the session: a run of the page that something else caused would close it otherwise."""
    st.session_state[_FORGETTING] = True


def _ask_no_longer() -> None:
    st.session_state.pop(_FORGETTING, None)


def _forget(session: Session, words: Words) -> None:
    """Names what would be forgotten, and forgets it once the person confirms."""
    names = {draft_name(session, key) for key in session.entries}
    kept = [name for name in drafts() if name in names]
    lines = [words("forget.photos", {"count": len(session.entries)})]
    if waiting_count():
        lines.append(words("forget.waiting", {"count": waiting_count()}))
    if session.corrected:
        values = {"count": len(session.corrected), "unsaved": len(session.unsaved)}
        lines.append(words("forget.corrected", values))
    if kept:
        lines.append(words("forget.drafts", {"count": len(kept), "folder": drafts_folder()}))
    bullet_list(lines)
    st.caption(words("forget.stays"))
    yes, no = st.columns(2)
    forget = partial(_forget_all, session, kept)
    done = yes.button(words("forget.yes"), key="forget-yes", type="primary", width="stretch", on_click=forget)
    if no.button(words("forget.no"), key="forget-no", width="stretch", on_click=_ask_no_longer) or done:
        st.rerun()


def _forget_all(session: Session, kept: list[str]) -> None:
    """Forgets the photos of the session with the drafts of these."""
    _ask_no_longer()
    cancel_batch()
    session.clear()
    of_visits = [name for name in st.session_state if str(name).startswith("visit")]
    for name in ("current", CANCELED, *of_visits):
        st.session_state.pop(name, None)
    _delete_drafts(kept)


def _delete_drafts(keys: list[str]) -> None:
    """Deletes drafts; the page says why if the disk refuses, in its next run."""
    try:
        delete_drafts(keys)
    except OSError as error:
        st.session_state[_NOT_DELETED] = error.strerror or type(error).__name__


def _keep_drafts(session: Session, words: Words) -> None:
    try:
        keep_drafts(session)
    except OSError as error:
        st.warning(escaped(words("draft.failed", {"reason": error.strerror or type(error).__name__})))


def _waiting_drafts(words: Words) -> None:
    """Drafts of photos that this session does not have: where they are, and a button that deletes them."""
    waiting = drafts()
    if waiting:
        st.info(words("draft.waiting", {"count": len(waiting), "folder": drafts_folder()}))
        if st.button(words("draft.delete"), key="draft-delete"):
            _delete_drafts(waiting)
            st.rerun()


def _read_all(session: Session, files: list[UploadedFile], words: Words) -> None:
    """Reads one file at once, with its grade as soon as it is known, and several in the background."""
    st.session_state.pop(CANCELED, None)
    uploads = [upload for file in files for upload in _photos_of(file)]
    is_alone = len(uploads) == 1 and not waiting_count()
    if is_alone:
        _read_now(session, uploads[0].data(), uploads[0].name, words)
    else:
        reading = st.session_state.setdefault(BATCH, BatchReading(_palette()))
        reading.add(uploads)
    for file in files:  # only now: a run that was interrupted reads a single file again
        _remove_upload(file.file_id)
    st.session_state.batch += 1
    st.session_state.view = "one" if is_alone else "many"
    st.rerun()


def _photos_of(file: UploadedFile) -> list[Upload]:
    """The photos of a file: the frames of a DICOM file of several, otherwise one."""
    name = printable(file.name)
    frames = frame_numbers(file.getvalue())
    several = [Upload(frame_name(name, number), file.getvalue, number) for number in frames]
    return several or [Upload(name, file.getvalue)]


def _read_now(session: Session, data: bytes, name: str, words: Words) -> None:
    """Reads a photo or saved corrections while the page waits, and makes the photo the current one."""
    bar = st.progress(0.0, text=words("upload.reading", {"number": 1, "count": 1}))
    place = st.empty()

    def show_grade(findings: Findings) -> None:
        with place.container():
            show_grade_first(findings.to_dict(), preview_jpeg(findings.photo), words)

    is_zip = data.startswith(ZIP)
    answer = SavedCorrections(name, data) if is_zip else read_upload(data, name, _palette(), show_grade)
    st.session_state.current = _accept(session, answer) or st.session_state.get("current")
    bar.empty()
    place.empty()


def _palette() -> Palette:
    return "safe" if st.session_state.get("safe") else "standard"


def _remove_upload(file_id: str) -> None:
    """Removes an upload from Streamlit's own store, which would keep it for the whole session."""
    context = get_script_run_ctx()
    store = None if context is None else context.uploaded_file_mgr
    if context is not None and isinstance(store, MemoryUploadedFileManager):
        store.remove_file(context.session_id, file_id)


def _accept(session: Session, answer: UploadResult) -> str | None:
    """Adds a photo with its draft, or saved corrections; returns the photo's key, None for a refused file."""
    if isinstance(answer, SavedCorrections):
        key = restore_corrections(session, answer.data, answer.name)
    elif isinstance(answer, Failure):
        session.refuse(answer)
        return None
    elif same := session.restored_from(answer[0].key):
        session.repeated.append((answer[0].name, session.entries[same].name))
        session.bring_back(same, *answer)
        return same
    else:
        if (current := st.session_state.get("current")) in session.opened:
            session.opened.move_to_end(current)  # the photo on screen stays open
        session.add(*answer)
        key = answer[0].key
        continue_draft(session, key)
    if st.session_state.get("current") not in session.entries:
        st.session_state.current = key
    return key


def _refused(session: Session, words: Words) -> None:
    """The refused files with their reasons, until they are dismissed; folded where several would push a photo down."""
    if not session.refused:
        return
    is_folded = len(session.refused) > 1 and bool(session.entries) and st.session_state.get("view") != "many"
    title = words("refused.title", {"count": len(session.refused)})
    with st.expander(title, icon=":material/error:") if is_folded else st.container():
        _list_refused(session, title, words)


def _list_refused(session: Session, title: str, words: Words) -> None:
    lines = [
        f"{one.photo_name}: {words.error(one.code, one.says, LIMITS.message_values)} ({one.code})"
        for one in session.refused
    ]
    with st.container(height=_REFUSED_PX if len(lines) > MAX_REFUSED else "content"):
        st.error("\n\n".join([title, *map(escaped, lines)]))
    if st.button(words("refused.dismiss"), key="dismiss"):
        session.refused.clear()
        st.rerun()


def _repeated(session: Session, words: Words) -> None:
    """The files whose photo was here already under another name, until they are dismissed."""
    if not session.repeated:
        return
    lines = [words("repeated.line", {"name": name, "before": before}) for name, before in session.repeated]
    with st.container(height=_REFUSED_PX if len(lines) > MAX_REFUSED else "content"):
        st.info("\n\n".join(map(escaped, lines)))
    if st.button(words("refused.dismiss"), key="dismiss-repeated"):
        session.repeated.clear()
        st.rerun()
