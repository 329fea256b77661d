"""What was computed of many photos, and the result of every pair that was compared, in plain files.

The folder may be deleted at any time. A photo's file is valid while the photo and the code that made it are unchanged.
Each file is written whole, and nothing needs a lock: processes that write the same file write the same.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from funduscope.atomic import DamagedFileError, read_lines, remove_abandoned, replacing
from funduscope.duplicates.descriptor import Descriptor

FRAMED_BY: Final = tuple(
    f"imaging/{name}.py"
    for name in ("field_of_view", "file_headers", "framing", "photo", "photo_parts", "srgb", "strict_jpeg")
)
"""The package's files that decide which pixels a JPEG, PNG or TIFF has and where its frame lies."""

_DESCRIBED_BY: Final = (
    *FRAMED_BY,
    *(f"imaging/{name}.py" for name in ("dicom_file", "dicom_streams", "dicom_colors", "vessels")),
    *(f"duplicates/{name}.py" for name in ("keypoints", "descriptor", "cache")),
)
_COMPARED_BY: Final = ("duplicates/registration.py", "duplicates/pairs.py")

State = tuple[int, int]
"""Size and time of change of a file."""


class PhotoCache:
    """A file for each photo, named by the hash of the photo's name: its state, and parts as bytes.

    seen_by: more of the package's files, next to those that make descriptors, whose change makes a file invalid.
    """

    def __init__(self, folder: Path, seen_by: Sequence[str] = ()) -> None:
        self.folder = folder
        self._version = code_version((*_DESCRIBED_BY, *seen_by))
        remove_abandoned(folder)

    def read(self, name: str, part: str, state: State | None = None) -> bytes | None:
        """A part of what is kept of a photo; None if there is none.

        state: the photo's, of which the file must be and by the present code; without it, any file is good.
        """
        try:
            with np.load(self._file(name), allow_pickle=False) as file:
                if state is not None and (file["version"] != self._version or tuple(file["state"]) != state):
                    return None
                return file[part].tobytes() if part in file else None
        except (FileNotFoundError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # a damaged one is made again
            return None

    def write(self, name: str, state: State, parts: Mapping[str, bytes | None]) -> None:
        """Keep parts of a photo in place of earlier ones; None is left out."""
        arrays: dict[str, Any] = {"version": np.array(self._version), "state": np.array(state, np.int64)}
        arrays |= {part: np.frombuffer(data, np.uint8) for part, data in parts.items() if data is not None}
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._file(name)) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **arrays)

    def _file(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(encode_name(name)).hexdigest()[:32]}.npz"


class StoredDescriptors(Mapping[str, Descriptor]):
    """Descriptors by photo's name, each read from the cache when it is needed.

    digests: the SHA-256 of the file of each photo to iterate over.
    """

    def __init__(self, cache: PhotoCache, digests: Mapping[str, str]) -> None:
        self.cache, self.digests = cache, digests

    def __getitem__(self, name: str) -> Descriptor:
        data = self.cache.read(name, "descriptor")
        if data is None:
            raise KeyError(name)
        return Descriptor.from_bytes(data)

    def __iter__(self) -> Iterator[str]:
        return iter(self.digests)

    def __len__(self) -> int:
        return len(self.digests)


class PairCache:
    """The result of each compared pair by its key: the proved pair as JSON, or None. Each run adds a file of lines."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"pairs-{secrets.token_hex(8)}.jsonl"
        self.results: dict[str, str | None] = {}
        for path in folder.glob("pairs-*.jsonl"):
            try:
                lines = read_lines(path)
            except DamagedFileError:  # nothing is lost but time
                path.unlink(missing_ok=True)
                continue
            self.results |= {line["key"]: line["result"] for line in lines}

    def write(self, results: Mapping[str, str | None]) -> None:
        """Keep results by key."""
        self.results |= results
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"key": key, "result": result}) + "\n" for key, result in results.items())


def state_of(path: Path) -> State:
    """Size and time of change of a file; zeros if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return 0, 0
    return status.st_size, status.st_mtime_ns


def encode_name(name: str) -> bytes:
    """A name as bytes: names of files need not be valid text."""
    return name.encode("utf-8", "surrogateescape")


def pair_key(first: str, second: str, mirrored: bool) -> str:
    """The key of a pair of photos, each given by the sha256 of its bytes."""
    version = code_version(_DESCRIBED_BY + _COMPARED_BY)
    return hashlib.sha256(f"{first} {second} {mirrored} {version}".encode()).hexdigest()[:32]


@cache
def code_version(files: tuple[str, ...]) -> str:
    """A hash of the package's given source files, so that what older code stored is made again."""
    package = resources.files("funduscope")
    digest = hashlib.sha256()
    for file in files:
        digest.update(package.joinpath(*file.split("/")).read_bytes())
    return digest.hexdigest()[:16]
