"""Which photos a person means by the files and folders that were named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*")
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff"})
RESULT: Final = "findings.json"
"""What marks a folder as an earlier result, whose masks and overlays are no photos."""


def gather(sources: Iterable[Path | str]) -> list[Path]:
    """Every photo that is meant, in the order of the sources, a folder's own sorted.

    A file is taken as it is, so that it gets its answer even where it is no photo or not there. Of a folder and the
    folders in it: files whose first bytes are a JPEG's, PNG's or TIFF's, and files that are named as such (a damaged
    photo is told, not lost). Hidden files and earlier results in it are passed over.
    """
    photos: list[Path] = []
    for source in sources:
        if _is_folder(source):
            photos.extend(_of_folder(Path(source)))
        else:
            photos.append(Path(source))
    return photos


def _is_folder(source: Path | str) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # a name that no file system takes: opening it will say so
        return False


def _of_folder(top: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(top):
        here = Path(place)
        if RESULT in files and here != top:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in sorted(files) if not name.startswith(".") and _is_photo(here / name))


def _is_photo(path: Path) -> bool:
    """Whether a file is, or calls itself, a photo of a format that is read; looks at four bytes."""
    if not path.is_file():  # a pipe would be waited for without end
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(SIGNATURES)
    except OSError:
        return False
