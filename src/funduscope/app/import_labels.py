"""Corrections that were saved, taken up again: from a ZIP file that is read like any stranger's file."""

from __future__ import annotations

import io
import json
import zipfile
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from funduscope.app.corrections import Corrections, packed
from funduscope.app.export_labels import LETTER, SCHEMA
from funduscope.data.case import Point
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.file_headers import read_header
from funduscope.imaging.photo import LIMITS
from funduscope.vocabulary import CODES, DME_RISKS, GRADES

MOST_FILES: Final = 10_000
MOST_RATIO: Final = 100
MOST_BYTES: Final = 2_000_000_000


@dataclass(frozen=True)
class Restored:
    """One photo of the file. sha256: of the photo as it once came; data: the bytes of the saved picture's file; size:
    its width and height, and those of every mask."""

    name: str
    sha256: str
    data: bytes
    size: tuple[int, int]
    corrections: Corrections


def restored(data: bytes) -> Iterator[Restored]:
    """The photos that a ZIP file of `keeping.as_zip` holds; raises `PhotoError` E_LABELS where it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            root = _checked(archive)
            letter = json.loads(_member(archive, root + LETTER, 50_000_000))
            if letter.get("schema") != SCHEMA:
                raise _refusal("it says to be of another kind")
            for one in letter["photos"]:
                yield _photo(archive, root, one)
    except PhotoError:
        raise
    except Exception as error:  # a stranger's file can be wrong in any way
        raise _refusal(f"{type(error).__name__}") from None


def _checked(archive: zipfile.ZipFile) -> str:
    """The folder in the archive that holds the letter; refuses archives that would fill the memory."""
    entries = archive.infolist()
    whole, small = sum(one.file_size for one in entries), sum(one.compress_size for one in entries)
    if len(entries) > MOST_FILES or whole > MOST_BYTES or whole > MOST_RATIO * max(small, 10_000):
        raise _refusal("it expands to more than is read")
    letters = [one.filename for one in entries if one.filename.rpartition("/")[2] == LETTER]
    if not letters:
        raise _refusal(f"it holds no {LETTER}")
    return min(letters, key=len)[: -len(LETTER)]


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """One file of the archive; its declared size is checked, and no more than that is read."""
    info = archive.getinfo(name)
    if info.file_size > most:
        raise _refusal("one of its files is too large")
    with archive.open(info) as file:
        return file.read(most)


def _photo(archive: zipfile.ZipFile, root: str, letter: Mapping[str, Any]) -> Restored:
    size = int(letter["width"]), int(letter["height"])
    if size[0] * size[1] > LIMITS.max_pixels:
        raise _refusal("a photo is larger than any that is read")
    corrected, looked_at = (frozenset(letter[key]) & set(CODES) for key in ("corrected", "looked_at"))
    masks: dict[str, bytes] = {}
    for code in looked_at:
        path = letter["masks"].get(code)
        mask = np.zeros(size[::-1], bool)
        if path is not None:
            mask = _mask(_member(archive, root + path, 200_000_000), size, "TIFF", "L")
        masks[code] = packed(mask)
    for code, text in letter.get("unfinished", {}).items():  # older files hold none of these
        if code in corrected - looked_at:
            masks[code] = packed(_mask(b64decode(text, validate=True), size, "PNG", "1"))
    corrections = Corrections(
        grade=_within(letter["grade"], len(GRADES)),
        dme=_within(letter["dme"], len(DME_RISKS)),
        disc_xy=_point(letter["disc_xy"], size),
        fovea_xy=_point(letter["fovea_xy"], size),
        masks=masks,
        looked_at=looked_at,
        confirmed=looked_at - corrected,
    )
    picture = _member(archive, root + letter["path"], LIMITS.max_bytes * 2)
    try:
        header = read_header(picture)
    except PhotoError:
        raise _refusal("a photo is damaged") from None
    if (header.width, header.height, header.orientation) != (*size, 1):
        raise _refusal("a photo is not of the size that is said of it")
    return Restored(str(letter["name"])[:300], str(letter["sha256"]), picture, size, corrections)


def _mask(data: bytes, size: tuple[int, int], kind: str, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=(kind,)) as image:
        if image.size != size or image.mode != mode:
            raise _refusal("a mask is not of its photo's size")
        return np.asarray(image) > 0


def _within(value: Any, count: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value < count:
        raise _refusal("a grade is out of bounds")
    return value


def _point(value: Any, size: tuple[int, int]) -> Point | None:
    if value is None:
        return None
    x, y = float(value[0]), float(value[1])
    if not (0 <= x <= size[0] and 0 <= y <= size[1]):
        raise _refusal("a point lies outside its photo")
    return x, y


def _refusal(why: str) -> PhotoError:
    says = f"the corrections cannot be read ({why}); expected a zip that this page saved: choose that file"
    return PhotoError("E_LABELS", says)
