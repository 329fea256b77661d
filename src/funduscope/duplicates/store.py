"""Descriptors and records of many photos on disk, and the result of every pair that was compared.

One SQLite file, which may be deleted at any time. A row is valid while the photo and the code that made the row are
unchanged. Each row is written whole or not at all, so a run that is killed loses only its unfinished jobs.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from funduscope.atomic import has_locks
from funduscope.duplicates.descriptor import Descriptor
from funduscope.i18n.errors import CodedError

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS photo (name BLOB PRIMARY KEY, size INTEGER, changed INTEGER, version TEXT, sha256 TEXT,
  record TEXT, thumbnail BLOB, descriptor BLOB);
CREATE TABLE IF NOT EXISTS pair (key BLOB PRIMARY KEY, result TEXT);
"""
_LAYOUT: Final = 3
"""Version of the tables; a file with another layout is emptied."""

FRAMED_BY: Final = tuple(
    f"imaging/{name}.py"
    for name in ("field_of_view", "file_headers", "framing", "photo", "photo_parts", "srgb", "strict_jpeg")
)
"""The package's files that decide which pixels a JPEG, PNG or TIFF has and where its frame lies."""

_DESCRIBED_BY: Final = (
    *FRAMED_BY,
    *(f"imaging/{name}.py" for name in ("dicom_file", "dicom_streams", "dicom_colors", "vessels")),
    *(f"duplicates/{name}.py" for name in ("keypoints", "descriptor", "store")),
)
_COMPARED_BY: Final = ("duplicates/registration.py", "duplicates/pairs.py")

State = tuple[int, int]
"""Size and time of change of a file."""


class Store:
    """The SQLite file; it is made where it is missing, and replaced where it is damaged.

    Raises `CodedError` E_DISK if the disk has no locks.

    seen_by: more of the package's files, next to those that make descriptors, whose change makes a photo's row invalid.
    """

    def __init__(self, file: Path, seen_by: Sequence[str] = ()) -> None:
        self.file = file
        self._seen_by = (*_DESCRIBED_BY, *seen_by)
        try:
            self._database = _opened(file)
        except sqlite3.OperationalError:  # locked, full or not writable: not the file's fault
            raise
        except sqlite3.DatabaseError:  # damaged, and nothing is lost but time
            file.unlink()
            self._database = _opened(file)

    def close(self) -> None:
        self._database.close()

    def of_photo(self, name: str, column: str) -> Any:
        """The record, thumbnail, descriptor or sha256 of a photo; None if there is none."""
        found = self._database.execute(f"SELECT {column} FROM photo WHERE name = ?", (key_of(name),)).fetchone()
        return found[0] if found else None

    def seen(self) -> dict[bytes, State]:
        """Photos whose row was made by the present code: key to the file's state at that time."""
        rows = self._database.execute(
            "SELECT name, size, changed FROM photo WHERE version = ?", (code_version(self._seen_by),)
        )
        return {bytes(name): (size, changed) for name, size, changed in rows}

    def keep_photo(self, name: str, state: State, sha256: str, record: str, blobs: Sequence[bytes | None]) -> None:
        """Write a photo's row. blobs: thumbnail and descriptor."""
        row = (key_of(name), *state, code_version(self._seen_by), sha256, record, *blobs)
        self._database.execute("INSERT OR REPLACE INTO photo VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def with_descriptor(self) -> dict[bytes, str]:
        """Photos that have a descriptor: key to the sha256 of their bytes."""
        rows = self._database.execute("SELECT name, sha256 FROM photo WHERE descriptor IS NOT NULL")
        return {bytes(name): sha256 for name, sha256 in rows}

    def compared(self, keys: Iterable[bytes]) -> Iterator[tuple[bool, str | None]]:
        """For each pair, whether it was compared, and its result: the proved pair as JSON, or None."""
        for key in keys:
            found = self._database.execute("SELECT result FROM pair WHERE key = ?", (key,)).fetchone()
            yield found is not None, found[0] if found else None

    def keep_compared(self, rows: Iterable[tuple[bytes, str | None]]) -> None:
        """Write rows (key, proved pair as JSON or None), all of them or none."""
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO pair VALUES (?, ?)", rows)


class StoredDescriptors(Mapping[str, Descriptor]):
    """Descriptors by photo's name, each read from the store when it is needed. names: those to iterate over."""

    def __init__(self, store: Store, names: Sequence[str]) -> None:
        self.store, self._names = store, names

    def __getitem__(self, name: str) -> Descriptor:
        data = self.store.of_photo(name, "descriptor")
        if data is None:
            raise KeyError(name)
        return Descriptor.from_bytes(data)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def state_of(path: Path) -> State:
    """Size and time of change of a file; zeros if there is none."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return 0, 0
    return about.st_size, about.st_mtime_ns


def key_of(name: str) -> bytes:
    """A name as bytes: names of files need not be valid text."""
    return name.encode("utf-8", "surrogateescape")


def pair_key(first: str, second: str, mirrored: bool) -> bytes:
    """The key of a pair of photos, each given by the sha256 of its bytes."""
    version = code_version(_DESCRIBED_BY + _COMPARED_BY)
    return hashlib.sha256(f"{first} {second} {mirrored} {version}".encode()).digest()[:16]


@cache
def code_version(files: tuple[str, ...]) -> str:
    """A hash of the package's given source files, so that what older code stored is made again."""
    package = resources.files("funduscope")
    digest = hashlib.sha256()
    for file in files:
        digest.update(package.joinpath(*file.split("/")).read_bytes())
    return digest.hexdigest()[:16]


def _opened(file: Path) -> sqlite3.Connection:
    if not has_locks(file.parent):  # SQLite would wait for one
        says = f"{file.parent} is on a disk without file locks, as some network shares and mounted buckets"
        raise CodedError("E_DISK", f"{says}: set FUNDUSCOPE_CACHE to a folder on this machine's own disk")
    # A report that one thread made may be written by another; SQLite itself takes one thread at a time.
    store = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = OFF")
        if store.execute("PRAGMA user_version").fetchone() != (_LAYOUT,):
            empty = "DROP TABLE IF EXISTS photo; DROP TABLE IF EXISTS pair;"
            store.executescript(f"{empty} PRAGMA user_version = {_LAYOUT};")
        store.executescript(_TABLES)
        if store.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the store is damaged")
    except sqlite3.Error:
        store.close()
        raise
    return store
