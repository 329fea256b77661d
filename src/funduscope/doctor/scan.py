"""One pass over a data set's photos, kept on disk as it goes: what was looked at once is not opened again.

A photo counts as seen while its size and time of change are the same; a survey that was killed goes on where it stood.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from funduscope.data.prepare import default_cache
from funduscope.doctor.inventory import Inventory
from funduscope.doctor.record import Record, Seen, see
from funduscope.duplicates.process_pool import run_jobs
from funduscope.duplicates.search import Progress
from funduscope.duplicates.store import Store, StoredDescriptors, key_of, state_of
from funduscope.imaging.photo import Photo

__all__ = ["Progress", "Record", "Scan", "take_scan"]

_SEEN_BY: Final = (
    "quality/image_measures.py",
    "quality/appearance.py",
    *(f"doctor/{name}.py" for name in ("record", "burned_in_text", "metadata")),
)
_WORKERS: Final = 2


class Scan:
    """The photos of a data set as they were seen. Iterating gives each `Record`, by name, from the store's file."""

    def __init__(self, inventory: Inventory, file: Path) -> None:
        self.inventory = inventory
        self.store = Store(file, _SEEN_BY)
        self._paths = {inventory.relative(path): path for path in inventory.photos}

    @property
    def root(self) -> Path:
        """The folder that names are relative to."""
        return self.inventory.root

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Record]:
        for name in sorted(self._paths):
            record = self.record(name)
            if record is not None:
                yield record

    def record(self, name: str) -> Record | None:
        """What is known of a photo by its name; None where it is none of this data set."""
        held = self.store.of_photo(name, "record") if name in self._paths else None
        return None if held is None else Record.from_json(held)

    def thumbnail(self, name: str) -> bytes | None:
        """A small JPEG of a photo; None where it could not be opened."""
        return self.store.of_photo(name, "thumbnail") if name in self._paths else None

    def image(self, name: str) -> np.ndarray:
        """The photo (H, W, 3) uint8, opened anew; raises `PhotoError` where it cannot be."""
        return Photo.open(self._paths[name]).pixels

    def sketches(self, leave_out: Collection[str] = ()) -> StoredDescriptors:
        """Name to sketch, of every photo that has one, each read when it is asked for."""
        held = self.store.with_descriptor()
        names = sorted(name for name in self._paths if key_of(name) in held and name not in leave_out)
        return StoredDescriptors(self.store, names)

    def close(self) -> None:
        self.store.close()

    def relative(self, path: Path) -> str:
        return self.inventory.relative(path)

    def unseen(self) -> list[tuple[Path, str]]:
        """The photos (path, name) that have not been looked at as they are now."""
        seen = self.store.seen()
        return [(path, name) for name, path in self._paths.items() if seen.get(key_of(name)) != state_of(path)]

    def keep(self, path: Path, seen: Seen) -> None:
        """Store what was seen of a photo, at once."""
        record = seen.record
        blobs = seen.thumbnail, seen.sketch
        self.store.keep_photo(record.path, state_of(path), record.sha256, record.to_json(), blobs)


def take_scan(
    inventory: Inventory,
    cache: Path | None = None,
    workers: int = _WORKERS,
    progress: Progress = lambda items, words, total: items,
) -> Scan:
    """Look at every photo that was not seen yet, in `workers` processes, and keep what was seen.

    cache: the folder of the store, by default the user's cache folder; 0 workers look in this process.
    """
    folder = (cache or default_cache()) / "doctor"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{hashlib.sha256(key_of(str(inventory.root))).hexdigest()[:24]}.sqlite"
    scan = Scan(inventory, file)
    unseen = scan.unseen()
    for (path, name), seen in progress(run_jobs(_look, unseen, workers), "Looking at photos", len(unseen)):
        scan.keep(path, seen or Seen(_gave_up(path, name)))
    return scan


def _look(job: tuple[Path, str]) -> Seen:
    return see(*job)


def _gave_up(path: Path, name: str) -> Record:
    size = state_of(path)[0]
    says = "reading the file ended the process, for want of memory or by a fault; expected a photo: save it anew"
    return Record(name, size, error="E_INTERNAL", error_says=says)
