"""Workbooks as spreadsheets save them, for the tests of label files."""

from __future__ import annotations

import zipfile
from pathlib import Path

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_LINKS = "http://schemas.openxmlformats.org/package/2006/relationships"


def _link(kind: str, target: str) -> str:
    one = f'<Relationship Id="rId7" Type="{_OFFICE}/{kind}" Target="{target}"/>'
    return f'<Relationships xmlns="{_LINKS}">{one}</Relationships>'


def write_xlsx(path: Path, sheet: str, strings: str = "") -> None:
    """Writes a workbook of one sheet. sheet: its rows as XML. strings: the shared ones as XML."""
    sheets = '<sheets><sheet name="first" r:id="rId7"/></sheets>'
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("_rels/.rels", _link("officeDocument", "xl/workbook.xml"))
        book.writestr("xl/workbook.xml", f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}">{sheets}</workbook>')
        book.writestr("xl/_rels/workbook.xml.rels", _link("worksheet", "worksheets/first.xml"))
        book.writestr(
            "xl/worksheets/first.xml", f'<worksheet xmlns="{_MAIN}"><sheetData>{sheet}</sheetData></worksheet>'
        )
        book.writestr("xl/sharedStrings.xml", f'<sst xmlns="{_MAIN}">{strings}</sst>')
