"""Two photos of one eye beside and over each other: blink, slide, and the lesions that came and went."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, Final

import numpy as np
import simplejpeg
import streamlit as st
from streamlit.components.v2 import component

from funduscope.app.one_view import latest_findings
from funduscope.app.photo_view import address_of
from funduscope.app.session import Session
from funduscope.app.visits import SIDE_PX, Change, Visits, compare
from funduscope.i18n.languages import Words
from funduscope.inference.anatomy import QUADRANTS
from funduscope.report.outline import Palette, color_of
from funduscope.vocabulary import LESIONS

MOST_COMPARED: Final = 2
"""So many comparisons are held; each has two small pictures."""

_TEXTS: Final = {
    "label": "visits.photo",
    "zoom": "photo.zoom",
    "zoomIn": "photo.zoom_in",
    "zoomOut": "photo.zoom_out",
    "whole": "photo.whole",
    "blink": "visits.blink",
    "swap": "visits.swap",
    "slide": "visits.slide",
    "marks": "visits.marks",
    "earlier": "visits.earlier",
    "later": "visits.later",
    "new": "visits.new",
    "gone": "visits.gone",
    "kind": "lesions.kind",
    "area": "lesions.area",
    "place": "lesions.place",
    "change": "visits.change",
    "none": "visits.none",
    "find": "lesions.find",
}


def show_visits(session: Session, words: Words, palette: Palette) -> None:
    """The view of two photos; which of them is earlier is said by the person."""
    keys = [key for key, entry in session.entries.items() if entry.found["gradable"]["ok"]]
    if len(keys) < 2:
        st.info(words("visits.need_two"))
        return
    for name, first in (("visit-earlier", keys[0]), ("visit-later", keys[-1])):
        held = st.session_state.get(f"{name}-held")  # Streamlit forgets a list's choice while another view is shown
        if name not in st.session_state:
            st.session_state[name] = held if held in keys else first
    left, right = st.columns(2)
    names = {key: session.entries[key].name for key in keys}
    earlier = left.selectbox(words("visits.earlier"), keys, format_func=names.__getitem__, key="visit-earlier")
    later = right.selectbox(words("visits.later"), keys, format_func=names.__getitem__, key="visit-later")
    st.session_state["visit-earlier-held"], st.session_state["visit-later-held"] = earlier, later
    if earlier == later:
        st.info(words("visits.same"))
        return
    visits = _compared(session, earlier, later, words)
    if visits is None:
        st.warning(words("photo.let_go"))
        return
    if not visits.is_one_eye or visits.registration is None:
        st.warning(words("visits.not_one_eye"))
    else:
        values = {"new": len(visits.new or ()), "gone": len(visits.gone or ()), "unsure": visits.unsure}
        values["stayed"] = sum(visits.stayed.values())
        st.markdown(f"**{words('visits.result', values)}**")
        if visits.registration.mirrored:
            st.warning(words("visits.mirrored"))
        st.caption(words("visits.note"))
    _show(visits, words, palette)


def _compared(session: Session, earlier: str, later: str, words: Words) -> Visits | None:
    held: OrderedDict[Any, Visits] = st.session_state.setdefault("visits", OrderedDict())
    asked = tuple((key, str(session.thresholds.get(key)), session.history(key).now.stamp) for key in (earlier, later))
    if asked not in held:
        with st.spinner(words("visits.working")):
            first, second = latest_findings(session, earlier), latest_findings(session, later)
            if first is None or second is None:
                return None
            held[asked] = compare(first, second)
        while len(held) > MOST_COMPARED:
            held.popitem(last=False)
    return held[asked]


def _show(visits: Visits, words: Words, palette: Palette) -> None:
    spoken = {name: words.template(key) for name, key in _TEXTS.items()} | {
        "structures": {code: words.structure(code) for code in LESIONS},
        "quadrants": {name: words(f"quadrant.{name}") for name in QUADRANTS},
    }
    first, second = (address_of(_jpeg(image), name) for image, name in ((visits.first, "v1"), (visits.second, "v2")))
    data = {
        "side": SIDE_PX,
        "first": first,
        "second": second,
        "colors": {code: "#{:02x}{:02x}{:02x}".format(*color_of(code, palette)) for code in LESIONS},
        "changes": [
            *(_row("new", change) for change in visits.new or ()),
            *(_row("gone", change) for change in visits.gone or ()),
        ],
        "known": visits.is_one_eye,
        "language": words.language,
        "words": spoken,
    }
    _component()(key="visits-view", data=data)


def _row(what: str, change: Change) -> dict[str, Any]:
    one = change.one
    x, y = change.xy
    return {"what": what, "code": change.code, "x": x, "y": y, "area": one.area_px, "quadrant": one.quadrant}


def _jpeg(image: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=90, colorspace="RGB", colorsubsampling="444")


@cache
def _component() -> Callable[..., Any]:
    own = resources.files("funduscope") / "app" / "viewer"
    shared = resources.files("funduscope") / "report" / "viewer"
    script = "\n".join(part.read_text("utf-8") for part in (shared / "viewer.js", own / "dom.js", own / "visits.js"))
    styles = (shared.parent / "frame.css", shared / "viewer.css", own / "photo.css")
    style = "\n".join(part.read_text("utf-8") for part in styles)
    return component("funduscope_visits", html="<div data-host></div>", css=style, js=script)
