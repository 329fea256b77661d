"""What a data set's label files say of its photos, row by row, whatever is wrong with them.

A row is matched to a photo by the name in it: the photo of that path beside the file, else of that name in the nearest
folder around the file. IDRiD's official splits repeat names, so a file's own split decides; its C shares B's photos.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from funduscope.data.match_photos import PHOTO_SUFFIXES
from funduscope.data.rows import Sheet, read_tolerantly
from funduscope.doctor.columns import BOX_SIDES, GRADING, POINTS, Said, meaning, plain, roles_of
from funduscope.doctor.inventory import Inventory

_SPLIT: Final = re.compile(r"train|(?<!la)test|valid", re.IGNORECASE)
_FOLDS: Final = frozenset({"subset", "image", "fold"})
_LABELS: Final = ("eye", "patient", "structure")
_RESULTS: Final = frozenset({"gradename", "gradable"})
"""Columns of summary.csv: answers of a model are no labels."""


@dataclass(frozen=True, eq=False)
class LabelRow:
    """One row of a label file. photo: the one it names, None where there is none. said: role to cell, empty or not."""

    table: Path
    row: int
    name: str
    photo: Path | None
    said: Mapping[str, Said]

    def value(self, role: str) -> Any:
        """What the row says there; None where it says nothing or something impossible."""
        held = self.said.get(role)
        return None if held is None else held.value

    def point(self, landmark: str) -> tuple[float, float] | None:
        """Of "disc" or "fovea"."""
        x, y = self.value(f"{landmark}_x"), self.value(f"{landmark}_y")
        return None if x is None or y is None else (x, y)

    def box(self) -> tuple[float, float, float, float] | None:
        """x0, y0, x1, y1 of a file of boxes."""
        sides = [self.value(side) for side in BOX_SIDES]
        return None if any(side is None for side in sides) else (sides[0], sides[1], sides[2], sides[3])


@dataclass(frozen=True, eq=False)
class Table:
    """A label file: its columns by role, its rows, and what is wrong with its form."""

    sheet: Sheet
    roles: Mapping[str, str]
    rows: tuple[LabelRow, ...]

    @property
    def file(self) -> Path:
        return self.sheet.file

    @property
    def is_folds(self) -> bool:
        """Whether it is a `folds.csv`."""
        return set(self.roles) >= _FOLDS

    @property
    def is_boxes(self) -> bool:
        """Whether a row is a box and not a photo."""
        return "structure" in self.roles

    @property
    def purposes(self) -> frozenset[str]:
        """What it is a list of: "labels", "disc points", "fovea points"; a photo may be missing from each."""
        points = {f"{point} points" for point in POINTS if f"{point}_x" in self.roles}
        graded = {"labels"} if GRADING & set(self.roles) or not points else set()
        return frozenset() if self.is_boxes or self.is_folds else frozenset(graded or points)


@dataclass(frozen=True, eq=False)
class LabelRows:
    """Every label file of a data set, and by photo what they say of it."""

    tables: tuple[Table, ...]
    unreadable: tuple[Sheet, ...] = ()
    by_photo: Mapping[Path, tuple[LabelRow, ...]] = field(default_factory=dict)

    def first(self, photo: Path, role: str) -> LabelRow | None:
        """The first row that says anything possible about a photo in that role."""
        return next((row for row in self.by_photo.get(photo, ()) if row.value(role) is not None), None)

    def value(self, photo: Path, role: str) -> Any:
        """What it says; None where nothing does."""
        row = self.first(photo, role)
        return None if row is None else row.value(role)

    def point(self, photo: Path, landmark: str) -> tuple[LabelRow, tuple[float, float]] | None:
        """The first row with a point of "disc" or "fovea", and the point."""
        for row in self.by_photo.get(photo, ()):
            point = row.point(landmark)
            if point is not None:
                return row, point
        return None

    def boxes(self, photo: Path, code: str) -> Iterator[tuple[LabelRow, tuple[float, float, float, float]]]:
        """The boxes around a structure, with their rows."""
        for row in self.by_photo.get(photo, ()):
            box = row.box() if row.value("structure") == code else None
            if box is not None and box[0] < box[2] and box[1] < box[3]:
                yield row, box


def read_label_rows(inventory: Inventory) -> LabelRows:
    """Reads every label file among the tables; other tables are passed over."""
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
    """One label file, which may lie elsewhere; None where it is none."""
    return _table(read_tolerantly(file), inventory, PhotoIndex(inventory))


def _is_label_file(sheet: Sheet, roles: Mapping[str, str]) -> bool:
    if "image" not in roles or any(plain(name) in _RESULTS for name in sheet.columns):
        return False
    points = [f"{point}_{axis}" for point in POINTS for axis in "xy"]
    wanted = (*GRADING, *_LABELS, *points, "fold")
    return any(role in roles for role in wanted) or any(role.startswith(("mask_", "experts_")) for role in roles)


def _table(sheet: Sheet, inventory: Inventory, photos: PhotoIndex) -> Table | None:
    roles = roles_of(sheet.columns, Path(inventory.relative(sheet.file)).parts)
    if sheet.unreadable or not _is_label_file(sheet, roles):
        return None
    is_folds = set(roles) >= _FOLDS
    names = [row.cells.get(roles["image"], "") for row in sheet.rows]
    scope = None if is_folds else photos.scope(sheet.file, names)
    rows = []
    for row, name in zip(sheet.rows, names, strict=True):
        said = {role: _said(role, column, row.cells.get(column, "")) for role, column in roles.items()}
        photo = None if is_folds or not name else photos.named(name, sheet.file, scope)
        rows.append(LabelRow(sheet.file, row.number, name, photo, said))
    return Table(sheet, roles, tuple(rows))


def _said(role: str, column: str, text: str) -> Said:
    return Said(column, text, meaning(role, text) if text else None)


class PhotoIndex:
    """A data set's photos by name."""

    def __init__(self, inventory: Inventory) -> None:
        self.root = inventory.root
        self._all = {path for path in inventory.photos if path.is_file()}
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._all):
            self._by_stem[path.stem].append(path)

    def scope(self, file: Path, names: Sequence[str]) -> Path:
        """The nearest folder around a file in which any of the names is a photo's; the root where none is."""
        for folder in file.parents:
            held = (path for name in names for path in self._by_stem.get(stem_of(name), ()))
            if any(folder in path.parents for path in held):
                return folder
            if folder == self.root:
                break
        return self.root

    def named(self, name: str, file: Path, scope: Path | None) -> Path | None:
        """The photo that a name in a file means: by its path beside the file, else by its name alone."""
        written = name.replace("\\", "/")
        beside = file.parent / written
        if beside in self._all:
            return self._shared(beside)
        found = self._by_stem.get(stem_of(name), [])
        inside = [path for path in found if scope is None or scope in path.parents]
        return self._chosen(inside, self._shown(file)) if inside else None

    def of_mask(self, stem: str, file: Path) -> Path | None:
        """The photo of that name nearest to a mask."""
        found = self._by_stem.get(stem, [])
        for folder in file.parents:
            inside = [path for path in found if folder in path.parents]
            if inside:
                return self._chosen(inside, self._shown(file))
            if folder == self.root:
                break
        return None

    def _shown(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if self.root in path.parents else path.name

    def _chosen(self, candidates: list[Path], beside: str) -> Path:
        """Of photos with one name: of the file's own split, else of training; grading's before localization's."""
        split = split_of(beside)
        wanted = [split] if split else ["train", None]
        for word in wanted:
            inside = [path for path in candidates if split_of(self._shown(path)) == word]
            if inside:
                return self._shared(sorted(inside)[0])
        return self._shared(sorted(candidates)[0])

    def _shared(self, photo: Path) -> Path:
        """IDRiD's C repeats the photos of B: where B's is there, that one is meant."""
        if not any(plain(part).endswith(("localization", "localisation")) for part in photo.parts):
            return photo
        split = split_of(self._shown(photo))
        for other in self._by_stem[photo.stem]:
            of_grading = any(plain(part).endswith("diseasegrading") for part in other.parts)
            if of_grading and split_of(self._shown(other)) == split:
                return other
        return photo


def stem_of(name: str) -> str:
    """A photo's name as rows have it: without folders, and without a suffix only where it is a picture's."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = last.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in PHOTO_SUFFIXES else last


def split_of(name: str) -> str | None:
    """ "train", "test" or "valid" where the path says so, the nearest word counting."""
    words = [found.group().lower() for part in name.split("/") if (found := _SPLIT.search(plain(part)))]
    return words[-1] if words else None
