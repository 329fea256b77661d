"""Sections as Markdown: the text of `compare --markdown`, and the source of the page's HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from funduscope.compare.page_parts import Cell, Section, Table
from funduscope.report.html_frame import printable

# An underscore inside a word is no emphasis, and names have many of them.
_SPECIAL = re.compile(r"([\\`*{}\[\]<>|#~&]|(?<!\w)_|_(?!\w))")
_MARKS = {"": "", "best": "**", "leads": "*"}


def render(sections: Sequence[Section], pictures: Mapping[str, str]) -> str:
    """The text. pictures: by name the target of a link; pictures without one are left out."""
    parts: list[str] = []
    for section in sections:
        parts += [f"## {plain(section.title)}", *map(plain, section.paragraphs)]
        for block in section.blocks:
            if isinstance(block, Table):
                parts += _table(block)
            elif block.name in pictures:
                parts.append(f"![{plain(block.caption)}]({pictures[block.name]})")
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", _line(text))


def _line(text: str) -> str:
    return printable(" ".join(text.split()))


def _table(table: Table) -> list[str]:
    heads = [_cell(Cell(words, small)) for words, small in table.heads]
    rows = [_row(heads), "|" + "---|" * len(heads)]
    for line in table.lines:
        cells = [_cell(cell) for cell in line.cells] or [""] * (len(heads) - 1)
        rows.append(_row([plain(line.name) if line.cells else f"*{plain(line.name)}*", *cells]))
    shown = [plain(table.caption), "\n".join(rows)]
    if table.folded:
        return [f"<details><summary>{html.escape(_line(table.title))}</summary>", *shown, "</details>"]
    return [f"### {plain(table.title)}", *shown]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    mark = _MARKS[cell.mark]
    return f"{mark}{plain(cell.text)}{mark}" + (f"<br><small>{plain(cell.small)}</small>" if cell.small else "")
