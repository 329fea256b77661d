"""The files of folds (folds.csv) of a data set, their rows matched to photos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from funduscope.data.case import Case
from funduscope.data.folds import find_folds, fold_key
from funduscope.doctor.columns import plain
from funduscope.doctor.inventory import Inventory, split_of, stem_of
from funduscope.doctor.label_rows import LabelRows, Table, read_table
from funduscope.doctor.scan import Scan

_SUBSETS: Final = {"A": "segmentation", "B": "diseasegrading", "C": "localization"}


@dataclass(frozen=True)
class FoldRow:
    """A row: its number, subset and name as the file has them, visit and fold where they can be read.

    photo: None where no photo fits. is_here: whether the data set has any photo of the row's subset.
    """

    row: int
    subset: str
    name: str
    visit: str
    fold: int | None
    photo: Path | None
    is_here: bool

    @property
    def label(self) -> str:
        """Subset and name, for messages."""
        return f"{self.subset}/{self.name}"


@dataclass(frozen=True, eq=False)
class Folds:
    """One file of folds."""

    table: Table
    rows: tuple[FoldRow, ...]

    @property
    def file(self) -> Path:
        return self.table.file

    def fold_of(self) -> dict[Path, int]:
        """Photo to fold, by its first row."""
        folds: dict[Path, int] = {}
        for row in self.rows:
            if row.photo is not None and row.fold is not None:
                folds.setdefault(row.photo, row.fold)
        return folds


def read_all_folds(scan: Scan, label_rows: LabelRows, cases: Sequence[Case] = ()) -> list[Folds]:
    """Every folds.csv in the data set; where it has none, the one next to or above it that a training would take."""
    tables = [table for table in label_rows.tables if table.is_folds]
    if not tables:
        above = find_folds(scan.root)
        table = read_table(above, scan.inventory) if above is not None else None
        tables = [table] if table is not None and table.is_folds else []
    return [_matched(table, scan.inventory, cases) for table in tables]


def _matched(table: Table, inventory: Inventory, cases: Sequence[Case]) -> Folds:
    """Rows match cases by subset and name, and photos without a case by folder and name."""
    known: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for case in cases:
        known[fold_key(case)].append(case.path)
    subsets = {subset for subset, _ in known}
    named: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for photo in inventory.photos:
        for word in _subset_words(photo, inventory):
            named[word, photo.stem].append(photo)
            subsets.add(word)
    rows = []
    for row in table.rows:
        subset, name = row.cells["subset"].text, stem_of(row.name)
        keys = (subset, row.name), (subset, name)
        possible = [photo for index in (known, named) for key in keys for photo in index.get(key, ())]
        photo = _nearest(possible, table.file)
        visit = row.cells["patient"].text if "patient" in row.cells else ""
        rows.append(FoldRow(row.row, subset, row.name, visit, row.value("fold"), photo, subset in subsets))
    return Folds(table, tuple(rows))


def _nearest(photos: Sequence[Path], file: Path) -> Path | None:
    """The first of a row's possible photos, one below the file's folder if possible: data sets share names."""
    below = [photo for photo in photos if file.parent in photo.parents]
    return next(iter(below or photos), None)


def _subset_words(photo: Path, inventory: Inventory) -> set[str]:
    """Names that a folds.csv may have for a photo's subset: its folders, or IDRiD's letter."""
    name = inventory.relative(photo)
    folders = [inventory.root.name, *Path(name).parts[:-1]]
    words = set(folders)
    letter = next((key for key, word in _SUBSETS.items() if any(plain(part).endswith(word) for part in folders)), None)
    if letter is not None:
        split = split_of(name)
        words.add(letter if split in (None, "train") else f"{letter}/{split}")
    return words
