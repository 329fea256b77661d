"""One process of a batch: it has the model, and reads the photos that it is sent until the pipe closes."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from funduscope.atomic import remove_abandoned
from funduscope.batch.results import Result
from funduscope.freed_memory import keep_freed_memory
from funduscope.i18n.errors import CodedError, PhotoError, code_and_sentence, machine_fault
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import open_each
from funduscope.imaging.photo_names import safe_stem
from funduscope.inference.findings import Findings
from funduscope.inference.loading import load
from funduscope.inference.model import Model
from funduscope.inference.runtime import Device
from funduscope.inference.uncertainty import uncertainty
from funduscope.quality.image_measures import FRAME_PX, measure
from funduscope.report.write import is_result, save

MEASURES: Final = ("brightness", "contrast", "chroma", "sharpness", "seen")
"""The measures of `quality.image_measures` whose drift is shown."""


@dataclass(frozen=True)
class ReadingSettings:
    """model: as for `load`; several are an ensemble. threads: of a process; 0 leaves it to the runtime. force: see
    `Model`. files: folder for masks, overlays and reports, or None."""

    model: tuple[str, ...] = ()
    threads: int = 1
    device: Device = "cpu"
    force: bool = False
    files: Path | None = None

    def load(self) -> Model:
        if self.threads:
            import cv2

            cv2.setNumThreads(self.threads)
        return load(list(self.model) or None, threads=self.threads, device=self.device)


def run_reader(pipe: Connection, settings: ReadingSettings) -> None:
    """Loads the model, says so with None, and answers jobs until the disk refuses what is to be written.

    A job is a place and a file or its bytes; an answer is a list of results. A code and a sentence are sent in place of
    either where there can be none.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when this process ends
    keep_freed_memory()
    try:
        model = settings.load()
    except Exception as error:
        with suppress(OSError):  # the parent is gone
            pipe.send(code_and_sentence(error, "an unexpected error occurred while the model was loaded"))
        return
    with suppress(OSError):
        pipe.send(None)
    while True:
        try:
            place, content = pipe.recv()
        except (EOFError, OSError):  # the parent closed the pipe, or is gone
            return
        try:
            answer = list(read(model, place, content, settings))
        except _OutputError as refused:
            answer = refused.code, refused.says
        with suppress(OSError):  # the parent is gone: seen as the next job is waited for
            pipe.send(answer)


class _OutputError(CodedError):
    """The disk refused a photo's files, as it would those of every photo: the batch ends, and continues later."""


def read(model: Model, place: str, content: Path | bytes, settings: ReadingSettings) -> Iterator[Result]:
    """What becomes of each photo in a file. Every error is a result, but for one: `_OutputError`."""
    for name, photo in open_each(content, name=Path(place).name):
        try:
            if isinstance(photo, Exception):
                raise photo
            yield _result(model(photo, force=settings.force), place, settings)
        except _OutputError:
            raise
        except PhotoError as error:
            yield Result(name, "failed", error.code, error.says)
        except Exception as error:
            yield Result(name, "failed", *code_and_sentence(error))


def _result(findings: Findings, place: str, settings: ReadingSettings) -> Result:
    found = findings.to_dict()
    json.dumps(found, allow_nan=False)  # tables and page are made of it: what has no number fails its photo alone
    problem: tuple[str, str] | tuple[()] = ()
    if settings.files is not None:
        try:
            save(findings, settings.files / files_folder(place, findings.photo.name))
        except FileExistsError as error:  # the answer is none the worse
            problem = "E_CONFIG", f"nothing was written for this photo: {error}"
        except Exception as error:
            fault = machine_fault(error)
            if fault is None or fault.code != "E_DISK":
                raise
            raise _OutputError(fault.code, fault.says) from error
    lesions = {}
    if found["lesions"]:
        lesions = {code: one["objects"] for code, one in found["lesions"].items()}
        found["lesions"] = {
            code: {name: value for name, value in one.items() if name != "objects"}
            for code, one in found["lesions"].items()
        }
    pixels = findings.photo.pixels
    measures = measure(pixels, frame(pixels, FRAME_PX))
    return Result(
        findings.photo.name,
        "read" if found["gradable"]["ok"] else "refused",
        *problem,
        found=found,
        lesions=lesions,
        measures={key: round(float(measures[key]), 4) for key in MEASURES if key in measures},
        uncertainty=uncertainty(found),
    )


def places_without_files(files: Path, written: Iterable[tuple[str, str]]) -> set[str]:
    """The places of photos whose folder is not there any more. written: place and name of each that had one."""
    return {place for place, name in written if not (files / files_folder(place, name)).is_dir()}


def remove_old_files(files: Path, answered: Iterable[tuple[str, str]]) -> None:
    """Removes the folders of photos that are answered no more, and what a killed process left half written.

    answered: place and name of each photo that is. What else lies in such a folder keeps it.
    """
    current = {files_folder(place, name) for place, name in answered}
    for parent in files.glob("[0-9a-f][0-9a-f]"):
        remove_abandoned(parent)
        for folder in parent.iterdir():
            is_hidden = folder.name.startswith(".")
            if not is_hidden and f"{parent.name}/{folder.name}" not in current and is_result(folder):
                shutil.rmtree(folder)


def files_folder(place: str, name: str) -> str:
    """Where a photo's files are, below the folder for files: 256 folders share them, so that none grows too long."""
    mark = hashlib.sha256(f"{place}\0{name}".encode(errors="surrogateescape")).hexdigest()
    return f"{mark[:2]}/{safe_stem(name, set(), '')}_{mark[:12]}"
