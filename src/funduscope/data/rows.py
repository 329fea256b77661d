"""Rows of a CSV file (or of a workbook's first sheet), with errors that name file, row and column.

Byte-order marks, CRLF, blank trailing columns and rows, spaces around names and the semicolons of some spreadsheets'
exports are taken as they come; a value that cannot be what its column holds never is.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from funduscope.data.case import LabelError, Laterality, Point, Quality
from funduscope.data.xlsx import read_first_sheet

SHEET_SUFFIXES = (".csv", ".xlsx")

# What label files call an eye (OD and OS are the clinic's Latin: right and left) and a photo's quality.
EYES: Final[dict[str, Laterality]] = {
    "l": "left", "r": "right", "left": "left", "right": "right", "os": "left", "od": "right"
}  # fmt: skip
QUALITY_WORDS: Final[dict[str, Quality]] = {"good": "good", "usable": "usable", "reject": "reject"}
GRADE_WORDS: Final = {
    "nodr": 0, "mild": 1, "moderate": 2, "severe": 3, "proliferative": 4, "proliferativedr": 4, "proliferatedr": 4,
    "pdr": 4,
}  # fmt: skip
"""DR grades as words, in lower-case letters alone: some copies of public sets write "No_DR" or "Proliferate_DR"."""

Meaning = TypeVar("Meaning", bound=str)


def grade_word(text: str) -> int | None:
    """The grade that a word stands for ("No DR", "Proliferate_DR"); `None` where it is no such word."""
    return GRADE_WORDS.get("".join(filter(str.isalpha, text.lower())))


@dataclass(frozen=True)
class Row:
    """One row: its file, its number as a spreadsheet counts (the header is 1), and its cells by column."""

    file: Path
    number: int
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """The cell without spaces around it; empty where the cell or the whole column is."""
        return self.cells.get(column, "")

    def needed(self, column: str) -> str:
        """The cell; raises `LabelError` where it is empty."""
        value = self.text(column)
        if not value:
            raise self.error(column, "is empty; expected a value in every row")
        return value

    def one_of(self, column: str, meanings: Mapping[str, Meaning]) -> Meaning | None:
        """What the cell's word stands for (whatever its case); `None` where it is empty."""
        value = self.text(column)
        if not value:
            return None
        if value.lower() not in meanings:
            raise self.error(column, f"is {value!r}; expected one of {', '.join(meanings)}, or nothing where unknown")
        return meanings[value.lower()]

    def integer(self, column: str, highest: int) -> int | None:
        """A whole number from 0 to `highest`; `None` where the cell is empty."""
        value = self.text(column)
        if not value:
            return None
        number = _as_float(value)
        if number is None or number != int(number) or not 0 <= number <= highest:
            expected = f"a whole number from 0 to {highest}, or nothing where unknown"
            raise self.error(column, f"is {value!r}; expected {expected}")
        return int(number)

    def grade(self, column: str, highest: int = 4) -> int | None:
        """A DR grade, a number from 0 to `highest` or a word ("No DR", "Mild"); `None` where the cell is empty."""
        word = grade_word(self.text(column))
        return self.integer(column, highest) if word is None else word

    def number_at(self, column: str) -> float | None:
        """A finite number; `None` where the cell is empty."""
        value = self.text(column)
        if not value:
            return None
        number = _as_float(value)
        if number is None:
            raise self.error(column, f"is {value!r}; expected a number like 12.5, or nothing where unknown")
        return number

    def point(self, x_column: str, y_column: str) -> Point | None:
        """(x, y); `None` where both cells are empty; one alone is an error."""
        x, y = self.number_at(x_column), self.number_at(y_column)
        if x is None and y is None:
            return None
        if x is None or y is None:
            empty, full = (x_column, y_column) if x is None else (y_column, x_column)
            raise self.error(empty, f"is empty while {full} is not; a point needs both")
        return x, y

    def error(self, column: str, says: str) -> LabelError:
        """The error to raise for one cell: "labels.csv, row 5, column dr: is '7'; expected ..."."""
        return LabelError(f"{_shown(self.file)}, row {self.number}, column {column}: {says}.")


@dataclass(frozen=True)
class Sheet:
    """A file's columns, in order, and its rows that hold anything."""

    file: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_sheet(path: Path, needed: Sequence[str] = ()) -> Sheet:
    """The rows of a .csv or .xlsx file; raises `LabelError` where it is none or lacks a needed column."""
    lines = read_first_sheet(path) if path.suffix.lower() == ".xlsx" else _csv_lines(path)
    columns: tuple[str, ...] | None = None
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if columns is None:
            columns = _columns(path, cells)
        else:
            rows.append(_row(path, number, columns, cells))
    if columns is None:
        raise LabelError(f"{_shown(path)} is empty; expected a first row with the names of its columns.")
    missing = [name for name in needed if name not in columns]
    if missing:
        found = ", ".join(name for name in columns if name)
        raise LabelError(f"{_shown(path)} lacks the column {', '.join(missing)}; its first row has: {found}.")
    return Sheet(path, tuple(name for name in columns if name), tuple(rows))


def columns_of(path: Path) -> frozenset[str]:
    """The names in a CSV file's first row; none where there is no such file or it is no CSV (to recognize sets by)."""
    if not path.is_file():
        return frozenset()
    try:
        lines = _csv_lines(path, first_only=True)
    except LabelError:
        return frozenset()
    return frozenset(cell.strip() for cell in lines[0] if cell.strip()) if lines else frozenset()


def _columns(path: Path, cells: list[str]) -> tuple[str, ...]:
    names = [name for name in cells if name]
    for name in names:
        if names.count(name) > 1:
            raise LabelError(f"{_shown(path)}, row 1: the column {name} stands there twice; expected each once.")
    return tuple(cells)


def _row(path: Path, number: int, columns: tuple[str, ...], cells: list[str]) -> Row:
    for index, cell in enumerate(cells):
        if cell and (index >= len(columns) or not columns[index]):
            raise LabelError(
                f"{_shown(path)}, row {number}: {cell!r} stands in column {index + 1}, which has no name in the first "
                "row; expected nothing there (is a comma too many, or a value with a comma not in quotes?)."
            )
    return Row(path, number, {name: cell for name, cell in zip(columns, cells, strict=False) if name})


def _csv_lines(path: Path, first_only: bool = False) -> list[list[str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"{_shown(path)} is not text in UTF-8 (byte {error.start}): save it as CSV UTF-8.") from error
    except OSError as error:
        raise LabelError(f"{_shown(path)} cannot be read ({error.strerror}).") from error
    head = text.split("\n", 1)[0]
    delimiter = ";" if ";" in head and "," not in head else ","
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter)
    try:
        return [next(reader)] if first_only and text else list(reader)
    except csv.Error as error:
        raise LabelError(f"{_shown(path)}, row {reader.line_num}: cannot be read as CSV ({error}).") from error


def _as_float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shown(path: Path) -> str:
    """A file with its folder: many data sets have a labels.csv."""
    return "/".join(path.parts[-2:]) if len(path.parts) > 1 else path.name
