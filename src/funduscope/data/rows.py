"""Rows of a CSV file (or of a workbook's first sheet), with errors that name file, row and column.

Byte-order marks, CRLF, blank trailing columns and rows, spaces around names and the semicolons of some spreadsheets'
exports are accepted. Whatever else is wrong with a file's form is a `Fault`: `read_tolerantly` lists them all and
reads on, `read_sheet` raises the first. A cell that is impossible in its column raises `LabelError` when a `Row` gives
its value.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from funduscope.data.case import LabelError, Laterality, Point, Quality
from funduscope.vocabulary import GRADES

SHEET_SUFFIXES = (".csv", ".xlsx")
_MAX_BYTES: Final = 200_000_000
_MAX_CELLS: Final = 2_000_000
_CELL: Final = re.compile(rb"""<(?:[\w.-]+:)?c\b[^>]*\br=["']([A-Z]{1,3})(\d{1,7})["']""")

# Words of label files for an eye (OD and OS are Latin abbreviations of right and left) and for a photo's quality.
EYES: Final[dict[str, Laterality]] = {
    "l": "left", "r": "right", "left": "left", "right": "right", "os": "left", "od": "right"
}  # fmt: skip
_SIDE_IN_NAME: Final = re.compile(r"(?:^|[-_ .])(left|right|l|r|os|od)$", re.IGNORECASE)
QUALITY_WORDS: Final[dict[str, Quality]] = {
    "good": "good", "usable": "usable", "reject": "reject", "not_fundus": "not_fundus", "outlier": "not_fundus"
}  # fmt: skip
GRADE_WORDS: Final = {
    "nodr": 0, "mild": 1, "moderate": 2, "severe": 3, "proliferative": 4, "proliferativedr": 4, "proliferatedr": 4,
    "pdr": 4, "mildnpdr": 1, "moderatenpdr": 2, "severenpdr": 3,
}  # fmt: skip
"""DR grades as words, in lower-case letters alone: some copies of public sets write "No_DR" or "Proliferate_DR"."""

NOT_KNOWN: Final = ("na", "n/a", "nan", "null", "none", "n.a.", "unknown", "not known", "-", "?")
"""What programs and people write where a patient is not known: read as a name, it would join them all."""

_DELIMITER_LINE: Final = re.compile(r"sep=([,;\t])\r?\n")
"""A first line that names the delimiter for Excel, which hides it and does not count it as a row."""

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WHOLE: Final = re.compile(r"(\d+)\.0+")

Meaning = TypeVar("Meaning", bound=str)


def grade_word(text: str) -> int | None:
    """The grade that a word stands for ("No DR", "Proliferate_DR"); `None` if it is no such word, or more than one."""
    return GRADE_WORDS.get(re.sub(r"[ _-]", "", text.lower()))


def patient_name(text: str) -> str:
    """A patient as a table names it: whole numbers become 17.0 in some programs where another one is missing."""
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def split_side(name: str) -> tuple[str, Laterality | None]:
    """What is before the side in a photo's name without suffix, and the side: "Patient001", left of "Patient001_L".

    The whole name and None if it gives no side.
    """
    word = _SIDE_IN_NAME.search(name)
    return (name[: word.start()], EYES[word[1].lower()]) if word else (name, None)


@dataclass(frozen=True)
class Row:
    """One row: its file, its number as a spreadsheet counts (the header is 1), and its cells by column."""

    file: Path
    number: int
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """The cell without spaces around it; empty if the cell or the whole column is."""
        return self.cells.get(column, "")

    def needed(self, column: str) -> str:
        """The cell; raises `LabelError` if it is empty."""
        value = self.text(column)
        if not value:
            raise self.error(column, "is empty; expected a value in every row")
        return value

    def one_of(self, column: str, meanings: Mapping[str, Meaning]) -> Meaning | None:
        """The meaning of the cell's word, in upper or lower case; `None` if the cell is empty."""
        value = self.text(column)
        if not value:
            return None
        if value.lower() not in meanings:
            raise self.error(column, f"is {value!r}; expected one of {', '.join(meanings)}, or nothing where unknown")
        return meanings[value.lower()]

    def integer(self, column: str, highest: int) -> int | None:
        """A whole number from 0 to `highest`; `None` if the cell is empty."""
        value = self.text(column)
        if not value:
            return None
        number = _as_float(value)
        if number is None or number != int(number) or not 0 <= number <= highest:
            expected = f"a whole number from 0 to {highest}, or nothing where unknown"
            raise self.error(column, f"is {value!r}; expected {expected}")
        return int(number)

    def grade(self, column: str) -> int | None:
        """A DR grade, a number from 0 to 4 or a word ("No DR", "Mild"); `None` if the cell is empty."""
        text = self.text(column)
        word = grade_word(text)
        if word is None and text[:1].isalpha():
            words = "No DR, Mild, Moderate, Severe, PDR"
            raise self.error(column, f"is {text!r}; expected 0 to 4 or one of {words}; nothing where unknown")
        return self.integer(column, len(GRADES) - 1) if word is None else word

    def number_at(self, column: str) -> float | None:
        """A finite number; `None` if the cell is empty."""
        value = self.text(column)
        if not value:
            return None
        number = _as_float(value)
        if number is None:
            raise self.error(column, f"is {value!r}; expected a number like 12.5, or nothing where unknown")
        return number

    def point(self, x_column: str, y_column: str) -> Point | None:
        """(x, y); `None` if both cells are empty; one alone is an error."""
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
class Fault:
    """Something wrong with a label file's form. row: as a spreadsheet counts; None if it is the whole file.

    kind: "utf16", of a text in UTF-16; "guessed", where the encoding, or what follows, had to be guessed.
    """

    says: str
    row: int | None = None
    column: str | None = None
    value: str | None = None
    kind: Literal["utf16", "guessed", "other"] = "other"

    def evidence(self) -> dict[str, Any]:
        """For a finding of the doctor."""
        return {"row": self.row, "column": self.column, "value": self.value}


@dataclass(frozen=True)
class Sheet:
    """A file's named columns, in order, its rows that are not empty, and what is wrong with its form.

    unreadable: whether nothing of the file could be read.
    """

    file: Path
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    faults: tuple[Fault, ...] = ()
    unreadable: bool = False


def read_sheet(path: Path, needed: Sequence[str] = ()) -> Sheet:
    """The rows of a .csv or .xlsx file; raises `LabelError` at its first fault, or if it lacks a needed column."""
    sheet = read_tolerantly(path)
    check_sheet(sheet, needed)
    return sheet


def check_sheet(sheet: Sheet, needed: Sequence[str] = ()) -> None:
    """Raises `LabelError` for a sheet's first fault, or if it lacks a needed column."""
    for fault in sheet.faults:
        row = "" if fault.row is None else f", row {fault.row}"
        raise LabelError(f"{_shown(sheet.file)}{row}: {fault.says}")
    missing = [name for name in needed if name not in sheet.columns]
    if missing:
        found = ", ".join(sheet.columns)
        raise LabelError(f"{_shown(sheet.file)} lacks the column {', '.join(missing)}; its first row has: {found}.")


def read_tolerantly(path: Path) -> Sheet:
    """The rows of a .csv or .xlsx file, as far as it can be read, with every fault of its form; raises nothing."""
    faults: list[Fault] = []
    try:
        lines = read_first_sheet(path) if path.suffix.lower() == ".xlsx" else csv_lines(path, faults)
    except LabelError as error:
        return Sheet(path, faults=(Fault(str(error)),), unreadable=True)
    header: list[str] | None = None
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if header is None:
            header = _header(number, cells, faults)
        else:
            rows.append(Row(path, number, _by_column(number, header, cells, faults)))
    if header is None:
        empty = Fault("The file is empty; expected a first row with the names of its columns.")
        return Sheet(path, faults=(*faults, empty), unreadable=True)
    return Sheet(path, tuple(name for name in header if name), tuple(rows), tuple(faults))


def columns_of(path: Path) -> frozenset[str]:
    """The names in a CSV file's first row; none if there is no such file or it is no CSV (to recognize sets by)."""
    faults: list[Fault] = []
    try:
        lines = csv_lines(path, faults, most=1)
    except LabelError:
        return frozenset()
    return frozenset(cell.strip() for cell in lines[0] if cell.strip()) if lines and not faults else frozenset()


def read_first_sheet(path: Path) -> list[list[str]]:
    """The cells of an .xlsx workbook's first sheet as text; raises `LabelError`."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError as error:
        raise LabelError(
            "An .xlsx workbook is read with python-calamine: pip install '.[tables]' in the clone of funduscope, or "
            "save it as CSV."
        ) from error
    try:
        _check_workbook(path)
        rows = CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python(skip_empty_area=False)
    except (CalamineError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise LabelError(f"The file cannot be read as an .xlsx workbook ({error}): save it as CSV.") from error
    return [[_cell_text(cell) for cell in row] for row in rows]


def _check_workbook(path: Path) -> None:
    """Raises `LabelError` for a workbook that would take the memory of a table much larger than one of labels.

    The reader makes room for every cell up to the last one that is named, and ends the process where it cannot.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
            raise LabelError(f"The workbook has more than {_MAX_BYTES // 1_000_000} MB; expected a table of labels.")
        for name in archive.namelist():  # a sheet may lie anywhere
            places = [match.groups() for match in _CELL.finditer(archive.read(name))]
            rows, columns = max((int(row) for _, row in places), default=0), {column for column, _ in places}
            width = max((reduce(lambda n, letter: 26 * n + letter - 64, column, 0) for column in columns), default=0)
            if rows * width > _MAX_CELLS:
                raise LabelError(f"A sheet names {rows:,} rows and {width:,} columns; expected a table of labels.")


def _cell_text(cell: object) -> str:
    """A workbook's cell as a CSV would have it: a workbook keeps 7 as 7.0, and yes as True."""
    whole = isinstance(cell, bool) or (isinstance(cell, float) and cell.is_integer())
    return str(int(cell)) if whole else str(cell)  # pyright: ignore[reportArgumentType]


def csv_lines(path: Path, faults: list[Fault], most: int | None = None) -> list[list[str]]:
    """The cells of a CSV as they are written. Adds to `faults` what had to be overlooked; raises `LabelError` if the
    file cannot be read or is no text. most: only so many rows, without those that are blank."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LabelError(f"The file has more than {_MAX_BYTES // 1_000_000} MB; expected a table of labels.")
        text = _decoded(path.read_bytes(), faults)
    except OSError as error:
        raise LabelError(f"The file cannot be read ({error.strerror}).") from error
    delimiter, begin = delimiter_of(text)
    reader = csv.reader(
        io.StringIO(text[begin:], newline=None), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    lines: list[list[str]] = []
    try:
        lines.extend(reader if most is None else itertools.islice((line for line in reader if any(line)), most))
    except csv.Error as error:
        faults.append(
            Fault(
                f"From row {reader.line_num} on the file cannot be read as CSV ({error}).",
                reader.line_num,
                kind="guessed",
            )
        )
    return lines


def delimiter_of(text: str) -> tuple[str, int]:
    """The delimiter, and the index at which the first row begins, which a line that names the delimiter may precede.

    text: the file's, at least its first line. Some spreadsheets export semicolons or tabs.
    """
    if line := _DELIMITER_LINE.match(text):
        return line[1], line.end()
    head = re.sub(r'"[^"]*"', "", text.lstrip("\r\n").split("\n", 1)[0])  # a quoted name may contain any of them
    return next((one for one in ",;\t" if one in head), ","), 0


def _decoded(data: bytes, faults: list[Fault]) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        faults.append(Fault("The file is text in UTF-16; expected UTF-8.", kind="utf16"))
        return data.decode("utf-16", errors="replace")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        says = f"The file is not text in UTF-8 (byte {error.start}): save it as CSV UTF-8."
        faults.append(Fault(says, row, kind="guessed"))
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise LabelError("The file is no text: it contains zero bytes.")
    return text


def _header(number: int, cells: list[str], faults: list[Fault]) -> list[str]:
    """The columns' names; of two columns with one name the first keeps it."""
    names: list[str] = []
    seen = set[str]()
    for cell in cells:
        if cell and cell in seen:
            faults.append(Fault(f"The column {cell} stands there twice; expected each once.", number, cell))
        names.append("" if cell in seen else cell)
        seen.add(cell)
    return names


def _by_column(number: int, header: list[str], cells: list[str], faults: list[Fault]) -> dict[str, str]:
    """Column to cell; a cell in a column without a name is a fault, of which the row's first is named."""
    for index, cell in enumerate(cells):
        if cell and (index >= len(header) or not header[index]):
            says = (
                f"{cell!r} is in column {index + 1}, which has no name in the first row; expected nothing there "
                "(is a comma too many, or a value with a comma not in quotes?)."
            )
            faults.append(Fault(says, number, f"({index + 1})", cell))
            break
    return {name: cell for name, cell in zip(header, cells, strict=False) if name}


def _as_float(text: str) -> float | None:
    """The number that the text is; None for anything else, Python's own ways of writing one ("1_0") among it."""
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def _shown(path: Path) -> str:
    """A file with its folder: many data sets have a labels.csv."""
    return "/".join(path.parts[-2:]) if len(path.parts) > 1 else path.name
