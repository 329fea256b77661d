"""What the worker does with a job: stops where nobody wants the answer, and says of a fault no more than its kind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import funduscope
from funduscope.inference.runtime import OnnxRuntime
from funduscope.serve import worker
from funduscope.serve.answer_formats import DICOM, JSON
from funduscope.serve.worker import CancelledJobError, read_photo
from funduscope.serve.worker_pipe import PipeMessage, packed, read_message


def job(eye: bytes, **asked: Any) -> PipeMessage:
    return PipeMessage({"media": JSON, "name": None, "frame": None, "force": False, "subject": None, **asked}, eye)


def test_a_job_that_nobody_wants_stops_before_the_next_stage(
    tiny: Path, eye: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    views: list[str] = []
    run = OnnxRuntime.__call__

    def noted(self: OnnxRuntime, images: Any, view: Any = "whole") -> Any:
        views.append(view)
        return run(self, images, view)

    monkeypatch.setattr(OnnxRuntime, "__call__", noted)
    model = funduscope.load(tiny)
    header, body = read_photo(model, job(eye), lambda: None)
    assert body.startswith(b"{")
    assert list(header["seconds"]) == ["open", "frame", "model", "write"]
    assert {*views} == {"whole", "close"}
    for stop, stages in enumerate(([], ["open"], ["open", "frame"], ["open", "frame", "model"])):
        views.clear()
        calls = iter(range(10))

        def check(stop: int = stop, calls: Any = calls) -> None:
            if next(calls) == stop:
                raise CancelledJobError

        header, body = read_photo(model, job(eye), check)
        assert (header["cancelled"], body, list(header["seconds"])) == (True, b"", stages)
        assert "close" not in views, "most of the work"


def test_a_photo_without_a_study_is_refused_before_the_model_reads_it(
    tiny: Path, eye: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = funduscope.load(tiny)
    monkeypatch.setattr(type(model), "answer", lambda *_, **__: pytest.fail("the model read it"))
    header, body = read_photo(model, job(eye, media=DICOM), lambda: None)
    assert (header["code"], body, list(header["seconds"])) == ("E_FORMAT", b"", ["open"])


def test_a_fault_is_reported_by_its_kind_alone(tiny: Path, eye: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ArithmeticError("secret")

    model = funduscope.load(tiny)
    monkeypatch.setattr(type(model), "answer", fails)
    header, body = read_photo(model, job(eye), lambda: None)
    assert (header["code"], body) == ("E_INTERNAL", b"")
    assert "ArithmeticError" in header["says"]
    assert "secret" not in str(header)


def test_an_answer_too_large_for_memory_is_said_to_have_failed(
    tiny: Path, eye: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any answer the client would wait until its deadline."""
    asked = job(eye, job=7, event="read")
    incoming, outgoing = io.BytesIO(b"".join(packed(asked.header, asked.body))), io.BytesIO()

    def pack(header: dict[str, Any], body: bytes) -> list[bytes]:
        if body:
            raise MemoryError
        return list(packed(header, body))

    monkeypatch.setattr(worker, "packed", pack)
    worker._serve(funduscope.load(tiny), 1, incoming, outgoing, {})
    outgoing.seek(0)
    ready, answer = read_message(outgoing), read_message(outgoing)
    assert ready is not None
    assert answer is not None
    assert (answer.header["event"], answer.header["job"], answer.header["code"]) == ("done", 7, "E_MEMORY")


def test_messages_come_out_as_they_went_in_and_half_ones_not_at_all() -> None:
    content = b"".join([*packed({"a": "é"}, b"\0\1"), *packed({"b": None})])
    stream = io.BytesIO(content)
    assert read_message(stream) == ({"a": "é"}, b"\0\1")
    assert read_message(stream) == ({"b": None}, b"")
    assert read_message(stream) is None
    for end in range(1, len(packed({"a": 1}, b"12")[0]) + 2):
        assert read_message(io.BytesIO(b"".join(packed({"a": 1}, b"12"))[:end])) is None
