"""Saves corrections as downloads or into a folder of this machine, and restores them from a dropped file."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import streamlit as st

from funduscope.app.answers import escaped
from funduscope.app.drafts import continue_draft
from funduscope.app.export_labels import TABLE, LabeledPhoto, as_zip, into_folder, max_saved_bytes
from funduscope.app.import_labels import read_zip
from funduscope.app.reviewed import Corrections, mask_from_png
from funduscope.app.server import UPLOAD_MB
from funduscope.app.session import Session
from funduscope.app.uploads import open_photo, read_upload
from funduscope.data.case import LabelError
from funduscope.i18n.errors import PhotoError
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Failure
from funduscope.report.html_frame import printable
from funduscope.vocabulary import CODES

MAX_ZIP_BYTES: Final = UPLOAD_MB * 1_000_000
"""Size of one download: a larger file than the upload limit could not be restored."""


def show_saving(session: Session, words: Words, *, named: bool) -> None:
    """Downloads and a folder for all corrected photos of the session. A file is made when it is asked for.

    named: whether files carry the photos' names.
    """
    corrected = session.corrected
    if not corrected:
        return
    with st.expander(words("save.title"), expanded=True):
        st.caption(words("save.note_named" if named else "save.note", {"count": len(corrected)}))
        unfinished = frozenset().union(*(session.history(key).now.unfinished for key in corrected))
        if unfinished:
            st.caption(words("save.unfinished", {"kinds": [code for code in CODES if code in unfinished]}))
        if any(_is_removed(session, key) for key in corrected):
            st.warning(words("save.removed"))
        _offer_zips(session, words, named=named)
        folder = st.text_input(words("save.folder"), key="save-folder", placeholder="~/corrections")
        if st.button(words("save.into_folder"), key="save-button", disabled=not folder.strip()):
            _save_into(folder.strip(), session, words, named=named)


def _save_into(folder: str, session: Session, words: Words, *, named: bool) -> None:
    saved: dict[str, Corrections] = {}
    try:
        photos = _labeled_photos(session, session.corrected, saved, named=named)
        place = into_folder(photos, Path(folder))
    except LabelError:
        st.error(words("save.not_empty"))
    except (OSError, RuntimeError, ValueError) as error:  # the home of no user, a name of no file
        reason = error.strerror if isinstance(error, OSError) else str(error)
        st.error(escaped(words("save.refused", {"reason": reason or ""})))
    else:
        session.saved.update(saved)
        st.success(words("save.done"))
        # The table, since the folders of masks have neither grades nor points.
        command = f"funduscope train plain --data {shlex.quote(str(place / TABLE))} --run runs/corrected"
        tasks = sorted({task for now in saved.values() for task in now.classes})
        switches = "".join(f" --set tasks.{task}=true" for task in tasks)
        st.code(command + switches, language=None, wrap_lines=True)


def _offer_zips(session: Session, words: Words, *, named: bool) -> None:
    """One download button, or several where one file would exceed the upload limit."""
    parts, first = split_for_zips(session), 1
    if len(parts) > 1:
        st.caption(words("save.parts", {"count": len(parts), "mb": UPLOAD_MB}))
    for number, keys in enumerate(parts, start=1):
        values = {"number": number, "count": len(parts)}
        folder = "corrections" if len(parts) == 1 else f"corrections-{number}"
        st.download_button(
            words("save.download") if len(parts) == 1 else words("save.part", values),
            partial(make_zip, session, keys, folder, first, named=named),
            file_name=f"{folder}.zip",
            mime="application/zip",
            on_click="ignore",
            key=f"save-download-{number}",
        )
        first += len(keys)


def split_for_zips(session: Session, max_bytes: int = MAX_ZIP_BYTES) -> list[list[str]]:
    """The keys of the corrected photos, in as few files in order as stay below `max_bytes` each.

    Photos whose bytes were removed are left out. A photo that is larger by itself gets its own file.
    """
    parts: list[list[str]] = []
    left = 0
    for key in session.corrected:
        if _is_removed(session, key):
            continue
        needed = max_saved_bytes(session.entries[key].data, *session.size(key))
        if needed > left:
            parts.append([])
            left = max_bytes
        parts[-1].append(key)
        left -= needed
    return parts


def make_zip(
    session: Session, keys: Iterable[str], folder: str = "corrections", first: int = 1, *, named: bool = False
) -> bytes:
    """The download with these photos. They count as saved once the whole file is made.

    folder: its name in the file. first: the number of its first photo. named: whether files carry the photos' names.
    """
    saved: dict[str, Corrections] = {}
    data = as_zip(_labeled_photos(session, keys, saved, named=named), folder, first)
    session.saved.update(saved)
    return data


def _labeled_photos(
    session: Session, keys: Iterable[str], saved: dict[str, Corrections], *, named: bool
) -> Iterator[LabeledPhoto]:
    """Each photo, one at a time, with its complete masks; those whose bytes were removed are left out.

    saved: gets the corrections of each photo.
    """
    for key in keys:
        opened = open_photo(session, key)
        if opened is None:
            continue
        now = session.history(key).now
        masks = {code: mask_from_png(now.masks[code]) for code in CODES if code in now.complete and code in now.masks}
        entry = session.entries[key]
        name = entry.name if named else None
        yield LabeledPhoto(opened.findings.photo, now, masks, entry.data, name, entry.original)
        saved[key] = now


def restore_corrections(session: Session, data: bytes, name: str) -> str | None:
    """Restores the photos and corrections of a saved ZIP file; returns the key of the first photo, None without any.

    A photo that the session does not have is added. Other corrections of a photo are replaced by a step that can be
    undone. A file that cannot be read is refused like a photo.
    """
    first = None
    try:
        for one in read_zip(data):
            key = one.sha256
            if key not in session.entries:
                answer = read_upload(one.data, printable(one.name))
                if isinstance(answer, Failure):
                    session.refuse(answer)
                    continue
                entry, opened = answer
                key = entry.key
                session.add(replace(entry, original=one.sha256), opened)
                continue_draft(session, key)
            elif session.size(key) != one.size:
                says = "the corrections are of a photo of another size; expected those of this one: choose that file"
                session.refuse(Failure(printable(one.name), "E_LABELS", says))
                continue
            elif session.entries[key].data is None:
                answer = read_upload(one.data, printable(one.name))
                if not isinstance(answer, Failure):
                    session.bring_back(key, *answer)
            session.history(key).restore(one.corrections)
            session.saved[key] = one.corrections
            if key not in session.opened:
                _update_closed(session, key)
            first = first or key
    except PhotoError as error:
        session.refuse(Failure(name, error.code, error.says))
    return first


def _update_closed(session: Session, key: str) -> None:
    """Updates what table and PDF show of a photo that is not open."""
    now = session.history(key).now
    session.entries[key].changed = None
    if now.masks or now.disc_xy or now.fovea_xy:
        opened = open_photo(session, key)
        if opened is not None:
            session.close(key, opened)


def _is_removed(session: Session, key: str) -> bool:
    return session.entries[key].data is None and key not in session.opened
