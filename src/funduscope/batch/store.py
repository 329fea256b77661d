"""What a batch has read, in shards: Parquet files, each written whole under another name and renamed.

A photo is done if a shard has its place and version. There is no lock: of two processes that write into one folder each
may read a photo, and the tables take the result of the last shard.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from funduscope.atomic import must_be_writable, remove_abandoned, replacing
from funduscope.batch.archives import ArchiveEntry
from funduscope.batch.photo_list import ListedPhoto
from funduscope.batch.results import Result, StoredResult
from funduscope.i18n.errors import CodedError

SHARDS: Final = "shards"
SHARD_S: Final = 30.0
"""What a process that is killed has read for so long is read again."""

SHARD_ROWS: Final = 1000
_READ_ROWS: Final = 2000
"""Results that are in memory at once."""

_SCHEMA: Final = pa.schema(
    [
        pa.field("place", pa.string()),
        pa.field("version", pa.string()),
        pa.field("frame", pa.int32()),
        *(pa.field(name, pa.string()) for name in ("name", "state", "code", "says")),
        *(pa.field(name, pa.string()) for name in ("found", "lesions", "measures")),  # JSON
        pa.field("uncertainty", pa.float64()),
    ]
)
_MACHINE_FAULTS: Final = ("E_MEMORY", "E_DISK", "E_CONFIG")

Part = Literal["found", "lesions", "measures"]


@dataclass(frozen=True, slots=True)
class _Answer:
    """Where the results of a photo's file stand."""

    version: str
    shard: Path

    row: int
    """Of the first frame; the others follow."""

    outcomes: tuple[tuple[str, str | None], ...]
    """State and code of each frame."""


class Store:
    """The shards of a batch, and the photos that are listed now.

    Raises `OSError` if files cannot be written into the folder; `CodedError` with E_CONFIG if it has a batch of other
    settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        must_be_writable(folder)
        self._folder = folder / SHARDS
        self._schema = _SCHEMA.with_metadata({"settings": json.dumps(settings)})
        self._answers: dict[str, _Answer] = {}
        self._n_rows: dict[Path, int] = {}
        self._photos: dict[str, ListedPhoto] = {}
        self._waiting: set[str] = set()
        self._unwritten: list[dict[str, Any]] = []
        self._written_at = time.monotonic()

        remove_abandoned(self._folder)
        for shard in sorted(self._folder.glob("*.parquet")):
            self._load(shard, settings)

    def _load(self, shard: Path, settings: Mapping[str, Any]) -> None:
        with _open_shard(shard) as file:
            earlier_settings = json.loads((file.schema_arrow.metadata or {}).get(b"settings", b"{}"))
            _check_settings(self._folder.parent, earlier_settings, settings)
            table = file.read(["place", "version", "frame", "state", "code"])
        self._take(shard, table)

    def _take(self, shard: Path, table: pa.Table) -> None:
        """Take the answers of a shard, in place of those that earlier shards have for the same photos."""
        rows: dict[str, tuple[int, str]] = {}
        outcomes: dict[str, list[tuple[str, str | None]]] = {}
        columns = (table[name].to_pylist() for name in ("place", "version", "frame", "state", "code"))
        for row, (place, version, frame, state, code) in enumerate(zip(*columns, strict=True)):
            if frame == 0:
                rows[place] = row, version
                outcomes[place] = []
            outcomes[place].append((state, code))

        self._n_rows[shard] = table.num_rows
        for place, (row, version) in rows.items():
            self._answers[place] = _Answer(version, shard, row, tuple(outcomes[place]))

    def update(self, photos: Iterable[ListedPhoto], retry_failed: bool = False) -> int:
        """Take the list of photos, and return how many are to be read: those that are new or changed, those that
        failed by a fault of the machine or were not there and are now, and those whose files could not be written.
        retry_failed: all others that failed, too.

        A photo that is listed with a problem is never to be read. Raises `CodedError` if none of the earlier photos is
        as it was: E_NOT_FOUND if none is there, since their disk may be away; E_CONFIG if some are gone, or if every
        one of several has another size, though the names are the same. Cameras number anew: other photos belong into
        a folder of their own.
        """
        self.flush()
        listed = {photo.place: photo for photo in photos}
        self._check_same_photos(listed)
        self._photos = listed
        self._waiting = set()

        for place, photo in listed.items():
            outcomes = self._outcomes(photo)
            if photo.problem is not None:
                code, says = photo.problem
                if outcomes != (("failed", code),):
                    self.put(place, [Result(Path(place).name, "failed", code, says)])
            elif not outcomes or _is_read_again(photo, outcomes, retry_failed):
                self._waiting.add(place)
        return len(self._waiting)

    def _outcomes(self, photo: ListedPhoto) -> tuple[tuple[str, str | None], ...]:
        """State and code of each frame of a photo's file; nothing if it is new or has changed."""
        answer = self._answers.get(photo.place)
        return answer.outcomes if answer is not None and answer.version == photo.version else ()

    def _check_same_photos(self, listed: Mapping[str, ListedPhoto]) -> None:
        """Raises as `update` says."""
        earlier = {place: answer.version for place, answer in self._answers.items() if answer.version}
        changes = Counter(
            _change(version, listed[place]) if place in listed else "removed" for place, version in earlier.items()
        )
        if not earlier or changes["same"]:
            return
        if not any(photo.version for photo in listed.values()):
            says = f"no photo is there any more, and {len(earlier)} were: is their disk there? Nothing was changed"
            raise CodedError("E_NOT_FOUND", says)
        are_gone = changes["removed"] + changes["away"] > 0
        if are_gone or (len(earlier) > 1 and not changes["copied"]):
            became = "some are gone, none is as it was" if are_gone else "each of these names has another file now"
            says = f"the folder holds a batch of {len(earlier)} photos: {became}"
            raise CodedError("E_CONFIG", f"{says}: name another folder")

    def read_again(self, places: Iterable[str]) -> int:
        """Have these photos read again, and return how many are to be read with them."""
        self._waiting.update(places)
        return len(self._waiting)

    def waiting(self) -> Iterator[tuple[str, ArchiveEntry | None]]:
        """The photos to be read, in order, each once. Results may be put meanwhile."""
        return ((place, photo.entry) for place, photo in self._photos.items() if place in self._waiting)

    def photo(self, place: str) -> ListedPhoto:
        return self._photos[place]

    def put(self, place: str, results: Iterable[Result]) -> None:
        """Keep what became of a photo, in place of what was known. It is on the disk within `SHARD_S` seconds."""
        for frame, result in enumerate(results):
            self._unwritten.append(
                {
                    "place": place,
                    "version": self._photos[place].version,
                    "frame": frame,
                    "name": result.name,
                    "state": result.state,
                    "code": result.code,
                    "says": result.says,
                    "found": _encode(result.found),
                    "lesions": _encode(result.lesions),
                    "measures": _encode(result.measures),
                    "uncertainty": result.uncertainty,
                }
            )
        self._waiting.discard(place)
        if len(self._unwritten) >= SHARD_ROWS or time.monotonic() - self._written_at >= SHARD_S:
            self.flush()

    def flush(self) -> None:
        """Write what was put into a shard."""
        self._written_at = time.monotonic()
        if not self._unwritten:
            return
        number = 1 + max((_number(shard) for shard in self._n_rows), default=0)
        table = pa.Table.from_pylist(self._unwritten, self._schema)
        self._take(self._write(number, table), table)
        self._unwritten = []

    def _write(self, number: int, table: pa.Table) -> Path:
        """Write a shard. The part of its name after the number keeps it apart from those of another process."""
        self._folder.mkdir(exist_ok=True, parents=True)
        shard = self._folder / f"{number:06}-{secrets.token_hex(4)}.parquet"
        # PyArrow by itself takes no name that is not UTF-8.
        with replacing(shard, fsync=True) as unfinished, unfinished.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
        return shard

    def outcomes(self) -> Iterator[tuple[ListedPhoto, str, str | None]]:
        """Each photo of which a result is there, with state and code; a photo once for each frame of its file."""
        for place, photo in self._photos.items():
            if place in self._answers and place not in self._waiting:
                for state, code in self._answers[place].outcomes:
                    yield photo, state, code

    def results(
        self,
        parts: Sequence[Part] = (),
        is_wanted: Callable[[str, str | None], bool] = lambda state, code: True,
        places: Iterable[str] | None = None,
    ) -> Iterator[StoredResult]:
        """The results of photos, in the order of the list.

        parts: what is read of each, next to name, state, code, sentence and uncertainty.
        is_wanted: of a state and a code, whether such results are.
        places: of the photos, in another order.
        """
        self.flush()
        rows = (
            (place, frame)
            for place in (self._photos if places is None else places)
            if place in self._answers and place not in self._waiting
            for frame, outcome in enumerate(self._answers[place].outcomes)
            if is_wanted(*outcome)
        )
        while block := list(islice(rows, _READ_ROWS)):
            yield from self._read(block, parts)

    def _read(self, block: Collection[tuple[str, int]], parts: Sequence[Part]) -> Iterator[StoredResult]:
        by_shard: dict[Path, list[tuple[str, int]]] = defaultdict(list)
        for place, frame in block:
            by_shard[self._answers[place].shard].append((place, frame))

        cells: dict[tuple[str, int], dict[str, Any]] = {}
        for shard, photos in by_shard.items():
            with _open_shard(shard) as file:
                table = file.read(["name", "state", "code", "says", "uncertainty", *parts])
            rows = table.take([self._answers[place].row + frame for place, frame in photos])
            cells.update(zip(photos, rows.to_pylist(), strict=True))

        for place, frame in block:
            row = cells[place, frame]
            row.update({part: json.loads(row[part]) for part in parts if row[part] is not None})
            photo = self._photos[place]
            yield StoredResult(**row, place=place, frame=frame, known=photo.known, copied=photo.copied)

    def by_patient(self) -> list[str]:
        """The places of the photos in the order of patients and visits; without a patient, of the places."""

        def patient_and_visit(place: str) -> tuple[str, str]:
            known = self._photos[place].known or {}
            return known.get("patient") or place, known.get("visit") or ""

        return sorted(self._photos, key=patient_and_visit)

    def remove_old_results(self) -> None:
        """Remove what the shards have of photos that are not listed any more or were read again."""
        self.flush()
        rows_to_keep: dict[Path, list[int]] = {shard: [] for shard in self._n_rows}
        for place in self._photos:
            if (answer := self._answers.get(place)) is not None:
                rows_to_keep[answer.shard] += range(answer.row, answer.row + len(answer.outcomes))

        for shard, rows in rows_to_keep.items():
            if len(rows) < self._n_rows[shard]:
                if rows:
                    with _open_shard(shard) as file:
                        table = file.read().take(sorted(rows))
                    self._take(self._write(_number(shard), table), table)
                del self._n_rows[shard]
                shard.unlink(missing_ok=True)

    def close(self) -> None:
        self.flush()


@contextmanager
def _open_shard(shard: Path) -> Iterator[pq.ParquetFile]:
    try:
        with shard.open("rb") as raw, pq.ParquetFile(raw) as file:
            yield file
    except pa.ArrowException as error:
        says = f"{shard} is damaged ({error}): remove it, and its photos are read again"
        raise CodedError("E_CONFIG", says) from error


def _check_settings(folder: Path, earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    changes = [
        f"{name} was {json.dumps(earlier[name])}, now {json.dumps(value)}"
        for name, value in settings.items()
        if earlier.get(name, value) != value
    ]
    if changes:
        says = f"{folder} holds a batch with other settings ({'; '.join(changes)})"
        raise CodedError("E_CONFIG", f"{says}: name another folder")


def _is_read_again(photo: ListedPhoto, outcomes: Sequence[tuple[str, str | None]], retry_failed: bool) -> bool:
    """Whether an unchanged photo is: it failed by no fault of its own, or its files could not be written."""
    for state, code in outcomes:
        if code in _MACHINE_FAULTS or (code == "E_NOT_FOUND" and photo.version):
            return True
        if state == "failed" and retry_failed:
            return True
    return False


def _change(earlier_version: str, photo: ListedPhoto) -> str:
    """What became of a photo that was there: "same", "copied" (of the same size, but with another date), "away", or
    "other"."""
    if photo.version == earlier_version:
        return "same"
    if not photo.version:
        return "away"
    is_size_same = photo.entry is None and photo.version.split()[0] == earlier_version.split()[0]
    return "copied" if is_size_same else "other"


def _number(shard: Path) -> int:
    return int(shard.name.partition("-")[0])


def _encode(part: Mapping[str, Any] | None) -> str | None:
    return None if part is None else json.dumps(part)
