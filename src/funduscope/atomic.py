"""Write a file or a folder whole or not at all: under another name first, renamed when it is complete."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, one_writer: bool = False, fsync: bool = False) -> Iterator[Path]:
    """Gives a free path next to `path`, where the block writes a file or makes a folder; then renames that to `path`.

    An earlier file or folder of that name is replaced. Where the block raises, the earlier one stays and what the block
    wrote is removed. one_writer: no other process writes this path, so the unfinished one has a fixed name, and what a
    killed process left of it is overwritten. fsync: a file's bytes are on the disk before it is renamed.
    Raises `OSError` where the disk refuses.
    """
    mark = "" if one_writer else f".{secrets.token_hex(4)}"
    unfinished = path.with_name(f".{path.name if one_writer else path.name[:12]}{mark}.partial")
    _remove(unfinished)
    try:
        yield unfinished
        if fsync:
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            _replace_folder(unfinished, path)
        else:
            unfinished.replace(path)
    except BaseException:
        _remove(unfinished)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all. Raises `OSError` where the disk refuses."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(data)


def _replace_folder(unfinished: Path, folder: Path) -> None:
    """A folder with entries cannot be renamed over: the earlier one is set aside first and removed last."""
    earlier = unfinished.with_suffix(".earlier")
    folder.rename(earlier)
    try:
        unfinished.rename(folder)
    except BaseException:
        with suppress(OSError):
            earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
