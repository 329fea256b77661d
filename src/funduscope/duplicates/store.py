"""What is kept on disk of many photos: each as it was seen, and every pair that was compared.

One SQLite file, which may be deleted any time. A row counts while the photo is the same and the code that made the row
is; each is written whole or not at all, so a run that is killed loses nothing but what was under way.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from funduscope.duplicates.descriptor import Descriptor

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS photo (name BLOB PRIMARY KEY, size INTEGER, changed INTEGER, version TEXT,"
    " sha256 TEXT, record TEXT, thumbnail BLOB, sketch BLOB)",
    "CREATE TABLE IF NOT EXISTS pair (key BLOB PRIMARY KEY, twin TEXT)",
)
_LAYOUT: Final = 2
"""Of the tables; those of another layout are made anew."""

_SKETCHED_BY: Final = (
    *(f"imaging/{name}.py" for name in ("field_of_view", "framing", "file_headers", "photo", "vessels")),
    *(f"duplicates/{name}.py" for name in ("keypoints", "descriptor", "store")),
)
_COMPARED_BY: Final = ("duplicates/registration.py", "duplicates/pairs.py")

State = tuple[int, int]
"""Size and time of change of a file."""


class Store:
    """The file. `file` is made where it is not there, and made anew where it is damaged.

    seen_by: the package's files, beside those that sketch, whose change makes what was seen of photos out of date.
    """

    def __init__(self, file: Path, seen_by: Sequence[str] = ()) -> None:
        self.file = file
        self._seen_by = (*_SKETCHED_BY, *seen_by)
        try:
            self._held = _opened(file)
        except sqlite3.OperationalError:  # locked, full or not writable: not the file's fault
            raise
        except sqlite3.DatabaseError:  # damaged, and nothing is lost but time
            file.unlink()
            self._held = _opened(file)

    def close(self) -> None:
        self._held.close()

    def of_photo(self, name: str, column: str) -> Any:
        """The record, thumbnail, sketch or sha256 of a photo; None where there is none."""
        found = self._held.execute(f"SELECT {column} FROM photo WHERE name = ?", (key_of(name),)).fetchone()
        return found[0] if found else None

    def seen(self) -> dict[bytes, State]:
        """Photos that were seen by the code as it is: key to the file's state at that time."""
        rows = self._held.execute("SELECT name, size, changed FROM photo WHERE version = ?", (_version(self._seen_by),))
        return {bytes(name): (size, changed) for name, size, changed in rows}

    def keep_photo(self, name: str, state: State, sha256: str, record: str, blobs: Sequence[bytes | None]) -> None:
        """blobs: thumbnail and sketch."""
        row = (key_of(name), *state, _version(self._seen_by), sha256, record, *blobs)
        self._held.execute("INSERT OR REPLACE INTO photo VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def with_descriptor(self) -> dict[bytes, str]:
        """Photos of which there is a sketch: key to the sha256 of their bytes."""
        rows = self._held.execute("SELECT name, sha256 FROM photo WHERE sketch IS NOT NULL")
        return {bytes(name): sha256 for name, sha256 in rows}

    def compared(self, keys: Iterable[bytes]) -> Iterator[tuple[bool, str | None]]:
        """For each pair, whether it was compared, and what came of it: a twin as JSON, or None."""
        for key in keys:
            found = self._held.execute("SELECT twin FROM pair WHERE key = ?", (key,)).fetchone()
            yield found is not None, found[0] if found else None

    def keep_compared(self, rows: Iterable[tuple[bytes, str | None]]) -> None:
        """Rows (pair, twin as JSON or None), all of them or none."""
        with self._held:
            self._held.execute("BEGIN")
            self._held.executemany("INSERT OR REPLACE INTO pair VALUES (?, ?)", rows)


class StoredDescriptors(Mapping[str, Descriptor]):
    """Sketches by photo's name, each read from the store when it is asked for. names: those to iterate over."""

    def __init__(self, store: Store, names: Sequence[str]) -> None:
        self.store, self._names = store, names

    def __getitem__(self, name: str) -> Descriptor:
        data = self.store.of_photo(name, "sketch")
        if data is None:
            raise KeyError(name)
        return Descriptor.from_bytes(data)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def state_of(path: Path) -> State:
    """Size and time of change of a file; zeros where there is none."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return 0, 0
    return about.st_size, about.st_mtime_ns


def key_of(name: str) -> bytes:
    """A name as bytes: file systems hold names that are no text."""
    return name.encode("utf-8", "surrogateescape")


def pair_key(first: str, second: str, mirrored: bool) -> bytes:
    """What a pair of photos, each given by the sha256 of its bytes, is kept under."""
    return hashlib.sha256(f"{first} {second} {mirrored} {_version(_SKETCHED_BY + _COMPARED_BY)}".encode()).digest()[:16]


@cache
def _version(files: tuple[str, ...]) -> str:
    """A hash of the code that sees and compares, so that what older code saw is seen again."""
    package = resources.files("funduscope")
    digest = hashlib.sha256()
    for file in files:
        digest.update(package.joinpath(*file.split("/")).read_bytes())
    return digest.hexdigest()[:16]


def _opened(file: Path) -> sqlite3.Connection:
    store = sqlite3.connect(file, timeout=60, isolation_level=None)
    try:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("PRAGMA synchronous = OFF")
        if store.execute("PRAGMA user_version").fetchone() != (_LAYOUT,):
            for table in ("photo", "pair"):
                store.execute(f"DROP TABLE IF EXISTS {table}")
            store.execute(f"PRAGMA user_version = {_LAYOUT}")
        for table in _TABLES:
            store.execute(table)
        if store.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the store is damaged")
    except sqlite3.Error:
        store.close()
        raise
    return store
