"""Write a file or a folder whole or not at all: under another name first, renamed when it is complete. Read such files
again, or lines of which the last may be unfinished, since they are added to a file one by one. A file's SHA-256."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PROBE_BYTES = 4096
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of writing alone, where the system names no file
_CANNOT = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # of disks that lack an operation
_DAY_S = 86_400
_NAME_CHARS = 12  # of a file's name in that of the unfinished one


class DamagedFileError(ValueError):
    """A file that this package wrote and that cannot be read any more; the message names it."""


@contextmanager
def replacing(path: Path, *, one_writer: bool = False, fsync: bool = False) -> Iterator[Path]:
    """Gives a free path next to `path`, where the block writes a file or makes a folder; then renames that to `path`.

    An earlier file or folder of that name is replaced. Where the block raises, the earlier one stays and what the block
    wrote is removed. one_writer: no other process writes this path, so the unfinished one has a fixed name, and what a
    killed process left of it is overwritten. fsync: a file's bytes are on the disk before it is renamed.
    Raises `OSError` if the disk refuses.
    """
    mark = "" if one_writer else f".{secrets.token_hex(4)}"
    unfinished = path.with_name(f".{path.name if one_writer else path.name[:_NAME_CHARS]}{mark}.partial")
    try:
        _remove(unfinished)
        yield unfinished
        if fsync:
            with unfinished.open("r+b") as file:  # Windows wants it writable
                os.fsync(file.fileno())
        if path.is_dir():
            _replace_folder(unfinished, path)
        else:
            unfinished.replace(path)
    except BaseException as error:
        with suppress(OSError):  # a disk that refuses to write refuses this, too
            _remove(unfinished)
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
            error.filename = str(path)
        if isinstance(error, OSError) and str(error.filename).startswith(str(unfinished)):
            error.filename = f"{path}{str(error.filename)[len(str(unfinished)) :]}"  # which a person knows
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all. Raises `OSError` if the disk refuses."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(data)


def write_json(path: Path, tree: Any, *, indent: int | None = 2, allow_nan: bool = True) -> None:
    """Writes JSON and a newline, whole or not at all. Raises `OSError`; without `allow_nan`, `ValueError` for NaN."""
    write_atomically(path, (json.dumps(tree, indent=indent, allow_nan=allow_nan) + "\n").encode())


def must_be_writable(folder: Path) -> None:
    """Raises `OSError` if files cannot be written, replaced and extended in a folder; leaves no trace.

    For what takes hours before it is written. The folder may not be there yet.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    place = next(one for one in (folder, *folder.absolute().parents) if one.is_dir())

    step = "write files"
    try:
        with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=place) as probe:
            file = Path(probe, "file")
            file.write_bytes(bytes(_PROBE_BYTES))
            step = "replace a file by another"
            with replacing(file, fsync=True) as unfinished:
                unfinished.write_bytes(bytes(_PROBE_BYTES))
            step = "extend a file"
            with file.open("ab") as end:
                end.write(b"\0")
    except OSError as error:
        if error.errno in _CANNOT:
            says = f"{folder} is on a disk that cannot {step} ({error.strerror}), as some mounted buckets"
            raise OSError(f"{says}: name a folder on this machine's own disk, and copy it afterwards") from error
        error.filename = str(folder)  # not that of the file that was tried
        raise


def set_mode(path: Path, mode: int) -> None:
    """Gives a path these rights. Nothing happens where the disk has none, as network shares and mounted buckets."""
    with suppress(OSError):
        path.chmod(mode)


def remove_unfinished(folder: Path, paths: Collection[Path] | None = None) -> None:
    """Removes what killed processes left of files in the folder, in which no other process writes; of these paths
    alone where they are named."""
    starts = None if paths is None else {path.name[:_NAME_CHARS] for path in paths}
    for left in folder.glob(".*.partial"):
        if starts is None or left.name[1 : 1 + _NAME_CHARS] in starts:
            _remove(left)


def remove_abandoned(folder: Path) -> None:
    """Removes what killed processes left in a folder that others write in, too: what is unfinished since a day."""
    mark = "[0-9a-f]" * 8
    for path in (*folder.glob(f".*.{mark}.partial"), *folder.glob(f".*.{mark}.earlier")):
        with suppress(OSError):  # another process may have removed it
            if time.time() - path.stat().st_mtime > _DAY_S:
                _remove(path)


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """The object in a file of JSON. Raises `OSError`, and `DamagedFileError` if it is none or lacks one of `keys`."""
    try:
        tree = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if not isinstance(tree, dict):
        raise damaged(path, "it holds no object")
    if missing := [key for key in keys if key not in tree]:
        raise damaged(path, f"{missing[0]} is missing")
    return tree


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file's lines of JSON, without the unfinished last one that a killed process leaves.

    Raises `OSError`, and `DamagedFileError` if another line is none.
    """
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1] if line]
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if not all(isinstance(line, dict) for line in lines):
        raise damaged(path, "a line holds no object")
    return lines


def damaged(path: Path, why: str) -> DamagedFileError:
    """The error of a file whose content cannot be used."""
    return DamagedFileError(f"{path} is damaged ({why.rstrip('.')}): restore it from a backup, or take another folder.")


def link_or_copy(source: Path, target: Path) -> None:
    """Gives a file a second name, whole or not at all: a link, or a copy if the file system has no links.

    An earlier file of that name is replaced. No other process writes `target`. Raises `OSError`.
    """
    if target.is_file() and target.samefile(source):  # renaming one name of a file to another would leave both
        return
    with replacing(target, one_writer=True) as unfinished:
        try:
            os.link(source, unfinished)
        except OSError:
            shutil.copyfile(source, unfinished)


def _replace_folder(unfinished: Path, folder: Path) -> None:
    """A folder with entries cannot be renamed over: the earlier one is set aside first and removed last."""
    earlier = unfinished.with_suffix(".earlier")
    _remove(earlier)  # of a process that was killed
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


def file_sha256(path: Path) -> str:
    """The hex digest of a file's bytes, read in parts. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
