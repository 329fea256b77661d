"""Corrections that were not saved survive a reload and a restart, in a private folder, until they are forgotten."""

from __future__ import annotations

import errno
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

from streamlit.testing.v1 import AppTest

from funduscope.app import uploads
from funduscope.app.drafts import continue_draft, drafts, drafts_folder, keep_drafts
from funduscope.app.reviewed import Corrections, mask_to_png
from funduscope.app.session import Entry, Session
from funduscope.i18n.languages import Words
from funduscope.testing.drawn_eyes import draw_eye

KEY, SIZE = "ab" * 32, (40, 30)
EYE = cv2.imencode(".png", draw_eye(3, width_px=700).pixels[..., ::-1])[1].tobytes()
WORDS = Words("en")


def _session(size: tuple[int, int] = SIZE) -> Session:
    session = Session()
    found = {"photo": {"width": size[0], "height": size[1]}}
    session.add(Entry(KEY, "Meier, Anna.jpg", b"", found, b"", b""), None)
    return session


def _stated() -> Corrections:
    mask = np.zeros(SIZE[::-1], bool)
    mask[3:9, 4:20] = True
    return (
        Corrections(grade=3, fovea_xy=(10.0, 12.5), classes={})
        .with_mask("MA", mask, "drawn")
        .with_mask("HE", ~mask, "drawn")
    )


def test_a_draft_is_restored_in_another_session_and_can_be_undone() -> None:
    session, stated = _session(), _stated()
    session.history(KEY).step(stated)
    keep_drafts(session)
    assert stat.S_IMODE(drafts_folder().stat().st_mode) == 0o700
    (file,) = drafts_folder().iterdir()
    assert "Meier" not in file.name + file.read_text()

    later = _session()
    continue_draft(later, KEY)
    assert later.history(KEY).now == stated
    assert later.history(KEY).is_draft
    later.history(KEY).undo()
    keep_drafts(later)
    assert drafts() == [], "what was undone has no draft"
    later.history(KEY).redo()
    keep_drafts(later)
    assert drafts() == [KEY]


def test_what_is_undone_in_one_tab_does_not_remove_what_another_wrote() -> None:
    first, second = _session(), _session()
    first.history(KEY).step(Corrections(grade=1))
    keep_drafts(first)
    continue_draft(second, KEY)
    first.history(KEY).step(_stated())
    keep_drafts(first)
    second.history(KEY).undo()
    keep_drafts(second)
    later = _session()
    continue_draft(later, KEY)
    assert later.history(KEY).now == _stated()


def test_what_is_corrected_in_one_tab_is_not_lost_where_another_corrects_the_same_photo() -> None:
    first, second = _session(), _session()
    first.history(KEY).step(_stated())
    keep_drafts(first)
    edema = Corrections(dme=1, complete=frozenset(["EX"]), confirmed=frozenset(["EX"]))
    second.history(KEY).step(edema)
    keep_drafts(second)
    both = replace(_stated(), dme=1, complete=edema.complete, confirmed=edema.confirmed)
    assert second.history(KEY).now == both
    later = _session()
    continue_draft(later, KEY)
    assert later.history(KEY).now == both
    second.history(KEY).undo()
    keep_drafts(second)
    assert second.history(KEY).now == edema, "it is a step that can be undone"
    keep_drafts(later)
    first.history(KEY).step(replace(_stated(), grade=None))
    keep_drafts(first)
    assert first.history(KEY).now == edema


def test_the_draft_of_a_restored_photo_is_that_of_its_original() -> None:
    saved = "f" * 64
    session = _session()
    session.add(replace(session.entries.pop(KEY), key=saved, original=KEY), None)
    session.history(saved).step(_stated())
    keep_drafts(session)
    assert drafts() == [KEY]
    later = _session()
    continue_draft(later, KEY)
    assert later.history(KEY).now == _stated()


def test_a_draft_that_does_not_fit_is_left_alone() -> None:
    session = _session()
    session.history(KEY).step(_stated())
    keep_drafts(session)
    other = _session((40, 31))
    continue_draft(other, KEY)
    assert other.history(KEY).now.is_empty
    keep_drafts(other)
    assert drafts() == [KEY]
    path = drafts_folder() / f"{KEY}.json"
    for broken in (b"", b"{}", json.dumps(json.loads(path.read_bytes()) | {"grade": 9}).encode()):
        path.write_bytes(broken)
        again = _session()
        continue_draft(again, KEY)
        assert again.history(KEY).now.is_empty


def test_corrections_of_the_session_are_not_replaced_by_a_draft() -> None:
    session = _session()
    session.history(KEY).step(_stated())
    keep_drafts(session)
    other = _session()
    other.history(KEY).step(Corrections(grade=1))
    continue_draft(other, KEY)
    assert other.history(KEY).now == Corrections(grade=1)


def _script() -> None:
    from funduscope.app.page_view import show

    show()


def _page_with_photo() -> Any:
    page = AppTest.from_function(_script, default_timeout=180).run()
    if not hasattr(page, "file_uploader"):
        pytest.skip("this Streamlit's AppTest uploads no files")
    _drop(page)
    return page


def _drop(page: Any) -> None:
    page.file_uploader[0].set_value([("eye.png", EYE, "image/png")])
    page.run()
    assert not page.exception


def _write_draft(key: str, size: tuple[int, int], stated: Corrections) -> None:
    """What another tab of the browser, or an earlier program, left of the photo."""
    other = Session()
    other.add(Entry(key, "eye.png", b"", {"photo": {"width": size[0], "height": size[1]}}, b"", b""), None)
    other.history(key).step(stated)
    keep_drafts(other)


def _texts(page: Any) -> str:
    return " ".join(str(one.value) for kind in ("markdown", "caption", "info", "warning") for one in page.get(kind))


def test_the_page_restores_a_draft_and_forgets_it_when_asked() -> None:
    page = _page_with_photo()
    (key,) = page.session_state.session.entries
    page.selectbox(key=f"correct-en-{key[:16]}-grade").set_value(3).run()
    assert str(drafts_folder()) in _texts(page), "the page names the folder"
    assert drafts() == [key]

    reloaded = AppTest.from_function(_script, default_timeout=180).run()
    assert WORDS("draft.waiting", {"count": 1, "folder": drafts_folder()}) in _texts(reloaded)
    again = _page_with_photo()
    assert again.selectbox(key=f"correct-en-{key[:16]}-grade").value == 3
    assert WORDS("draft.restored", {"undo": WORDS("correct.undo")}) in _texts(again)

    again.button(key="clear").click().run()
    asked = " ".join(str(one.value) for one in again.get("html")) + _texts(again)
    assert again.session_state.session.entries, "nothing is forgotten before the person confirms"
    assert drafts() == [key]
    for part in ("forget.photos", "forget.corrected", "forget.drafts"):
        assert WORDS(part, {"count": 1, "unsaved": 1, "folder": drafts_folder()}) in asked
    again.button(key="forget-yes").click().run()
    assert not again.session_state.session.entries
    assert drafts() == []


def test_a_draft_of_another_tab_goes_before_the_lists_of_an_open_photo() -> None:
    page = _page_with_photo()
    session = page.session_state.session
    (key,) = session.entries
    _write_draft(key, session.size(key), Corrections(grade=3))
    _drop(page)
    assert session.history(key).now == Corrections(grade=3)
    assert page.selectbox(key=f"correct-en-{key[:16]}-grade").value == 3
    page.run()
    assert drafts() == [key]


def test_a_choice_and_an_edit_of_the_photo_at_once_both_stay() -> None:
    page = _page_with_photo()
    session = page.session_state.session
    (key,) = session.entries
    drawn = Corrections().with_mask("MA", np.zeros(session.size(key)[::-1], bool), "drawn")
    page.selectbox(key=f"correct-en-{key[:16]}-grade").set_value(3)
    session.history(key).step(drawn)
    page.run()
    assert session.history(key).now == replace(drawn, grade=3)
    session.history(key).undo()
    session.history(key).undo()
    page.run()
    assert session.history(key).now.is_empty
    assert page.selectbox(key=f"correct-en-{key[:16]}-grade").value == -1


def test_structures_that_the_model_does_not_outline_stay_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    predict = uploads._predict

    def without_disc(*given: Any, **options: Any) -> Any:
        found = predict(*given, **options)
        return replace(found, frame_probs={code: found.frame_probs[code] for code in ("MA", "HE")})

    monkeypatch.setattr(uploads, "_predict", without_disc)
    page = _page_with_photo()
    session = page.session_state.session
    (key,) = session.entries
    size, known = session.size(key), frozenset({"MA", "OD"})
    mask = mask_to_png(np.ones(size[::-1], bool))
    stated = Corrections(grade=2, masks=dict.fromkeys(sorted(known), mask), complete=known, confirmed=known)
    _write_draft(key, size, stated)
    _drop(page)
    assert session.history(key).now == stated, "showing a photo corrects nothing"
    page.selectbox(key=f"correct-en-{key[:16]}-grade").set_value(3).run()
    assert session.history(key).now == replace(stated, grade=3)


def test_a_disk_that_refuses_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FUNDUSCOPE_DRAFTS", str(tmp_path / "file" / "drafts"))
    page = _page_with_photo()
    (key,) = page.session_state.session.entries
    page.selectbox(key=f"correct-en-{key[:16]}-grade").set_value(3).run()
    assert not page.exception
    assert "Not a directory" in _texts(page).replace("\\", "")


def test_photos_are_forgotten_though_a_draft_cannot_be_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    page = _page_with_photo()
    (key,) = page.session_state.session.entries
    page.selectbox(key=f"correct-en-{key[:16]}-grade").set_value(3).run()
    page.button(key="clear").click().run()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    page.button(key="forget-yes").click().run()
    assert not page.exception
    assert not page.session_state.session.entries
    expected = WORDS("draft.not_deleted", {"reason": "Permission denied", "folder": drafts_folder()})
    assert [one.value.replace("\\", "") for one in page.error] == [expected]
