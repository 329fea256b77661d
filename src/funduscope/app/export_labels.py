"""Corrections as labels that `funduscope train` reads: IDRiD's layout for masks, and a table for everything.

    A. Segmentation/1. Original Images/a. Training Set/IDRiD_001.jpg     the photo's pixels, upright, no metadata;
                                      of a photo that came as an upright JPEG its own data, else a .png
    A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/1. Microaneurysms/IDRiD_001_MA.tif
    A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/known.csv
                                      of which structures a photo's masks are complete; nothing is known of the others
    labels.csv                        the same masks, grades, points: what `--data labels.csv` reads
    corrections.json                  from which the page takes the corrections up again

Who corrected, and when, is left to the person who keeps the folder.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import shutil
import zipfile
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from funduscope.app.corrections import Corrections
from funduscope.data.case import LabelError
from funduscope.data.idrid import KNOWN_FILE, KNOWN_WORDS
from funduscope.data.table import COLUMNS, NONE_WORD
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.file_headers import read_header
from funduscope.imaging.photo import Photo
from funduscope.imaging.plain_jpeg import START, plain_jpeg
from funduscope.vocabulary import CODES

SCHEMA: Final = "funduscope-corrections/1"
LETTER: Final = "corrections.json"
TABLE: Final = "labels.csv"
SUBSET: Final = "A. Segmentation"
SPLIT: Final = "a. Training Set"
PHOTOS: Final = f"{SUBSET}/1. Original Images/{SPLIT}"
MASKS: Final = f"{SUBSET}/2. All Segmentation Groundtruths/{SPLIT}"
FOLDERS: Final[Mapping[str, str]] = {
    "MA": "1. Microaneurysms",
    "HE": "2. Haemorrhages",
    "EX": "3. Hard Exudates",
    "SE": "4. Soft Exudates",
    "OD": "5. Optic Disc",
}


@dataclass(frozen=True)
class Kept:
    """One corrected photo. masks: of every structure that was looked at, (H, W) bool, as it should be.

    data: the bytes of the file that the photo was read from, where they can still be had.
    """

    photo: Photo
    corrections: Corrections
    masks: Mapping[str, np.ndarray]
    data: bytes | None = None


def files(kept: Iterable[Kept], first: int = 1) -> Iterator[tuple[str, bytes]]:
    """Every file of the folder: its path in it and its bytes, one held at a time. first: the first photo's number."""
    rows, letters, known = [], [], []
    for number, one in enumerate(kept, start=first):
        name = f"IDRiD_{number:03d}"
        suffix, picture = _picture(one)
        path = f"{PHOTOS}/{name}{suffix}"
        yield path, picture
        placed: dict[str, str] = {}
        for code, mask in one.masks.items():
            if mask.any():  # no file is how the layout says that there is none
                placed[code] = f"{MASKS}/{_folder(code)}/{name}_{code}.tif"
                yield placed[code], _tiff(mask)
        known.append({"image": name} | {code: KNOWN_WORDS[code in one.masks] for code in CODES})
        rows.append(_row(path, one, placed))
        letters.append(_letter(path, one, placed))
    yield f"{MASKS}/{KNOWN_FILE}", _csv(("image", *CODES), known)
    yield TABLE, _csv(COLUMNS, rows)
    yield LETTER, json.dumps({"schema": SCHEMA, "photos": letters}, indent=1, ensure_ascii=False).encode()


def as_zip(kept: Iterable[Kept], folder: str = "corrections", first: int = 1) -> bytes:
    """The folder as one ZIP file, of that name in it. Its pictures are compressed already.

    first: the number of the first photo, so that several such folders can be trained on together.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files(kept, first):
            archive.writestr(f"{folder}/{name}", data)
    return file.getvalue()


def room(data: bytes | None, width: int, height: int) -> int:
    """How many bytes a photo and what is said of it may take in what is saved. data: the file it was read from.

    Rather too many: a PNG is hardly larger than its pixels, and five masks take far less than a bit a pixel.
    """
    beside = width * height // 8 + 10_000
    if data is not None and data.startswith(START):
        with suppress(PhotoError):
            if read_header(data).orientation == 1:
                return len(data) + beside
    return 3 * width * height + beside


def into_folder(kept: Iterable[Kept], folder: Path) -> Path:
    """Writes the files into a new or an empty folder, all of them or none, and returns it.

    Raises `LabelError` where something stands there already, `OSError` where the system refuses.
    """
    folder = folder.expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabelError(f"{folder} is not empty; expected a new or an empty folder: name another.")
    is_new = not folder.exists()
    # Not `atomic.replacing`: the folder may be a disk of its own, so its entries are renamed within it.
    unfinished = folder / f".{secrets.token_hex(4)}.partial"
    try:
        for name, data in files(kept):
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for entry in unfinished.iterdir():
            entry.rename(folder / entry.name)
        unfinished.rmdir()
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # never made, or somebody else's by now
                folder.rmdir()
        raise
    return folder


def _row(path: str, one: Kept, placed: Mapping[str, str]) -> dict[str, Any]:
    """A line of the table: what the person said, and nothing that only the model said."""
    said = one.corrections
    row: dict[str, Any] = {"path": path, "dr": said.grade, "dme": said.dme}
    for column, xy in (("od", said.disc_xy), ("fovea", said.fovea_xy)):
        if xy is not None:
            row |= {f"{column}_x": round(xy[0], 1), f"{column}_y": round(xy[1], 1)}
    return row | {f"mask_{code}": placed.get(code, NONE_WORD) for code in one.masks if code in placed or code != "OD"}


def _letter(path: str, one: Kept, placed: Mapping[str, str]) -> dict[str, Any]:
    """What the page takes up again. The file's own name is left behind: it may be a person's."""
    said = one.corrections
    return {
        "name": path.rpartition("/")[2],
        "sha256": one.photo.sha256,
        "width": one.photo.width,
        "height": one.photo.height,
        "path": path,
        "grade": said.grade,
        "dme": said.dme,
        "disc_xy": said.disc_xy,
        "fovea_xy": said.fovea_xy,
        "corrected": sorted(said.by_hand),
        "looked_at": sorted(one.masks),
        "masks": dict(placed),
        # Drawn, but not called complete: no label for a training, and not lost either.
        "unfinished": {code: b64encode(data).decode() for code, data in said.masks.items() if code not in one.masks},
    }


def _folder(code: str) -> str:
    return FOLDERS.get(code, code)


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    file = io.StringIO()
    table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return file.getvalue().encode()


def _picture(one: Kept) -> tuple[str, bytes]:
    """The photo as a file: its suffix and its bytes. What came as a JPEG takes several times as much as a PNG."""
    plain = None if one.data is None else plain_jpeg(one.data)
    if plain is not None:
        with suppress(PhotoError):
            if np.array_equal(Photo.open(plain).pixels, one.photo.pixels):
                return ".jpg", plain
    return ".png", _png(one.photo.pixels)


def _png(pixels: np.ndarray) -> bytes:
    """Lossless, and about a fifth of a second for twelve megapixels."""
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return data.tobytes()


def _tiff(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask.view(np.uint8) * np.uint8(255)).save(file, "TIFF", compression="tiff_lzw")
    return file.getvalue()
