"""The first sheet of an .xlsx workbook as text, with the standard library alone.

Some mirrors of IDRiD carry their markups as workbooks. A workbook is a zip of XML files; of its first sheet only the
cells' values matter here, no formats, dates or formulas.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from xml.etree import ElementTree

from funduscope.data.case import LabelError

_MAX_BYTES = 64 * 1024 * 1024
# What a damaged, encrypted or foreign file raises, from the archive down to a reference to a missing string.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, ElementTree.ParseError, LookupError, ValueError, OSError, RuntimeError
)  # fmt: skip
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def read_first_sheet(path: Path) -> list[list[str]]:
    """Rows of cells of the first sheet, gaps as empty text; raises `LabelError` naming the file."""
    try:
        with zipfile.ZipFile(path) as book:
            shared = _shared_strings(book)
            return _rows(_part(book, _first_sheet(book)), shared)
    except _BROKEN as error:
        raise LabelError(f"{path.name} cannot be read as an .xlsx workbook ({error}): save it as CSV.") from error


def _rows(sheet: ElementTree.Element, shared: list[str]) -> list[list[str]]:
    rows: list[list[str]] = []
    for row in sheet.iter(f"{_MAIN}row"):
        # Rows that were never filled in are left out of the file: the number tells where this one stands.
        number = int(row.get("r", len(rows) + 1))
        rows.extend([] for _ in range(min(number - 1 - len(rows), 10_000)))
        rows.append(_cells(row, shared))
    return rows


def _cells(row: ElementTree.Element, shared: list[str]) -> list[str]:
    cells: list[str] = []
    for cell in row.iter(f"{_MAIN}c"):
        column = _column(cell.get("r", ""), len(cells))
        cells.extend("" for _ in range(column - len(cells)))
        cells.append(_text(cell, shared))
    return cells


def _text(cell: ElementTree.Element, shared: list[str]) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return "".join(piece.text or "" for piece in cell.iter(f"{_MAIN}t"))
    value = cell.find(f"{_MAIN}v")
    if value is None or value.text is None:
        return ""
    return shared[int(value.text)] if kind == "s" else value.text


def _column(reference: str, fallback: int) -> int:
    """0 for A1, 27 for AB7."""
    letters = re.match(r"[A-Z]{1,3}", reference)
    if letters is None:
        return fallback
    index = 0
    for letter in letters.group():
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def _shared_strings(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    strings = _part(book, "xl/sharedStrings.xml")
    return ["".join(t.text or "" for t in item.iter(f"{_MAIN}t")) for item in strings.iter(f"{_MAIN}si")]


def _first_sheet(book: zipfile.ZipFile) -> str:
    first = next(_part(book, "xl/workbook.xml").iter(f"{_MAIN}sheet"), None)
    if first is None:
        raise KeyError("no sheet")
    for relation in _part(book, "xl/_rels/workbook.xml.rels"):
        if relation.get("Id") == first.get(_RELATION):
            target = relation.get("Target", "")
            return target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    raise KeyError("no first sheet")


def _part(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if book.getinfo(name).file_size > _MAX_BYTES:
        raise zipfile.BadZipFile(f"{name} is larger than {_MAX_BYTES} bytes")
    return ElementTree.fromstring(book.read(name))
