"""One pass over a data set's photos, stored on disk as it goes, so that no photo is opened twice.

A stored record is valid while the file's size and modification time are the same; a scan that was killed continues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from funduscope.data.prepare import default_cache
from funduscope.doctor.inventory import Inventory
from funduscope.doctor.record import Record, ScannedPhoto, scan_photo
from funduscope.duplicates.store import State, Store, StoredDescriptors, key_of, state_of
from funduscope.imaging.photo import Photo
from funduscope.process_pool import run_jobs
from funduscope.progress import Progress, no_progress

_SCANNED_BY: Final = (
    "imaging/burned_in_marks.py",
    "quality/image_measures.py",
    "quality/appearance.py",
    "quality/fundus.py",
    *(f"doctor/{name}.py" for name in ("record", "metadata")),
)
_CRASH: Final = "E_INTERNAL"
_CRASHED: Final = (
    "reading the file ended the process, for lack of memory or by a fault; expected a photo: save it again"
)


class Scan:
    """The scanned photos of a data set. Iterating gives each `Record`, sorted by name, read from the store's file."""

    def __init__(self, inventory: Inventory, file: Path) -> None:
        self.inventory, self.root = inventory, inventory.root
        self.store = Store(file, _SCANNED_BY)
        self._paths = {inventory.relative(path): path for path in inventory.photos}

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Record]:
        for name in sorted(self._paths):
            record = self.record(name)
            if record is not None:
                yield record

    def record(self, name: str) -> Record | None:
        """A photo's record by its name; None if the data set has no such photo."""
        text = self.store.of_photo(name, "record") if name in self._paths else None
        return None if text is None else Record.from_json(text)

    def thumbnail(self, name: str) -> bytes | None:
        """A small JPEG of a photo; None if it could not be opened."""
        return self.store.of_photo(name, "thumbnail") if name in self._paths else None

    def image(self, name: str) -> np.ndarray:
        """The photo, (H, W, 3) uint8 RGB, opened again; raises `PhotoError` if it cannot be."""
        return Photo.open(self._paths[name]).pixels

    def descriptors(self, leave_out: Collection[str] = ()) -> StoredDescriptors:
        """Name to descriptor of every photo that has one, each read from the store on access."""
        stored = self.store.with_descriptor()
        names = sorted(name for name in self._paths if key_of(name) in stored and name not in leave_out)
        return StoredDescriptors(self.store, names)

    def close(self) -> None:
        self.store.close()

    def relative(self, path: Path) -> str:
        return self.inventory.relative(path)

    def names(self, *paths: Path | None) -> list[str]:
        """The names of files relative to the data set; None is left out."""
        return [self.relative(path) for path in paths if path is not None]

    def unscanned(self) -> list[tuple[Path, str]]:
        """The photos (path, name) that the store does not have as they are now."""
        stored = self.store.seen()
        return [(path, name) for name, path in self._paths.items() if stored.get(key_of(name)) != state_of(path)]

    def keep(self, path: Path, scanned: ScannedPhoto, state: State) -> None:
        """Stores a scanned photo immediately. state: its file's before the scan; it may have been written since."""
        record = scanned.record
        blobs = scanned.thumbnail, scanned.descriptor
        # A photo whose process died is scanned again the next time: no file has this state.
        state = (0, 0) if record.error == _CRASH else state
        self.store.keep_photo(record.path, state, record.sha256, record.to_json(), blobs)


def take_scan(
    inventory: Inventory,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress = no_progress,
) -> Scan:
    """Scans every photo that the store does not have, in `workers` processes, and stores it.

    cache: the store's folder, by default the user's cache folder. 0 workers scan in this process.
    """
    folder = (cache or default_cache()) / "doctor"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{hashlib.sha256(key_of(str(inventory.root))).hexdigest()[:24]}.sqlite"
    scan = Scan(inventory, file)
    unscanned = scan.unscanned()
    states = {path: state_of(path) for path, _ in unscanned}
    for (path, name), scanned in progress(run_jobs(_scan, unscanned, workers), "Scanning photos", len(unscanned)):
        crashed = ScannedPhoto(Record(name, states[path][0], error=_CRASH, error_says=_CRASHED))
        scan.keep(path, scanned or crashed, states[path])
    return scan


def _scan(job: tuple[Path, str]) -> ScannedPhoto:
    return scan_photo(*job)
