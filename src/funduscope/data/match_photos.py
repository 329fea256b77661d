"""A folder's photographs by name, and their match with a label file's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from funduscope.data.case import LabelError
from funduscope.data.rows import Row, read_sheet
from funduscope.imaging.hidden_files import is_hidden

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def photos_in(folder: Path) -> dict[str, Path]:
    """Name without suffix to photo, sorted; hidden files are left out. Names may contain dots and parentheses."""
    if not folder.is_dir():
        raise LabelError(
            f"The folder {folder.name} is not there (looked in {folder.parent}); expected it next to the labels."
        )
    photos: dict[str, Path] = {}
    for path in sorted(unnested(folder).iterdir()):
        if is_hidden(path.name) or path.suffix.lower() not in PHOTO_SUFFIXES:
            continue
        if path.stem in photos:
            raise LabelError(f"{photos[path.stem].name} and {path.name} have one name: keep one of them.")
        photos[path.stem] = path
    return photos


def folder_named(parent: Path, *names: str) -> Path:
    """The first of `names` that is a folder in `parent`, in upper or lower case. Where none is, the path of the first
    name, so that the reader's error names it."""
    folders = {child.name.lower(): child for child in sorted(parent.iterdir()) if child.is_dir()}
    return next((folders[name.lower()] for name in names if name.lower() in folders), parent / names[0])


def unnested(folder: Path) -> Path:
    """The folder, or the one of the same name inside it, as archives are often unpacked ("train/train")."""
    inner = folder / folder.name
    return unnested(inner) if inner.is_dir() else folder


def photo_rows(file: Path, columns: Sequence[str], photos: dict[str, Path]) -> Iterator[tuple[Row, Path]]:
    """Each row of a label file with the photo that the first of its needed columns names, with or without suffix.

    Raises `LabelError` if the file lacks a column, and if a photo is missing or named by two rows.
    """
    column, taken = columns[0], set[str]()
    for row in read_sheet(file, columns).rows:
        name = row.needed(column)
        if name not in photos and Path(name).suffix.lower() in PHOTO_SUFFIXES:
            name = Path(name).stem  # label files of one set write .jpg, its folder .JPG
        if name not in photos:
            raise row.error(column, f"no photo {name} among the {len(photos)} there; remove the row or add the photo")
        if name in taken:
            raise row.error(column, f"{name} is in two rows; expected one a photo")
        taken.add(name)
        yield row, photos[name]
