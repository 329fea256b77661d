"""The mask files of a data set, matched to their photos and decoded as they are stored, whatever is wrong with them."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from funduscope.data.case import LabelError
from funduscope.data.masks import VOTE, DecodedMask, decode_mask, marked
from funduscope.data.table import NONE_WORD, spelled_as_stored
from funduscope.doctor.columns import EXPERT_CODES, plain
from funduscope.doctor.inventory import Inventory, PhotoIndex
from funduscope.doctor.label_rows import LabelRows
from funduscope.vocabulary import CODES, STRUCTURES, VOTERS

_NAMED: Final = re.compile(
    rf"(?P<photo>.+)[-_ ](?P<code>{'|'.join(dict.fromkeys((*CODES, *EXPERT_CODES, 'other')))})", re.IGNORECASE
)
_FOLDERS: Final = {plain(item.name): item.code for item in STRUCTURES} | {"hemorrhages": "HE", "opticdisk": "OD"}
_FORMATS: Final = ("PNG", "TIFF", "JPEG", "BMP", "GIF")
_FEW: Final = 8


@dataclass(frozen=True)
class MaskFile:
    """A mask file of one structure of one photo.

    code: the structure, "" if neither name nor folder gives it. photo: None if there is none. folder_code: the
    structure that its folder is named after, "" if there is none. is_votes: whether it has experts' votes (60 each).
    """

    file: Path
    code: str
    photo: Path | None
    folder_code: str = ""
    is_votes: bool = False


@dataclass(frozen=True, eq=False)
class Stored:
    """A decoded mask file.

    values: (H, W) uint8, the highest of its color planes or its palette's indices, scaled to 0-255 where they are
    finer. levels: the values that occur, nine at most. marked: (H, W) bool, as training reads it. strength: (H, W), how
    strongly a pixel is marked: its brightness, or darkness on white. alpha: (H, W) bool, None without an alpha plane.
    """

    mode: str
    kind: str
    values: np.ndarray
    levels: tuple[int, ...]
    marked: np.ndarray
    strength: np.ndarray
    alpha: np.ndarray | None = None

    @property
    def is_binary(self) -> bool:
        """Whether it has two values at most."""
        return len(self.levels) <= 2

    @property
    def inside(self) -> np.ndarray:
        """(H, W) bool: what training reads as marked; of a soft border only what has half of the highest value."""
        return self.marked & (self.strength >= int(self.strength.max()) // 2) if self.is_soft else self.marked

    @property
    def is_soft(self) -> bool:
        """Whether its values are shades of a border, not numbers of classes, which are small."""
        return not self.is_binary and int(self.strength.max()) > _FEW

    @property
    def convention(self) -> str:
        """How inside and outside are stored, in words."""
        mode = {"P": "palette", "L": "gray", "1": "one bit"}.get(self.mode, self.mode)
        if not self.is_binary:
            return f"{mode}, many levels"
        return f"{mode}, 0 and {self.levels[-1]}" if self.levels[-1] else f"{mode}, 0 alone"


def read_outlines(inventory: Inventory, label_rows: LabelRows) -> list[MaskFile]:
    """Every mask in the data set's mask folders or named by a label file, sorted by file.

    A file that label files give to several photos or structures becomes as many outlines, each by the first row.
    """
    photos = PhotoIndex(inventory)
    by_file = {path: [_of_file(path, inventory, photos)] for path in inventory.masks}
    named: dict[Path, dict[tuple[str, Path | None], MaskFile]] = defaultdict(dict)
    for outline in _of_tables(label_rows):
        is_votes = any(known.is_votes for known in by_file.get(outline.file, ()))
        named[outline.file].setdefault((outline.code, outline.photo), replace(outline, is_votes=is_votes))
    for path, outlines in named.items():
        # A row without its photo has a finding of its own; the mask is without a photo only if no row has one.
        of_photos = [outline for outline in outlines.values() if outline.photo is not None]
        by_file[path] = of_photos or list(outlines.values())[:1]
    return [outline for path in sorted(by_file) for outline in by_file[path]]


def named_files(table: Path, text: str) -> list[Path]:
    """The files that a cell of a mask column names, relative to the table's folder."""
    if not text or text.lower() == NONE_WORD:
        return []
    folder, pieces = table.parent, [part.strip().replace("\\", "/") for part in text.split(";")]
    files = [spelled_as_stored(folder, piece) or folder / piece for piece in pieces if piece]
    return [Path(os.path.normpath(file)) for file in files]


def in_votes_folder(name: str) -> bool:
    """Whether a folder of a mask's path is called votes."""
    return any(part.lower() in ("votes", "vote") for part in Path(name).parts[:-1])


def _of_tables(label_rows: LabelRows) -> Iterator[MaskFile]:
    for table in label_rows.tables:
        for role in table.roles:
            for row in table.rows if role.startswith("mask_") else ():
                for file in named_files(table.file, row.cells[role].text):
                    if file.is_file():
                        yield MaskFile(file, role.removeprefix("mask_"), row.photo)


def _of_file(path: Path, inventory: Inventory, photos: PhotoIndex) -> MaskFile:
    named, name = _NAMED.fullmatch(path.stem), inventory.relative(path)
    folder_code = next((code for part in reversed(Path(name).parts[:-1]) if (code := _folder_code(part))), "")
    stem = path.stem if named is None else named["photo"]
    code = folder_code if named is None else named["code"].upper()
    code = "other" if code == "OTHER" else code
    return MaskFile(path, code, photos.of_mask(stem, path), folder_code, in_votes_folder(name))


def _folder_code(name: str) -> str:
    found = next((code for word, code in _FOLDERS.items() if plain(name).endswith(word)), "")
    return found or (name.upper() if name.upper() in CODES else "")


def read_stored(path: Path) -> Stored | str:
    """A decoded mask file, upright; a sentence that says why where it cannot be read."""
    if path.exists() and not path.is_file():  # reading a pipe would never end
        return "It is not a file."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damaged files; the checks report what is wrong
            return _stored(decode_mask(path, _FORMATS))
    except LabelError as error:
        return str(error)


def _stored(mask: DecodedMask) -> Stored | str:
    alpha, values, palette = None, mask.values, mask.palette
    if mask.has_alpha:
        alpha, values = values[..., -1] > 0, values[..., :-1]
    inside = marked(values, palette)
    if values.ndim == 3:
        values = values.max(axis=2)
    strength = _strength(values, palette, inside)
    if not np.array_equal(values > 0, inside):  # black at any index of a palette, or what is drawn on white
        values = np.where(inside, np.maximum(values, 1), 0)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            return "It has values that are not numbers."
        values = np.where((values > 0) & (values <= 1), values * 255, values)
    if values.dtype.itemsize > 1 and int(values.max(initial=0)) > 255:
        values = values // 257 if int(values.max()) > 4095 else values // 16
    values = np.ascontiguousarray(values if values.dtype == np.uint8 else np.clip(values, 0, 255).astype(np.uint8))
    counts = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel()
    levels = tuple(np.flatnonzero(counts)[: _FEW + 1].tolist())
    return Stored(mask.mode, mask.file_format, values, levels, inside, values if strength is None else strength, alpha)


def _strength(values: np.ndarray, palette: np.ndarray | None, inside: np.ndarray) -> np.ndarray | None:
    """How strongly each pixel is marked where the stored values do not say it; None where they do."""
    if palette is not None and len(palette):
        brightness = palette.max(axis=1)[np.clip(values, 0, len(palette) - 1)]
    elif values.dtype.itemsize > 1:  # whole numbers of 16 bits: of components, say
        return None if values.dtype.kind == "f" else inside
    else:
        brightness = values
    if np.array_equal(brightness > 0, inside):
        return None if brightness is values else brightness
    return inside if brightness.dtype == bool else brightness.max() - brightness  # drawn on white


def are_votes(levels: tuple[int, ...]) -> bool:
    """Whether the values of a file are votes of up to `VOTERS` experts, `VOTE` each."""
    return all(level % VOTE == 0 and level <= VOTE * VOTERS for level in levels)
