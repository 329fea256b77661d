"""The photos of a batch: those of a folder, of a table, or of an archive, with what is known of each."""

from __future__ import annotations

import csv
import itertools
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Any, Final, Protocol

from funduscope.batch.archives import Archive, ArchiveEntry, is_archive, is_packed
from funduscope.data.rows import EYES, NOT_KNOWN, delimiter_of, patient_name
from funduscope.i18n.errors import CodedError
from funduscope.imaging.find_photos import find_photos, why_unreadable

PATH: Final = "path"
KNOWN: Final = ("patient", "eye", "visit", "date", "camera")
"""Columns of a table that are understood, next to the path."""

_MAX_HEADER_LENGTH: Final = 100_000
_MONTH, _DAY = "0[1-9]|1[0-2]", "0[1-9]|[12][0-9]|3[01]"
_DATE: Final = re.compile(rf"((?:19|20)[0-9]{{2}})(?:([-/.]?)({_MONTH})(?:\2({_DAY}))?)?(?=$|[T ])")
"""How dates begin that sort as texts: the year first, then month and day of two digits each, where they are known."""

_PATIENTS: Final = ("patientid", "patientno", "patientnumber")
_ESCAPED: Final = re.compile(r"\\u(dc[89a-f][0-9a-f])")


@dataclass(frozen=True, slots=True)
class ListedPhoto:
    """A photo to be read.

    place: its path in the folder, in the table, or in the archive; one photo's alone, so that a later entry of the same
    name has its number after it. version: changes when the file
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
        """A file, or the bytes of an archive's entry. Raises `OSError` or `CodedError` if they cannot be had."""
        ...


def open_list(source: Path, columns: Sequence[str] = ()) -> PhotoList:
    """The photos of `source`: a folder with its subfolders, a table (.csv, .parquet), or an archive (.zip, .tar, ...).

    columns: of a table, further columns to copy. Raises `CodedError` with E_NOT_FOUND, E_FORMAT, E_LABELS, or E_CONFIG
    if columns are asked for of what is no table.
    """
    is_table = source.suffix.lower() in (".csv", ".parquet") and not source.is_dir()
    if columns and source.exists() and not is_table:
        raise CodedError("E_CONFIG", f"--column copies columns of a table; {source} is none: leave it out")
    if source.is_dir():
        return FolderPhotos(source)
    if not source.is_file():
        raise CodedError("E_NOT_FOUND", f"{source}: there is no such folder or file")
    if is_table:
        return TablePhotos(source, columns)
    if is_archive(source):
        return ArchivePhotos(source)
    workbook = ": save a workbook as CSV UTF-8" if source.suffix.lower() in (".xlsx", ".xls", ".ods") else ""
    expected = "expected a folder, a table (.csv, .parquet) or an archive (.zip, .tar)"
    raise CodedError("E_FORMAT", f"{source}: {expected}{workbook}")


class FolderPhotos:
    """The photos of a folder and its subfolders, in the order of `predict`. Archives among them are named as failures:
    nobody would notice that their photos are not read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[ListedPhoto]:
        for path in find_photos([self.folder], also=is_packed):
            name = Path(os.path.relpath(path, self.folder)).as_posix()
            place = _spelled(name)
            if place != name and (self.folder / place).exists():
                says = "its name is not valid Unicode, and written out it is another photo's name: rename it"
                yield ListedPhoto(f"{place} (2)", "", problem=("E_NOT_FOUND", says))
            elif closed := why_unreadable(path):
                yield ListedPhoto(place, "", problem=("E_NOT_FOUND", closed))
            elif is_packed(path):
                says = "an archive in a folder is not opened: unpack it, or give it a batch of its own"
                yield ListedPhoto(place, "", problem=("E_FORMAT", says))
            else:
                yield ListedPhoto(place, _version(path))

    def content(self, place: str, entry: ArchiveEntry | None = None) -> Path:
        path = self.folder / place
        return path if "\\u" not in place or path.exists() else self.folder / _unspelled(place)


class TablePhotos:
    """The photos that a table names, in its order; paths begin at the table's folder."""

    def __init__(self, table: Path, columns: Sequence[str]) -> None:
        self.table, self.columns = table, tuple(columns)

    def __iter__(self) -> Iterator[ListedPhoto]:
        named: set[str] = set()
        for number, row in _rows(self.table, (PATH, *self.columns)):
            place = row[PATH].replace("\\", "/")
            plain = place and posixpath.normpath(place)  # ./eye.jpg and eye.jpg are one photo
            if problem := _problem(plain, named):
                raise _wrong(self.table, number, f"the path {problem}")
            named.add(plain)
            place = place if ".." in place.split("/") else plain  # behind a link .. leads elsewhere than it reads
            known = {name: row.get(name, "") for name in KNOWN}
            eye = EYES.get(known["eye"].lower()) if known["eye"] else ""
            if eye is None:
                says = f"eye is {known['eye']!r}: expected right, left, OD, OS, R, L or nothing"
                raise _wrong(self.table, number, says)
            copied = tuple(row[name] for name in self.columns)
            patient = "" if known["patient"].lower() in NOT_KNOWN else patient_name(known["patient"])
            date = _sorting(known["date"])
            if date is None:
                says = f"date is {known['date']!r}: expected a text that sorts, such as 2026-01-31, or nothing"
                raise _wrong(self.table, number, says)
            known |= {"eye": eye, "patient": patient, "date": date}
            yield ListedPhoto(place, _version(self.content(place)), known=known, copied=copied)

    def content(self, place: str, entry: ArchiveEntry | None = None) -> Path:
        return self.table.parent / place


class ArchivePhotos:
    """The photos in an archive, in its order. Nothing is unpacked to the disk."""

    def __init__(self, path: Path) -> None:
        self.archive = Archive(path)

    def __iter__(self) -> Iterator[ListedPhoto]:
        entries_of = dict[str, int]()
        for entry, problem in self.archive.entries():
            name = _spelled(entry.name)
            place = _own_place(name, entries_of)
            if place != name and problem is None:
                problem = "E_FORMAT", "an earlier entry has the same name: this one is not opened"
            yield ListedPhoto(place, entry.version, entry, problem=problem)

    def content(self, place: str, entry: ArchiveEntry | None) -> bytes:
        if entry is None:
            raise CodedError("E_NOT_FOUND", f"{self.archive.path.name} has no such entry")
        try:
            return self.archive.read(entry)
        except (FileNotFoundError, PermissionError) as error:
            says = f"{self.archive.path.name} cannot be read ({error.strerror}): is its disk there?"
            raise CodedError("E_NOT_FOUND", says) from error


def _own_place(name: str, entries_of: dict[str, int]) -> str:
    """The name, numbered where an earlier entry has it. entries_of: how many have each name, counted further here."""
    place = name
    while place in entries_of:
        entries_of[name] += 1
        place = f"{name} (entry {entries_of[name]})"
    entries_of[place] = 1
    return place


def _version(path: Path) -> str:
    """Size and time of change; empty for a file that is not there, which reading it will say."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _sorting(date: str) -> str | None:
    """The date with hyphens in it, so that 20260930 and 2026/09/30 sort as one; None if it would not sort."""
    found = _DATE.match(date)
    if found is None:
        return None if date else ""
    year, month, day = found.group(1, 3, 4)
    with suppress(ValueError):  # of a day that there is not, such as February 31st
        datetime(int(year), int(month or 1), int(day or 1))
        return "-".join(filter(None, (year, month, day))) + date[found.end() :]
    return None


def _problem(place: str, named: set[str]) -> str:
    """What is wrong with the path of a row; empty if nothing is. named: those of the rows before."""
    if not place or "\0" in place:
        return "holds a zero byte" if place else "is empty"
    return f"{place!r} is in an earlier row, too: each photo has one row" if place in named else ""


def _spelled(name: str) -> str:
    """The name as text that every file can hold: bytes that are not valid Unicode become backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _unspelled(name: str) -> str:
    """The name that `_spelled` was given."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)


def _rows(table: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows that are not empty, with their numbers as a spreadsheet counts: cells by column, without spaces around.

    The columns that are understood may be written in capitals. Raises `CodedError` with E_LABELS if a needed column
    is missing, or a row has cells in columns without a name.
    """
    lines = _parquet_lines(table, needed) if table.suffix.lower() == ".parquet" else _csv_lines(table)
    header: list[str] | None = None
    for number, cells in enumerate(([cell.strip() for cell in line] for line in lines), 1):
        if header is None:
            if not any(cells):
                continue
            header = [name.lower() if name.lower() in (PATH, *KNOWN) else name for name in cells]
            _check_header(table, header, needed)
        elif any(cells[len(header) :]):
            says = f"{len(cells)} cells, but the first row names {len(header)} columns: is a comma not in quotes?"
            raise _wrong(table, number, says)
        elif any(cells):
            empty = [""] * (len(header) - len(cells))
            yield number, dict(zip(header, [*cells, *empty][: len(header)], strict=True))
    if header is None:
        raise CodedError("E_LABELS", f"{table.name} is empty; expected a first row with the names of its columns")


def _check_header(table: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in header]
    if missing:
        raise CodedError("E_LABELS", f"{table.name} has no column {', '.join(missing)}; it has {', '.join(header)}")
    numbers = [name for name in header if "".join(filter(str.isalpha, name.lower())) in _PATIENTS]
    if numbers and "patient" not in header and numbers[0] not in needed:
        remedy = "rename it to patient, or remove it if no two photos are of one patient"
        says = f"the column {numbers[0]} is not understood: {remedy}"
        raise CodedError("E_LABELS", f"{table.name}: {says}")
    twice = [name for name in (PATH, *KNOWN, *needed) if header.count(name) > 1]
    if twice:
        raise CodedError("E_LABELS", f"{table.name} has two columns {twice[0]}: expected one")


def _wrong(table: Path, number: int, says: str) -> CodedError:
    return CodedError("E_LABELS", f"{table.name}, row {number}: {says}")


def _csv_lines(table: Path) -> Iterator[list[str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(_MAX_HEADER_LENGTH)
            while first.isspace():
                yield []
                first = file.readline(_MAX_HEADER_LENGTH)
            delimiter, begin = delimiter_of(first)
            rest = file if begin else itertools.chain([first], file)
            yield from csv.reader(rest, delimiter=delimiter, strict=True, skipinitialspace=True)
    except (UnicodeDecodeError, csv.Error) as error:
        raise CodedError("E_LABELS", f"{table.name} cannot be read as a CSV table in UTF-8: {error}") from error


def _parquet_lines(table: Path, needed: Sequence[str]) -> Iterator[list[str]]:
    """The names of all columns, then the rows. Cells that nobody asks for are empty: they may be whole pictures."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(table) as file:
            names = list(file.schema_arrow.names)
            yield names
            asked = [name for name in names if name.lower() in (PATH, *KNOWN) or name in needed]
            for batch in file.iter_batches(batch_size=1000, columns=asked):
                columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
                unread = [None] * batch.num_rows
                for cells in zip(*(columns.get(name, unread) for name in names), strict=True):
                    yield [_text(cell) for cell in cells]
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two of single cells
        raise CodedError("E_LABELS", f"{table.name} cannot be read as a Parquet table: {error}") from error


def _text(cell: Any) -> str:
    """A Parquet cell as a CSV table would have it, so that a patient is the same in both."""
    if cell is None or cell != cell:  # not a number: how other programs write a missing one
        return ""
    if isinstance(cell, float) and cell.is_integer():  # what whole numbers become where one is missing
        return str(int(cell))
    if isinstance(cell, datetime) and cell.time() == time.min:
        return str(cell.date())
    return str(cell)
