"""Keep corrections, as a download or in a folder of this machine, and take them up again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from funduscope.app.corrections import Corrections, History, seen_with
from funduscope.app.keeping import Kept, as_zip, into_folder
from funduscope.app.reading import read, reopened
from funduscope.app.restoring import restored
from funduscope.app.shelf import Shelf
from funduscope.data.case import LabelError
from funduscope.errors import PhotoError
from funduscope.languages import Words
from funduscope.predict.findings import Failure
from funduscope.predict.report import printable


def offer_saving(shelf: Shelf, words: Words) -> None:
    """Saves every photo of the session that was corrected. The file is made when it is asked for."""
    corrected = shelf.corrected
    if not corrected:
        return
    with st.expander(words("save.title"), expanded=True):
        st.caption(words("save.note", {"count": len(corrected)}))
        if any(shelf.entries[key].data is None and key not in shelf.opened for key in corrected):
            st.warning(words("save.let_go"))
        st.download_button(
            words("save.download"),
            lambda: _zipped(shelf),
            file_name="corrections.zip",
            mime="application/zip",
            on_click="ignore",
            key="save-download",
        )
        folder = st.text_input(words("save.folder"), key="save-folder", placeholder="~/corrections")
        if st.button(words("save.into_folder"), key="save-button", disabled=not folder.strip()):
            said: dict[str, Corrections] = {}
            try:
                place = into_folder(_kept(shelf, said), Path(folder.strip()))
            except LabelError:
                st.error(words("save.not_empty"))
            except OSError as error:
                st.error(words("save.refused", {"reason": error.strerror or ""}))
            else:
                shelf.saved.update(said)
                st.success(words("save.done"))
                st.code(f"funduscope train spine --data '{place}' --run runs/corrected", language=None, wrap_lines=True)


def take_up(shelf: Shelf, data: bytes, name: str) -> str | None:
    """Takes up corrections that were saved: each photo comes with them, or is in the session already.

    data: of a ZIP file; what is wrong with it is refused like a photo. The key of the first photo, None without any.
    """
    first = None
    try:
        for one in restored(data):
            key = one.sha256
            if key not in shelf.entries:
                answer = read(one.data, printable(one.name))
                if isinstance(answer, Failure):
                    shelf.refuse(answer)
                    continue
                shelf.put(*answer)
                key = answer[0].key
            elif _size(shelf.entries[key].found) != one.size:
                says = "the corrections are of a photo of another size; expected those of this one: choose that file"
                shelf.refuse(Failure(printable(one.name), "E_LABELS", says))
                continue
            shelf.histories[key] = History(one.corrections)
            shelf.saved[key] = one.corrections
            first = first or key
    except PhotoError as error:
        shelf.refuse(Failure(name, error.code, error.says))
    return first


def _size(found: Mapping[str, Any]) -> tuple[int, int]:
    return found["photo"]["width"], found["photo"]["height"]


def _zipped(shelf: Shelf) -> bytes:
    """The file to download; what it holds counts as saved once all of it was made."""
    said: dict[str, Corrections] = {}
    data = as_zip(_kept(shelf, said))
    shelf.saved.update(said)
    return data


def _kept(shelf: Shelf, said: dict[str, Corrections]) -> Iterator[Kept]:
    """Every corrected photo whose pixels can still be had, one at a time, with the masks of what was looked at.

    said: gets the corrections of each.
    """
    for key in shelf.corrected:
        opened = shelf.opened.get(key) or reopened(shelf.entries[key])
        if opened is None:
            continue
        now = shelf.histories[key].now
        shown = seen_with(opened.findings, shelf.thresholds.get(key, {}), now)
        masks = {code: shown.mask(code) for code in shown.codes if code in now.looked_at}
        yield Kept(opened.findings.photo, now, masks)
        said[key] = now
