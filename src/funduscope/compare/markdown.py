"""The sections as Markdown for a repository, with the pictures beside it as PNG."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from funduscope.compare.compare_html import TITLE
from funduscope.compare.page_parts import Cell, Section, Table
from funduscope.report.html_frame import printable

# An underscore inside a word is no emphasis, and names are full of them.
_SPECIAL = re.compile(r"([\\`*{}\[\]<>|#~]|(?<!\w)_|_(?!\w))")
_MARKS = {"": "", "best": "**", "leads": "*"}


def render(sections: Sequence[Section], pictures: Collection[str], stem: str) -> str:
    """The text. pictures: names of those that lie beside it, as STEM-NAME.png; others are left out."""
    parts = [f"# {TITLE}"]
    for section in sections:
        parts += [f"## {plain(section.title)}", *map(plain, section.says)]
        for block in section.blocks:
            if isinstance(block, Table):
                parts += _table(block)
            elif block.name in pictures:
                parts.append(f"![{plain(block.says)}]({stem}-{block.name}.png)")
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))


def _table(table: Table) -> list[str]:
    heads = [plain(words) + (f"<br>{plain(small)}" if small else "") for words, small in table.heads]
    rows = [_row(heads), "|" + "---|" * len(heads)]
    for line in table.lines:
        cells = [_cell(cell) for cell in line.cells] or [""] * (len(heads) - 1)
        rows.append(_row([plain(line.name) if line.cells else f"*{plain(line.name)}*", *cells]))
    shown = [plain(table.says), "\n".join(rows)]
    if table.folded:
        return [f"<details><summary>{plain(table.title)}</summary>", *shown, "</details>"]
    return [f"### {plain(table.title)}", *shown]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    mark = _MARKS[cell.mark]
    return f"{mark}{plain(cell.text)}{mark}" + (f"<br>{plain(cell.small)}" if cell.small else "")
