"""The photos in the files and folders that a user names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from funduscope.imaging.dicom_file import HEAD_BYTES, is_dicom
from funduscope.imaging.hidden_files import is_hidden
from funduscope.imaging.photo_names import has_hash, safe_stem
from funduscope.vocabulary import CODES

SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*")
OTHER_PICTURES: Final = frozenset({".bmp", ".gif", ".webp", ".heic", ".heif", ".avif", ".jp2", ".ppm"})
"""Suffixes of pictures that are not read. They count as photos: each is reported, and no eye is missed silently."""
SUFFIXES: Final = (
    frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".dcm", ".dicom"}) | OTHER_PICTURES
)
DICOM_INDEX: Final = "DICOMDIR"
"""The name of the file that lists the DICOM files of a disc: a DICOM file that is no photo."""

START_BYTES: Final = HEAD_BYTES
"""Number of leading bytes that `begins_like_photo` needs."""

RESULT: Final = "findings.json"
"""A folder with this file has an earlier result, whose masks and overlays are no photos."""

SETTINGS: Final = "settings.json"
"""In such a folder: the version and the settings that the result was made with, and a hash of the photo's path."""

_RESULT_NAMES: Final = re.compile(r"(findings|settings)\.json|overlay\.png|report\.html|explanation_[a-z]+\.png")
_RESULT_ENDINGS: Final = re.compile(
    rf"_(report\.pdf|sheet\.(html|pdf)|({'|'.join(CODES)})(\.tif|_prob\.png)|(SR|SEG|SC)\.dcm|fhir\.json)"
)
"""What names of a result's other files end in; they begin with the photo's name, made safe (photo_names.py)."""


def find_photos(sources: Iterable[Path | str], also: Callable[[Path], bool] = lambda path: False) -> list[Path]:
    """Every photo in the sources, in their order, the photos of a folder sorted.

    A source that is a file is always in the result, so it gets an answer even where it is no photo or is missing. Of a
    folder and its subfolders, these are: files whose first bytes are those of a JPEG, PNG, TIFF or DICOM file; files
    with such a suffix, or that of another format of pictures, so that a photo that cannot be read is reported; pipes
    and devices named so, links that lead nowhere and folders that cannot be read, which are then reported as failures.
    Links to folders are followed, last, each folder once. Hidden files and those that systems
    add (hidden_files.py), a disc's DICOMDIR and the files of earlier results are left out.

    A file of one source is not given again for the next source, however its path is written. Within one folder, a link
    to a photo next to it is another photo: it has its own name, and a data set may give it another label.

    also: of the folders' other files, those that are to be in the result too.
    """
    photos: list[Path] = []
    named: set[str] = set()
    for source in sources:
        found = _of_folder(Path(source), also) if is_folder(source) else [Path(source)]
        new = [(path, place) for path in found if (place := resolved(path)) not in named]
        photos.extend(path for path, _ in new)
        named.update(place for _, place in new)
    return photos


def resolved(path: Path) -> str:
    """The canonical path: absolute, links followed; unchanged if no file system accepts such a name."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return str(path)


def is_folder(source: Path | str) -> bool:
    """Whether a folder has this name."""
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # a name that no file system accepts: opening it raises the error
        return False


def why_unreadable(path: Path) -> str:
    """Why `find_photos` could not list a folder, as a sentence; empty for a file."""
    if not is_folder(path):
        return ""
    reason = "it has changed since"
    try:
        next(path.iterdir(), None)
    except OSError as error:
        reason = error.strerror or reason
    return f"the folder cannot be read ({reason}); expected photos in it: check its permissions"


def _of_folder(top: Path, also: Callable[[Path], bool]) -> Iterator[Path]:
    waiting, seen = [top], set[tuple[int, int]]()
    while waiting:
        closed: list[OSError] = []
        start = waiting.pop(0)
        for place, folders, files in os.walk(start, onerror=closed.append):
            here = Path(place)
            try:
                status = here.stat()
            except OSError as error:  # removed since it was listed
                closed.append(error)
                folders.clear()
                continue
            known = (status.st_dev, status.st_ino) in seen  # a link led to it before, or to a folder above itself
            seen.add((status.st_dev, status.st_ino))
            if known:
                folders.clear()
                continue
            if RESULT in files:
                is_result = results_in(here)
                files[:] = [name for name in files if not is_result(name)]
            shown = sorted(name for name in folders if not is_hidden(name))
            linked = [name for name in shown if _is_link(here / name)]
            waiting.extend(here / name for name in linked)
            folders[:] = [name for name in shown if name not in linked]
            paths = (here / name for name in sorted(files) if not is_hidden(name))
            yield from (path for path in paths if _is_photo(path) or also(path))
        yield from (Path(error.filename or start) for error in closed)


def results_in(folder: Path) -> Callable[[str], bool]:
    """Whether a file is one of the results in a folder, by its name: by the folder's own list of them; without one, of
    every result, or the photo's and an ending.

    Photos may lie in the same folder, even as x_OD.tif and x_OS.tif next to the results of one of them: what belongs to
    these begins with the photo's name, made safe, or with the folder's if that is the photo's and a hash
    (`ResultPlaces`), and goes on with a known ending.
    """
    listed = listed_results(folder)
    if listed is not None:
        return listed.__contains__
    stems = set[str]()
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        name = json.loads((folder / RESULT).read_bytes())["photo"]["name"]
        stem = safe_stem(name, set(), "")
        stems = {Path(name).stem, stem, *([folder.name] if has_hash(folder.name, stem) else [])}
    return lambda name: (
        bool(_RESULT_NAMES.fullmatch(name))
        or any(name.startswith(stem) and _RESULT_ENDINGS.fullmatch(name, len(stem)) for stem in stems)
    )


def listed_results(folder: Path) -> set[str] | None:
    """The names of the results in a folder by their own list; None without one."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        return {*json.loads((folder / SETTINGS).read_bytes())["files"], SETTINGS}
    return None


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # in a folder whose names may be read and nothing else
        return False


def _is_photo(path: Path) -> bool:
    """Whether a file is a photo by content or by suffix, or is a link that leads nowhere. A device or pipe with such a
    suffix counts, so that it is reported, and so does a file that cannot be opened and has no suffix."""
    if path.name == DICOM_INDEX:
        return False
    is_named_so = path.suffix.lower() in SUFFIXES
    try:
        if not path.is_file():  # reading a pipe would never end
            return is_named_so or (path.is_symlink() and not path.exists())
        if is_named_so:
            return True
        with path.open("rb") as file:
            return begins_like_photo(file.read(START_BYTES))
    except OSError:  # cameras name DICOM files without a suffix: none of them is missed silently
        return is_named_so or not path.suffix


def begins_like_photo(start: bytes) -> bool:
    """Whether a file that begins with these bytes, `START_BYTES` of them, is a JPEG, PNG, TIFF or DICOM file."""
    return start.startswith(SIGNATURES) or is_dicom(start)
