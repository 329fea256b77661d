"""Reads photos with several processes; one that dies is replaced, and its photo tried once more."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from funduscope.batch.reader import ReadingSettings, run_reader
from funduscope.batch.results import Result
from funduscope.i18n.errors import CodedError, code_and_sentence
from funduscope.process_pool import ignoring_interrupts

TRIES: Final = 2
"""How often a photo may end the process that reads it before it is set aside."""

MAX_PHOTO_S: Final = 600
"""A process that has read one photo for so long is ended."""

_DEATHS_AT_START: Final = 3
_CONTEXT: Final = multiprocessing.get_context("spawn")

Job = tuple[str, Callable[[], Path | bytes]]
"""A photo's place, and what gives its content."""


class _Reader:
    """A process and what it reads. job: its photo's, None while it waits. is_ready: whether it has loaded its model."""

    def __init__(self, settings: ReadingSettings) -> None:
        self.pipe, other = _CONTEXT.Pipe()
        self.process: SpawnProcess = _CONTEXT.Process(target=run_reader, args=(other, settings), daemon=True)
        with ignoring_interrupts():
            self.process.start()
        other.close()
        self.job: Job | None = None
        self.is_ready = False
        self.since = time.monotonic()

    def give(self, job: Job, content: Path | bytes) -> None:
        self.job, self.since = job, time.monotonic()
        with suppress(OSError):  # it died while it waited: seen as its pipe ends
            self.pipe.send((job[0], content))

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def read_all(jobs: Iterable[Job], processes: int, settings: ReadingSettings) -> Iterator[tuple[str, list[Result]]]:
    """Each photo's place with what became of it, in the order in which they are finished.

    Raises `CodedError` if the model cannot be loaded, with its code, or if the disk refuses a photo's files.
    """
    waiting, again = iter(jobs), deque[Job]()
    deaths = Counter[str]()
    readers = [_Reader(settings) for _ in range(processes)]
    deaths_at_start = 0
    try:
        while True:
            for index, reader in enumerate(readers):
                if reader.is_ready and reader.job is None and not reader.process.is_alive():  # no photo's fault
                    readers[index] = _Reader(settings)
                    reader.end()
                elif reader.is_ready and reader.job is None:
                    yield from _give_next(reader, waiting, again)
            busy = [reader for reader in readers if reader.job is not None or not reader.is_ready]
            if not any(reader.job for reader in busy) and any(reader.is_ready for reader in readers):
                return  # every photo was given and answered
            for reader in _answering(busy):
                try:
                    answer = reader.pipe.recv()
                except (EOFError, OSError):
                    readers[readers.index(reader)] = _Reader(settings)
                    reader.end()
                    deaths_at_start += not reader.is_ready
                    if deaths_at_start == _DEATHS_AT_START:
                        says = "a process ended while it loaded the model: is there enough memory for --processes?"
                        raise CodedError("E_MEMORY", says) from None
                    if reader.job is not None:
                        place = reader.job[0]
                        deaths[place] += 1
                        if deaths[place] < TRIES:
                            again.append(reader.job)
                        else:
                            yield place, [_deadly(place)]
                    continue
                if isinstance(answer, tuple):
                    raise CodedError(*answer)
                if reader.job is not None:
                    photo, reader.job = reader.job[0], None
                    yield photo, answer
                if not reader.is_ready:
                    reader.is_ready, deaths_at_start = True, 0
    finally:
        for reader in readers:
            reader.end()


def _give_next(reader: _Reader, waiting: Iterator[Job], again: deque[Job]) -> Iterator[tuple[str, list[Result]]]:
    """Gives the reader the next photo whose content can be had; the others have failed."""
    while (job := again.popleft() if again else next(waiting, None)) is not None:
        try:
            reader.give(job, job[1]())
        except CodedError as error:
            yield job[0], [Result(Path(job[0]).name, "failed", error.code, error.says)]
        except OSError as error:
            yield job[0], [Result(Path(job[0]).name, "failed", *code_and_sentence(error))]
        else:
            return


def _answering(busy: list[_Reader]) -> list[_Reader]:
    """The readers that answer or are dead, as soon as there are any. One that takes too long is killed, so is dead."""
    while True:
        by_pipe: dict[Connection, _Reader] = {reader.pipe: reader for reader in busy}
        ready = [by_pipe[pipe] for pipe in wait(list(by_pipe), timeout=5) if isinstance(pipe, Connection)]
        for reader in busy:  # also while others answer: one that hangs must not be lost to the rest of the batch
            if reader not in ready and time.monotonic() - reader.since > MAX_PHOTO_S:
                reader.process.kill()
        if ready:
            return ready


def _deadly(place: str) -> Result:
    says = "the process that read this photo ended twice, without a word: it is set aside"
    return Result(Path(place).name, "failed", "E_INTERNAL", says)
