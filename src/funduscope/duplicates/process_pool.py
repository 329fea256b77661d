"""Work shared out to processes: a few jobs at a time, so that memory stays flat, and past jobs that kill a process.

A decoder that crashes on a hostile file, or a photo for which memory does not suffice, ends its process; the jobs that
were under way are then tried one by one, and only the one that does it again is given up.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Final, TypeVar

import cv2

Job = TypeVar("Job")
Result = TypeVar("Result")

_ONE_THREAD: Final[dict[str, str]] = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""What numpy's linear algebra reads when a process begins: with threads of their own, as many processes as there are
cores would wait for each other at every product of two small matrices."""

_JOBS_AHEAD: Final = 4
"""Jobs that wait for each process: enough that none is idle, few enough that little is lost when one dies."""


def run_jobs(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[tuple[Job, Result | None]]:
    """Each job with its result, as they come; None where the job ended its process twice.

    `work` is a module's function. workers: processes; 0 works in this one. Raises `RuntimeError` where no process can
    be started, as from a script that begins its work while it is imported.
    """
    if workers < 1:
        yield from ((job, work(job)) for job in jobs)
        return
    waiting, suspects = iter(jobs), []
    while True:
        under_way: dict[Future[Result], Job] = {}
        try:
            yield from _until_done(work, waiting, workers, under_way)
            return
        except BrokenProcessPool:
            suspects = list(under_way.values())
        _check_start()
        for job in suspects:
            yield job, _alone(work, job)


def _until_done(
    work: Callable[[Job], Result], waiting: Iterator[Job], workers: int, under_way: dict[Future[Result], Job]
) -> Iterator[tuple[Job, Result]]:
    """Runs a pool until no job is left; `under_way` says at any time which were handed out and not yielded."""
    pool = _pool(workers)
    try:
        while True:
            for job in islice(waiting, _JOBS_AHEAD * workers - len(under_way)):
                under_way[_submitted(pool, work, job, under_way)] = job
            if not under_way:
                return
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                yield under_way.pop(future), result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submitted(
    pool: ProcessPoolExecutor, work: Callable[[Job], Result], job: Job, under_way: dict[Future[Result], Job]
) -> Future[Result]:
    try:
        return _handed(pool, work, job)
    except BrokenProcessPool:
        under_way[Future()] = job  # it has left the queue, so it must not be lost
        raise


def _check_start() -> None:
    """Jobs are not to be blamed for processes that never begin."""
    try:
        with _pool(1) as pool:
            _handed(pool, abs, 0).result()
    except BrokenProcessPool:
        raise RuntimeError(
            "no process of its own can be started: expected a script that begins its work under "
            '`if __name__ == "__main__":`, as Python\'s multiprocessing asks; or ask for workers=0.'
        ) from None


def _alone(work: Callable[[Job], Result], job: Job) -> Result | None:
    with _pool(1) as pool:
        try:
            return _handed(pool, work, job).result()
        except BrokenProcessPool:
            return None


def _handed(pool: ProcessPoolExecutor, work: Callable[[Job], Result], job: Job) -> Future[Result]:
    """Hand a job to a pool; a process that begins for it calculates in one thread."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        return pool.submit(work, job)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _pool(workers: int) -> ProcessPoolExecutor:
    # A fresh interpreter: a fork would inherit locks that threads of cv2 and of the model hold at that moment.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """Set up a process: one thread, deaf to Ctrl-C (the parent hears it), and gone when the parent is."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
