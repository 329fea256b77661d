"""The files of folds (folds.csv) of a data set, their rows matched to photos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from funduscope.data.case import Case
from funduscope.data.folds import TABLE, find_folds, fold_key
from funduscope.doctor.columns import plain
from funduscope.doctor.inventory import Inventory, relative, split_of, stem_of
from funduscope.doctor.label_rows import LabelRow, LabelRows, Table, read_table
from funduscope.doctor.scan import Scan

_SUBSETS: Final = {"A": "segmentation", "B": "diseasegrading", "C": "localization"}


@dataclass(frozen=True, eq=False)
class Folds:
    """One file of folds. table: its rows have their photos. here: the subsets that the data set has any photo of."""

    table: Table
    here: frozenset[str]


def label_of(row: LabelRow) -> str:
    """Subset and name of a row of folds, for messages."""
    return f"{row.cells['subset'].text}/{row.name}"


def read_all_folds(scan: Scan, label_rows: LabelRows, cases: Sequence[Case]) -> list[Folds]:
    """Every folds.csv in the data set; where it has none, the one next to or above it that a training would take."""
    tables = [table for table in label_rows.tables if table.is_folds]
    if not tables:
        above = find_folds(scan.root)
        table = read_table(above, scan.inventory) if above is not None else None
        tables = [table] if table is not None and table.is_folds else []
    return [_matched(table, scan.inventory, cases) for table in tables]


def _matched(table: Table, inventory: Inventory, cases: Sequence[Case]) -> Folds:
    """Rows match cases by subset and name, and photos without a case by folder and name; those of a user's own table by
    their path from the file of folds."""
    known: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for case in cases:
        known[fold_key(case)].append(case.path)
    named: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for photo in inventory.photos:
        for word in _subset_words(photo, inventory):
            named[word, photo.stem].append(photo)
    own = {row.name for row in table.rows if row.cells["subset"].text == TABLE}
    for photo in inventory.photos if own else ():
        if (name := relative(photo, table.file.parent)) in own:
            named[TABLE, name].append(photo)
    rows = []
    for row in table.rows:
        keys = [(row.cells["subset"].text, name) for name in (row.name, stem_of(row.name))]
        possible = [photo for index in (known, named) for key in keys for photo in index.get(key, ())]
        rows.append(replace(row, photo=_nearest(possible, table.file)))
    return Folds(replace(table, rows=tuple(rows)), frozenset(subset for subset, _ in (*known, *named)))


def _nearest(photos: Sequence[Path], file: Path) -> Path | None:
    """The first of a row's possible photos, one below the file's folder if possible: data sets share names."""
    below = [photo for photo in photos if file.parent in photo.parents]
    return next(iter(below or photos), None)


def _subset_words(photo: Path, inventory: Inventory) -> set[str]:
    """Names that a folds.csv may have for a photo's subset: its folders, or IDRiD's letter."""
    name = inventory.relative(photo)
    folders = [inventory.root.name, *Path(name).parts[:-1]]
    split = split_of(name)
    letters = [key for key, word in _SUBSETS.items() if any(plain(part).endswith(word) for part in folders)]
    return {*folders, *(key if split in (None, "train") else f"{key}/{split}" for key in letters[:1])}
