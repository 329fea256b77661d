"""What a worker process does: it has the model, and reads the photos that the front process gives it.

The functions here run in the processes of `worker_pool`, one photo at a time in each.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import c_bool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from funduscope.capacity import thread_limit
from funduscope.freed_memory import keep_freed_memory
from funduscope.i18n.errors import CodedError, PhotoError, code_and_sentence
from funduscope.imaging.demo_photo import demo_photo
from funduscope.process_pool import end_with_parent
from funduscope.serve.answer_formats import DICOM, FORMATS, AnswerSource

if TYPE_CHECKING:
    from funduscope.inference.model import Model
    from funduscope.inference.runtime import Device

INTENDED_USE: Final = (
    "Research and education on color photographs of the back of the eye: diabetic retinopathy "
    "grade, macular edema risk, lesions, optic disc and fovea. Not a medical device."
)
_OMITTED_TABLES: Final = ("distance", "witnesses")
"""Long tables of a card, of use to a program that has the model."""

_process: WorkerState
"""What this process has, if it is a worker: set by `prepare_process`."""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker loads: see `inference.loading.load`."""

    model: tuple[str, ...] = ()
    """Paths and names; empty for the shipped model."""

    threads: int = 0
    device: Device = "auto"


@dataclass(frozen=True)
class Job:
    """A photo's file and what is asked of it."""

    body: bytes

    media: str
    """Of the answer, a key of `answer_formats.FORMATS`."""

    name: str | None = None
    """Which the answer gives the photo."""

    frame: int | None = None
    """Of a DICOM file of several frames, from 1."""

    force: bool = False
    """See `inference.model.Model`."""

    subject: str | None = None
    """Of a FHIR bundle, the patient's reference."""


@dataclass(frozen=True)
class PhotoAnswer:
    """What a worker answers to a `Job`."""

    body: bytes = b""
    """Empty if there is an error, or the job was cancelled."""

    error: CodedError | None = None

    sha256: str | None = None
    """Of the photo's file; None if that could not be opened."""

    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""


@dataclass
class WorkerState:
    """What a worker process keeps between its jobs."""

    cancelled: c_bool
    """Shared with the front process, which sets it when nobody waits for the present job."""

    model: Model | None = None


class CancelledJobError(Exception):
    """Nobody waits for the answer anymore."""


class StageTimes:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Measure the block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - started, 4)


def prepare_process(cancelled: c_bool) -> None:
    """Set up a new worker process. The front process decides when it ends; its prints go nowhere."""
    global _process
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()

    # Decoders in C print what they find odd in a photo.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    keep_freed_memory()
    _process = WorkerState(cancelled)


def load_model(settings: WorkerSettings) -> dict[str, Any]:
    """Load the model into this process and return what `describe_model` says.

    Raises `CodedError` if it cannot be loaded.
    """
    try:
        _process.model = _load_and_try(settings)
        return describe_model(_process.model, settings)
    except Exception as error:
        fault = "an unexpected error occurred as the model was loaded"
        raise CodedError(*code_and_sentence(error, fault)) from None


def read_job(job: Job) -> PhotoAnswer:
    """Read a photo with the model of this process."""
    assert _process.model is not None
    return read_photo(_process.model, job, _check_wanted)


def read_photo(model: Model, job: Job, check_wanted: Callable[[], None]) -> PhotoAnswer:
    """Read a photo and make its answer.

    check_wanted: raises `CancelledJobError`. Called between the stages and before the close view,
    which is most of the work.
    """
    from funduscope.dicom.source import NO_STUDY
    from funduscope.imaging.framing import frame
    from funduscope.imaging.photo import Photo

    times = StageTimes()
    sha256, body, refusal = None, b"", None
    try:
        check_wanted()
        with times.measure("open"):
            photo = Photo.open(job.body, name=job.name, dicom_frame=job.frame)
        sha256 = photo.sha256
        if job.media == DICOM and photo.dicom_frame is None:
            raise PhotoError("E_FORMAT", NO_STUDY)

        check_wanted()
        with times.measure("frame"):
            framed = frame(photo, model.card.close_px)

        check_wanted()
        with times.measure("model"):
            findings = model.answer(photo, framed, on_grade=lambda _: check_wanted(), force=job.force)

        check_wanted()
        with times.measure("write"):
            body = FORMATS[job.media](AnswerSource(findings, job.body, job.subject))
    except CancelledJobError:
        pass
    except Exception as error:
        refusal = CodedError(*code_and_sentence(error))

    return PhotoAnswer(body, refusal, sha256, times.seconds)


def describe_model(model: Model, settings: WorkerSettings) -> dict[str, Any]:
    """Return what `GET /v1/model` answers: see `answer_models.ModelDescription`."""
    from funduscope.inference.loading import is_shipped
    from funduscope.inference.model import identity

    terms = None
    if all(map(is_shipped, settings.model)):
        terms = (Path(__file__).parents[1] / "models" / "LICENSE").read_text("utf-8")
    card = model.card.to_dict()
    return {
        **identity(model),
        "research_only": model.card.research_only,
        "license": terms,
        "intended_use": INTENDED_USE,
        "not_a_medical_device": True,
        "card": {name: card[name] for name in card if name not in _OMITTED_TABLES},
    }


def _load_and_try(settings: WorkerSettings) -> Model:
    """Load the model and answer the demo photo in every form: no client waits for an import."""
    from funduscope.inference.loading import load

    threads = settings.threads or thread_limit()
    if threads:
        import cv2

        cv2.setNumThreads(threads)

    model = load(list(settings.model) or None, threads=threads, device=settings.device)
    demo = demo_photo().read_bytes()
    source = AnswerSource(model(demo), demo)
    for media in FORMATS.keys() - {DICOM}:
        FORMATS[media](source)
    with suppress(ImportError):  # without the extra `dicom`
        import funduscope.dicom.results  # noqa: F401
    return model


def _check_wanted() -> None:
    if _process.cancelled.value:
        raise CancelledJobError
