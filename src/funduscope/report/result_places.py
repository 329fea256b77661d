"""Which folder a photo's results go into: each photo of a run has one of its own, and the same in every run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from funduscope.imaging.find_photos import RESULT, SETTINGS, resolved
from funduscope.imaging.photo_names import safe_stem


class ResultPlaces:
    """The folders of one run's results in `folder`. Threads may share it. taken: names of files that are no photo's.

    A photo's earlier results are those of the same path, whatever its file holds now, or else of the same bytes, as
    after a folder of photos was moved. Results of other photos stay; one of the same name gets a hash of its path.
    name: the photo's, by which the frames of one file differ.
    """

    def __init__(self, folder: Path, taken: Iterable[str] = ()) -> None:
        self.folder = folder
        self._owners = {name.casefold(): "" for name in taken}
        self._lock = Lock()

    def earlier(self, name: str, path: Path, sha256: str) -> Path | None:
        """The folder with the photo's earlier results; None without any. Another photo may still take it."""
        with self._lock:
            stem, is_new = self._own(name, path, sha256)
            return None if is_new else self.folder / stem

    def take(self, name: str, path: Path, sha256: str) -> Path:
        """The photo's folder, which no other photo of this run gets: that of its earlier results, or one without."""
        with self._lock:
            stem, _ = self._own(name, path, sha256)
            self._owners[stem.casefold()] = source_of(path, name)
            return self.folder / stem

    def _own(self, name: str, path: Path, sha256: str) -> tuple[str, bool]:
        """The folder's name, and whether it has no results yet."""
        source = source_of(path, name)
        passed = {stem for stem, owner in self._owners.items() if owner != source}
        of_bytes: list[str] = []
        free: list[str] = []
        while len(free) < 2:  # the second has a hash: the photo's, from when another had its name
            stem = safe_stem(name, passed, _place(path, name))
            earlier = _earlier_result(self.folder / stem)
            if earlier is None:
                free.append(stem)
            elif earlier[0] == source:
                return stem, False
            elif earlier[1] == sha256:
                of_bytes.append(stem)
        return (of_bytes[0], False) if of_bytes else (free[0], True)


def source_of(path: Path, name: str) -> str:
    """A hash of the photo's full path, which itself may name a person. name: the photo's in its file."""
    return hashlib.sha256(_place(path, name).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _place(path: Path, name: str) -> str:
    """The photo's full path, and its name where that is one of several in the file: a file next to it may have it."""
    return resolved(path) + (f"\0{name}" if name != path.name else "")


def _earlier_result(place: Path) -> tuple[str | None, str | None] | None:
    """`source_of` and sha256 of the photo whose results the folder has, as far as its two files say; None without
    results, or if they cannot be read, which the writer reports."""
    source, sha256 = _text_of(place / SETTINGS, "source"), _text_of(place / RESULT, "photo", "sha256")
    return None if source is None and sha256 is None and not (place / RESULT).is_file() else (source, sha256)


def _text_of(file: Path, *keys: str) -> str | None:
    """A text in a file of JSON; None if the file is missing or damaged."""
    try:
        value = json.loads(file.read_bytes())
        for key in keys:
            value = value[key]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return value if isinstance(value, str) else None
