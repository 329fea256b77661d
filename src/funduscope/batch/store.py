"""What a batch knows of its photos, in one SQLite file: what is listed, what was read, and what was found.

SQLite gives what a batch needs of its memory: a result is there whole or not at all, whenever the process is killed or
the disk is full, and tables of any length are read in order without taking more memory.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from funduscope.atomic import has_locks
from funduscope.batch.archives import ArchiveEntry
from funduscope.batch.photo_list import KNOWN, ListedPhoto
from funduscope.i18n.errors import CodedError, machine_fault

FILE: Final = "batch.sqlite"
TRIES: Final = 2
"""How often a photo may end the process that reads it before it is set aside."""

Rows = Iterator[dict[str, Any]]

_COMMIT_S: Final = 1.0
_THERE: Final = "select count(*) from photos where version != ''"
_TABLES: Final = f"""
create table if not exists settings (name text primary key, value text not null);
create table if not exists photos (
    place text primary key, position integer not null, version text not null, start integer, size_bytes integer,
    {", ".join(f"{name} text not null" for name in KNOWN)}, copied text not null,
    is_done integer not null, tries integer not null default 0);
create index if not exists by_position on photos (position);
create table if not exists results (
    place text not null, frame integer not null, name text not null, state text not null, code text, says text,
    found text, lesions blob, measures text, uncertainty real, primary key (place, frame)) without rowid;
"""


@dataclass(frozen=True)
class Result:
    """What became of a photo, or of one frame of its file.

    state: "read", "refused" (no photo that can be graded) or "failed". code, says: why it failed, or why the files of a
    photo that was answered could not be written. found: as in
    findings.json, without its lists of lesions, which are in `lesions` by kind. measures: of light and sharpness.
    """

    name: str
    state: str
    code: str | None = None
    says: str | None = None
    found: Mapping[str, Any] | None = None
    lesions: Mapping[str, list[Mapping[str, Any]]] | None = None
    measures: Mapping[str, float] | None = None
    uncertainty: float | None = None


@dataclass(frozen=True)
class StoredResult(Result):
    """A result with what is known of its photo. frame: 0 of the only photo in a file. copied: cells of the table."""

    place: str = ""
    frame: int = 0
    known: Mapping[str, str] | None = None
    copied: tuple[str, ...] = ()


class Store:
    """The file of a batch. One process at a time has it open.

    Raises `CodedError` with E_CONFIG if another process has it, or if it was begun with other settings;
    with E_DISK if the disk has no locks.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if not has_locks(folder):
            says = f"{folder} is on a disk without file locks, as some network shares and mounted buckets"
            raise CodedError("E_DISK", f"{says}: name a folder on this machine's own disk, and copy it afterwards")
        self._path = folder / FILE
        self._file = sqlite3.connect(self._path, timeout=0, isolation_level="IMMEDIATE")
        self._committed = time.monotonic()
        try:
            self._file.execute("pragma locking_mode = exclusive")
            self._file.executescript("begin exclusive;" + _TABLES + "commit;")
            self._check(folder, {name: json.dumps(value) for name, value in settings.items()})
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise _refused(folder, error) from error
        except BaseException:
            self._file.close()
            raise

    def _check(self, folder: Path, settings: Mapping[str, str]) -> None:
        known = dict(self._file.execute("select name, value from settings"))
        if not known or not self.count("select count(*) from photos"):  # a start that failed took no photo
            with self._file:
                self._file.execute("delete from settings")
                self._file.executemany("insert into settings values (?, ?)", settings.items())
            return
        different = [name for name in settings if known.get(name, settings[name]) != settings[name]]
        if different:
            said = "; ".join(f"{name} was {known[name]}, now {settings[name]}" for name in different)
            raise CodedError("E_CONFIG", f"{folder} holds a batch with other settings ({said}): name another folder")

    def update(self, photos: Iterable[ListedPhoto], retry_failed: bool = False) -> int:
        """Takes the photos in their order, and returns how many are to be read: those that are new or changed, those
        that failed by a fault of the machine or were not there and are now, and those whose files could not be written.
        retry_failed: all others that failed, too.

        A photo that is listed with a problem is never to be read. What is known of photos that were listed earlier and
        are not any more is removed. All of it happens or nothing. Raises `CodedError` if none of the earlier photos is
        as it was: E_NOT_FOUND if none is there, since their disk may be away; E_CONFIG if some are gone, or if every
        one of several has another size, though the names are the same. Cameras number anew: other photos belong into
        a folder of their own.
        """
        with self._file:
            if retry_failed:  # before the list is read, which closes again what has a problem
                failed = "select place from results where state = 'failed'"
                self._file.execute(f"update photos set is_done = 0, tries = 0 where place in ({failed})")
            self._file.execute("update photos set position = -1")
            earlier = self.count(_THERE)
            since = Counter(self._take(position, photo) for position, photo in enumerate(photos))
            self._check_same_photos(earlier, since)
            self._file.execute("delete from photos where position < 0")
            faults = "select place from results where code in ('E_MEMORY', 'E_DISK', 'E_CONFIG')"
            self._file.execute(f"update photos set is_done = 0 where place in ({faults})")
            absent = "select place from results where code = 'E_NOT_FOUND'"
            self._file.execute(f"update photos set is_done = 0 where version != '' and place in ({absent})")
            self._file.execute("delete from results where place not in (select place from photos where is_done)")
        return self.count("select count(*) from photos where not is_done")

    def _check_same_photos(self, earlier: int, since: Mapping[str, int]) -> None:
        """Raises as `update` says. earlier: how many photos were there. since: what `_take` says of them, counted."""
        if not earlier or since["same"]:
            return
        if not self.count(f"{_THERE} and position >= 0"):
            says = f"no photo is there any more, and {earlier} were: is their disk there? Nothing was changed"
            raise CodedError("E_NOT_FOUND", says)
        are_gone = since["copied"] + since["other"] < earlier
        if are_gone or (earlier > 1 and not since["copied"]):
            became = "some are gone, none is as it was" if are_gone else "each of these names has another file now"
            says = f"the folder holds a batch of {earlier} photos: {became}"
            raise CodedError("E_CONFIG", f"{says}: name another folder")

    def read_again(self, places: Iterable[str]) -> int:
        """Forgets what became of these photos, and returns how many are to be read with them."""
        with self._file:
            for place in places:
                self._file.execute("update photos set is_done = 0 where place = ?", (place,))
                self._file.execute("delete from results where place = ?", (place,))
        return self.count("select count(*) from photos where not is_done")

    def _take(self, position: int, photo: ListedPhoto) -> str:
        """Takes one photo, and returns what became of it if it was there earlier: "same", "copied" (of the same size,
        but with another date), "other", or "gone"; "new" if it was not there."""
        before = self._file.execute("select version from photos where place = ?", (photo.place,)).fetchone()
        start, size = (photo.entry.start, photo.entry.size_bytes) if photo.entry else (None, None)
        known = [(photo.known or {}).get(name, "") for name in KNOWN]
        names = ("position", "version", "start", "size_bytes", *KNOWN, "copied")
        values = (position, photo.version, start, size, *known, json.dumps(photo.copied))
        self._file.execute(
            f"insert into photos (place, {', '.join(names)}, is_done) values ({', '.join('?' * (len(names) + 1))}, 0) "
            "on conflict (place) do update set is_done = is_done and version = excluded.version, "
            "tries = iif(version = excluded.version, tries, 0), "
            + ", ".join(f"{name} = excluded.{name}" for name in names),
            (photo.place, *values),
        )
        if photo.problem:
            code, says = photo.problem
            self._replace_results(photo.place, [Result(Path(photo.place).name, "failed", code, says)])
        if before is None or not before[0]:
            return "new"
        if not photo.version:
            return "gone"
        is_size_same = photo.entry is None and before[0].split()[0] == photo.version.split()[0]
        return "same" if before[0] == photo.version else "copied" if is_size_same else "other"

    def waiting(self) -> Iterator[tuple[str, ArchiveEntry | None]]:
        """The photos to be read, in order, each once. Results may be put meanwhile."""
        position = -1
        while rows := self._file.execute(
            "select position, place, start, size_bytes from photos where not is_done and position > ? "
            "order by position limit 1000",
            (position,),
        ).fetchall():
            for row in rows:
                position, place, start, size = row
                yield place, None if start is None else ArchiveEntry(place, start, size)

    def put(self, place: str, results: Iterable[Result]) -> None:
        """Keeps what became of a photo, in place of what was known. It is on the disk within a second or two."""
        self._replace_results(place, results)
        if time.monotonic() - self._committed > _COMMIT_S:
            self.commit()

    def _replace_results(self, place: str, results: Iterable[Result]) -> None:
        self._file.execute("delete from results where place = ?", (place,))
        self._file.executemany(
            "insert into results values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    *(place, frame, one.name, one.state, one.code, one.says),
                    None if one.found is None else json.dumps(one.found),
                    None if one.lesions is None else zlib.compress(json.dumps(one.lesions).encode(), 1),
                    None if one.measures is None else json.dumps(one.measures),
                    one.uncertainty,
                )
                for frame, one in enumerate(results)
            ),
        )
        self._file.execute("update photos set is_done = 1 where place = ?", (place,))

    def ended_its_process(self, place: str) -> bool:
        """Notes that the process that read this photo died, and answers whether the photo may be tried again."""
        self._file.execute("update photos set tries = tries + 1 where place = ?", (place,))
        self.commit()
        return self.count("select tries from photos where place = ?", place) < TRIES

    def commit(self) -> None:
        self._file.commit()
        self._committed = time.monotonic()

    def count(self, query: str, *values: object) -> int:
        """The one number that a query answers."""
        return self._file.execute(query, values).fetchone()[0]

    def select(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query."""
        yield from self._file.execute(query, values)

    def results(self, order: str = "position", where: str = "1") -> Iterator[StoredResult]:
        """Every result in that order. order, where: SQL over the columns of photos and results."""
        columns = "name, state, code, says, found, lesions, measures, uncertainty, results.place, frame, copied"
        query = (
            f"select {columns}, {', '.join(KNOWN)} from photos join results using (place) "
            f"where {where} order by {order}, position, frame"
        )
        for row in self._file.execute(query):
            name, state, code, says, found, lesions, measures, uncertainty, place, frame, copied, *known = row
            yield StoredResult(
                name,
                state,
                code,
                says,
                found=json.loads(found) if found else None,
                lesions=json.loads(zlib.decompress(lesions)) if lesions else None,
                measures=json.loads(measures) if measures else None,
                uncertainty=uncertainty,
                place=place,
                frame=frame,
                known=dict(zip(KNOWN, known, strict=True)),
                copied=tuple(json.loads(copied)),
            )

    def in_order(self, rows: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], tuple[Any, ...]]) -> Rows:
        """The rows sorted by a key of numbers and texts, by SQLite, so that their number does not matter."""
        names = None
        for number, row in enumerate(rows):
            values = key(row)
            if names is None:
                names = [f"key{at}" for at in range(len(values))]
                self._file.execute("drop table if exists temp.sorted")
                self._file.execute(f"create temp table sorted ({', '.join(names)}, number integer, row text)")
            marks = ", ".join("?" * (len(values) + 2))
            self._file.execute(f"insert into temp.sorted values ({marks})", (*values, number, json.dumps(row)))
        if names is not None:
            for (row,) in self._file.execute(f"select row from temp.sorted order by {', '.join(names)}, number"):
                yield json.loads(row)
            self._file.execute("drop table temp.sorted")

    def close(self) -> None:
        """Closes the file, and removes it where it holds no photo: the list was refused."""
        self._file.commit()
        is_empty = not self.count("select count(*) from photos")
        self._file.close()
        if is_empty:
            self._path.unlink()


def _refused(folder: Path, error: sqlite3.DatabaseError) -> CodedError:
    if "locked" in str(error):
        return CodedError("E_CONFIG", f"another process writes into {folder}: wait for it, or name another folder")
    if fault := machine_fault(error):
        return fault
    return CodedError("E_CONFIG", f"{folder / FILE} is no file of a batch, or damaged ({error}): name another folder")
