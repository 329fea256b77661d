"""One training at a time in a run's folder: two would replace each other's checkpoints, under one run.json."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from funduscope.training import TrainingError

LOCK_FILE: Final = ".training.lock"
"""In the run's folder. It stays there: if it were removed, a process that waits for it would hold a file of its own."""

WAIT_S = 10
"""Loading processes of a training that was killed end after five seconds, and keep the folder until then."""


@contextmanager
def only_training(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in the folder, which is made if it is not there.

    A folder that was made and stays empty is removed. Nothing is kept out where the file system has no locks. Raises
    `TrainingError` if another process trains in it.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=WAIT_S)
    except Timeout:
        raise TrainingError(f"Another process trains in {folder}: wait for it, or name another folder.") from None
    except (OSError, NotImplementedError):
        pass  # the file system has no locks

    try:
        yield
    finally:
        lock.release()

        # What is refused leaves no empty folder.
        if is_new and [path.name for path in folder.iterdir()] == [LOCK_FILE]:
            (folder / LOCK_FILE).unlink()
            folder.rmdir()
