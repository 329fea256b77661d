"""Repairs of label files that follow from their content: nothing is guessed, each change is listed with its reason."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from funduscope.data.case import Case, LabelError, Labels
from funduscope.data.grouping import grouped
from funduscope.data.rows import Fault, csv_lines, delimiter_of, read_first_sheet
from funduscope.doctor.columns import BOX_SIDES, POINTS, expected
from funduscope.doctor.label_rows import LabelRow, Table
from funduscope.doctor.mask_files import named_files

LEFT: Final = "left as it is"
_MOST: Final = 0.5
"""Above this share of points outside their photos, the file is in pixels of another size, for a person to scale."""


@dataclass(frozen=True)
class Change:
    """One change. file: relative to the data set. what: the changed place. before, after: texts, "" for nothing."""

    file: str
    what: str
    before: str
    after: str
    why: str


@dataclass(eq=False)
class Edited:
    """A label file's cells as they are written, to be changed. name: of the file in the list of changes.

    dropped: numbers of removed rows. reencoded: whether the file is text of another encoding than UTF-8.
    """

    table: Table
    name: str
    lines: list[list[str]]
    delimiter: str
    reencoded: bool = False
    changed: bool = False
    dropped: set[int] = field(default_factory=set)

    @property
    def rows(self) -> list[LabelRow]:
        """The rows that are not removed, as they were read, without those whose cells may stand in wrong columns."""
        return [row for row in self.table.rows if row.row not in self.dropped and row.row not in self.malformed]

    @cached_property
    def malformed(self) -> dict[int, str]:
        """What is wrong with the form of a row, by its number."""
        return {fault.row: fault.says for fault in self.table.sheet.faults if fault.row is not None}

    def put(self, row: int, column: str, text: str, why: str) -> Change:
        """Writes a cell."""
        line, place = self.lines[row - 1], self._place(column)
        line.extend("" for _ in range(place + 1 - len(line)))
        before, line[place] = line[place].strip(), text
        self.changed = self.changed or before != text
        return Change(self.name, f"row {row}, column {column}", before, text, why)

    def cell(self, row: int, column: str) -> str:
        """The present text of a cell."""
        line, place = self.lines[row - 1], self._place(column)
        return line[place].strip() if place < len(line) else ""

    def _place(self, column: str) -> int:
        header = next(line for line in self.lines if any(cell.strip() for cell in line))
        return [name.strip() for name in header].index(column)

    def drop(self, row: int, why: str) -> Change:
        """Removes a row."""
        self.dropped.add(row)
        self.changed = True
        return Change(self.name, f"row {row}", self.line(row), "", why)

    def line(self, row: int) -> str:
        """A row for people."""
        return ",".join(cell.strip() for cell in self.lines[row - 1]).rstrip(",")

    def text(self) -> str:
        """The file as CSV."""
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.delimiter, lineterminator="\n")
        writer.writerows(line for number, line in enumerate(self.lines, start=1) if number not in self.dropped)
        return out.getvalue()


def open_table(table: Table, name: str) -> Edited | None:
    """A label file to edit; None if its encoding would have to be guessed."""
    path = table.file
    faults: list[Fault] = []
    try:
        if path.suffix.lower() == ".xlsx":
            return Edited(table, name, read_first_sheet(path), ",")
        lines = csv_lines(path, faults)
    except LabelError:
        return None
    kinds = {fault.kind for fault in faults}
    if "guessed" in kinds:
        return None
    delimiter, _ = delimiter_of(path.read_text("utf-8-sig", errors="replace"))
    return Edited(table, name, lines, delimiter, reencoded="utf16" in kinds)


def repair_table(edited: Edited, size_of: Callable[[Path], tuple[int, int] | None]) -> Iterator[Change]:
    """Makes the changes and lists them. size_of: photo to (width, height), None if unknown."""
    for number, says in edited.malformed.items():
        yield Change(edited.name, f"row {number}", edited.line(number), edited.line(number), f"Left as it is. {says}")
    for row in edited.rows:
        if not row.name:
            yield edited.drop(row.row, "The row names no photo.")
    yield from _refused(edited)
    yield from _impossible(edited)
    yield from _outside(edited, size_of)
    yield from _lost_masks(edited)
    yield from drop_equal_rows(edited)


def _refused(edited: Edited) -> Iterator[Change]:
    """Rows of invalid boxes and folds, which the reader would refuse."""
    for row in edited.rows:
        if edited.table.is_boxes:
            if row.value("structure") is None or row.box() is None:
                why = "The row has no valid box: a side is missing or impossible, or the box is empty."
                yield edited.drop(row.row, why)
        elif edited.table.is_folds and row.value("fold") is None:
            yield edited.drop(row.row, "The row has no valid fold.")


def _impossible(edited: Edited) -> Iterator[Change]:
    """Impossible values become unknown; of a point, both coordinates. A column of which most are impossible means
    something else, and stays."""
    foreign = set[str]()
    rows = edited.rows
    for role in dict.fromkeys(role for row in rows for role in row.cells):
        filled = [cell for row in rows if (cell := row.cells.get(role)) is not None and cell.text]
        impossible = [cell for cell in filled if cell.value is None]
        if len(impossible) > max(2, _MOST * len(filled)) and role not in ("structure", *BOX_SIDES):
            foreign.add(role)
            counts = f"{len(impossible)} of its {len(filled)} values"
            why = f"{counts} are not {expected(role)}: it seems to mean another thing."
            yield Change(edited.name, LEFT, f"column {impossible[0].column}", "", why)
    for row in edited.rows:
        for role, cell in row.cells.items():
            if cell.text and cell.value is None and role not in (*foreign, "structure", *BOX_SIDES):
                why = f"It is not {expected(role)}; an empty cell means unknown."
                yield edited.put(row.row, cell.column, "", why)
        for point in POINTS:
            pair = [row.cells.get(f"{point}_{axis}") for axis in "xy"]
            known = [cell for cell in pair if cell is not None and cell.value is not None]
            if None not in pair and len(known) == 1 and not foreign & {f"{point}_x", f"{point}_y"}:
                why = f"The other coordinate of the {point} is missing or impossible."
                yield edited.put(row.row, known[0].column, "", why)


def _outside(edited: Edited, size_of: Callable[[Path], tuple[int, int] | None]) -> Iterator[Change]:
    """Points outside their photos become unknown, unless most of the file's points are outside."""
    for point in POINTS:
        marked = [(row, xy) for row in edited.rows if (xy := row.point(point)) is not None]
        outside = []
        for row, (x, y) in marked:
            size = size_of(row.photo) if row.photo is not None else None
            if size is not None and not (0 <= x <= size[0] and 0 <= y <= size[1]):
                outside.append((row, size))
        if len(outside) > max(2, _MOST * len(marked)):
            continue
        for row, size in outside:
            for axis in "xy":
                why = f"The {point} would be outside its photo of {size[0]}x{size[1]} px."
                yield edited.put(row.row, row.cells[f"{point}_{axis}"].column, "", why)


def _lost_masks(edited: Edited) -> Iterator[Change]:
    """Missing masks become unknown in a user's own table (other readers need them named)."""
    if edited.table.roles.get("image") != "path":
        return
    for row in edited.rows:
        for role, cell in row.cells.items():
            files = named_files(edited.table.file, cell.text) if role.startswith("mask_") else []
            if files and not any(file.is_file() for file in files):
                yield edited.put(row.row, cell.column, "", "The file is missing; an empty cell means unknown.")


def drop_equal_rows(edited: Edited) -> Iterator[Change]:
    """Removes every row that repeats an earlier one."""
    first: dict[tuple[tuple[int, str], ...], int] = {}
    for row in edited.rows:
        filled = tuple((place, text) for place, cell in enumerate(edited.lines[row.row - 1]) if (text := cell.strip()))
        number = first.setdefault(filled, row.row)
        if number != row.row:
            yield edited.drop(row.row, f"It equals row {number}.")


def join_visits(
    edited: Edited, rows: Sequence[tuple[LabelRow, str]], duplicates: Iterable[tuple[str, str]]
) -> Iterator[Change]:
    """Gives one visit and one fold to duplicates, and one fold to each visit.

    rows: each with its photo's name. The visit gets the name of the first of them; the fold is the one that has most of
    its photos already.
    """
    places = [
        Case(
            photo,
            "",
            row.name,
            row.table,
            f"visit {own}" if (own := row.value("patient")) else f"photo {photo}",
            Labels(),
        )
        for row, photo in rows
    ]
    groups: dict[str, list[LabelRow]] = defaultdict(list)
    for (row, _), place in zip(rows, grouped(places, duplicates), strict=True):
        groups[place.visit].append(row)
    roles = edited.table.roles
    for group in groups.values():
        counts = Counter(fold for row in group if (fold := row.value("fold")) is not None)
        fold = min(counts, key=lambda fold: (-counts[fold], fold), default=None)
        visit = next((own for row in group if (own := row.value("patient"))), None)
        for row in group:
            if row.row in edited.dropped or row.row in edited.malformed:
                continue
            if "patient" in roles and visit and row.value("patient") != visit:
                why = "This photo and one of that visit are equal or show one eye."
                yield edited.put(row.row, roles["patient"], visit, why)
            if "fold" in roles and row.value("fold") not in (None, fold):
                why = "Photos of one visit, and duplicates, stay in one fold: the one that has most of them already."
                yield edited.put(row.row, roles["fold"], str(fold), why)
