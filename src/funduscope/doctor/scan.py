"""One pass over a data set's photos, stored on disk as it goes, so that no photo is opened twice.

A record is valid while the file's size and time of change are the same; a scan that was killed continues.
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
from funduscope.duplicates.cache import PhotoCache, State, StoredDescriptors, encode_name, state_of
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
    """The scanned photos of a data set. Iterating gives each `Record`, sorted by name.

    folder: of the cache. A record takes a kilobyte of memory, as text.
    """

    def __init__(self, inventory: Inventory, folder: Path) -> None:
        self.inventory, self.root = inventory, inventory.root
        self.cache = PhotoCache(folder, _SCANNED_BY)
        self._paths = {inventory.relative(path): path for path in inventory.photos}
        self._records: dict[str, str] = {}
        for name, path in self._paths.items():
            record = self.cache.read(name, "record", state_of(path))
            if record is not None:
                self._records[name] = record.decode()

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Record]:
        for name in sorted(self._records):
            yield Record.from_json(self._records[name])

    def record(self, name: str) -> Record | None:
        """A photo's record by its name; None if the data set has no such photo."""
        text = self._records.get(name)
        return None if text is None else Record.from_json(text)

    def thumbnail(self, name: str) -> bytes | None:
        """A small JPEG of a photo; None if it could not be opened."""
        return self.cache.read(name, "thumbnail") if name in self._paths else None

    def image(self, name: str) -> np.ndarray:
        """The photo, (H, W, 3) uint8 RGB, opened again; raises `PhotoError` if it cannot be."""
        return Photo.open(self._paths[name]).pixels

    def descriptors(self, leave_out: Collection[str] = ()) -> StoredDescriptors:
        """Name to descriptor of every photo that has one, each read from the cache on access."""
        digests = {
            record.path: record.sha256 for record in self if record.error is None and record.path not in leave_out
        }
        return StoredDescriptors(self.cache, digests)

    def relative(self, path: Path) -> str:
        return self.inventory.relative(path)

    def names(self, *paths: Path | None) -> list[str]:
        """The names of files relative to the data set; None is left out."""
        return [self.relative(path) for path in paths if path is not None]

    def unscanned(self) -> list[tuple[Path, str]]:
        """The photos (path, name) that the cache does not have as they are now."""
        return [(path, name) for name, path in self._paths.items() if name not in self._records]

    def keep(self, scanned: ScannedPhoto, state: State) -> None:
        """Keeps a scanned photo immediately. state: its file's before the scan; it may have been written since."""
        name, record = scanned.record.path, scanned.record.to_json()
        self._records[name] = record
        if scanned.record.error != _CRASH:  # a photo whose process died is scanned again the next time
            parts = {"record": record.encode(), "thumbnail": scanned.thumbnail, "descriptor": scanned.descriptor}
            self.cache.write(name, state, parts)


def take_scan(
    inventory: Inventory,
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress = no_progress,
) -> Scan:
    """Scans every photo that the cache does not have, in `workers` processes, and keeps it there.

    cache: its folder, by default the user's cache folder. 0 workers scan in this process.
    """
    root = hashlib.sha256(encode_name(str(inventory.root))).hexdigest()[:24]
    scan = Scan(inventory, (cache or default_cache()) / "doctor" / root)
    unscanned = scan.unscanned()
    states = {path: state_of(path) for path, _ in unscanned}
    for (path, name), scanned in progress(run_jobs(_scan, unscanned, workers), "Scanning photos", len(unscanned)):
        crashed = ScannedPhoto(Record(name, states[path][0], error=_CRASH, error_says=_CRASHED))
        scan.keep(scanned or crashed, states[path])
    return scan


def _scan(job: tuple[Path, str]) -> ScannedPhoto:
    return scan_photo(*job)
