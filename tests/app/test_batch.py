"""Many photos: rows come while the rest is read, a row opens its photo, and Cancel leaves the rest unread."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import cv2
import pytest

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

from streamlit.testing.v1 import AppTest

from funduscope.app import batch_reading
from funduscope.app.batch_reading import BatchReading, SavedCorrections, Upload
from funduscope.i18n.languages import Words
from funduscope.inference.findings import Failure
from funduscope.testing.drawn_eyes import draw_eye

EYES = [cv2.imencode(".png", draw_eye(seed, width_px=600).pixels[..., ::-1])[1].tobytes() for seed in (3, 4, 5)]
WORDS = Words("en")
PATIENCE_S = 300


def _wait(until: Callable[[], Any], pause_s: float = 0.02) -> None:
    end = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < end, "it took too long"
        time.sleep(pause_s)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Reading a file takes one permit, and gives a failure with the file's name."""
    permits = threading.Semaphore(0)

    def slow(_: bytes, name: str, *_rest: object, **_frame: object) -> Failure:
        permits.acquire()
        return Failure(name, "E_FORMAT", "not read here")

    monkeypatch.setattr(batch_reading, "read_upload", slow)
    return permits


def _uploads(*names: str) -> list[Upload]:
    return [Upload(name, lambda: b"x") for name in names]


def test_answers_come_in_order_and_more_can_be_added(gate: threading.Semaphore) -> None:
    reading, taken = BatchReading("standard"), []

    def take(count: int) -> bool:
        taken.extend(reading.take())
        return len(taken) == count

    reading.add([*_uploads("a", "b"), Upload("c", lambda: b"PK\x03\x04 saved")])
    assert (reading.take(), reading.seconds_left, reading.left) == ([], None, 3)
    gate.release()
    _wait(lambda: take(1))
    assert (reading.seconds_left or 0) > 0
    reading.add(_uploads("d"))
    gate.release(2)
    _wait(lambda: take(4))
    assert [one.photo_name if isinstance(one, Failure) else one for one in taken] == [
        "a", "b", SavedCorrections("c", b"PK\x03\x04 saved"), "d",
    ]  # fmt: skip
    assert reading.left == 0
    reading.add(_uploads("e"))
    gate.release()
    _wait(lambda: take(5))


class _SlowToEnd(deque[Upload]):
    """Once it is empty, whoever asks whether it is continues only after a while."""

    def __init__(self) -> None:
        super().__init__()
        self.was_empty = threading.Event()

    def __bool__(self) -> bool:
        is_full = len(self) > 0
        if not is_full:
            self.was_empty.set()
            time.sleep(0.3)
        return is_full


def test_a_file_that_is_added_while_the_reading_ends_is_read(gate: threading.Semaphore) -> None:
    reading, waiting = BatchReading("standard"), _SlowToEnd()
    reading._waiting = waiting
    gate.release(2)
    reading.add(_uploads("a"))
    assert waiting.was_empty.wait(PATIENCE_S)
    reading.add(_uploads("b"))
    end = time.monotonic() + 10
    while reading.left and time.monotonic() < end:
        reading.take()
        time.sleep(0.02)
    assert reading.left == 0


def test_cancel_reads_no_further_file(gate: threading.Semaphore) -> None:
    reading = BatchReading("standard")
    threads = threading.active_count()
    reading.add(_uploads("a", "b", "c"))
    gate.release()
    _wait(reading.take)
    assert reading.cancel() == 2
    gate.release()  # the one that was being read
    _wait(lambda: threading.active_count() == threads)
    assert reading.take() == []


def test_a_reading_that_nobody_asks_rests_and_goes_on(
    gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's tab was asleep: nothing is lost, and files that are dropped later are read too."""
    monkeypatch.setattr(batch_reading, "ABANDONED_S", 0)
    threads = threading.active_count()
    reading, taken = BatchReading("standard"), []
    reading.add(_uploads("a", "b", "c"))
    gate.release(2)
    _wait(lambda: threading.active_count() == threads)
    monkeypatch.setattr(batch_reading, "ABANDONED_S", 600)
    gate.release(2)
    taken += reading.take()
    reading.add(_uploads("d"))
    _wait(lambda: taken.extend(reading.take()) or reading.left == 0)
    assert [one.photo_name for one in taken] == ["a", "b", "c", "d"]


def test_the_program_ends_after_the_photo_that_is_read() -> None:
    """Aborted in the middle of a model's work, it would end with an error; the files that wait are left unread."""
    code = """
import threading, time
from funduscope.app import batch_reading
def read(*_, frame):
    time.sleep(1)
    print("read", flush=True)
batch_reading.read_upload = read
uploads = [batch_reading.Upload("a", lambda: b"x")] * 3
start = lambda: batch_reading.BatchReading("standard").add(uploads)
script = threading.Thread(target=start, daemon=True)  # as Streamlit's are
script.start()
script.join()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr


def _script() -> None:
    from funduscope.app.page_view import show

    show()


@pytest.fixture
def page() -> AppTest:
    opened = AppTest.from_function(_script, default_timeout=180).run()
    if not hasattr(opened, "file_uploader"):
        pytest.skip("this Streamlit's AppTest uploads no files")
    return opened


def _drop(page: AppTest) -> None:
    page.file_uploader[0].set_value([(f"{number}.png", data, "image/png") for number, data in enumerate(EYES)])
    page.run()
    assert not page.exception


def _patients(page: Any) -> list[dict[str, Any]]:
    """What the list of patients was given to draw."""
    (component,) = page.get("bidi_component")
    return json.loads(component.proto.json)["patients"]


def _texts(page: Any) -> str:
    return " ".join(str(one.value) for kind in ("markdown", "caption", "info") for one in page.get(kind))


def test_rows_appear_while_the_rest_is_read_and_cancel_ends_it(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    read, permits = batch_reading.read_upload, threading.Semaphore(1)

    def slow(*given: Any, **frame: Any) -> Any:
        permits.acquire()
        return read(*given, **frame)

    monkeypatch.setattr(batch_reading, "read_upload", slow)
    _drop(page)
    _wait(lambda: page.run().session_state.session.entries, pause_s=1)
    assert [patient["name"] for patient in _patients(page)] == ["0"]
    assert "Photos: 1." in _texts(page)
    (key,) = page.session_state.session.entries
    page.session_state["view"] = "one"  # what a click on the row does
    page.run()
    assert page.selectbox(key=f"correct-en-{key[:16]}-grade"), "the photo is open while the rest is read"
    page.button(key="batch-cancel").click().run()
    permits.release()
    assert WORDS("batch.canceled", {"count": 2}) in _texts(page)
    assert list(page.session_state.session.entries) == [key]
    assert "batch-cancel" not in [one.key for one in page.button]


@pytest.mark.slow
def test_the_patients_are_sorted_as_chosen(page: Any) -> None:
    _drop(page)
    _wait(lambda: "batch-reading" not in page.run().session_state, pause_s=1)
    assert len(page.session_state.session.entries) == len(EYES)
    (choice,) = (one for one in page.get("button_group") if one.key == "many-sort")
    choice.set_value("many.name").run()
    assert [patient["name"] for patient in _patients(page)] == ["0", "1", "2"]
    (choice,) = (one for one in page.get("button_group") if one.key == "many-sort")
    choice.set_value("many.uncertainty").run()
    shown = [int(re.search(r"\d+", patient["eyes"][0]["photos"][0]["notes"][0])[0]) for patient in _patients(page)]
    assert shown == sorted(shown, reverse=True)
