"""Cells of CSV files that spreadsheets open: no cell may become a formula."""

from __future__ import annotations

from typing import Final

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def guarded(cell: str) -> str:
    """The cell without NUL characters, with an apostrophe in front where a spreadsheet would take it for a formula.

    Spreadsheets also accept the full-width signs, and skip leading white space.
    """
    text = cell.replace("\0", "")
    return f"'{text}" if text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS) else text


def spreadsheet_cell(value: str | int | float | bool | None) -> str | int | float:
    """A value as it is written: nothing for None, yes or no, text guarded against formulas, a number as it is."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return guarded(value) if isinstance(value, str) else value
