"""The photo in the browser: the report's viewer as a Streamlit component, its script and style from the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, Final

import streamlit as st
from streamlit import runtime
from streamlit.components.v2 import component

from funduscope.i18n.languages import Words
from funduscope.inference.anatomy import QUADRANTS
from funduscope.vocabulary import CODES

KEY: Final = "photo-view"
_TOOLS: Final = ("look", "draw", "optic_disc", "fovea")
_TEXTS: Final = {
    "photoLabel": "photo.label",
    "zoom": "photo.zoom",
    "zoomIn": "photo.zoom_in",
    "zoomOut": "photo.zoom_out",
    "whole": "photo.whole",
    "ownPixels": "photo.own_pixels",
    "bare": "photo.bare",
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
    "thresholdsHeld": "thresholds.held",
    "thresholdsReset": "thresholds.reset",
    "all": "lesions.all",
    "kind": "lesions.kind",
    "find": "lesions.find",
    "corrected": "correct.corrected",
    "correct": "correct.tools",
    "remove": "correct.remove",
    "undo": "correct.undo",
}


@cache
def _component() -> Callable[..., Any]:
    """The component; registered once, for whatever session asks first."""
    script, style = sources()
    return component("funduscope_photo", html="<div data-host></div>", css=style, js=script)


def sources() -> tuple[str, str]:
    """The component's script, a module whose default export draws into a host, and its style."""
    own = resources.files("funduscope") / "app" / "viewer"
    shared = resources.files("funduscope") / "report" / "viewer"
    parts = (shared / "viewer.js", own / "dom.js", own / "thresholds.js", own / "photo.js")
    script = "\n".join(part.read_text("utf-8") for part in parts)
    styles = (shared.parent / "frame.css", shared / "viewer.css", own / "photo.css")
    style = "\n".join(part.read_text("utf-8") for part in styles)
    return script, style


def show_photo(
    drawn: dict[str, Any],
    picture: str,
    words: Words,
    *,
    can_undo: bool,
    unsaved: bool,
    on_edit: Callable[[], None],
) -> None:
    """Shows a photo. drawn: a `scene` with thresholds and planes; picture: the photo's address; on_edit: called after a
    step in the photo.

    unsaved: the browser asks before it leaves the page.
    """
    stamp = hashlib.sha256(json.dumps([drawn, can_undo]).encode()).hexdigest()
    data = drawn | {
        "picture": picture,
        "stamp": stamp,
        "language": words.language,
        "canUndo": can_undo,
        "unsaved": unsaved,
        "words": _spoken(words),
    }
    _component()(key=KEY, data=data, on_edit_change=on_edit)


def last_edit() -> dict[str, Any]:
    """The step that the component sent last; empty where it sent none."""
    edit = getattr(st.session_state.get(KEY), "edit", None)
    return edit if isinstance(edit, dict) else {}


def address_of(picture: bytes, name: str, kind: str = "image/jpeg") -> str:
    """Where the browser finds a picture: in the server's memory, for as long as the page shows it."""
    return runtime.get_instance().media_file_mgr.add(picture, kind, name)


def _spoken(words: Words) -> dict[str, Any]:
    return {name: words.template(key) for name, key in _TEXTS.items()} | {
        "structures": {code: words.structure(code) for code in CODES},
        "quadrants": {name: words(f"quadrant.{name}") for name in QUADRANTS},
        "columns": {name: words(f"lesions.{name}") for name in ("kind", "area", "fovea", "place", "probability")},
        "tools": {tool: words(f"tool.{tool}") for tool in _TOOLS},
        "hints": {tool: words(f"hint.{tool}") for tool in _TOOLS},
    }
