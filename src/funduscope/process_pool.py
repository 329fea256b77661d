"""A process pool that takes a few jobs at a time, so memory stays flat, and survives jobs that kill a process.

A decoder that crashes on a hostile file, or a photo that needs more memory than there is, ends its process. The jobs
that were running are then tried one by one, and only a job that ends its process again is given up.
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
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_ENVIRONMENT: Final = threading.Lock()

_ONE_THREAD: Final[dict[str, str]] = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""Read by numpy's linear algebra when a process starts. With several threads each, as many processes as there are
cores would wait for each other at every product of two small matrices."""

_JOBS_AHEAD: Final = 4
"""Jobs that wait for each process: enough that none is idle, few enough that little is lost when one dies."""


def run_jobs(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[tuple[Job, Result | None]]:
    """Each job with its result, in the order of completion; None if the job ended its process twice.

    work: a function of a module. workers: number of processes; with 0, this process does the work. Raises
    `RuntimeError` if no process can be started, as from a script that begins its work while it is imported.
    """
    if workers < 1:
        yield from ((job, work(job)) for job in jobs)
        return
    waiting = iter(jobs)
    while True:
        running: dict[Future[Result], Job] = {}
        with suppress(BrokenProcessPool):
            yield from _until_done(work, waiting, workers, running)
            return
        _check_start()
        for job in running.values():
            yield job, _alone(work, job)


def _until_done(
    work: Callable[[Job], Result], waiting: Iterator[Job], workers: int, running: dict[Future[Result], Job]
) -> Iterator[tuple[Job, Result]]:
    """Runs a pool until no job is left; `running` has, at any time, the jobs that were taken and not yielded."""
    pool, unsubmitted = _pool(workers), Future()
    try:
        while True:
            for job in islice(waiting, _JOBS_AHEAD * workers - len(running)):
                running[unsubmitted] = job  # it has left the queue, so it must not be lost where the pool is broken
                future = _submit(pool, work, job)
                running[future] = running.pop(unsubmitted)
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                yield running.pop(future), result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _check_start() -> None:
    """Raises `RuntimeError` if no process can start: then no job is at fault."""
    if _alone(abs, 0) is None:
        raise RuntimeError(
            "no worker process can be started: expected a script that begins its work under "
            '`if __name__ == "__main__":`, as Python\'s multiprocessing requires; or use workers=0.'
        )


def _alone(work: Callable[[Job], Result], job: Job) -> Result | None:
    with _pool(1) as pool:
        try:
            return _submit(pool, work, job).result()
        except BrokenProcessPool:
            return None


def _submit(pool: ProcessPoolExecutor, work: Callable[[Job], Result], job: Job) -> Future[Result]:
    """Submit a job to a pool; a process that is started for it computes in one thread."""
    with _ENVIRONMENT:
        before = {name: os.environ[name] for name in _ONE_THREAD if name in os.environ}
        os.environ.update(_ONE_THREAD)
        try:
            with ignoring_interrupts():
                return pool.submit(work, job)
        finally:
            for name in _ONE_THREAD:
                os.environ.pop(name, None)
            os.environ.update(before)


def _pool(workers: int) -> ProcessPoolExecutor:
    # A new interpreter: a fork would inherit locks that threads of cv2 and of the model have at that moment.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_set_up)


def _set_up() -> None:
    """Set up a process: one thread, Ctrl-C ignored (the parent handles it), ended when the parent ends."""
    import cv2  # here: the service's front process imports this file, and decodes no picture

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # again: it may have been started from another thread
    threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile ignore Ctrl-C from their first moment, also while they import: a terminal
    sends it to all, and the parent ends them."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set signal handlers
        yield
        return
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier or signal.SIG_DFL)


def end_with_parent() -> None:
    """Ends this process when its parent is gone, so that nothing continues unseen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
