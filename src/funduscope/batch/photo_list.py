"""The photos of a batch: those of a folder, of a table, or of an archive, with what is known of each."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from funduscope.batch.archives import Archive, ArchiveEntry, is_archive
from funduscope.i18n.errors import CodedError
from funduscope.imaging.find_photos import gather

PATH: Final = "path"
KNOWN: Final = ("patient", "eye", "visit", "date", "camera")
"""Columns of a table that are understood, next to the path."""

_EYES: Final = {"right": "right", "od": "right", "r": "right", "left": "left", "os": "left", "l": "left", "": ""}


@dataclass(frozen=True)
class ListedPhoto:
    """A photo to be read.

    place: its path in the folder, in the table, or in the archive; one photo's alone. version: changes when the file
    does. entry: where an archive has its bytes. known: of `KNOWN`, what a table says, otherwise empty texts. copied:
    cells of the columns that were asked for. problem: a code and a sentence of why the photo is not to be opened.
    """

    place: str
    version: str
    entry: ArchiveEntry | None = None
    known: Mapping[str, str] | None = None
    copied: tuple[str, ...] = ()
    problem: tuple[str, str] | None = None


class PhotoList(Protocol):
    """Lists photos, and gives each one's content."""

    def __iter__(self) -> Iterator[ListedPhoto]: ...

    def content(self, place: str, entry: ArchiveEntry | None) -> Path | bytes:
        """A file, or the bytes of an archive's entry. Raises `OSError` or `CodedError` where they cannot be had."""
        ...


def open_list(source: Path, columns: Sequence[str] = ()) -> PhotoList:
    """The photos of `source`: a folder with its subfolders, a table (.csv, .parquet), or an archive (.zip, .tar, ...).

    columns: of a table, further columns to copy. Raises `CodedError` with E_NOT_FOUND, E_FORMAT or E_LABELS.
    """
    if source.is_dir():
        return FolderPhotos(source)
    if not source.is_file():
        raise CodedError("E_NOT_FOUND", f"{source}: there is no such folder or file")
    if source.suffix.lower() in (".csv", ".parquet"):
        return TablePhotos(source, columns)
    if is_archive(source):
        return ArchivePhotos(source)
    raise CodedError("E_FORMAT", f"{source}: expected a folder, a table (.csv, .parquet) or an archive (.zip, .tar)")


class FolderPhotos:
    """The photos of a folder and its subfolders, in the order of `predict`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[ListedPhoto]:
        for path in gather([self.folder]):
            yield ListedPhoto(Path(os.path.relpath(path, self.folder)).as_posix(), _version(path))

    def content(self, place: str, entry: ArchiveEntry | None = None) -> Path:
        return self.folder / place


class TablePhotos:
    """The photos that a table names, in its order; paths begin at the table's folder."""

    def __init__(self, table: Path, columns: Sequence[str]) -> None:
        self.table, self.columns = table, tuple(columns)

    def __iter__(self) -> Iterator[ListedPhoto]:
        named: set[str] = set()
        for number, row in enumerate(_rows(self.table), 2):
            if number == 2:
                self._check(row)
            place = row[PATH]
            if not place or place in named:
                says = "is empty" if not place else f"{place!r} stands in an earlier row, too: each photo has one row"
                raise CodedError("E_LABELS", f"{self.table.name}, row {number}: the path {says}")
            named.add(place)
            known = {name: row.get(name, "").strip() for name in KNOWN}
            eye = _EYES.get(known["eye"].lower())
            if eye is None:
                says = f"eye is {known['eye']!r}: expected right, left, OD, OS, R, L or nothing"
                raise CodedError("E_LABELS", f"{self.table.name}, row {number}: {says}")
            copied = tuple(row[name] for name in self.columns)
            yield ListedPhoto(place, _version(self.content(place)), known=known | {"eye": eye}, copied=copied)

    def content(self, place: str, entry: ArchiveEntry | None = None) -> Path:
        return self.table.parent / place

    def _check(self, row: Mapping[str, str]) -> None:
        missing = [name for name in (PATH, *self.columns) if name not in row]
        if missing:
            says = f"has no column {', '.join(missing)}; it has {', '.join(row)}"
            raise CodedError("E_LABELS", f"{self.table.name} {says}")


class ArchivePhotos:
    """The photos in an archive, in its order. Nothing is unpacked to the disk."""

    def __init__(self, path: Path) -> None:
        self.archive = Archive(path)

    def __iter__(self) -> Iterator[ListedPhoto]:
        stamp = _version(self.archive.path)
        for entry, problem in self.archive.entries():
            yield ListedPhoto(entry.name, f"{stamp} {entry.start}", entry, problem=problem)

    def content(self, place: str, entry: ArchiveEntry | None) -> bytes:
        if entry is None:
            raise CodedError("E_NOT_FOUND", f"{self.archive.path.name} has no such entry")
        return self.archive.read(entry)


def _version(path: Path) -> str:
    """Size and time of change; empty for a file that is not there, which reading it will say."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _rows(table: Path) -> Iterator[dict[str, str]]:
    if table.suffix.lower() == ".parquet":
        yield from _parquet_rows(table)
        return
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, restval=""):
                yield {name: cell for name, cell in row.items() if isinstance(name, str) and isinstance(cell, str)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise CodedError("E_LABELS", f"{table.name} cannot be read as a CSV table in UTF-8: {error}") from error


def _parquet_rows(table: Path) -> Iterator[dict[str, str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(table) as file:
            for batch in file.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    yield {name: "" if cell is None else str(cell) for name, cell in row.items()}
    except (pyarrow.ArrowException, OSError) as error:
        raise CodedError("E_LABELS", f"{table.name} cannot be read as a Parquet table: {error}") from error
