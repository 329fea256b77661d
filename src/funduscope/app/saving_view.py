"""Keep corrections, as a download or in a folder of this machine, and take them up again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import streamlit as st

from funduscope.app.corrections import Corrections, seen_with
from funduscope.app.export_labels import Kept, as_zip, into_folder, room
from funduscope.app.import_labels import restored
from funduscope.app.server import UPLOAD_MB
from funduscope.app.session import Session
from funduscope.app.uploads import read, reopened
from funduscope.data.case import LabelError
from funduscope.i18n.errors import PhotoError
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Failure
from funduscope.report.html_frame import printable

MOST_BYTES: Final = UPLOAD_MB * 1_000_000
"""Of one file to download: what is larger than an upload may be could not be taken up again."""


def offer_saving(session: Session, words: Words) -> None:
    """Saves every photo of the session that was corrected. The file is made when it is asked for."""
    corrected = session.corrected
    if not corrected:
        return
    with st.expander(words("save.title"), expanded=True):
        st.caption(words("save.note", {"count": len(corrected)}))
        if any(_is_let_go(session, key) for key in corrected):
            st.warning(words("save.let_go"))
        _offer_zips(session, words)
        folder = st.text_input(words("save.folder"), key="save-folder", placeholder="~/corrections")
        if st.button(words("save.into_folder"), key="save-button", disabled=not folder.strip()):
            said: dict[str, Corrections] = {}
            try:
                place = into_folder(_kept(session, corrected, said), Path(folder.strip()))
            except LabelError:
                st.error(words("save.not_empty"))
            except OSError as error:
                st.error(words("save.refused", {"reason": error.strerror or ""}))
            else:
                session.saved.update(said)
                st.success(words("save.done"))
                st.code(f"funduscope train spine --data '{place}' --run runs/corrected", language=None, wrap_lines=True)


def _offer_zips(session: Session, words: Words) -> None:
    """One button, or several where one file would be too large to be dropped again."""
    parts, first = in_parts(session), 1
    if len(parts) > 1:
        st.caption(words("save.parts", {"count": len(parts), "mb": UPLOAD_MB}))
    for number, keys in enumerate(parts, start=1):
        values = {"number": number, "count": len(parts)}
        folder = "corrections" if len(parts) == 1 else f"corrections-{number}"
        st.download_button(
            words("save.download") if len(parts) == 1 else words("save.part", values),
            partial(zipped, session, keys, folder, first),
            file_name=f"{folder}.zip",
            mime="application/zip",
            on_click="ignore",
            key=f"save-download-{number}",
        )
        first += len(keys)


def in_parts(session: Session, most_bytes: int = MOST_BYTES) -> list[list[str]]:
    """The corrected photos whose pixels can still be had, in as many files as it takes for each to stay below so many
    bytes. A photo that is larger by itself has a file of its own.
    """
    parts: list[list[str]] = []
    left = 0
    for key in session.corrected:
        if _is_let_go(session, key):
            continue
        entry = session.entries[key]
        needed = room(entry.data, *_size(entry.found))
        if needed > left:
            parts.append([])
            left = most_bytes
        parts[-1].append(key)
        left -= needed
    return parts


def take_up(session: Session, data: bytes, name: str) -> str | None:
    """Takes up corrections that were saved: each photo comes with them, or is in the session already.

    Where it has other corrections there, those of the file are one step more, which can be undone. data: of a ZIP file;
    what is wrong with it is refused like a photo. The key of the first photo, None without any.
    """
    first = None
    try:
        for one in restored(data):
            key = one.sha256
            if key not in session.entries:
                answer = read(one.data, printable(one.name))
                if isinstance(answer, Failure):
                    session.refuse(answer)
                    continue
                session.put(*answer)
                key = answer[0].key
            elif _size(session.entries[key].found) != one.size:
                says = "the corrections are of a photo of another size; expected those of this one: choose that file"
                session.refuse(Failure(printable(one.name), "E_LABELS", says))
                continue
            session.history(key).take_up(one.corrections)
            session.saved[key] = one.corrections
            if key not in session.opened:
                _outline_anew(session, key)
            first = first or key
    except PhotoError as error:
        session.refuse(Failure(name, error.code, error.says))
    return first


def _outline_anew(session: Session, key: str) -> None:
    """What table and PDF say of a photo that is not open follows corrections from a file, too."""
    entry, now = session.entries[key], session.history(key).now
    entry.changed = None
    if not (now.masks or now.disc_xy or now.fovea_xy):
        return
    opened = reopened(entry)
    if opened is not None:
        session.put_away(key, opened)


def _is_let_go(session: Session, key: str) -> bool:
    return session.entries[key].data is None and key not in session.opened


def _size(found: Mapping[str, Any]) -> tuple[int, int]:
    return found["photo"]["width"], found["photo"]["height"]


def zipped(session: Session, keys: Iterable[str], folder: str = "corrections", first: int = 1) -> bytes:
    """The file to download, of these photos; what it holds counts as saved once all of it was made.

    folder: its name in the file. first: the number of its first photo.
    """
    said: dict[str, Corrections] = {}
    data = as_zip(_kept(session, keys, said), folder, first)
    session.saved.update(said)
    return data


def _kept(session: Session, keys: Iterable[str], said: dict[str, Corrections]) -> Iterator[Kept]:
    """Those of the photos whose pixels can still be had, one at a time, with the masks of what was looked at.

    said: gets the corrections of each.
    """
    for key in keys:
        entry = session.entries[key]
        opened = session.opened.get(key) or reopened(entry)
        if opened is None:
            continue
        now = session.histories[key].now
        shown = seen_with(opened.findings, session.thresholds.get(key, {}), now)
        masks = {code: shown.mask(code) for code in shown.codes if code in now.looked_at}
        yield Kept(opened.findings.photo, now, masks, entry.data)
        said[key] = now
