"""One training at a time in a run's folder: two would replace each other's checkpoints, under one run.json."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from funduscope.training import TrainingError

WAIT_S = 10
"""Loading processes of a training that was killed end after five seconds, and keep the folder until then."""


@contextmanager
def only_training(folder: Path) -> Iterator[None]:
    """Keeps other processes of this machine from training in the folder, which is made if it is not there.

    A folder that was made and stays empty is removed. Nothing is kept out on Windows, or if the file system has no
    locks. Raises `TrainingError` if another process trains in it.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = _locked(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _locked(folder: Path) -> int | None:
    """The opened folder with a lock, which ends with the process, however that ends."""
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(folder, os.O_RDONLY)
    until = time.monotonic() + WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(handle)
                raise TrainingError(
                    f"Another process trains in {folder}: wait for it, or name another folder."
                ) from None
            time.sleep(0.2)
        except OSError:
            os.close(handle)
            return None
        else:
            return handle
