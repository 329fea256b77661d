"""Which files of a data set are photographs, which are masks, and which hold labels: by name, nothing is opened."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from funduscope.data.case import LabelError
from funduscope.data.rows import SHEET_SUFFIXES, read_sheet
from funduscope.imaging.find_photos import gather
from funduscope.vocabulary import CODES

FOREIGN_SUFFIXES: Final = frozenset({".bmp", ".gif", ".webp", ".dcm", ".heic", ".jp2", ".ppm"})
"""Pictures of formats that are not read here: named as such, so that they are told and not lost."""

_MASK_FOLDER: Final = re.compile(r"mask|ground ?truth|annotation|^votes?$|^(segmentation )?labels?$", re.IGNORECASE)
_MASK_NAME: Final = re.compile(
    rf"(?P<photo>.+)[-_ ](?:{'|'.join((*CODES, 'IRMA', 'NV', 'other', 'mask', 'vessels?'))})$", re.IGNORECASE
)


@dataclass(frozen=True)
class Inventory:
    """The files of a data set, absolute and sorted; `root` is what their names are relative to."""

    root: Path
    photos: tuple[Path, ...]
    masks: tuple[Path, ...]
    tables: tuple[Path, ...]

    def relative(self, path: Path) -> str:
        """The file's name relative to the data set, with forward slashes."""
        return relative(path, self.root)


def relative(path: Path, root: Path) -> str:
    """The name of a file relative to a folder, with forward slashes; with `..` where it lies elsewhere."""
    return Path(os.path.relpath(path, root)).as_posix()  # follows no link


def take_inventory(data: Path) -> Inventory:
    """The files of a data set: a folder with whatever is in it, or a table (.csv) with the photos that it names.

    A picture is a mask where its folder says so (masks, Groundtruths, votes) or its name is another picture's with a
    structure's code behind it; hidden files and earlier results are passed over. Raises `LabelError` where there is no
    such path.
    """
    if data.is_file() and data.suffix.lower() in SHEET_SUFFIXES:
        return _of_table(data)
    if not data.is_dir():
        raise LabelError(f"{data} is not there; expected a data set's folder, or a table (.csv) of photos.")
    root = data.absolute()  # links are not followed: names stay as the person knows them
    pictures = [*gather([root]), *_foreign(root)]
    photos, masks = _parted(pictures, root)
    return Inventory(root, photos, masks, tuple(sorted(_tables(root))))


def _of_table(table: Path) -> Inventory:
    root = table.parent.absolute()
    try:
        named = [row.text("path") for row in read_sheet(table, ("path",)).rows]
    except LabelError:  # the labels' own examination says what is wrong with the table
        named = _first_cells(table)
    photos = sorted({root / name.replace("\\", "/") for name in named if name})
    return Inventory(root, tuple(photos), (), (root / table.name,))


def _first_cells(table: Path) -> list[str]:
    """The names that a broken table has under `path`, as far as it can be read."""
    try:
        rows = list(csv.DictReader(table.read_text("utf-8-sig", errors="replace").splitlines()))
    except (OSError, csv.Error):
        return []
    return [str(row.get("path") or "").strip() for row in rows]


def _parted(pictures: Iterable[Path], root: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Photos and masks, each sorted."""
    photos, masks, pictures = [], [], sorted(set(pictures))
    stems = {(path.parent, path.stem.lower()) for path in pictures}
    for path in pictures:
        folders = path.relative_to(root).parts[:-1]
        named = _MASK_NAME.match(path.stem)
        beside = named is not None and (path.parent, named["photo"].lower()) in stems
        is_mask = beside or any(_MASK_FOLDER.search(folder) for folder in folders)
        (masks if is_mask else photos).append(path)
    return tuple(photos), tuple(masks)


def _walk(root: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in files if not name.startswith("."))


def _foreign(root: Path) -> Iterator[Path]:
    return (path for path in _walk(root) if path.suffix.lower() in FOREIGN_SUFFIXES and path.is_file())


def _tables(root: Path) -> Iterator[Path]:
    return (path for path in _walk(root) if path.suffix.lower() in SHEET_SUFFIXES and path.is_file())
