"""The parts of the page, whatever its format: sections, tables, pictures; and numbers as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from funduscope.compare.paired import overlap
from funduscope.compare.run_folder import DASH
from funduscope.compare.score_kinds import Kind
from funduscope.metrics import Interval

Mark = Literal["", "best", "leads"]
"""best: its interval does not overlap any other. leads: the best value, but the intervals overlap."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table. small: a second, smaller line, such as the interval."""

    text: str
    small: str = ""
    mark: Mark = ""


@dataclass(frozen=True)
class Line:
    """A row. cells: none if the row only divides the table, by its name."""

    name: str
    cells: Sequence[Cell] = ()


@dataclass(frozen=True)
class Table:
    """heads: (text, smaller text below it) of each column, that of the names first. folded: shown on demand."""

    title: str
    caption: str
    heads: Sequence[tuple[str, str]]
    lines: Sequence[Line]
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """name: of its file, without suffix. caption: a description, also for those who cannot see it."""

    name: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, then tables and pictures."""

    title: str
    paragraphs: Sequence[str] = ()
    blocks: Sequence[Table | Picture] = field(default_factory=tuple)


MARKED = (
    "Bold: the best value, and its interval does not overlap that of any other run. Italic: the best value, but its "
    "interval overlaps another one, or one of the intervals has no width, so it is no winner."
)


def number(value: float, digits: int = 3) -> str:
    """A number with so many digits behind the point, one from ten on; a dash for nan."""
    if math.isnan(value):
        return DASH
    shown = f"{value:.{1 if abs(value) >= 10 else digits}f}"
    return shown.removeprefix("-") if not shown.strip("-0.") else shown.replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """The same with a plus where it is one."""
    shown = number(value, digits)
    return f"+{shown}" if value > 0 and shown.strip("0.") else shown


def between(interval: Interval, digits: int = 3, *, sign: bool = False) -> str:
    """The two ends of an interval; empty if they are not known."""
    words = signed if sign else number
    return "" if math.isnan(interval.low) else f"{words(interval.low, digits)} to {words(interval.high, digits)}"


def chance(p: float) -> str:
    """A p value."""
    return "not tested" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"


def interval_cell(interval: Interval | None, digits: int = 3, mark: Mark = "") -> Cell:
    """A score with its interval below; a dash if the run does not answer."""
    return Cell(DASH) if interval is None else Cell(number(interval.value, digits), between(interval, digits), mark)


def scored(intervals: Sequence[Interval | None], kind: Kind, comparable: Sequence[bool]) -> list[Cell]:
    """A column of scores, the best of the comparable ones marked.

    An interval without width (every photo right, say) shows how few photos there are, and makes no run a winner.
    """
    marks: list[Mark] = [""] * len(intervals)
    there = [(place, one) for place, one in enumerate(intervals) if one is not None and comparable[place]]
    if len(there) > 1:
        sign = 1 if kind.higher else -1
        place, best = max(there, key=lambda item: sign * item[1].value)
        others = [one for other, one in there if other != place]
        known = all(one.low < one.high for _, one in there)
        marks[place] = "best" if known and not any(overlap(best, one) for one in others) else "leads"
        for tied in (other for other, one in there if other != place and one.value == best.value):
            marks[tied] = "leads"
    return [interval_cell(one, kind.digits, mark) for one, mark in zip(intervals, marks, strict=True)]


def photo_count(counts: Sequence[int]) -> str:
    """How many photos, in words; a range where columns or pairs have unlike numbers of them."""
    low, high = min(counts, default=0), max(counts, default=0)
    return f"{low if low == high else f'{low} to {high}'} {'photo' if high == 1 else 'photos'}"


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence: one, two and three."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
