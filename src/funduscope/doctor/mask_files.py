"""The masks of a data set, matched to their photos and read as they are stored, whatever is wrong with them."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageOps

from funduscope.doctor.columns import EXPERT_CODES, NONE_WORD, plain
from funduscope.doctor.inventory import Inventory
from funduscope.doctor.label_rows import LabelRows, PhotoIndex
from funduscope.vocabulary import CODES

_NAMED: Final = re.compile(
    rf"(?P<photo>.+)[-_ ](?P<code>{'|'.join(dict.fromkeys((*CODES, *EXPERT_CODES, 'other')))})", re.IGNORECASE
)
_FOLDERS: Final = {
    "microaneurysms": "MA", "haemorrhages": "HE", "hemorrhages": "HE", "hardexudates": "EX", "softexudates": "SE",
    "opticdisc": "OD", "opticdisk": "OD",
}  # fmt: skip
_FORMATS: Final = ("PNG", "TIFF", "JPEG", "BMP", "GIF")
_MAX_PIXELS: Final = 80_000_000
_WITH_ALPHA: Final = ("LA", "PA", "RGBA")
_FEW: Final = 8


@dataclass(frozen=True)
class Outline:
    """A mask's file. code: the structure, "" where neither name nor folder says. photo: None where there is none.

    folder_code: what its folder is called after, "" where after none. is_votes: of experts (60 each). table: the label
    file and row that name it, where one does.
    """

    file: Path
    code: str
    photo: Path | None
    folder_code: str = ""
    is_votes: bool = False
    table: tuple[Path, int] | None = None


@dataclass(frozen=True, eq=False)
class Stored:
    """What a mask's file holds. values: (H, W) uint8, the highest of its color planes or its palette's indices, scaled
    to 0-255 where they are finer. levels: the values that occur, at most nine. alpha: (H, W) bool where there is one.
    """

    mode: str
    kind: str
    values: np.ndarray
    levels: tuple[int, ...]
    alpha: np.ndarray | None = None

    @property
    def is_binary(self) -> bool:
        """Two values at most."""
        return len(self.levels) <= 2

    @property
    def inside(self) -> np.ndarray:
        """(H, W) bool: above zero; above half of the highest value where there are more values than two."""
        return self.values > (0 if self.is_binary else int(self.values.max()) // 2)

    @property
    def convention(self) -> str:
        """How it says inside and outside, in words."""
        mode = {"P": "palette", "L": "gray", "1": "one bit"}.get(self.mode, self.mode)
        if self.is_binary:
            held = self.levels[-1]
            return f"{mode}, 0 and {held}" if held else f"{mode}, 0 alone"
        return f"{mode}, many levels"


def read_outlines(inventory: Inventory, label_rows: LabelRows) -> list[Outline]:
    """Every mask that lies in the data set's mask folders or that a label file names, by file.

    A file that label files give to several photos or structures is as many outlines, each by the first row.
    """
    photos = PhotoIndex(inventory)
    held = {path: [_of_file(path, inventory, photos)] for path in inventory.masks}
    named: dict[Path, dict[tuple[str, Path | None], Outline]] = defaultdict(dict)
    for outline in _of_tables(label_rows):
        is_votes = any(known.is_votes for known in held.get(outline.file, ()))
        named[outline.file].setdefault((outline.code, outline.photo), replace(outline, is_votes=is_votes))
    for path, outlines in named.items():
        of_photos = [outline for outline in outlines.values() if outline.photo is not None]
        # A row without its photo is told as such; the mask lacks one only where no row has it.
        held[path] = of_photos or list(outlines.values())[:1]
    return [outline for path in sorted(held) for outline in held[path]]


def by_photo(outlines: list[Outline]) -> dict[Path, list[Outline]]:
    """The outlines of each photo; those of no photo are left out."""
    held: dict[Path, list[Outline]] = defaultdict(list)
    for outline in outlines:
        if outline.photo is not None:
            held[outline.photo].append(outline)
    return dict(held)


def named_files(table: Path, text: str) -> list[Path]:
    """The files that a cell of a mask's column names, beside the table."""
    if not text or text.lower() == NONE_WORD:
        return []
    return [table.parent / piece for part in text.split(";") if (piece := part.strip().replace("\\", "/"))]


def _of_tables(label_rows: LabelRows) -> Iterator[Outline]:
    for table in label_rows.tables:
        for role in table.roles:
            if not role.startswith("mask_"):
                continue
            for row in table.rows:
                for file in named_files(table.file, row.said[role].text):
                    if file.is_file():
                        yield Outline(file, role.removeprefix("mask_"), row.photo, table=(table.file, row.row))


def _of_file(path: Path, inventory: Inventory, photos: PhotoIndex) -> Outline:
    named, folders = _NAMED.fullmatch(path.stem), Path(inventory.relative(path)).parts[:-1]
    is_votes = any(part.lower() in ("votes", "vote") for part in folders)
    folder_code = next((code for part in reversed(folders) if (code := _folder_code(part))), "")
    if named is None:
        return Outline(path, folder_code, photos.of_mask(path.stem, path), folder_code, is_votes)
    code = named["code"].upper() if named["code"].lower() != "other" else "other"
    return Outline(path, code, photos.of_mask(named["photo"], path), folder_code, is_votes)


def _folder_code(name: str) -> str:
    plainly = plain(name)
    found = next((code for word, code in _FOLDERS.items() if plainly.endswith(word)), "")
    return found or (name.upper() if name.upper() in CODES else "")


def read_stored(path: Path) -> Stored | str:
    """What a mask's file holds, upright; a sentence where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged files; what is wrong with them is found below
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > _MAX_PIXELS:
                    return f"It has more than {_MAX_PIXELS // 1_000_000} million pixels."
                kind, mode = image.format or "", image.mode
                values = np.asarray(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"It cannot be opened as an image ({str(error).rstrip('.') or type(error).__name__})."
    return _stored(mode, kind, values)


def _stored(mode: str, kind: str, values: np.ndarray) -> Stored | str:
    alpha = None
    if mode in _WITH_ALPHA:
        alpha, values = values[..., -1] > 0, values[..., :-1]
    if values.ndim == 3:
        values = values.max(axis=2)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            return "It holds values that are no numbers."
        values = np.where((values > 0) & (values <= 1), values * 255, values)
    if values.dtype.itemsize > 1 and int(values.max(initial=0)) > 255:
        values = values // 257 if int(values.max()) > 4095 else values // 16
    values = np.ascontiguousarray(values if values.dtype == np.uint8 else np.clip(values, 0, 255).astype(np.uint8))
    counts = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel()
    levels = np.flatnonzero(counts)[: _FEW + 1]
    return Stored(mode, kind, values, tuple(int(level) for level in levels), alpha)


def split_votes(levels: tuple[int, ...]) -> bool:
    """Whether the values of a file are experts' votes: 60 each."""
    return all(level % 60 == 0 and level <= 240 for level in levels)
