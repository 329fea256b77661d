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

    A file that one source named is not named again by the next, however it is spelled. Within one folder a link to a
    photo beside it is a photo of its own: it has a name of its own, and a data set may give it another label.
    A file is taken as it is, so that it gets its answer even where it is no photo or not there. Of a folder and the
    folders in it: files whose first bytes are a JPEG's, PNG's or TIFF's, and files that are named as such (a damaged
    photo is told, not lost). Links to folders are followed, last, each folder once. Links that lead nowhere and folders
    that cannot be looked into are among the photos, so that they are told as failures. Hidden files and earlier results
    in it are passed over.
    """
    photos: list[Path] = []
    named: set[str] = set()
    for source in sources:
        found = _of_folder(Path(source)) if is_folder(source) else [Path(source)]
        new = [(path, place) for path in found if (place := resolved(path)) not in named]
        photos.extend(path for path, _ in new)
        named.update(place for _, place in new)
    return photos


def resolved(path: Path) -> str:
    """The one spelling of a path: absolute, links followed; as it is where no file system takes such a name."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return str(path)


def is_folder(source: Path | str) -> bool:
    """Whether a folder has this name."""
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # a name that no file system takes: opening it will say so
        return False


def _of_folder(top: Path) -> Iterator[Path]:
    waiting, seen = [top], set[tuple[int, int]]()
    while waiting:
        closed: list[OSError] = []
        start = waiting.pop(0)
        for place, folders, files in os.walk(start, onerror=closed.append):
            here, status = Path(place), Path(place).stat()
            known = (status.st_dev, status.st_ino) in seen  # a link led here before, or back to a folder above itself
            seen.add((status.st_dev, status.st_ino))
            if known or (RESULT in files and here != top):
                folders.clear()
                continue
            shown = sorted(name for name in folders if not name.startswith("."))
            linked = [name for name in shown if (here / name).is_symlink()]
            waiting.extend(here / name for name in linked)
            folders[:] = [name for name in shown if name not in linked]
            yield from (here / name for name in sorted(files) if not name.startswith(".") and _is_photo(here / name))
        yield from (Path(error.filename or start) for error in closed)


def _is_photo(path: Path) -> bool:
    """Whether a file is, or calls itself, a photo of a format that is read, or is a link that leads nowhere."""
    is_named_so = path.suffix.lower() in SUFFIXES
    try:
        if not path.is_file():  # a pipe would be waited for without end
            return path.is_symlink() and not path.exists()
        if is_named_so:
            return True
        with path.open("rb") as file:
            return file.read(4).startswith(SIGNATURES)
    except OSError:
        return is_named_so
