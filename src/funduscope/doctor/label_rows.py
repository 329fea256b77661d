"""The rows of a data set's label files, matched to its photos, whatever is wrong with them.

A row belongs to the photo at its path relative to the file, otherwise to the photo of its name in the nearest folder
above the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from funduscope.data.readers.idrid import KNOWN_FILE
from funduscope.data.rows import Sheet, read_tolerantly
from funduscope.doctor.columns import BOX_SIDES, GRADING, POINTS, Cell, cell_of, plain, roles_of
from funduscope.doctor.inventory import Inventory, PhotoIndex

_FOLDS: Final = frozenset({"subset", "image", "fold"})
_LABELS: Final = ("eye", "patient", "structure")
_RESULTS: Final = frozenset({"gradename", "gradable"})
"""Columns of summary.csv: a model's predictions are no labels."""


@dataclass(frozen=True, eq=False)
class LabelRow:
    """One row of a label file. photo: the one it names, None if there is none. cells: by role, empty or not."""

    table: Path
    row: int
    name: str
    photo: Path | None
    cells: Mapping[str, Cell]

    def value(self, role: str) -> Any:
        """The value of a role's cell; None if it is missing, empty or impossible."""
        cell = self.cells.get(role)
        return None if cell is None else cell.value

    def evidence(self, role: str) -> dict[str, Any]:
        """Row, column and text of a role's cell."""
        return self.evidence_of(self.cells[role])

    def evidence_of(self, cell: Cell) -> dict[str, Any]:
        """Row, column and text of one of its cells."""
        return {"row": self.row, "column": cell.column, "value": cell.text}

    def point(self, landmark: str) -> tuple[float, float] | None:
        """x and y of "disc" or "fovea"."""
        x, y = self.value(f"{landmark}_x"), self.value(f"{landmark}_y")
        return None if x is None or y is None else (x, y)

    def box(self) -> tuple[float, float, float, float] | None:
        """x0, y0, x1, y1 in a file of boxes; None if a side is missing or the box is empty."""
        x0, y0, x1, y1 = (self.value(side) for side in BOX_SIDES)
        return None if None in (x0, y0, x1, y1) or x0 >= x1 or y0 >= y1 else (x0, y0, x1, y1)


@dataclass(frozen=True, eq=False)
class Table:
    """A label file: its columns by role, its rows, and the faults of its form."""

    sheet: Sheet
    roles: Mapping[str, str]
    rows: tuple[LabelRow, ...]

    @property
    def file(self) -> Path:
        return self.sheet.file

    @property
    def is_folds(self) -> bool:
        """Whether it is a folds.csv."""
        return _is_folds(self.roles)

    @property
    def is_boxes(self) -> bool:
        """Whether each row is a box."""
        return {"structure", *BOX_SIDES} <= set(self.roles)

    @property
    def purposes(self) -> frozenset[str]:
        """What it lists: "labels", "disc points", "fovea points"; a photo may be missing from each."""
        points = {f"{point} points" for point in POINTS if f"{point}_x" in self.roles}
        graded = {"labels"} if GRADING & set(self.roles) or not points else set()
        return frozenset() if self.is_boxes or self.is_folds else frozenset(graded or points)


@dataclass(frozen=True, eq=False)
class LabelRows:
    """Every label file of a data set, and the rows of each photo."""

    tables: tuple[Table, ...]
    unreadable: tuple[Sheet, ...] = ()
    by_photo: Mapping[Path, tuple[LabelRow, ...]] = field(default_factory=dict)

    def first(self, photo: Path, role: str) -> LabelRow | None:
        """The first row with a possible value for a photo in that role."""
        return next((row for row in self.by_photo.get(photo, ()) if row.value(role) is not None), None)

    def value(self, photo: Path, role: str) -> Any:
        """The first such value; None if there is none."""
        row = self.first(photo, role)
        return None if row is None else row.value(role)

    def boxes(self, photo: Path, code: str) -> Iterator[tuple[LabelRow, tuple[float, float, float, float]]]:
        """The boxes around a structure, each with its row; empty boxes are left out."""
        for row in self.by_photo.get(photo, ()):
            if row.value("structure") == code and (box := row.box()) is not None:
                yield row, box


def read_label_rows(inventory: Inventory) -> LabelRows:
    """Reads every label file among the tables; other tables are skipped."""
    photos = PhotoIndex(inventory)
    sheets = [read_tolerantly(file) for file in inventory.tables]
    unreadable = [sheet for sheet in sheets if sheet.unreadable]
    tables = [table for sheet in sheets if (table := _table(sheet, inventory, photos)) is not None]
    by_photo: dict[Path, list[LabelRow]] = defaultdict(list)
    for table in tables:
        for row in table.rows:
            if row.photo is not None and not table.is_folds:
                by_photo[row.photo].append(row)
    return LabelRows(tuple(tables), tuple(unreadable), {photo: tuple(rows) for photo, rows in by_photo.items()})


def read_table(file: Path, inventory: Inventory) -> Table | None:
    """A table that may lie outside the data set; None if it is no label file."""
    return _table(read_tolerantly(file), inventory, PhotoIndex(inventory))


def _is_label_file(sheet: Sheet, roles: Mapping[str, str]) -> bool:
    if "image" not in roles or any(plain(name) in _RESULTS for name in sheet.columns):
        return False
    if sheet.file.name.lower() == KNOWN_FILE:  # which masks are complete, in yes and no; the reader checks it
        return False
    points = [f"{point}_{axis}" for point in POINTS for axis in "xy"]
    wanted = (*GRADING, *_LABELS, *points, "fold")
    return any(role in roles for role in wanted) or any(role.startswith(("mask_", "experts_")) for role in roles)


def _is_folds(roles: Iterable[str]) -> bool:
    return set(roles) >= _FOLDS


def _table(sheet: Sheet, inventory: Inventory, photos: PhotoIndex) -> Table | None:
    roles = roles_of(sheet.columns, Path(inventory.relative(sheet.file)).parts)
    if sheet.unreadable or not _is_label_file(sheet, roles):
        return None
    is_folds = _is_folds(roles)
    names = [row.text(roles["image"]) for row in sheet.rows]
    scope = None if is_folds else photos.scope(sheet.file, names)
    rows = []
    for row, name in zip(sheet.rows, names, strict=True):
        cells = {role: cell_of(role, column, row) for role, column in roles.items()}
        photo = None if is_folds or not name else photos.named(name, sheet.file, scope)
        rows.append(LabelRow(sheet.file, row.number, name, photo, cells))
    return Table(sheet, roles, tuple(rows))
