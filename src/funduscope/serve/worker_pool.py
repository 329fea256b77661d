"""The front process's side of the workers: keeps them alive, gives them photos, bounds the queue."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from ctypes import c_bool
from typing import Any, Final

from funduscope.i18n.errors import CodedError, code_and_sentence
from funduscope.process_pool import ignoring_interrupts
from funduscope.serve.limits import RefusalError, ServiceLimits
from funduscope.serve.worker import (
    Job,
    PhotoAnswer,
    WorkerSettings,
    load_model,
    prepare_process,
    read_job,
)

Log = Callable[[str, Mapping[str, Any]], None]
"""Writes an event with its fields."""

_FIRST_PAUSE_S: Final = 1.0
_MAX_PAUSE_S: Final = 30.0
"""Before a model that could not be loaded is tried again; the pause doubles each time."""

_END_S: Final = 5.0
"""What an idle worker has to end by itself."""


class Worker:
    """One process that has the model and reads one photo at a time."""

    description: dict[str, Any]
    """What `GET /v1/model` answers."""

    def __init__(self, settings: WorkerSettings) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit the connections
        self._cancelled = context.RawValue(c_bool)
        self._pool = ProcessPoolExecutor(1, context, prepare_process, (self._cancelled,))

        # The pool starts its process at the first job.
        before = set(multiprocessing.active_children())
        with ignoring_interrupts():
            self._loading = self._pool.submit(load_model, settings)
        (self._process,) = set(multiprocessing.active_children()) - before

        watcher = ThreadPoolExecutor(1)
        self.ended = asyncio.wrap_future(watcher.submit(self._process.join))

    @classmethod
    async def start(cls, settings: WorkerSettings) -> Worker:
        """Start a worker, and wait until its model has answered once.

        Raises `CodedError` if the model cannot be loaded.
        """
        worker = cls(settings)
        try:
            worker.description = await asyncio.wrap_future(worker._loading)
        except BaseException as error:
            worker.kill()
            await worker.ended
            if isinstance(error, BrokenProcessPool):
                sentence = f"the worker ended while it loaded the model (exit code {worker.exit_code})"
                raise CodedError("E_INTERNAL", sentence) from None
            raise
        return worker

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while the process runs; negative for the number of a signal."""
        return self._process.exitcode

    def submit(self, job: Job, longest_s: float) -> asyncio.Future[PhotoAnswer]:
        """Give the worker a job. One that takes longer than `longest_s` ends the process.

        The future raises `BrokenProcessPool` if the process ends first.
        """
        self._cancelled.value = False
        answer = asyncio.wrap_future(self._pool.submit(read_job, job))
        timer = asyncio.get_running_loop().call_later(longest_s, self.kill)
        answer.add_done_callback(lambda _: timer.cancel())
        return answer

    def cancel(self) -> None:
        """Ask the worker to drop its present job. An empty answer still comes, soon."""
        self._cancelled.value = True

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    async def end(self, longest_s: float = _END_S) -> None:
        """Let the worker finish its job, and wait until it has ended; after `longest_s` kill it."""
        self._pool.shutdown(wait=False)
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), longest_s)
        except TimeoutError:
            self.kill()
            await self.ended


class WorkerPool:
    """Answers jobs, in their order, by workers that are replaced when they die."""

    model: dict[str, Any] | None = None
    """What `GET /v1/model` answers; None before a model was loaded, and once none could be."""

    running = 0
    """Photos that are being read."""

    restarts = 0
    """Workers that died."""

    def __init__(self, settings: WorkerSettings, limits: ServiceLimits, log: Log) -> None:
        self._settings = settings
        self._limits = limits
        self._log = log

        self._workers: set[Worker] = set()
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._retiring: set[asyncio.Task[None]] = set()
        self._attention = asyncio.Event()
        self._must_reload = False

        self._admitted = 0
        self._seconds_a_photo = 1.0

    @property
    def waiting(self) -> int:
        """Photos that no worker has yet."""
        return max(0, self._admitted - self.running)

    @property
    def is_ready(self) -> bool:
        """Whether there is a worker whose model has answered."""
        return bool(self._workers)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers if worker.pid is not None]

    async def keep_alive(self) -> None:
        """Start the workers, and others for those that die; run until cancelled."""
        while True:
            await self._start_missing()
            await self._attention.wait()
            self._attention.clear()
            if self._must_reload:
                self._must_reload = False
                await self._replace_all()

    def reload(self) -> None:
        """Have the model loaded anew, into workers that take the places of the present ones."""
        self._must_reload = True
        self._attention.set()

    async def end(self) -> None:
        """End all workers; `keep_alive` must be cancelled before."""
        workers = list(self._workers)
        self._workers.clear()
        await asyncio.gather(*(worker.end() for worker in workers), *self._retiring)

    def check_room(self) -> None:
        """Raise `RefusalError` E_BUSY if a photo would not be taken now."""
        if self.model is None:
            raise RefusalError("E_BUSY", "the model is not ready: send the photo again later", 5)
        if self._admitted >= self._limits.queue:
            seconds = math.ceil(self._admitted * self._seconds_a_photo / self._limits.parallel)
            sentence = (
                f"{self._admitted} photos are waiting or being read, the queue is full: send the photo again later"
            )
            raise RefusalError("E_BUSY", sentence, max(1, seconds))

    async def answer(self, job: Job) -> PhotoAnswer:
        """Return a worker's answer. A caller that is cancelled gives up its place.

        Raises `RefusalError`: E_BUSY at once if too many wait, E_DEADLINE if it takes too long,
        E_INTERNAL if the worker ended while it had the job.
        """
        self.check_room()
        self._admitted += 1
        try:
            async with asyncio.timeout(self._limits.deadline_s):
                return await self._read(job)

        except TimeoutError:
            sentence = f"the photo was not read within {self._limits.deadline_s:g} s: send it again later"
            retry_after_s = max(1, math.ceil(self._seconds_a_photo))
            raise RefusalError("E_DEADLINE", sentence, retry_after_s) from None

        except BrokenProcessPool:
            sentence = (
                "the worker process ended while it had this photo: send it again, and report it if that happens twice"
            )
            raise RefusalError("E_INTERNAL", sentence) from None
        finally:
            self._admitted -= 1

    async def _read(self, job: Job) -> PhotoAnswer:
        worker = await self._idle.get()
        while worker not in self._workers:  # it died or was replaced while it was idle
            worker = await self._idle.get()

        started = asyncio.get_running_loop().time()
        answer = worker.submit(job, 2 * self._limits.deadline_s)
        self.running += 1
        answer.add_done_callback(lambda _: self._release(worker, answer, started))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if not answer.done():
                worker.cancel()
            raise

    def _release(self, worker: Worker, answer: asyncio.Future[PhotoAnswer], started: float) -> None:
        """Take note that a worker has no job anymore, whether somebody waits for the answer or not."""
        self.running -= 1
        seconds = asyncio.get_running_loop().time() - started
        self._seconds_a_photo += 0.1 * (seconds - self._seconds_a_photo)

        if isinstance(answer.exception(), BrokenProcessPool):
            worker.kill()  # what is left of it: `_notice_end` does the rest
        elif worker in self._workers:
            self._idle.put_nowait(worker)

    async def _start_missing(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while len(self._workers) < self._limits.parallel:
            try:
                self._add(await Worker.start(self._settings))
            except Exception as error:
                if not self._workers:
                    self.model = None  # from now on, requests are refused at once
                self._log_failure("model failed", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    async def _replace_all(self) -> None:
        """Replace one worker after another. The photos that they have keep a request's whole time."""
        for former in list(self._workers):
            try:
                worker = await Worker.start(self._settings)
            except Exception as error:
                self._log_failure("model not replaced", error)
                return

            self._add(worker)
            self._workers.discard(former)
            task = asyncio.create_task(former.end(self._limits.deadline_s))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def _add(self, worker: Worker) -> None:
        self._workers.add(worker)
        self._idle.put_nowait(worker)
        worker.ended.add_done_callback(lambda _: self._notice_end(worker))
        self.model = worker.description
        self._log("model ready", {"model": self.model["name"], "sha256": self.model["sha256"][:12]})

    def _notice_end(self, worker: Worker) -> None:
        if worker not in self._workers:  # it was replaced, or the service ends
            return
        self._workers.discard(worker)
        self.restarts += 1
        self._log("worker ended", {"level": "error", "exit": worker.exit_code})
        self._attention.set()

    def _log_failure(self, event: str, error: Exception) -> None:
        code, sentence = code_and_sentence(error, "no worker could be started")
        self._log(event, {"level": "error", "code": code, "says": sentence})
