"""Tables in Markdown, for the pages of docs/ that scripts make from stored runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from funduscope.report.html_frame import printable

Mark = Literal["", "best", "leads"]
"""best: bold. leads: italic."""

_MARKS: dict[Mark, str] = {"": "", "best": "**", "leads": "*"}

# An underscore inside a word is no emphasis, and names have many of them.
_SPECIAL = re.compile(r"([\\`*{}\[\]<>|#~&]|(?<!\w)_|_(?!\w))")


@dataclass(frozen=True)
class Cell:
    text: str
    small: str = ""
    """A second, smaller line, such as an interval."""

    mark: Mark = ""

    def render(self) -> str:
        mark = _MARKS[self.mark]
        small = f"<br><small>{escape(self.small)}</small>" if self.small else ""
        return f"{mark}{escape(self.text)}{mark}{small}"


@dataclass(frozen=True)
class Line:
    """A row of a table; without cells its name divides the table."""

    name: str
    cells: Sequence[Cell] = ()


@dataclass(frozen=True)
class Table:
    title: str
    caption: str
    heads: Sequence[Cell]
    """Of each column, that of the rows' names first."""

    lines: Sequence[Line]

    def render(self) -> str:
        rows = [_row([head.render() for head in self.heads]), "|" + "---|" * len(self.heads)]
        for line in self.lines:
            if line.cells:
                rows.append(_row([escape(line.name), *(cell.render() for cell in line.cells)]))
            else:
                rows.append(_row([f"*{escape(line.name)}*", *[""] * (len(self.heads) - 1)]))
        table = "\n".join(rows)
        return f"### {escape(self.title)}\n\n{escape(self.caption)}\n\n{table}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))


def picture(caption: str, file: str) -> str:
    """Return a link that shows a picture."""
    return f"![{escape(caption)}]({file})"


def replace_below(page: str, marker: str, blocks: Sequence[str]) -> str:
    """Return a page with the blocks in place of what stands below a marker. Raises `ValueError`."""
    above, line, _ = page.partition(marker)
    if not line:
        raise ValueError(f"the page lacks the line {marker}")
    return "\n\n".join([above + marker, *blocks]) + "\n"


def join_names(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: one, two and three."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
