"""The page without a browser: texts, session bounds, table, PDF, visits, server options, and what is not imported."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

from streamlit.testing.v1 import AppTest

from funduscope.app.many_view import _patient_data, as_csv
from funduscope.app.patients import patients, rows
from funduscope.app.printing import pages_pdf
from funduscope.app.server import OPTIONS, free_port
from funduscope.app.session import MAX_OPEN_PHOTOS, MAX_OPEN_PIXELS, MAX_UPLOAD_BYTES, Entry, OpenPhoto, Session
from funduscope.app.uploads import preview_jpeg, read_upload
from funduscope.i18n.errors import PhotoError
from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.i18n.messages import message
from funduscope.imaging.limits import LIMITS
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.headline import headline
from funduscope.testing.drawn_eyes import draw_eye


def _script() -> None:
    from funduscope.app.page_view import show

    show()


def _page() -> AppTest:
    page = AppTest.from_function(_script, default_timeout=180)
    return page.run()


def _words(page: AppTest) -> str:
    return " ".join(str(one.value) for kind in ("markdown", "caption", "error", "info") for one in page.get(kind))


@pytest.mark.slow
def test_a_photo_next_to_another_file_in_every_language() -> None:
    page = _page()
    assert not page.exception
    if not hasattr(page, "file_uploader"):
        pytest.skip("this Streamlit's AppTest uploads no files")
    assert page.info, "before the first photo the page explains where photos go"
    eye = cv2.imencode(".png", cv2.cvtColor(draw_eye(3, width_px=700).pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
    page.file_uploader[0].set_value([("eye.png", eye, "image/png"), ("notes.jpg", b"hello", "image/jpeg")])
    page.run()
    for _ in range(600):
        if "batch-reading" not in page.session_state:
            break
        time.sleep(0.1)
        page.run()
    assert not page.exception
    assert "E_FORMAT" in page.error[0].value.replace("\\", "")
    assert page.file_uploader[0].value == [], "the uploader no longer keeps the files"
    for language in LANGUAGES:
        page.selectbox(key="language").set_value(language).run()
        assert not page.exception
        assert Words(language)("grade.scale") in _words(page)
    page.button(key="dismiss").click().run()
    assert not page.error
    page.session_state["visits"], page.session_state["visit-later-chosen"] = {"two": "pictures"}, "a photo"
    page.button(key="clear").click().run()
    page.run()  # as after anything else that makes the page run: the question stays
    page.button(key="forget-yes").click().run()
    assert page.info
    assert not [name for name in ("visits", "visit-later-chosen") if name in page.session_state], (
        "everything is forgotten"
    )


@pytest.mark.slow
def test_frames_are_photos_of_their_own_and_visits_are_in_the_order_of_their_days(tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="DICOM needs the extra `dicom`")
    from tests.cli.test_predict_clinical import write_source

    page = _page()
    if not hasattr(page, "file_uploader"):
        pytest.skip("this Streamlit's AppTest uploads no files")
    new = write_source(tmp_path / "new.dcm", AcquisitionDate="20240101")
    old = write_source(tmp_path / "old.dcm", frames=2, AcquisitionDate="20200101", SOPInstanceUID="1.2.3.4.6")
    page.file_uploader[0].set_value([(one.name, one.read_bytes(), "") for one in (new, old)])
    page.run()
    for _ in range(600):
        if "batch-reading" not in page.session_state:
            break
        time.sleep(0.1)
        page.run()
    entries = page.session_state["session"].entries
    assert [entry.name for entry in entries.values()] == ["new.dcm", "old_frame1.dcm", "old_frame2.dcm"]
    assert len({id(entry.data) for entry in entries.values()}) == 2, "frames share their file's bytes"
    assert "2020" not in str([entry.found for entry in entries.values()])
    page.session_state["view"] = "visits"
    page.run()
    assert not page.exception
    chosen = [entries[page.selectbox(key=f"visit-{name}").value].name for name in ("earlier", "later")]
    assert chosen == ["old_frame1.dcm", "new.dcm"]


def _entry(key: str, size: int = 10, **found: Any) -> Entry:
    entry = {
        "photo": {"name": key, "sha256": "0" * 64, "width": 10, "height": 10},
        "model": {"name": "m", "version": "1", "sha256": "0" * 64},
        "gradable": {"ok": True, "advice": "grade", "reasons": []},
        "predicted_grade": 0,
        "grade_name": "No DR",
        "confidence": 0.9,
        "probabilities": [0.9, 0.1, 0.0, 0.0, 0.0],
        "dme": {"risk": 0, "confidence": 0.9, "probabilities": [0.9, 0.1, 0.0]},
        "referable": {"value": False, "probability": 0.0, "threshold": 0.5},
        "landmarks": None,
        "laterality": None,
        "lesions": None,
        "rules": None,
        "evidence": [],
        "advice": {"refer": False, "urgency": "routine", "because": []},
        "warnings": [],
    } | found
    picture = cv2.imencode(".jpg", np.zeros((60, 90, 3), np.uint8))[1].tobytes()
    return Entry(key, f"{key}.jpg", b"x" * size, entry | {"headline": headline(entry)}, picture, picture)


def test_a_photo_s_grade_comes_before_the_rest_of_its_answer() -> None:
    eye = draw_eye(3, width_px=1200)
    early: list[Findings] = []
    answer = read_upload(cv2.imencode(".png", eye.pixels[..., ::-1])[1].tobytes(), "eye.png", on_grade=early.append)
    assert not isinstance(answer, Failure)
    (first,) = early
    assert first.grade == int(answer[1].findings.witness_probs["photo"]["grade"].argmax()), "before lesions are asked"
    found = first.to_dict()
    assert found["advice"] is None
    assert found["referable"] is None
    assert found["headline"]["referral"]["says"].startswith("Not known yet")
    picture = cv2.imdecode(np.frombuffer(preview_jpeg(first.photo), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] == 960 < eye.pixels.shape[1]


def _refer(urgency: str = "soon", grade: int = 2) -> dict[str, Any]:
    because = [message("GRADE_REFERABLE", {"grade": grade}).to_dict()]
    return {"predicted_grade": grade, "advice": {"refer": True, "urgency": urgency, "because": because}}


NOTHING = dict.fromkeys(["advice", "confidence", "predicted_grade", "grade_name", "probabilities", "dme", "referable"])


def _refused(code: str) -> dict[str, Any]:
    reasons = [message(code).to_dict()]
    return NOTHING | {"gradable": {"ok": False, "score": None, "advice": "refuse", "reasons": reasons}}


def _states(session: Session) -> dict[str, str]:
    return {patient.name: patient.state for patient in patients(session)}


def test_both_eyes_of_a_patient_are_together_and_the_most_urgent_patient_comes_first() -> None:
    session = Session()
    session.add(_entry("P1_left"), None)
    session.add(_entry("P2_left", **_refer("urgent", grade=2)), None)
    session.add(_entry("P3_L", **_refer("urgent", grade=4)), None)
    unsure: dict[str, Any] = {"confidence": 0.52, "probabilities": [0.52, 0.2, 0.1, 0.1, 0.08]}
    session.add(_entry("P4_OD", **unsure), None)
    session.add(_entry("P1_right", **_refused("TOO_DARK")), None)
    session.add(_entry("P2_right"), None)
    assert [(patient.name, patient.state) for patient in patients(session)] == [
        ("P3", "urgent"), ("P2", "urgent"), ("P1", "retake"), ("P4", "routine"),
    ]  # fmt: skip
    assert [row.key for row in rows(session)] == ["P3_L", "P2_right", "P2_left", "P1_right", "P1_left", "P4_OD"]


def test_the_list_says_of_each_eye_what_to_do_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from funduscope.app import many_view

    monkeypatch.setattr(many_view, "media_address", lambda picture, name: name)
    session, words = Session(), Words("en")
    session.add(_entry("P1_left", **_refused("TOO_DARK")), None)
    session.add(_entry("P1_right", **_refer("soon")), None)
    (patient,) = patients(session)
    right, left = _patient_data(patient, session, words)["eyes"]
    assert (right["title"], [state["text"] for state in right["states"]]) == ("Right eye", ["Refer soon"])
    assert right["photos"][0]["reasons"] == ["Grade 2: grade 2 or more is referable."]
    assert (left["title"], [state["text"] for state in left["states"]]) == ("Left eye", ["Retake"])
    assert left["photos"][0]["reasons"] == [words.sentence("TOO_DARK", {})]


def test_nobody_is_called_no_referral_who_has_an_open_eye() -> None:
    session = Session()
    session.add(_entry("healthy"), None)
    session.add(_entry("gray", warnings=[message("NO_COLOR").to_dict()]), None)
    session.add(_entry("no macula", warnings=[message("FOVEA_NOT_FOUND").to_dict()]), None)
    session.add(_entry("two eyes", **_refused("SEVERAL_PHOTOS")), None)
    for name in ("P1_L", "P1_R", "P1_l"):
        session.add(_entry(name, **({} if name == "P1_R" else _refused("TOO_DARK"))), None)
    assert _states(session) == {
        "P1": "examine", "no macula": "retake", "two eyes": "retake", "gray": "person", "healthy": "routine",
    }  # fmt: skip
    assert list(_states(session))[-1] == "healthy"


def test_an_eye_that_the_name_and_the_photo_contradict_is_not_known() -> None:
    session = Session()
    for key, seen in (("P1_left", "right"), ("P2_left", "left"), ("IMG", "right")):
        session.add(_entry(key, laterality=seen), None)
    assert {row.key: row.eye for row in rows(session)} == {"P1_left": "unknown", "P2_left": "left", "IMG": "right"}


def test_csv_and_pdf_have_every_photo_and_every_refused_file() -> None:
    session = Session()
    session.add(_entry("refer", **_refer()), None)
    session.add(_entry("=black()", **_refused("TOO_DARK")), None)
    session.refuse(Failure("torn.jpg", "E_TRUNCATED", "…"))
    photos = rows(session)
    table = list(csv.DictReader(io.StringIO(as_csv(photos, session.refused).decode("utf-8-sig"))))
    assert [line["photo"] for line in table] == ["refer.jpg", "'=black().jpg", "torn.jpg"], "no cell becomes a formula"
    assert table[-1]["error"] == "E_TRUNCATED"
    for language in LANGUAGES:
        data = pages_pdf(session, [row.key for row in photos], Words(language))
        assert data.startswith(b"%PDF")
        assert data.count(b"/Type /Page\n") == len(photos) + 1, "the refused file has a page too"


def test_a_session_keeps_a_bounded_amount() -> None:
    session, photo = Session(), SimpleNamespace(width=4288, height=2848)
    findings: Any = SimpleNamespace(photo=photo)
    for number in range(50):
        session.add(_entry(str(number), size=MAX_UPLOAD_BYTES // 10), OpenPhoto(findings, b""))
    assert len(session.opened) == MAX_OPEN_PHOTOS
    assert sum(len(entry.data or b"") for entry in session.entries.values()) <= MAX_UPLOAD_BYTES
    assert len(session.entries) == 50, "their rows stay"
    assert session.entries["49"].data is not None
    photo.width = MAX_OPEN_PIXELS
    session.open("48", OpenPhoto(findings, b""))
    assert list(session.opened) == ["48"], "two huge photos are not open at once"


def test_a_photo_that_comes_again_under_another_name_is_named() -> None:
    page = _page()
    session = page.session_state.session
    for name in ("left.jpg", "left.jpg", "copy of left.jpg"):
        session.add(replace(_entry("0"), name=name), None)
    page.run()
    said = "copy of left.jpg is the same photo as left.jpg, which was here already: it is shown once."
    assert [one.value.replace("\\", "") for one in page.info].count(said) == 1
    page.button(key="dismiss-repeated").click().run()
    assert said not in [one.value.replace("\\", "") for one in page.info]


def test_every_refused_file_is_named_on_the_page_and_in_the_table() -> None:
    page = _page()
    session = page.session_state.session
    names = [f"photo-{number}.jpg" for number in range(35)]
    for name in names:
        session.refuse(Failure(name, "E_TRUNCATED", "…"))
    page.run()
    assert "Not read: 35" in page.error[0].value
    assert all(name in page.error[0].value.replace("\\", "") for name in names)
    assert len(as_csv([], session.refused).decode().splitlines()) == 1 + 35
    page.button(key="dismiss").click().run()
    assert not page.error


def test_the_frames_of_a_file_count_once_and_go_together() -> None:
    session, file = Session(), b"x" * (MAX_UPLOAD_BYTES // 4)
    for number in range(16):
        session.add(replace(_entry(str(number)), data=file, frame=number), None)
    assert all(entry.data is file for entry in session.entries.values())
    session.add(_entry("other", size=MAX_UPLOAD_BYTES), None)
    assert [key for key, entry in session.entries.items() if entry.data is not None] == ["other"]
    session.add(replace(_entry("16"), data=file, frame=16), None)
    assert [key for key, entry in session.entries.items() if entry.data is not None] == ["16"]


def test_the_server_is_this_machine_s_alone() -> None:
    assert OPTIONS["server.address"] == "127.0.0.1"
    assert OPTIONS["browser.gatherUsageStats"] is False
    assert OPTIONS["server.maxUploadSize"] * 1_000_000 == LIMITS.max_bytes
    with pytest.raises(PhotoError, match="--port"):
        _taken()


def test_a_model_reaches_the_page_whatever_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlit.web import bootstrap

    from funduscope.app import server, uploads

    given = (str(tmp_path / "a:b;c" / "model.onnx"), str(tmp_path / os.fsdecode(b"\xff.onnx")), "fast")
    for path in given[:2]:
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    named: list[list[str]] = []

    def load(paths: list[str]) -> None:
        named.append(paths)
        raise PhotoError("E_MODEL", "not loaded here")

    monkeypatch.setenv(server.MODEL_VARIABLE, "")
    monkeypatch.setattr(uploads, "load", load)
    monkeypatch.setattr(server, "_preload_model", lambda: None)
    monkeypatch.setattr(bootstrap, "load_config_options", lambda flags: None)
    monkeypatch.setattr(bootstrap, "run", lambda *_: None)
    server.serve(headless=True, model=given)
    with pytest.raises(PhotoError):
        vars(uploads.model)["__wrapped__"]()  # past what an earlier test loaded
    assert named == [list(given)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_s", [0.2, 0.6, 1.0])
def test_it_ends_in_order_while_the_model_is_loaded(tmp_path: Path, number: signal.Signals, after_s: float) -> None:
    command = [sys.executable, "-m", "funduscope", "app", "--headless"]
    environment = os.environ | {"HOME": str(tmp_path)}
    page = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # as in a terminal
    )
    try:
        assert page.stdout is not None
        assert "The page is at" in page.stdout.readline()
        time.sleep(after_s)
        page.send_signal(number)
        _, err = page.communicate(timeout=60)
    finally:
        page.kill()
    assert page.returncode == 0, err  # uvicorn may print a traceback where its server has only just begun


def test_an_error_of_the_model_keeps_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from funduscope.app import uploads
    from funduscope.inference.runtime import ModelError

    def broken(*_: object, **__: object) -> None:
        raise ModelError("E_MODEL", "The model's answer is not finite.")

    monkeypatch.setattr(uploads, "_predict", broken)
    assert read_upload(b"", "eye.jpg") == Failure("eye.jpg", "E_MODEL", "The model's answer is not finite.")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_model_that_cannot_be_loaded_is_reported_with_its_sentence(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from funduscope.app import page_view, server
    from funduscope.inference.runtime import ModelError

    def other(*_: object) -> None:
        raise ModelError("E_HASH", "the file is not the one that is named next to it.")

    monkeypatch.setattr(page_view, "model", other)
    page = AppTest.from_file(str(Path(server.__file__).with_name("streamlit_entry.py")))
    page.query_params["lang"] = language
    (shown,) = page.run().error
    assert (
        shown.value
        == f"{Words(language).error('E_HASH', 'The file is not the one that is named next to it.', {})} (E_HASH)"
    )


def _taken() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free_port(taken.getsockname()[1])


def test_the_page_loads_no_torch() -> None:
    code = "import sys, funduscope.app.page_view; print(sorted({'torch', 'timm', 'matplotlib'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr
