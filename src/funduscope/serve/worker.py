"""The worker process, `python -m funduscope.serve.worker`: has the model, reads photos that the front process sends.

One process with one model, however many photos are read at once: ONNX Runtime and OpenCV compute without Python's lock.
It ends when the front process closes the pipe, and nothing that it prints goes anywhere.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from funduscope.capacity import thread_limit
from funduscope.freed_memory import keep_freed_memory
from funduscope.i18n.errors import PHOTO_FAULT, code_and_sentence
from funduscope.imaging.demo_photo import demo_photo
from funduscope.serve.answer_formats import DICOM, FORMATS, AnswerSource
from funduscope.serve.worker_pipe import PipeMessage, packed, read_message

if TYPE_CHECKING:
    from funduscope.inference.model import Model

INTENDED_USE: Final = (
    "Research and education on color photographs of the back of the eye: diabetic retinopathy grade, macular edema "
    "risk, lesions, optic disc and fovea. Not a medical device."
)
_LEFT_OUT: Final = ("distance", "witnesses")
"""Long tables of a card, of use to a program that has the model."""


class CancelledJobError(Exception):
    """The front process does not want the answer anymore."""


class Stages:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - started, 4)


def main() -> int:
    """Reads the settings and then jobs from stdin, and writes answers to stdout, until stdin ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the front process decides when this one ends
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()
    incoming, outgoing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    started = read_message(incoming)
    if started is None:
        return 0
    settings = started.header
    try:
        model = _load(settings)
    except Exception as error:
        _send(
            outgoing,
            threading.Lock(),
            {"event": "failed", **_error(error, "an unexpected error occurred as the model was loaded")},
        )
        return 1
    _serve(model, settings["parallel"], incoming, outgoing, about(model, settings["model"]))
    return 0


def _load(settings: dict[str, Any]) -> Model:
    """The model, once it has answered in every form, so that no client waits for an import."""
    from funduscope.inference.loading import load

    if threads := settings["threads"] or thread_limit():
        import cv2

        cv2.setNumThreads(threads)
    model = load(settings["model"] or None, threads=threads, device=settings["device"])
    demo = demo_photo().read_bytes()
    answered = AnswerSource(model(demo), demo)
    for media in FORMATS.keys() - {DICOM}:
        FORMATS[media](answered)
    with suppress(ImportError):  # without the extra `dicom`
        import funduscope.dicom.results  # noqa: F401
    return model


def about(model: Model, named: Sequence[str]) -> dict[str, Any]:
    """What `GET /v1/model` answers: name, version, hash, terms, intended use, and the card. named: what was loaded."""
    from funduscope.inference.loading import is_shipped
    from funduscope.inference.model import identity

    terms = Path(__file__).parents[1] / "models" / "LICENSE"
    return {
        **identity(model),
        "research_only": model.card.research_only,
        "license": terms.read_text("utf-8") if all(map(is_shipped, named)) else None,
        "intended_use": INTENDED_USE,
        "not_a_medical_device": True,
        "card": {name: value for name, value in model.card.to_dict().items() if name not in _LEFT_OUT},
    }


def _serve(model: Model, parallel: int, incoming: BinaryIO, outgoing: BinaryIO, ready: dict[str, Any]) -> None:
    writing = threading.Lock()
    open_jobs, cancelled = set[int](), set[int]()  # their numbers
    _send(outgoing, writing, {"event": "ready", "about": ready})

    def work(job: PipeMessage) -> None:
        number = job.header["job"]

        def check() -> None:
            if number in cancelled:
                raise CancelledJobError

        header: dict[str, Any] = {"sha256": None, "seconds": {}}
        try:
            header, body = read_photo(model, job, check)
            _send(outgoing, writing, {"event": "done", "job": number, **header}, body)
        except Exception as error:  # too little memory for the answer: without any the client would wait
            _send(outgoing, writing, {"event": "done", "job": number, **header, **_error(error)})
        finally:
            open_jobs.discard(number)
            cancelled.discard(number)

    with ThreadPoolExecutor(parallel) as threads:
        while (message := read_message(incoming)) is not None:
            if message.header["event"] == "cancel":
                cancelled.update({message.header["job"]} & open_jobs)
            else:
                open_jobs.add(message.header["job"])
                threads.submit(work, message)
                del message  # the photo's bytes are the thread's


def read_photo(model: Model, job: PipeMessage, check: Callable[[], None]) -> tuple[dict[str, Any], bytes]:
    """The header and the bytes of a job's answer; a photo that cannot be read has `code` and `says` in its header.

    check: called between the stages and before the close view, raises `CancelledJobError`.
    """
    stages, digest = Stages(), None
    try:
        from funduscope.dicom.source import NO_STUDY
        from funduscope.i18n.errors import PhotoError
        from funduscope.imaging.framing import frame
        from funduscope.imaging.photo import Photo

        check()
        with stages.time("open"):
            photo = Photo.open(job.body, name=job.header["name"], dicom_frame=job.header["frame"])
        digest = photo.sha256
        if job.header["media"] == DICOM and photo.dicom_frame is None:
            raise PhotoError("E_FORMAT", NO_STUDY)
        check()
        with stages.time("frame"):
            framed = frame(photo, model.card.close_px)
        check()
        with stages.time("model"):
            findings = model.answer(photo, framed, on_grade=lambda _: check(), force=job.header["force"])
        check()
        with stages.time("write"):
            body = FORMATS[job.header["media"]](AnswerSource(findings, job.body, job.header["subject"]))
    except CancelledJobError:
        return {"cancelled": True, "sha256": digest, "seconds": stages.seconds}, b""
    except Exception as error:
        return {**_error(error), "sha256": digest, "seconds": stages.seconds}, b""
    return {"sha256": digest, "seconds": stages.seconds}, body


def _error(error: Exception, fault: str = PHOTO_FAULT) -> dict[str, str]:
    code, says = code_and_sentence(error, fault)
    return {"code": code, "says": says}


def _send(outgoing: BinaryIO, writing: threading.Lock, header: dict[str, Any], body: bytes = b"") -> None:
    with writing:
        try:
            for part in packed(header, body):
                outgoing.write(part)
            outgoing.flush()
        except OSError:  # the front process is gone
            os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
