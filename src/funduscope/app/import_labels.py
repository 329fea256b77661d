"""Reads saved corrections from a ZIP file, which is checked like any file of unknown origin."""

from __future__ import annotations

import io
import json
import zipfile
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
from PIL import Image

from funduscope.app.export_labels import MANIFEST, SCHEMA
from funduscope.app.reviewed import EDITS, MAX_NAME_LENGTH, Corrections, Edit, mask_to_png
from funduscope.data.case import Point
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.file_headers import read_header
from funduscope.imaging.limits import LIMITS
from funduscope.vocabulary import CODES, DME_RISKS, FURTHER_TASKS, GRADES

MAX_FILES: Final = 10_000
MAX_RATIO: Final = 100
"""Largest ratio of expanded to compressed bytes."""

MAX_BYTES: Final = 2_000_000_000


@dataclass(frozen=True)
class SavedPhoto:
    """One photo of the file.

    sha256: of the file that was uploaded once. data: the bytes of the saved picture. size: width and height of the
    picture and of every mask.
    """

    name: str
    sha256: str
    data: bytes
    size: tuple[int, int]
    corrections: Corrections


def read_zip(data: bytes) -> Iterator[SavedPhoto]:
    """The photos of a ZIP file that `export_labels.as_zip` made; raises `PhotoError` E_LABELS for any other file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            root = _root(archive)
            manifest = json.loads(_member(archive, root + MANIFEST, 50_000_000))
            if manifest.get("schema") != SCHEMA:
                raise _refusal("its schema is another one")
            for entry in manifest["photos"]:
                yield _photo(archive, root, entry)
    except PhotoError:
        raise
    except Exception as error:  # the file can be wrong in any way
        raise _refusal(f"{type(error).__name__}") from None


def _root(archive: zipfile.ZipFile) -> str:
    """The folder of the manifest in the archive; refuses archives that would fill the memory."""
    entries = archive.infolist()
    expanded, compressed = sum(one.file_size for one in entries), sum(one.compress_size for one in entries)
    if len(entries) > MAX_FILES or expanded > MAX_BYTES or expanded > MAX_RATIO * max(compressed, 10_000):
        raise _refusal("it expands to more than is read")
    manifests = [one.filename for one in entries if one.filename.rpartition("/")[2] == MANIFEST]
    if not manifests:
        raise _refusal(f"it contains no {MANIFEST}; to read photos in a zip, unpack it and drop them here")
    return min(manifests, key=len)[: -len(MANIFEST)]


def _member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """One file of the archive; its declared size is checked, and no more than that is read."""
    info = archive.getinfo(name)
    if info.file_size > max_bytes:
        raise _refusal("one of its files is too large")
    with archive.open(info) as file:
        return file.read(max_bytes)


def _photo(archive: zipfile.ZipFile, root: str, entry: Mapping[str, Any]) -> SavedPhoto:
    size = int(entry["width"]), int(entry["height"])
    if size[0] * size[1] > LIMITS.max_pixels:
        raise _refusal("a photo is larger than any that is read")
    corrections = corrections_from_json(entry, size)
    complete = _saved_masks(archive, root, entry, size, corrections.complete - corrections.masks.keys())
    corrections = replace(corrections, masks={**corrections.masks, **complete})
    picture = _member(archive, root + entry["path"], LIMITS.max_bytes * 2)
    try:
        header = read_header(picture)
    except PhotoError:
        raise _refusal("a photo is damaged") from None
    if (header.width, header.height, header.orientation) != (*size, 1):
        raise _refusal("a photo has another size than the file states")
    return SavedPhoto(str(entry["name"])[:300], str(entry["sha256"]), picture, size, corrections)


def corrections_from_json(entry: Mapping[str, Any], size: tuple[int, int]) -> Corrections:
    """The corrections that `export_labels.corrections_to_json` wrote, with the masks that are in it.

    size: width and height of the photo. Raises `PhotoError` E_LABELS for impossible values, and other errors if it
    has another form.
    """
    by_hand, complete = (frozenset(entry[key]) & set(CODES) for key in ("corrected", "looked_at"))
    texts = entry.get("unfinished", {})  # older files have no such key
    return Corrections(
        grade=_within(entry["grade"], len(GRADES)),
        dme=_within(entry["dme"], len(DME_RISKS)),
        classes=_classes(entry.get("classes", {})),  # nor this one
        disc_xy=_point(entry["disc_xy"], size),
        fovea_xy=_point(entry["fovea_xy"], size),
        masks={
            code: mask_to_png(_mask(b64decode(texts[code], validate=True), size, "PNG", "1"))
            for code in sorted(by_hand | complete)
            if code in texts
        },
        complete=complete,
        confirmed=complete - by_hand,
        edits=_edits(entry.get("edits", {})),  # nor these
        graders=tuple(str(name)[:MAX_NAME_LENGTH] for name in entry.get("graders", ())),
        at=None if entry.get("at") is None else datetime.fromisoformat(entry["at"]),
    )


def _edits(entry: Mapping[str, Any]) -> dict[str, dict[Edit, int]]:
    """How often a person did what, by structure code; what is not known here is left out."""
    edits: dict[str, dict[Edit, int]] = {}
    for code in CODES:
        counts: dict[Edit, int] = {edit: int(entry[code][edit]) for edit in EDITS if edit in entry.get(code, {})}
        if counts:
            edits[code] = counts
    return edits


def _saved_masks(
    archive: zipfile.ZipFile, root: str, entry: Mapping[str, Any], size: tuple[int, int], codes: Iterable[str]
) -> dict[str, bytes]:
    """Code to the mask as a PNG, of complete structures, from their TIFF files."""
    masks: dict[str, bytes] = {}
    for code in codes:
        path = entry["masks"].get(code)  # an empty mask has no file
        mask = np.zeros(size[::-1], bool)
        if path is not None:
            mask = _mask(_member(archive, root + path, 200_000_000), size, "TIFF", "L")
        masks[code] = mask_to_png(mask)
    return masks


def _mask(data: bytes, size: tuple[int, int], kind: str, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=(kind,)) as image:
        if image.size != size or image.mode != mode:
            raise _refusal("a mask has another size than its photo")
        return np.asarray(image) > 0


def _classes(given: Mapping[str, Any]) -> dict[str, int]:
    """By further photo task its class; a task that the vocabulary does not have is left out."""
    known = {task.name: _within(given.get(task.name), len(task.classes)) for task in FURTHER_TASKS}
    return {name: label for name, label in known.items() if label is not None}


def _within(value: Any, count: int) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < count:  # true is an int, too
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
