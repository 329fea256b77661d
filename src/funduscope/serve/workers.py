"""The front process's side of the worker: keeps one alive, gives it photos, bounds how many wait."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from funduscope.i18n.errors import CodedError
from funduscope.serve.limits import RefusalError, ServiceLimits
from funduscope.serve.worker_pipe import PipeMessage, packed, receive_message

Log = Callable[[str, Mapping[str, Any]], None]
"""Writes an event with its fields."""

_NEW_WORKER_S: Final = 1.0
_MAX_PAUSE_S: Final = 30.0
"""Before a worker that failed is started again: the first pause, doubled each time up to the longest."""

_END_S: Final = 5.0
"""What a worker has to end by itself when the service ends."""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker loads: see `inference.loading.load`. model: paths, empty for the shipped one."""

    model: tuple[str, ...] = ()
    threads: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Job:
    """A photo's file and what is asked of it. media: of the answer, one of `answer_formats.FORMATS`. name: that the
    answer gives the photo. frame: of a DICOM file of several, from 1. force: see `inference.model.Model`.
    subject: of a FHIR bundle, the patient's reference."""

    body: bytes
    media: str
    name: str | None = None
    frame: int | None = None
    force: bool = False
    subject: str | None = None


class WorkerProcess:
    """One process with a model. ended: done when the process is. on_end: called as soon as it takes no more jobs."""

    def __init__(self, process: asyncio.subprocess.Process, about: dict[str, Any]) -> None:
        self._process, self.about = process, about
        self.pid = process.pid
        self.on_end: Callable[[], None] = lambda: None
        self._answers: dict[int, asyncio.Future[PipeMessage | None]] = {}
        self._numbers = itertools.count()
        self.ended = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, settings: WorkerSettings, parallel: int) -> WorkerProcess:
        """A worker whose model has answered once. Raises `CodedError` if it cannot be loaded."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "funduscope.serve.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl+C in the terminal is for the front process
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            given = {"model": settings.model, "threads": settings.threads, "device": settings.device}
            process.stdin.writelines(packed({**given, "parallel": parallel}))
            first = await receive_message(process.stdout)
        except BaseException:
            _kill(process)
            raise
        if first is None:
            code = await process.wait()
            raise CodedError("E_INTERNAL", f"the worker ended while it loaded the model (exit code {code})")
        if first.header["event"] != "ready":
            await process.wait()
            raise CodedError(first.header["code"], first.header["says"])
        return cls(process, first.header["about"])

    def submit(self, job: Job, longest_s: float) -> tuple[int, asyncio.Future[PipeMessage | None]]:
        """The job's number and its answer to come: None if the process ends first. One that is not answered within
        `longest_s` ends the process."""
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[PipeMessage | None] = loop.create_future()
        if self.ended.done():
            answer.set_result(None)
            return number, answer
        self._answers[number] = answer
        asked = {name: value for name, value in vars(job).items() if name != "body"}
        self._write(packed({"event": "read", "job": number, **asked}, job.body))
        stuck = loop.call_later(longest_s, self.kill)
        answer.add_done_callback(lambda _: stuck.cancel())
        return number, answer

    def cancel(self, number: int) -> None:
        """Asks the worker to leave a job. Its answer still comes, soon."""
        if number in self._answers:
            self._write(packed({"event": "cancel", "job": number}))

    def kill(self) -> None:
        """Ends the process at once."""
        _kill(self._process)

    async def end(self, longest_s: float = _END_S) -> None:
        """Lets the worker finish what it has, and waits until it has ended; after `longest_s` ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(longest_s):
                await asyncio.shield(self.ended)
        except TimeoutError:
            self.kill()
            await self.ended

    def _write(self, parts: list[bytes]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # the process ended: `_listen` notices
            self._process.stdin.writelines(parts)

    async def _listen(self) -> int:
        """Passes the answers on until the process ends; gives its exit code."""
        assert self._process.stdout is not None
        try:
            while (message := await receive_message(self._process.stdout)) is not None:
                answer = self._answers.pop(message.header["job"], None)
                if answer is not None and not answer.done():
                    answer.set_result(message)
        except (ValueError, LookupError):  # a process whose memory was overwritten may say anything
            self.kill()
        self.on_end()
        code = await self._process.wait()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)
        self._answers.clear()
        return code


class Workers:
    """Answers jobs, in their order, by a worker that is replaced when it dies.

    waiting: jobs that no worker has yet. running: jobs that it has.
    """

    def __init__(self, settings: WorkerSettings, limits: ServiceLimits, log: Log) -> None:
        self._settings, self._limits, self._log = settings, limits, log
        self._slots = asyncio.Semaphore(limits.parallel)
        self._present = asyncio.Event()
        self._changed = asyncio.Event()  # another worker took over
        self._starting = asyncio.Lock()
        self._worker: WorkerProcess | None = None
        self._admitted = 0
        self._seconds_a_photo = 1.0
        self.running = 0
        self.restarts = 0

    @property
    def waiting(self) -> int:
        return max(0, self._admitted - self.running)

    @property
    def ready(self) -> bool:
        """Whether a worker is there whose model has answered."""
        return self._present.is_set()

    @property
    def about(self) -> dict[str, Any] | None:
        """What is said about the model; None before one was ready, and once another one could not be started."""
        return None if self._worker is None else self._worker.about

    @property
    def pid(self) -> int | None:
        """Process number of the present worker; None while none is ready."""
        return self._worker.pid if self._worker is not None and self.ready else None

    async def keep_alive(self) -> None:
        """Starts a worker, and another whenever it dies; runs until it is cancelled."""
        pause = _NEW_WORKER_S
        while True:
            try:
                async with self._starting:
                    if not self.ready:  # otherwise `replace` started one in the meantime
                        self._use(await WorkerProcess.start(self._settings, self._limits.parallel))
            except Exception as error:
                self._worker = None  # from now on, requests are refused at once
                self._log("model failed", {"level": "error", **_reason(error)})
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE_S)
                continue
            pause = _NEW_WORKER_S
            code = await self._until_ended()
            self.restarts += 1
            self._log("worker ended", {"level": "error", "exit": code})

    async def _until_ended(self) -> int:
        """The exit code of the present worker, which may be another one meanwhile, when it has ended."""
        while True:
            worker = self._worker
            assert worker is not None
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait((worker.ended, changed), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if worker is self._worker and worker.ended.done():
                return worker.ended.result()

    def _use(self, worker: WorkerProcess) -> None:
        self._worker = worker
        worker.on_end = lambda: self._lose(worker)
        self._present.set()
        self._changed.set()
        self._log("model ready", {"model": worker.about["name"], "sha256": worker.about["sha256"][:12]})

    def _lose(self, worker: WorkerProcess) -> None:
        if worker is self._worker:  # otherwise another one has taken over
            self._present.clear()

    async def replace(self) -> None:
        """Loads the model anew into another worker, which takes the place of the present one once it is ready.

        The photos that the earlier one has keep the whole of a request's time.
        """
        async with self._starting:
            earlier = self._worker
            if earlier is None or not self.ready:
                return
            try:
                self._use(await WorkerProcess.start(self._settings, self._limits.parallel))
            except Exception as error:
                self._log("model not replaced", {"level": "error", **_reason(error)})
                return
        await earlier.end(self._limits.deadline_s)

    async def end(self) -> None:
        """Ends the worker; `keep_alive` is to be cancelled first."""
        self._present.clear()
        if self._worker is not None:
            await self._worker.end()

    def check_room(self) -> None:
        """Raises `RefusalError` E_BUSY if a photo would not be taken now."""
        if self._worker is None:
            raise RefusalError("E_BUSY", "the model is not ready: send the photo again later", 5)
        if self._admitted >= self._limits.queue:
            seconds = math.ceil(self._admitted * self._seconds_a_photo / self._limits.parallel)
            says = f"{self._admitted} photos are waiting or being read, the queue is full: send the photo again later"
            raise RefusalError("E_BUSY", says, max(1, seconds))

    async def answer(self, job: Job) -> PipeMessage:
        """The worker's answer. A caller that is cancelled gives up its place, and a job that runs is left.

        Raises `RefusalError`: E_BUSY at once if too many wait, E_DEADLINE if it takes too long; E_INTERNAL if
        the worker ended while it had the job, of this or of another photo.
        """
        self.check_room()
        self._admitted += 1
        try:
            async with asyncio.timeout(self._limits.deadline_s):
                answer = await self._answered(job)
        except TimeoutError:
            says = f"the photo was not read within {self._limits.deadline_s:g} s: send it again later"
            raise RefusalError("E_DEADLINE", says, max(1, math.ceil(self._seconds_a_photo))) from None
        finally:
            self._admitted -= 1
        if answer is None:
            raise RefusalError(
                "E_INTERNAL",
                "the worker process ended while it had this photo: send it again, and report it if that happens twice",
            )
        return answer

    async def _answered(self, job: Job) -> PipeMessage | None:
        await self._slots.acquire()
        try:
            await self._present.wait()
            worker = self._worker
            assert worker is not None
            number, answer = worker.submit(job, 2 * self._limits.deadline_s)
        except BaseException:
            self._slots.release()
            raise
        self.running += 1
        started = asyncio.get_running_loop().time()
        answer.add_done_callback(lambda _: self._finished(started))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            worker.cancel(number)
            raise

    def _finished(self, started: float) -> None:
        """Frees the place in the worker: also of a job that nobody waits for anymore."""
        self.running -= 1
        self._slots.release()
        seconds = asyncio.get_running_loop().time() - started
        self._seconds_a_photo += 0.1 * (seconds - self._seconds_a_photo)


def _reason(error: Exception) -> dict[str, str]:
    """Why there is no worker, for the log."""
    if isinstance(error, CodedError):
        return {"code": error.code, "says": error.says}
    return {"code": "E_INTERNAL", "says": f"no worker could be started ({type(error).__name__})"}


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
