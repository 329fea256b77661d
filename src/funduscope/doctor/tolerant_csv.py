"""A label file read to its end, whatever is wrong with it: every fault noted with its row and column, none fatal.

The readers of `data/` stop at the first fault, as a training should. Here everything that can still be read is read.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from funduscope.data.case import LabelError
from funduscope.data.xlsx import read_first_sheet

_MAX_BYTES: Final = 200_000_000


@dataclass(frozen=True)
class Fault:
    """Something wrong with a label file's form. row: as a spreadsheet counts; None where it is the whole file."""

    says: str
    row: int | None = None
    column: str | None = None
    value: str | None = None

    def evidence(self) -> dict[str, Any]:
        """As a finding holds it."""
        return {"row": self.row, "column": self.column, "value": self.value}


@dataclass(frozen=True)
class TolerantRow:
    """One row: its number as a spreadsheet counts (the header is 1), and its cells by column."""

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class TolerantTable:
    """A file's named columns, its rows that hold anything, and what is wrong with its form.

    unreadable: whether nothing of it could be read.
    """

    file: Path
    columns: tuple[str, ...] = ()
    rows: tuple[TolerantRow, ...] = ()
    faults: tuple[Fault, ...] = ()
    unreadable: bool = False


def read_tolerantly(path: Path) -> TolerantTable:
    """The rows of a .csv or .xlsx file, as far as it can be read; raises nothing."""
    faults: list[Fault] = []
    try:
        lines = read_first_sheet(path) if path.suffix.lower() == ".xlsx" else csv_lines(path, faults)
    except LabelError as error:
        return TolerantTable(path, faults=(Fault(str(error)),), unreadable=True)
    header: list[str] | None = None
    rows: list[TolerantRow] = []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if header is None:
            header = _header(number, cells, faults)
        else:
            rows.append(TolerantRow(number, _by_column(number, header, cells, faults)))
    if header is None:
        empty = Fault("The file is empty; expected a first row with the names of its columns.")
        return TolerantTable(path, faults=(*faults, empty), unreadable=True)
    return TolerantTable(path, tuple(name for name in header if name), tuple(rows), tuple(faults))


def _header(number: int, cells: list[str], faults: list[Fault]) -> list[str]:
    """The columns' names; of two columns with one name the first keeps it."""
    names: list[str] = []
    for cell in cells:
        if cell and cell in names:
            faults.append(Fault(f"Two columns are called {cell}; the first was read.", number, cell))
        names.append("" if cell in names else cell)
    return names


def _by_column(number: int, header: list[str], cells: list[str], faults: list[Fault]) -> dict[str, str]:
    stray = [(index, cell) for index, cell in enumerate(cells) if cell and (index >= len(header) or not header[index])]
    if stray:
        index, cell = stray[0]
        says = "A value stands in a column without a name."
        if index >= len(header):
            says = "More cells than columns: a comma too many, or a value with a comma that is not in quotes."
        faults.append(Fault(says, number, f"({index + 1})", cell))
    return {name: cell for name, cell in zip(header, cells, strict=False) if name}


def csv_lines(path: Path, faults: list[Fault]) -> list[list[str]]:
    """The cells of a CSV as they are written; notes what had to be overlooked, raises `LabelError` for no text."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LabelError(f"The file has more than {_MAX_BYTES // 1_000_000} MB; expected a table of labels.")
        text = _decoded(path.read_bytes(), faults)
    except OSError as error:
        raise LabelError(f"The file cannot be read ({error.strerror}).") from error
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter_of(text))
    lines: list[list[str]] = []
    try:
        lines.extend(reader)
    except csv.Error as error:
        faults.append(
            Fault(f"From row {reader.line_num} on the file cannot be read as CSV ({error}).", reader.line_num)
        )
    return lines


def delimiter_of(text: str) -> str:
    """Some spreadsheets export semicolons."""
    head = text.split("\n", 1)[0]
    return ";" if ";" in head and "," not in head else ","


def _decoded(data: bytes, faults: list[Fault]) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        faults.append(Fault("The file is text in UTF-16; expected UTF-8."))
        return data.decode("utf-16", errors="replace")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        faults.append(Fault(f"The file is not text in UTF-8 (byte {error.start}).", row))
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise LabelError("The file is no text: it holds zero bytes.")
    return text
