"""Writes corrections as labels that `funduscope train` reads: masks in IDRiD's layout, and a table of everything.

    A. Segmentation/1. Original Images/a. Training Set/IDRiD_001.jpg
        The photo's pixels, upright, without metadata: an upright JPEG's own data, a PNG of any other file.
    A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/1. Microaneurysms/IDRiD_001_MA.tif
    A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/known.csv
        The structures whose masks are complete in each photo; nothing is known of the others.
    labels.csv
        The same masks, with grades and points: what `--data labels.csv` reads.
    corrections.json
        What the page restores the corrections from.

Where files are to carry the photos' names, which IDRiD's layout does not allow, photos are in `photos/`, masks in
`masks/`, and the table alone says what is known.

Who corrected and when is in corrections.json alone.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import cv2
import numpy as np

from funduscope.app.reviewed import Corrections
from funduscope.data.case import LabelError
from funduscope.data.readers.idrid import KNOWN_FILE, KNOWN_WORDS
from funduscope.data.table import COLUMNS, NONE_WORD
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.file_headers import read_header
from funduscope.imaging.photo import Photo
from funduscope.imaging.photo_names import safe_stem
from funduscope.imaging.plain_jpeg import START, plain_jpeg
from funduscope.report.image_files import mask_tiff
from funduscope.vocabulary import CODES, STRUCTURES

SCHEMA: Final = "funduscope-corrections/1"
MANIFEST: Final = "corrections.json"
TABLE: Final = "labels.csv"
SUBSET: Final = "A. Segmentation"
SPLIT: Final = "a. Training Set"
PHOTOS: Final = f"{SUBSET}/1. Original Images/{SPLIT}"
MASKS: Final = f"{SUBSET}/2. All Segmentation Groundtruths/{SPLIT}"
NAMED_PHOTOS: Final = "photos"
NAMED_MASKS: Final = "masks"
FOLDERS: Final[Mapping[str, str]] = {
    item.code: f"{place}. {item.name.title()}" for place, item in enumerate(STRUCTURES, start=1)
}


@dataclass(frozen=True)
class LabeledPhoto:
    """One corrected photo. masks: structure code to (H, W) bool, for every complete structure.

    data: the bytes of the file that the photo was read from, None if they were removed. name: what its files are
    named after; None for neutral names. original: of a restored photo, the SHA-256 of the file it was first read from.
    """

    photo: Photo
    corrections: Corrections
    masks: Mapping[str, np.ndarray]
    data: bytes | None = None
    name: str | None = None
    original: str = ""


def label_files(photos: Iterable[LabeledPhoto], first: int = 1) -> Iterator[tuple[str, bytes]]:
    """The path and the bytes of every file, one at a time. first: the number of the first photo."""
    rows, manifest, known, taken = [], [], [], set[str]()
    for number, one in enumerate(photos, start=first):
        suffix, picture = _picture(one)
        if one.name is None:
            name = f"IDRiD_{number:03d}"
            path, mask_path = f"{PHOTOS}/{name}{suffix}", f"{MASKS}/{{folder}}/{name}_{{code}}.tif"
            known.append({"image": name} | {code: KNOWN_WORDS[code in one.masks] for code in CODES})
        else:
            name = safe_stem(one.name, taken, one.photo.sha256)
            path, mask_path = f"{NAMED_PHOTOS}/{name}{suffix}", f"{NAMED_MASKS}/{name}_{{code}}.tif"
        yield path, picture
        mask_paths: dict[str, str] = {}
        for code, mask in one.masks.items():
            if mask.any():  # in IDRiD's layout a missing file means an empty mask
                mask_paths[code] = mask_path.format(folder=FOLDERS[code], code=code)
                yield mask_paths[code], mask_tiff(mask)
        rows.append(_row(path, one, mask_paths))
        manifest.append(_manifest_entry(path, one, mask_paths))
    if known:
        yield f"{MASKS}/{KNOWN_FILE}", _csv(("image", *CODES), known)
    yield TABLE, _csv(COLUMNS, rows)
    yield MANIFEST, json.dumps({"schema": SCHEMA, "photos": manifest}, indent=1, ensure_ascii=False).encode()


def as_zip(photos: Iterable[LabeledPhoto], folder: str = "corrections", first: int = 1) -> bytes:
    """All files in one ZIP file, stored, since pictures are compressed already.

    folder: the folder's name in it. first: the number of the first photo, so that a training can read several folders.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in label_files(photos, first):
            archive.writestr(f"{folder}/{name}", data)
    return file.getvalue()


def max_saved_bytes(data: bytes | None, width: int, height: int) -> int:
    """An upper bound of the bytes that a photo and its labels take when saved. data: the file it was read from.

    A PNG is hardly larger than its pixels, and five masks take far less than a bit per pixel.
    """
    labels = width * height // 8 + 10_000
    if data is not None and data.startswith(START) and read_header(data).orientation == 1:
        return len(data) + labels
    return 3 * width * height + labels


def into_folder(photos: Iterable[LabeledPhoto], folder: Path) -> Path:
    """Writes the files into a new or empty folder, either all of them or none, and returns the folder.

    Raises `LabelError` if the folder is not empty, `OSError` if the system refuses, `RuntimeError` for the home
    of an unknown user, `ValueError` for a name that no file can have.
    """
    folder = folder.expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabelError(f"{folder} is not empty; expected a new or an empty folder: name another.")
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Not `atomic.replacing`: the folder may be a disk of its own, so its entries are renamed within it.
        with TemporaryDirectory(prefix=".", suffix=".partial", dir=folder) as unfinished:
            for name, data in label_files(photos):
                path = Path(unfinished, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            for entry in Path(unfinished).iterdir():
                entry.rename(folder / entry.name)
    except BaseException:
        if is_new:
            with suppress(OSError):  # another program wrote into it
                folder.rmdir()
        raise
    return folder


def _row(path: str, one: LabeledPhoto, mask_paths: Mapping[str, str]) -> dict[str, Any]:
    """A row of the table: what the person stated, and nothing that only the model predicted."""
    corrections = one.corrections
    row: dict[str, Any] = {"path": path, "dr": corrections.grade, "dme": corrections.dme, **corrections.classes}
    for column, xy in (("od", corrections.disc_xy), ("fovea", corrections.fovea_xy)):
        if xy is not None:
            row |= {f"{column}_x": round(xy[0], 1), f"{column}_y": round(xy[1], 1)}
    masks = {
        f"mask_{code}": mask_paths.get(code, NONE_WORD) for code in one.masks if code in mask_paths or code != "OD"
    }
    return row | masks


def _manifest_entry(path: str, one: LabeledPhoto, mask_paths: Mapping[str, str]) -> dict[str, Any]:
    """What the page restores. The name is the saved one: the uploaded file's own name may be a person's."""
    return {
        "name": path.rpartition("/")[2],
        "sha256": one.original or one.photo.sha256,
        "width": one.photo.width,
        "height": one.photo.height,
        "path": path,
        "masks": dict(mask_paths),
    } | corrections_to_json(one.corrections, one.corrections.masks.keys() - one.masks.keys())


def corrections_to_json(corrections: Corrections, codes: Iterable[str]) -> dict[str, Any]:
    """A person's corrections for a JSON file. codes: the structures whose masks are in it, as text."""
    return {
        "grade": corrections.grade,
        "dme": corrections.dme,
        "classes": dict(corrections.classes),
        "disc_xy": corrections.disc_xy,
        "fovea_xy": corrections.fovea_xy,
        "corrected": sorted(corrections.by_hand),
        "looked_at": sorted(corrections.complete),
        "edits": {code: dict(counts) for code, counts in corrections.edits.items()},
        "graders": list(corrections.graders),
        "at": None if corrections.at is None else corrections.at.isoformat(timespec="minutes"),
        # Drawn but not complete: no label for a training, but the page restores it.
        "unfinished": {code: b64encode(corrections.masks[code]).decode() for code in sorted(codes)},
    }


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    file = io.StringIO()
    table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue().encode()


def _picture(one: LabeledPhoto) -> tuple[str, bytes]:
    """The suffix and the bytes of the saved photo. A JPEG stays one: its PNG would be several times as large."""
    plain = None if one.data is None else plain_jpeg(one.data)
    if plain is not None:
        with suppress(PhotoError):
            if np.array_equal(Photo.open(plain).pixels, one.photo.pixels):
                return ".jpg", plain
    bgr = cv2.cvtColor(one.photo.pixels, cv2.COLOR_RGB2BGR)
    # The fastest compression: about 0.2 s for twelve megapixels.
    return ".png", cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
