"""What the worker does with a job: stops where nobody wants the answer, and says of a fault no more than its kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import funduscope
from funduscope.inference.runtime import OnnxRuntime
from funduscope.serve.answer_formats import DICOM, JSON
from funduscope.serve.worker import CancelledJobError, Job, read_photo


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
    answer = read_photo(model, Job(eye, JSON), lambda: None)
    assert answer.body.startswith(b"{")
    assert list(answer.seconds) == ["open", "frame", "model", "write"]
    assert {*views} == {"whole", "close"}
    for stop, stages in enumerate(([], ["open"], ["open", "frame"], ["open", "frame", "model"])):
        views.clear()
        calls = iter(range(10))

        def check(stop: int = stop, calls: Any = calls) -> None:
            if next(calls) == stop:
                raise CancelledJobError

        answer = read_photo(model, Job(eye, JSON), check)
        assert (answer.body, answer.error, list(answer.seconds)) == (b"", None, stages)
        assert "close" not in views, "most of the work"


def test_a_photo_without_a_study_is_refused_before_the_model_reads_it(
    tiny: Path, eye: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = funduscope.load(tiny)
    monkeypatch.setattr(type(model), "answer", lambda *_, **__: pytest.fail("the model read it"))
    answer = read_photo(model, Job(eye, DICOM), lambda: None)
    assert answer.error is not None
    assert (answer.error.code, answer.body, list(answer.seconds)) == ("E_FORMAT", b"", ["open"])


def test_a_fault_is_reported_by_its_kind_alone(tiny: Path, eye: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ArithmeticError("secret")

    model = funduscope.load(tiny)
    monkeypatch.setattr(type(model), "answer", fails)
    answer = read_photo(model, Job(eye, JSON), lambda: None)
    assert answer.error is not None
    assert (answer.error.code, answer.body) == ("E_INTERNAL", b"")
    assert "ArithmeticError" in answer.error.says
    assert "secret" not in str(answer)
