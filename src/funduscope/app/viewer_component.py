"""The photo viewer as a Streamlit component: the report's viewer with the scripts and styles of `app/viewer`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

import streamlit as st
from streamlit import runtime
from streamlit.components.v2 import component

from funduscope.i18n.languages import Words
from funduscope.inference.anatomy import QUADRANTS
from funduscope.vocabulary import CODES

View = Literal["photo", "panel", "visits", "many"]

KEY: Final = "photo-view"
_HANDLED: Final = "photo-view-handled"
"""In Streamlit's state: the number of the last edit that was handled."""

_SCRIPTS: Final[Mapping[View, tuple[str, ...]]] = {
    "photo": ("dom.js", "thresholds.js", "tools.js", "photo.js"),
    "panel": ("panel.js",),
    "visits": ("dom.js", "visits.js"),
    "many": ("dom.js", "many.js"),
}
_TOOLS: Final = ("view", "draw", "brush", "erase", "optic_disc", "fovea")
_TEXTS: Final = {
    "photoLabel": "photo.label",
    "view": "tool.view",
    "zoomIn": "photo.zoom_in",
    "zoomOut": "photo.zoom_out",
    "whole": "photo.whole",
    "ownPixels": "photo.own_pixels",
    "bare": "photo.bare",
    "redFree": "photo.red_free",
    "contrast": "photo.contrast",
    "ruler": "photo.ruler",
    "rulerHint": "photo.ruler_hint",
    "dd": "photo.dd",
    "previous": "photo.previous",
    "next": "photo.next",
    "scale": "photo.scale",
    "layers": "photo.layers",
    "landmarks": "photo.landmarks",
    "fade": "photo.fade",
    "lesions": "lesions.title",
    "tableLabel": "lesions.label",
    "tableNote": "lesions.note",
    "noLesion": "lesions.none",
    "thresholds": "thresholds.title",
    "thresholdsNote": "thresholds.note",
    "thresholdsFixed": "thresholds.fixed",
    "thresholdsReset": "thresholds.reset",
    "all": "lesions.all",
    "kind": "lesions.kind",
    "corrected": "correct.corrected",
    "correct": "correct.tools",
    "remove": "correct.remove",
    "relabel": "correct.relabel",
    "undo": "correct.undo",
    "redo": "correct.redo",
    "brushSize": "brush.size",
    "brushPx": "brush.px",
    "brushPxDd": "brush.px_dd",
}


@cache
def viewer(view: View) -> Callable[..., Any]:
    """The component of a view, registered once for all sessions."""
    script, style = sources(view)
    return component(f"funduscope_{view}", html="<div data-host></div>", css=style, js=script)


def sources(view: View) -> tuple[str, str]:
    """A view's script, a module whose default export draws into a host element, and its style."""
    own = resources.files("funduscope") / "app" / "viewer"
    report = resources.files("funduscope") / "report"
    scripts = (report / "viewer" / "viewer.js", *(own / name for name in _SCRIPTS[view]))
    styles = (report / "frame.css", report / "viewer" / "viewer.css", own / "photo.css")
    script, style = ("\n".join(part.read_text("utf-8") for part in parts) for parts in (scripts, styles))
    return script, style


def show_photo(
    drawn: dict[str, Any],
    address: str,
    words: Words,
    *,
    position: tuple[int, int],
    can_undo: bool,
    can_redo: bool,
    unsaved: bool,
    on_edit: Callable[[], None],
) -> None:
    """Shows a photo, and in the panel of `show_panel` its layers, thresholds and lesions.

    drawn: `viewer_data` with thresholds and planes. address: of the photo's JPEG. position: the photo's number, from 1,
    and how many there are. unsaved: the browser asks before it leaves the page. on_edit: called after edits in the
    photo, and when the next or the previous photo is asked for.
    """
    data = drawn | {
        "picture": address,
        "stamp": hashlib.sha256(json.dumps([drawn, can_undo, can_redo]).encode()).hexdigest(),
        "language": words.language,
        "canUndo": can_undo,
        "canRedo": can_redo,
        "unsaved": unsaved,
        "handled": st.session_state.get(_HANDLED, 0),
        "position": dict(zip(("number", "count"), position, strict=True)),
        "words": photo_texts(words) | {"eye": words(f"photo.eye.{drawn['eye']}") if drawn["eye"] else ""},
    }
    viewer("photo")(key=KEY, data=data, on_edits_change=on_edit)


def show_panel() -> None:
    """The place where the photo's component puts layers, thresholds and the table of lesions."""
    viewer("panel")(key=f"{KEY}-panel")


def new_edits() -> list[dict[str, Any]]:
    """The edits that the component sent and that were not returned before, in order.

    The component sends every edit that it does not know to be handled: of several triggers that come while the script
    runs, Streamlit keeps the last one.
    """
    sent, handled = getattr(st.session_state.get(KEY), "edits", None), st.session_state.get(_HANDLED, 0)
    edits = [edit for edit in sent if isinstance(edit, dict)] if isinstance(sent, list) else []
    new = [edit for edit in edits if isinstance(edit.get("number"), int) and edit["number"] > handled]
    if new:
        st.session_state[_HANDLED] = new[-1]["number"]
    return new


def media_address(picture: bytes, name: str, kind: str = "image/jpeg") -> str:
    """Puts a picture into the server's memory, for as long as the page shows it, and returns its address."""
    return runtime.get_instance().media_file_mgr.add(picture, kind, name)


def texts(words: Words, keys: Mapping[str, str]) -> dict[str, Any]:
    """The texts of these keys, by the names that a script uses, with those of all structures and quadrants."""
    return {name: words.template(key) for name, key in keys.items()} | {
        "structures": {code: words.structure(code) for code in CODES},
        "quadrants": {name: words(f"quadrant.{name}") for name in QUADRANTS},
    }


def photo_texts(words: Words) -> dict[str, Any]:
    """The texts of the photo's view."""
    return texts(words, _TEXTS) | {
        "columns": {name: words(f"lesions.{name}") for name in ("kind", "area", "fovea", "place", "probability")},
        "tools": {tool: words(f"tool.{tool}") for tool in _TOOLS},
        "hints": {tool: words(f"hint.{tool}") for tool in _TOOLS},
    }
