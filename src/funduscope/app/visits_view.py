"""Two photos of one eye over each other: a divider, a blink, and the lesions that are new or gone."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import streamlit as st

from funduscope.app.brightness import match_brightness
from funduscope.app.export_visits import visits_csv, visits_pdf
from funduscope.app.printing import offer_file
from funduscope.app.session import Session
from funduscope.app.uploads import open_photo
from funduscope.app.viewer_component import media_address, texts, viewer
from funduscope.app.visit_comparison import SIDE_PX, LesionChange, VisitComparison, compare_visits
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Findings
from funduscope.report.outline import Palette, hex_color_of
from funduscope.report.photo_jpegs import jpeg
from funduscope.vocabulary import LESIONS

MAX_COMPARISONS: Final = 2
"""Comparisons kept in memory, each with two small pictures."""

_TEXTS: Final = {
    "label": "visits.photo",
    "view": "tool.view",
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
    "tableLabel": "visits.table",
}


def show_visits(session: Session, words: Words, palette: Palette) -> None:
    """The view of two photos; the person chooses which is the earlier one."""
    keys = [key for key, entry in session.entries.items() if entry.found["gradable"]["ok"]]
    if len(keys) < 2:
        st.info(words("visits.need_two"))
        return
    earlier, later = _choose(session, keys, words)
    if earlier == later:
        st.info(words("visits.same"))
        return
    visits = _compare(session, earlier, later, words)
    if visits is None:
        st.warning(words("photo.removed"))
        return
    if not visits.is_one_eye or visits.registration is None:
        st.warning(words("visits.not_one_eye"))
    else:
        values = {"new": len(visits.new), "gone": len(visits.gone), "unsure": visits.unsure}
        values["stayed"] = sum(visits.stayed.values())
        st.markdown(f"**{words('visits.result', values)}**")
        if visits.registration.mirrored:
            st.warning(words("visits.mirrored"))
        st.caption(f"{words('visits.note')} {words('visits.brightness')}")
    _show(visits, words, palette)
    _offer(session, (earlier, later), visits, words, palette)


def _offer(session: Session, keys: tuple[str, ...], visits: VisitComparison, words: Words, palette: Palette) -> None:
    """The comparison as files."""
    earlier, later = (session.found(key) for key in keys)
    left, right = st.columns([1, 1, 2])[:2]
    offer_file("visits.csv", "visits.csv", lambda: visits_csv(visits, earlier, later), words, left)
    offer_file("visits.pdf", "visits.pdf", lambda: visits_pdf(visits, earlier, later, words, palette), words, right)


def _choose(session: Session, keys: list[str], words: Words) -> tuple[str, ...]:
    """The keys of the earlier and the later photo, chosen in two lists.

    At first those that were taken first and last, where two files say when; otherwise the oldest and the newest upload.
    """
    days = {key: day for key in keys if (day := session.entries[key].acquired_on) is not None}
    by_day = sorted(days, key=days.__getitem__)
    ends = (by_day[0], by_day[-1]) if len(set(days.values())) > 1 else (keys[0], keys[-1])
    chosen, labels = [], session.labels()
    for place, name, first in zip(st.columns(2), ("earlier", "later"), ends, strict=True):
        widget, backup = f"visit-{name}", f"visit-{name}-chosen"
        if widget not in st.session_state:  # Streamlit forgets a list's choice while another view is shown
            last = st.session_state.get(backup)
            st.session_state[widget] = last if last in keys else first
        chosen.append(place.selectbox(words(f"visits.{name}"), keys, format_func=labels.__getitem__, key=widget))
        st.session_state[backup] = chosen[-1]
    return tuple(chosen)


def _compare(session: Session, earlier: str, later: str, words: Words) -> VisitComparison | None:
    """The comparison, from memory or computed; None if a photo's bytes were removed."""
    known: OrderedDict[Any, VisitComparison] = st.session_state.setdefault("visits", OrderedDict())
    stated = [session.history(one).now for one in (earlier, later)]
    key = tuple(
        (one, str(session.thresholds.get(one)), now.outline_key, now.complete)
        for one, now in zip((earlier, later), stated, strict=True)
    )
    if key not in known:
        with st.spinner(words("visits.working")):
            first, second = _findings(session, earlier), _findings(session, later)
            if first is None or second is None:
                return None
            known[key] = compare_visits(first, second, (stated[0].complete, stated[1].complete))
        while len(known) > MAX_COMPARISONS:
            known.popitem(last=False)
    return known[key]


def _findings(session: Session, key: str) -> Findings | None:
    opened = open_photo(session, key)
    if opened is None:
        return None
    session.open(key, opened)
    return session.shown(key, opened)


def _show(visits: VisitComparison, words: Words, palette: Palette) -> None:
    changes = [("new", one) for one in visits.new] + [("gone", one) for one in visits.gone]
    data = {
        "side": SIDE_PX,
        "first": media_address(jpeg(match_brightness(visits.first, visits.second), 90), "v1"),
        "second": media_address(jpeg(visits.second, 90), "v2"),
        "colors": {code: hex_color_of(code, palette) for code in LESIONS},
        "changes": [_row(what, change) for what, change in changes],
        "known": visits.is_one_eye,
        "language": words.language,
        "words": texts(words, _TEXTS),
    }
    viewer("visits")(key="visits-view", data=data)


def _row(what: str, change: LesionChange) -> dict[str, Any]:
    one = change.lesion
    x, y = change.xy
    place = {"x": x, "y": y, "radius": round(change.radius_px, 1), "quadrant": one.quadrant}
    return {"what": what, "code": change.code, "area": one.area_px} | place
