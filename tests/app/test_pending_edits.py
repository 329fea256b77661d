"""Edits that come while the page is busy: none is lost, none is applied twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

import streamlit as st

from funduscope.app import one_view, page_view, viewer_component
from funduscope.app.reviewed import apply_corrections
from funduscope.app.session import Entry, OpenPhoto, Session
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings

SIDE = 300


class _State(dict[str, Any]):
    """Streamlit's state, without a script that runs."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> _State:
    made = _State()
    monkeypatch.setattr(st, "session_state", made)
    return made


def _opened(session: Session, gray: int) -> str:
    """Adds an open photo without lesions; returns its key."""
    photo = Photo.open(np.full((SIDE, SIDE, 3), gray, np.uint8), name=f"{gray}.png")
    planes = {"HE": np.zeros((SIDE, SIDE), np.float32)}
    transform, card = CropTransform(0, 0, SIDE, SIDE, SIDE, SIDE), Card(whole_px=SIDE, close_px=SIDE)
    findings = Findings(photo, transform, card, "0" * 64, frame_probs=planes)
    session.add(Entry(photo.sha256, photo.name, b"", {}, b"", b""), OpenPhoto(findings, b""))
    return photo.sha256


def _dot(number: int, key: str) -> dict[str, Any]:
    place = [[20 + 20 * number, 100]]
    return {"number": number, "photo": key, "what": "draw", "code": "HE", "points": place, "radius": 3}


def _send(state: _State, session: Session, *edits: dict[str, Any]) -> None:
    """What happens when a trigger with these edits arrives."""
    state[viewer_component.KEY] = SimpleNamespace(edits=list(edits))
    one_view._take_edits(session, "standard")


def _dots(session: Session, key: str) -> int:
    return apply_corrections(session.opened[key].findings, {}, session.history(key).now).count("HE")


def test_edits_that_are_sent_again_are_applied_once(state: _State) -> None:
    session = Session()
    key = _opened(session, 90)
    dots = [_dot(number, key) for number in range(1, 6)]
    _send(state, session, dots[0])
    _send(state, session, *dots[:4])  # the triggers between were replaced by this one
    assert _dots(session, key) == 4
    undone = [{"number": number, "photo": key, "what": "undo"} for number in (6, 7, 8)]
    _send(state, session, *dots, *undone)
    assert _dots(session, key) == 2
    _send(state, session, *undone, {"number": 9, "photo": key, "what": "redo"})
    assert _dots(session, key) == 3


def test_an_edit_reaches_the_photo_it_was_made_in(state: _State) -> None:
    session = Session()
    first, second = _opened(session, 90), _opened(session, 100)
    state.current = first
    step = {"photo": first, "what": "next"}
    _send(state, session, {"number": 1} | step, {"number": 2} | step, _dot(3, first))
    assert state.current == second, "a repeated key does not step on from a photo that was not seen yet"
    assert (_dots(session, first), _dots(session, second)) == (1, 0)
    _send(state, session, _dot(4, "closed"), {"number": "5"}, _dot(6, second))
    assert _dots(session, second) == 1


def test_an_edit_of_a_photo_that_others_have_closed_is_applied(state: _State, monkeypatch: pytest.MonkeyPatch) -> None:
    """While many photos are read, one of them is corrected."""
    session = Session()
    key = _opened(session, 90)
    first = session.opened[key]
    for gray in (100, 110, 120):
        _opened(session, gray)
    assert key not in session.opened
    monkeypatch.setattr(one_view, "open_photo", lambda session, key: session.opened.get(key, first))
    _send(state, session, _dot(1, key))
    assert _dots(session, key) == 1


def test_the_photo_on_screen_stays_open_while_others_are_read(state: _State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_view, "continue_draft", lambda *_: None)
    session = Session()
    state.current = _opened(session, 90)
    for gray in (100, 110, 120):
        other = Session()
        key = _opened(other, gray)
        page_view._accept(session, (other.entries[key], other.opened[key]))
    assert state.current in session.opened


def test_photos_of_one_name_have_labels_of_their_own() -> None:
    session = Session()
    for key, name in (("a", "IMG.jpg"), ("b", "IMG (2).jpg"), ("c", "IMG.jpg"), ("d", "IMG.jpg")):
        session.entries[key] = Entry(key, name, b"", {}, b"", b"")
    assert list(session.labels().values()) == ["IMG.jpg", "IMG (2).jpg", "IMG.jpg (2)", "IMG.jpg (3)"]
