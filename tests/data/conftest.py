"""Workbooks as spreadsheets save them, for the tests of label files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_LINKS = "http://schemas.openxmlformats.org/package/2006/relationships"

WriteXlsx = Callable[[Path, str, str], None]


@pytest.fixture
def write_xlsx() -> WriteXlsx:
    """Writes a workbook of one sheet: its path, its rows as XML, its shared strings as XML."""

    def link(kind: str, target: str) -> str:
        one = f'<Relationship Id="rId7" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        return f'<Relationships xmlns="{_LINKS}">{one}</Relationships>'

    def write(path: Path, sheet: str, strings: str = "") -> None:
        sheets = '<sheets><sheet name="first" r:id="rId7"/></sheets>'
        with zipfile.ZipFile(path, "w") as book:
            book.writestr("_rels/.rels", link("officeDocument", "xl/workbook.xml"))
            book.writestr("xl/workbook.xml", f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}">{sheets}</workbook>')
            book.writestr("xl/_rels/workbook.xml.rels", link("worksheet", "worksheets/first.xml"))
            book.writestr(
                "xl/worksheets/first.xml", f'<worksheet xmlns="{_MAIN}"><sheetData>{sheet}</sheetData></worksheet>'
            )
            book.writestr("xl/sharedStrings.xml", f'<sst xmlns="{_MAIN}">{strings}</sst>')

    return write
