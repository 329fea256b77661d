"""Repairs of label files that follow from their content: nothing is guessed, each change is listed with its reason."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from funduscope.data.case import LabelError
from funduscope.data.rows import Fault, csv_lines, delimiter_of, read_first_sheet
from funduscope.doctor.columns import BOX_SIDES, POINTS, expected
from funduscope.doctor.label_rows import LabelRow, Table
from funduscope.doctor.mask_files import named_files

_MOST_POINTS: Final = 0.5
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
    """A label file's cells as they are written, to be changed. dropped: numbers of removed rows."""

    table: Table
    lines: list[list[str]]
    delimiter: str
    dropped: set[int] = field(default_factory=set)
    changed: bool = False

    def put(self, row: int, column: str, text: str) -> str:
        """Writes a cell; returns its earlier text."""
        line, place = self.lines[row - 1], self._place(column)
        line.extend("" for _ in range(place + 1 - len(line)))
        before, line[place] = line[place].strip(), text
        self.changed = self.changed or before != text
        return before

    def cell(self, row: int, column: str) -> str:
        """The present text of a cell."""
        line, place = self.lines[row - 1], self._place(column)
        return line[place].strip() if place < len(line) else ""

    def _place(self, column: str) -> int:
        header = next(line for line in self.lines if any(cell.strip() for cell in line))
        return next(index for index, name in enumerate(header) if name.strip() == column)

    def drop(self, row: int) -> str:
        """Removes a row; returns its earlier text."""
        self.dropped.add(row)
        self.changed = True
        return ",".join(cell.strip() for cell in self.lines[row - 1]).rstrip(",")

    def text(self) -> str:
        """The file as CSV."""
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.delimiter, lineterminator="\n")
        writer.writerows(line for number, line in enumerate(self.lines, start=1) if number not in self.dropped)
        return out.getvalue()


def open_table(table: Table) -> Edited | None:
    """A label file to edit; None where its encoding would have to be guessed."""
    path = table.file
    try:
        if path.suffix.lower() == ".xlsx":
            return Edited(table, read_first_sheet(path), ",")
        faults: list[Fault] = []
        lines = csv_lines(path, faults)
    except LabelError:
        return None
    if any("UTF-8 (byte" in fault.says or "cannot be read" in fault.says for fault in faults):
        return None
    edited = Edited(table, lines, delimiter_of(path.read_text("utf-8-sig", errors="replace")))
    edited.changed = any("UTF-16" in fault.says for fault in faults)
    return edited


def repair_table(edited: Edited, name: str, size_of: Callable[[Path], tuple[int, int] | None]) -> Iterator[Change]:
    """Makes the changes and lists them. name: of the file. size_of: photo to (width, height), None where unknown."""
    yield from _nameless(edited, name)
    yield from _boxes(edited, name)
    yield from _impossible(edited, name)
    yield from _outside(edited, name, size_of)
    yield from _lost_masks(edited, name)
    yield from _twice(edited, name)


def _kept(edited: Edited) -> Iterator[LabelRow]:
    return (row for row in edited.table.rows if row.row not in edited.dropped)


def _nameless(edited: Edited, name: str) -> Iterator[Change]:
    for row in _kept(edited):
        if not row.name:
            before = edited.drop(row.row)
            yield Change(name, f"row {row.row}", before, "", "The row names no photo.")


def _boxes(edited: Edited, name: str) -> Iterator[Change]:
    """Rows of invalid boxes and folds, which the reader would refuse."""
    for row in list(_kept(edited)):
        if edited.table.is_boxes:
            box = row.box()
            if row.value("structure") is None or box is None or box[0] >= box[2] or box[1] >= box[3]:
                why = "The row has no valid box: a side is missing or impossible, or the box is empty."
                yield Change(name, f"row {row.row}", edited.drop(row.row), "", why)
        elif edited.table.is_folds and row.value("fold") is None:
            yield Change(name, f"row {row.row}", edited.drop(row.row), "", "The row has no valid fold.")


def _impossible(edited: Edited, name: str) -> Iterator[Change]:
    """Impossible values become unknown; of a point, both coordinates."""
    for row in _kept(edited):
        cleared: set[str] = set()
        for role, cell in row.cells.items():
            if role == "image" or role in BOX_SIDES or role == "structure" or cell.value is not None or not cell.text:
                continue
            cleared.add(role)
            edited.put(row.row, cell.column, "")
            why = f"It is not {expected(role)}; an empty cell means unknown."
            yield Change(name, f"row {row.row}, column {cell.column}", cell.text, "", why)
        for point in POINTS:
            yield from _halves(edited, name, row, point)


def _halves(edited: Edited, name: str, row: LabelRow, point: str) -> Iterator[Change]:
    """The only remaining coordinate of a point."""
    pair = [row.cells.get(f"{point}_{axis}") for axis in "xy"]
    known = [cell for cell in pair if cell is not None and cell.value is not None]
    if None not in pair and len(known) == 1:
        edited.put(row.row, known[0].column, "")
        why = f"The other coordinate of the {point} is missing or impossible."
        yield Change(name, f"row {row.row}, column {known[0].column}", known[0].text, "", why)


def _outside(edited: Edited, name: str, size_of: Callable[[Path], tuple[int, int] | None]) -> Iterator[Change]:
    """Points outside their photos become unknown, unless most of the file's points are outside."""
    rows = list(_kept(edited))
    for point in POINTS:
        outside, count = [], sum(row.point(point) is not None for row in rows)
        for row in rows:
            size = size_of(row.photo) if row.photo is not None else None
            xy = row.point(point)
            if size is not None and xy is not None and not (0 <= xy[0] <= size[0] and 0 <= xy[1] <= size[1]):
                outside.append((row, size))
        if len(outside) > _MOST_POINTS * count and len(outside) > 2:
            continue
        for row, size in outside:
            for axis in "xy":
                cell = row.cells[f"{point}_{axis}"]
                edited.put(row.row, cell.column, "")
                why = f"The {point} would be outside its photo of {size[0]}x{size[1]} px."
                yield Change(name, f"row {row.row}, column {cell.column}", cell.text, "", why)


def _lost_masks(edited: Edited, name: str) -> Iterator[Change]:
    """Missing masks become unknown in a user's own table (other readers need them named)."""
    if edited.table.roles.get("image") != "path":
        return
    for row in _kept(edited):
        for role, cell in row.cells.items():
            files = named_files(edited.table.file, cell.text) if role.startswith("mask_") else []
            if files and not any(file.is_file() for file in files):
                edited.put(row.row, cell.column, "")
                why = "The file is missing; an empty cell means unknown."
                yield Change(name, f"row {row.row}, column {cell.column}", cell.text, "", why)


def _twice(edited: Edited, name: str) -> Iterator[Change]:
    """Of equal rows the first stays."""
    first: dict[tuple[str, ...], int] = {}
    for row in list(_kept(edited)):
        cells = tuple(cell.strip() for cell in edited.lines[row.row - 1])
        while cells and not cells[-1]:
            cells = cells[:-1]
        number = first.setdefault(cells, row.row)
        if number != row.row:
            yield Change(name, f"row {row.row}", edited.drop(row.row), "", f"It equals row {number}.")


@dataclass(frozen=True)
class Place:
    """A row with a photo's visit and fold, as far as the file has them."""

    row: int
    photo: str
    visit: str
    fold: int | None


def join_visits(
    edited: Edited, name: str, places: Sequence[Place], duplicates: Sequence[tuple[str, str]]
) -> Iterator[Change]:
    """Gives one visit and one fold to duplicates, and one fold to each visit.

    The visit gets the name of the first of them; the fold is the one that has most of its photos already.
    """
    lead = _joined(places, duplicates)
    groups: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        groups[lead[_visit(place)]].append(place)
    roles = edited.table.roles
    for group in groups.values():
        counts: dict[int, int] = defaultdict(int)
        for place in group:
            if place.fold is not None:
                counts[place.fold] += 1
        fold = min(counts, key=lambda fold: (-counts[fold], fold)) if counts else None
        visit = next((place.visit for place in group if place.visit), "")
        for place in group:
            if place.row in edited.dropped:
                continue
            if "patient" in roles and visit and place.visit != visit:
                before = edited.put(place.row, roles["patient"], visit)
                why = "This photo and one of that visit are equal or show one eye."
                yield Change(name, f"row {place.row}, column {roles['patient']}", before, visit, why)
            if "fold" in roles and fold is not None and place.fold not in (None, fold):
                before = edited.put(place.row, roles["fold"], str(fold))
                why = "Photos of one visit, and duplicates, stay in one fold: the one that has most of them already."
                yield Change(name, f"row {place.row}, column {roles['fold']}", before, str(fold), why)


def _visit(place: Place) -> str:
    return f"visit {place.visit}" if place.visit else f"photo {place.photo}"


def _joined(places: Sequence[Place], duplicates: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Visit to the first visit that it is joined with."""
    leads = {_visit(place): _visit(place) for place in places}
    of_photo = {place.photo: _visit(place) for place in places}

    def lead(visit: str) -> str:
        while leads[visit] != visit:
            visit = leads[visit]
        return visit

    for one, other in duplicates:
        if one in of_photo and other in of_photo:
            first, second = lead(of_photo[one]), lead(of_photo[other])
            leads[second] = first
    return {visit: lead(visit) for visit in leads}
