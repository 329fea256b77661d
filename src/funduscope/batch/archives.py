"""Photos in .zip and .tar archives, read in place. What an archive says of its entries is not believed.

Entries whose name leads out of the archive, links, and what expands beyond the limits are named as failures and never
opened. Nothing is unpacked to the disk.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Final, cast

from funduscope.i18n.errors import CodedError
from funduscope.imaging.find_photos import DICOM_INDEX, START_BYTES, SUFFIXES, begins_like_photo
from funduscope.imaging.hidden_files import is_hidden
from funduscope.imaging.limits import LIMITS

MAX_RATIO: Final = 100
"""Bytes of an entry for each that it takes in the archive; photos are compressed already."""

TOTAL_VARIABLE: Final = "FUNDUSCOPE_MAX_ARCHIVE_GB"
"""Names the most 10**9 bytes that the entries of an archive may have together, for a larger one."""

MAX_TOTAL_GB: Final = 1000

MAX_HEADER_BYTES: Final = 64_000
"""Of a tar's entry: the long name and other headers, which are read whole before the entry is seen."""

_SMALL_BYTES: Final = 1_000_000
_EXPLAINED: Final = (zipfile.BadZipFile, tarfile.TarError)
"""Errors whose text says what is wrong with an archive."""

_DAMAGED_ENTRY: Final = (
    "the entry is damaged or compressed with an unsupported method; expected an intact archive: copy it again"
)

Problem = tuple[str, str]
Listed = tuple["ArchiveEntry", Problem | None, bool]
"""An entry, why it must not be opened, and whether it is a photo."""


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """A file in an archive. start: in a tar, the place of its bytes; in a zip, of its header. version: another one
    once the file has changed, whatever was added before it."""

    name: str
    start: int
    size_bytes: int
    version: str = ""


def _most_gb() -> float:
    given = os.environ.get(TOTAL_VARIABLE, "") or MAX_TOTAL_GB
    try:
        most = float(given)
    except ValueError:
        most = 0.0
    if not 0 < most < math.inf:
        raise CodedError("E_CONFIG", f"{TOTAL_VARIABLE} is {given}; expected a number of GB above 0, such as 2000")
    return most


def is_archive(path: Path) -> bool:
    """Whether the name is one of a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file."""
    return path.suffix.lower() in (".zip", ".tar", ".tgz") or path.name.lower().endswith(
        (".tar.gz", ".tar.bz2", ".tar.xz")
    )


def is_packed(path: Path) -> bool:
    """Whether the name is one of an archive of any usual kind, also of those that are not read."""
    name = path.name.lower()
    return is_archive(path) or name.endswith((".7z", ".rar", ".tar.zst", ".tzst", ".tbz", ".tbz2", ".txz"))


class Archive:
    """An archive whose entries are listed, and read while it stays open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_zip = path.suffix.lower() == ".zip"
        self._open: zipfile.ZipFile | IO[bytes] | None = None
        self._zipped: dict[int, zipfile.ZipInfo] = {}

    def entries(self) -> Iterator[tuple[ArchiveEntry, Problem | None]]:
        """Yields each entry that is a photo by its suffix or first bytes, and each possible photo that is refused, with
        the code and a sentence of why. Nested archives are among the refused.

        Raises `CodedError` with E_CORRUPT for a damaged archive, E_TOO_LARGE for one that expands beyond the limits.
        """
        total, packed, most_gb = 0, self.path.stat().st_size, _most_gb()
        try:
            for entry, problem, is_photo in _zip_entries(self.path) if self._is_zip else _tar_entries(self.path):
                total += entry.size_bytes
                if total > max(_SMALL_BYTES, packed * MAX_RATIO):
                    says = f"{self.path.name} expands to more than {MAX_RATIO} times its size: unpack it first"
                    raise CodedError("E_TOO_LARGE", says)
                if total > most_gb * 1e9:
                    says = f"{self.path.name} has more than {most_gb:g} GB: split it, or set {TOTAL_VARIABLE} higher"
                    raise CodedError("E_TOO_LARGE", says)
                is_listed = is_photo if problem is None else _may_be_photo(entry.name)
                if is_listed:
                    yield entry, problem or _too_large(entry)
        except Exception as error:
            if not _is_damage(error):
                raise
            why = f": {error}" if isinstance(error, _EXPLAINED) else "; expected an intact archive: copy it again"
            raise CodedError("E_CORRUPT", f"{self.path.name} is damaged or of an unsupported kind{why}") from error

    def read(self, entry: ArchiveEntry) -> bytes:
        """The entry's bytes. Raises `CodedError` if the archive does not give as many as it said. The sentence names
        neither entry nor archive, as any of a photo.

        A compressed tar is read forwards, so entries are best asked for in their order.
        """
        try:
            data = self._bytes(entry)
        except Exception as error:
            if not _is_damage(error):
                raise
            raise CodedError("E_CORRUPT", _DAMAGED_ENTRY) from error
        if len(data) != entry.size_bytes:
            says = f"the entry has {len(data):,} of its {entry.size_bytes:,} bytes; expected a whole archive"
            raise CodedError("E_TRUNCATED", f"{says}: copy it again")
        return data

    def _bytes(self, entry: ArchiveEntry) -> bytes:
        if self._open is None:
            self._open = zipfile.ZipFile(self.path) if self._is_zip else _unpacked(self.path)
            if isinstance(self._open, zipfile.ZipFile):
                self._zipped = {info.header_offset: info for info in self._open.infolist()}
        if isinstance(self._open, zipfile.ZipFile):
            # not by its name, which stands for the last entry that has it
            with self._open.open(self._zipped[entry.start]) as packed:
                return packed.read(entry.size_bytes + 1)
        self._open.seek(entry.start)
        return self._open.read(entry.size_bytes)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _unpacked(tar: Path) -> IO[bytes]:
    """The tar's bytes, unpacked as they are read; packed in which way, its first bytes say and not its name."""
    packers = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ": lzma.LZMAFile}
    with tar.open("rb") as file:
        first = file.read(6)
    packer = next((packer for magic, packer in packers.items() if first.startswith(magic)), None)
    return tar.open("rb") if packer is None else packer(tar)


def _is_damage(error: Exception) -> bool:
    """Whether an error is of an archive's content. Libraries raise anything on a hostile one; what the machine refuses
    is an `OSError` with a number, or a `MemoryError`."""
    of_machine = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)
    return not of_machine and not isinstance(error, CodedError)


def _zip_entries(archive: Path) -> Iterator[Listed]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.header_offset < 0:
                raise zipfile.BadZipFile("an entry begins before the archive does")
            if info.is_dir():
                continue
            entry = ArchiveEntry(info.filename, info.header_offset, info.file_size, f"{info.file_size} {info.CRC:08x}")
            is_link = (info.external_attr >> 28) == 0o12
            problem = _unsafe(info.filename, is_link)
            if problem is None and info.flag_bits & 1:
                problem = "E_FORMAT", "the entry is encrypted: unpack the archive first"
            if problem is None and info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile unpacks other methods without a limit
                problem = "E_FORMAT", "the entry is compressed with an unsupported method: use the usual one (deflate)"
            if problem is None and info.file_size > max(_SMALL_BYTES, info.compress_size * MAX_RATIO):
                problem = "E_TOO_LARGE", f"the entry expands more than {MAX_RATIO} times, which no photo does"
            is_photo = False
            if problem is None:
                try:
                    is_photo = _is_photo(info.filename, partial(file.open, info))
                except Exception as error:
                    if not _is_damage(error):
                        raise
                    problem = "E_CORRUPT", _DAMAGED_ENTRY
            yield entry, problem, is_photo


class _TarHeaders:
    """The bytes of a tar for `tarfile`, which reads the headers of an entry into memory, however long they are."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._entry_bytes = 0
        self.last_block = b""

    def begin_entry(self) -> None:
        self._entry_bytes = 0

    def read(self, size: int) -> bytes:
        self._entry_bytes += size
        if self._entry_bytes > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"an entry has headers of more than {MAX_HEADER_BYTES:,} bytes")
        self.last_block = self._file.read(size)
        return self.last_block

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


def _tar_entries(archive: Path) -> Iterator[Listed]:
    with _unpacked(archive) as unpacked:
        headers = _TarHeaders(unpacked)
        with tarfile.open(fileobj=cast(IO[bytes], headers), mode="r:") as tar:
            while (info := tar.next()) is not None:
                if info.size < 0:
                    raise tarfile.ReadError("an entry has fewer than no bytes")
                if not info.isdir():
                    yield _tar_entry(tar, info)
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue] # it would grow with the archive
                headers.begin_entry()

            # tarfile takes a damaged header, and one that is cut off, for the end; that is a block of zeros.
            if len(headers.last_block) < tarfile.BLOCKSIZE or any(headers.last_block):
                raise tarfile.ReadError("a header is damaged or cut off")


def _tar_entry(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Listed:
    problem = _unsafe(info.name, is_link=not info.isreg())
    if problem is None and info.issparse():  # its bytes are not in one piece
        problem = "E_FORMAT", "the entry is stored with holes: create the archive without --sparse"
    is_photo = problem is None and _is_photo(info.name, partial(tar.extractfile, info))
    entry = ArchiveEntry(info.name, info.offset_data, info.size, f"{info.size} {info.mtime}")
    return entry, problem, is_photo


def _unsafe(name: str, is_link: bool) -> Problem | None:
    if is_packed(Path(name)):
        return "E_FORMAT", "an archive in the archive is not opened: unpack it first"
    parts = PurePosixPath(name).parts + PureWindowsPath(name).parts
    if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or "\0" in name:
        return "E_FORMAT", "the entry's name leads out of the archive: it is not opened"
    if is_link:
        return "E_FORMAT", "the entry is a link or a device: it is not followed"
    return None


def _too_large(entry: ArchiveEntry) -> Problem | None:
    if entry.size_bytes <= LIMITS.max_bytes:
        return None
    return "E_TOO_LARGE", f"{entry.size_bytes:,} bytes; expected at most {LIMITS.max_bytes:,}: save the photo smaller"


def _may_be_photo(name: str) -> bool:
    """Whether an entry may hold a photo by its name alone. One without a suffix may, and so may a number for one: names
    of DICOM files end in such."""
    path = PurePosixPath(name)
    is_known = path.suffix.lower() in SUFFIXES or not path.suffix[1:].isalpha() or is_packed(Path(name))
    return is_known and not _is_left_out(path)


def _is_left_out(path: PurePosixPath) -> bool:
    """Whether an entry is hidden, or a disc's list of its DICOM files."""
    return path.name == DICOM_INDEX or is_hidden(*(part for part in path.parts if part != ".."))


def _is_photo(name: str, opened: Callable[[], IO[bytes] | None]) -> bool:
    """Whether an entry is a photo by its suffix or by its first bytes: files of DICOM archives have no suffix."""
    path = PurePosixPath(name)
    if _is_left_out(path):
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    file = opened()
    if file is None:
        return False
    with file:
        return begins_like_photo(file.read(START_BYTES))
