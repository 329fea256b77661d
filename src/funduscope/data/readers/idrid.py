"""IDRiD (CC BY 4.0): the official layout, its mirrors, and the boxes drawn on it later.

Porwal et al., Medical Image Analysis 59, 2020. A has masks, B grades, C disc and fovea. C's photos are B's under the
same number and are one case with them. The same number means other eyes in A and in B, so nothing is joined across
them. Numbers repeat between train and test, so a case is identified by (subset, split, number).

Mirrors nest folders in themselves, drop the numbering of names, add byte-order marks or save markups as workbooks. So
a file is recognized by the words along its path and in its name, and a label file by its columns.

A missing mask of a lesion that was outlined in a split means that the photo has none of it. A file `known.csv` in the
split's folder (ours, not the challenge's) narrows that for the photos it lists: image, and `yes` or `no` for each
structure. `yes`: the structure was searched and the masks are complete; `no`: nothing is known, whatever files there
are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from funduscope.data.case import ABSENT, Box, Case, LabelError, Labels, Mask, Point, Split
from funduscope.data.masks import read_mask, size_of
from funduscope.data.match_photos import PHOTO_SUFFIXES
from funduscope.data.rows import SHEET_SUFFIXES, Row, Sheet, check_sheet, read_tolerantly
from funduscope.imaging.hidden_files import is_hidden
from funduscope.vocabulary import CODES, STRUCTURES

NAME = "IDRiD"

Id = tuple[Split, int]
"""(split, number): "train" or "test", and the number in the file's name."""

_SUBSETS = {"segmentation": "A", "diseasegrading": "B", "localization": "C", "localisation": "C"}
_NAME = re.compile(rf"idrid_(\d{{1,4}})(?:_({'|'.join(CODES)}))?", re.IGNORECASE)
_PICTURES = (*PHOTO_SUFFIXES, ".bmp", ".gif", ".webp", ".jp2")
KNOWN_FILE = "known.csv"
KNOWN_WORDS = ("no", "yes")
SAME_PHOTO = {
    1: 102, 3: 369, 5: 82, 6: 196, 7: 29, 8: 207, 13: 231, 14: 232, 15: 236, 16: 237, 17: 239, 18: 132, 19: 242,
    20: 245, 21: 246, 23: 247, 24: 248, 27: 254, 28: 261, 29: 263, 33: 272, 34: 277, 35: 278, 36: 280, 37: 281,
    40: 282, 41: 283, 42: 284, 43: 294, 44: 300, 46: 306, 47: 64, 48: 53, 50: 48, 51: 310, 52: 311, 53: 12,
}  # fmt: skip
"""Photos of A that are photos of B, both of the training split: A's number to B's. Found by content
(`funduscope doctor`), and each pair was checked by eye. Only the 51 photos of A and 366 of B that the project has were
searched; the official test splits have more such pairs (Porwal et al. 2020 do not say which)."""


def _plain(text: str) -> str:
    """Lower-case letters and digits alone: "Risk of macular edema " and "A.%20Segmentation" become comparable."""
    return re.sub(r"[^a-z0-9]", "", unquote(text).lower())


_FOLDERS = {_plain(item.name): item.code for item in STRUCTURES} | {"hemorrhages": "HE", "opticdisk": "OD"}
"""What a folder of masks is named after, and the structure."""

_BOX_COLUMNS = ("image", "structure", "x0", "y0", "x1", "y1")


@dataclass
class _Found:
    """The files and labels that were found in the folder."""

    photos: dict[str, dict[Id, Path]] = field(default_factory=lambda: {"A": {}, "B": {}, "C": {}})
    masks: dict[str, dict[Id, Path]] = field(default_factory=dict)
    outlined: set[tuple[Split, str]] = field(default_factory=set)
    known: dict[Id, frozenset[str]] = field(default_factory=dict)
    grades: dict[Id, tuple[int | None, int | None]] = field(default_factory=dict)
    discs: dict[Id, Point] = field(default_factory=dict)
    foveas: dict[Id, Point] = field(default_factory=dict)
    boxes: dict[Id, dict[str, list[Box]]] = field(default_factory=dict)


def recognize(folder: Path) -> bool:
    """Whether the folder is IDRiD's or one of its subsets' (A, B, C), by folder names and `IDRiD_` file names."""
    places = [folder, *sorted(place for place in folder.iterdir() if place.is_dir())]
    subsets = [place for place in places if _meaning(place.name, _SUBSETS)]
    return any(_NAME.match(path.name) for place in subsets for path in _below(place) if path.is_file())


def _below(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is not hidden, sorted; links to folders are followed, none of them twice."""
    seen = set[Path]()
    for place, folders, files in os.walk(folder, followlinks=True):
        resolved = Path(place).resolve()
        if resolved in seen:
            folders.clear()
            continue
        seen.add(resolved)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from sorted(Path(place, name) for name in (*folders, *files) if not is_hidden(name))


def read(folder: Path) -> list[Case]:
    """The cases of A ("idrid-A") and of B with C's points and the boxes ("idrid-B"); raises `LabelError`."""
    found = _Found()
    for path in _below(folder):
        inner = path.relative_to(folder).parts
        where = (Path(os.path.normpath(folder.absolute())).name, *inner)
        if path.is_dir():
            _note_folder(found, where)
        elif path.suffix.lower() in PHOTO_SUFFIXES:
            _note_image(found, path, where)
        elif path.suffix.lower() in SHEET_SUFFIXES:
            _note_sheet(found, read_tolerantly(path), where)
        else:
            _check_no_mask(path, where)
    graded = {**found.photos["C"], **found.photos["B"]}
    if not graded and not found.photos["A"]:
        raise LabelError(f"{folder.name} has IDRiD's folders but none of its photos (IDRiD_01.jpg and so on).")
    _check_boxes(found)
    segmented = [_segmentation_case(found, key, path) for key, path in sorted(found.photos["A"].items())]
    return segmented + [_grading_case(found, key, path) for key, path in sorted(graded.items())]


def _segmentation_case(found: _Found, key: Id, path: Path) -> Case:
    split, number = key
    known, masks = found.known.get(key), {}
    for code in CODES:
        file = found.masks.get(code, {}).get(key)
        if known is not None and code not in known:
            continue
        if file is not None:
            masks[code] = Mask((file,), read_mask)
        elif code != "OD" and (known is not None or (split, code) in found.outlined):
            # No file of a lesion that was outlined in this split, or searched in this photo: the photo has none of it.
            masks[code] = ABSENT
    name = f"IDRiD_{number:02d}"
    full = f"idrid-A/{split}/{name}"
    same = f"idrid-B/train/IDRiD_{SAME_PHOTO[number]:03d}" if split == "train" and number in SAME_PHOTO else None
    labels = Labels(masks=masks)
    return Case(full, "idrid-A", name, path, full, labels, split=split, same_photo=same, research_only=False)


def _grading_case(found: _Found, key: Id, path: Path) -> Case:
    split, number = key
    name = f"IDRiD_{number:03d}"
    grade, dme = found.grades.get(key, (None, None))
    disc, fovea = found.discs.get(key), found.foveas.get(key)
    points = [point for point in (disc, fovea) if point is not None]
    height, width = size_of(path) if points else (0, 0)
    for x, y in points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise LabelError(
                f"{split}/{name}: a point at ({x:g}, {y:g}) lies outside its photo of {width}x{height} px; "
                "markups and photos must be of one release (4288 px wide, or the copy's own size)."
            )
    boxes = {code: tuple(drawn) for code, drawn in found.boxes.get(key, {}).items()}
    labels = Labels(grade=grade, dme=dme, disc_xy=disc, fovea_xy=fovea, boxes=boxes)
    full = f"idrid-B/{split}/{name}"
    return Case(full, "idrid-B", name, path, full, labels, split=split, research_only=False)


def _note_folder(found: _Found, where: tuple[str, ...]) -> None:
    code, split = _meaning(where[-1], _FOLDERS), _split(where)
    if code and split and _subset(where) == "A":
        found.outlined.add((split, code))


def _note_image(found: _Found, path: Path, where: tuple[str, ...]) -> None:
    name, subset = _NAME.fullmatch(path.stem), _subset(where)
    if name is None or subset is None:
        _check_no_mask(path, where)
        return
    key = (_needed_split(path, where), int(name[1]))
    if name[2] is None:
        shelf = found.photos[subset]
    else:
        code, folder_code = name[2].upper(), _meaning(where[-2], _FOLDERS)
        if folder_code not in (None, code):
            raise LabelError(f"The mask {path.name} lies in the folder {where[-2]}: {code} or {folder_code}?")
        found.outlined.add((key[0], code))
        shelf = found.masks.setdefault(code, {})
    if key in shelf:
        raise LabelError(f"{path.name} is there twice, in {shelf[key].parent} and in {path.parent}: keep one of them.")
    shelf[key] = path


def _check_no_mask(path: Path, where: tuple[str, ...]) -> None:
    """Raises `LabelError` if the file lies among a lesion's masks and is none: its photo would count as without."""
    code = _meaning(Path(*where).parent.name, _FOLDERS) if _subset(where) == "A" else None
    if code is not None and path.suffix.lower() in _PICTURES:
        raise LabelError(
            f"{path.name} lies among the masks of {path.parent.name} and is none: expected names such as "
            f"IDRiD_01_{code}.tif"
        )


def _note_sheet(found: _Found, sheet: Sheet, where: tuple[str, ...]) -> None:
    """Adds a sheet's grades, points or boxes; a sheet with other columns is ignored, whatever else is in it."""
    columns = {_plain(name): name for name in sheet.columns}
    image = columns.get("imagename") or columns.get("imageno") or columns.get("image")
    if image is None and not sheet.unreadable:
        return
    check_sheet(sheet)
    if image is None:
        return
    if sheet.file.name.lower() == KNOWN_FILE:
        _note_known(found, sheet, image, _needed_split(sheet.file, where))
    elif {"retinopathygrade", "riskofmacularedema"} & set(columns):
        _note_grades(found, sheet, image, columns, _needed_split(sheet.file, where))
    elif {"xcoordinate", "ycoordinate"} <= set(columns):
        file, folder = _plain(where[-1]), _plain(where[-2]) if len(where) > 1 else ""
        is_named = any(word in file for word in ("fovea", "odcenter", "disc"))  # otherwise the folder says it
        is_fovea = "fovea" in (file if is_named else folder)
        shelf = found.foveas if is_fovea else found.discs
        split = _needed_split(sheet.file, where)
        for row in sheet.rows:
            point = row.point(columns["xcoordinate"], columns["ycoordinate"])
            key = (split, _number(row, image))
            if point is not None and shelf.setdefault(key, point) != point:
                raise row.error(image, "this photo has another point already; expected one row a photo")
    elif set(_BOX_COLUMNS) <= set(sheet.columns):
        for row in sheet.rows:
            code, box = _box(row)
            # The boxes were drawn on photos of the training split of B, and their file does not say so.
            found.boxes.setdefault(("train", _number(row, image)), {}).setdefault(code, []).append(box)


def _note_known(found: _Found, sheet: Sheet, image: str, split: Split) -> None:
    words: dict[str, str] = {word: word for word in KNOWN_WORDS}
    codes = [code for code in CODES if code in sheet.columns]
    for row in sheet.rows:
        key = (split, _number(row, image))
        searched = frozenset(code for code in codes if row.one_of(code, words) == "yes")
        if found.known.setdefault(key, searched) != searched:
            raise row.error(image, f"{row.text(image)} is in two rows with different words; expected one a photo")


def _note_grades(found: _Found, sheet: Sheet, image: str, columns: dict[str, str], split: Split) -> None:
    for row in sheet.rows:
        key = (split, _number(row, image))
        label = (
            row.grade(columns.get("retinopathygrade", "")),
            row.integer(columns.get("riskofmacularedema", ""), 2),
        )
        if found.grades.setdefault(key, label) != label:
            raise row.error(image, f"{row.text(image)} is in two rows with different labels; expected one a photo")


def _box(row: Row) -> tuple[str, Box]:
    code = row.needed("structure")
    if code not in CODES:
        raise row.error("structure", f"is {code!r}; expected one of {', '.join(CODES)}")
    for column in _BOX_COLUMNS[2:]:
        row.needed(column)
    x0, y0, x1, y1 = (row.number_at(column) or 0.0 for column in _BOX_COLUMNS[2:])
    if x0 >= x1 or y0 >= y1:
        raise row.error("x1", f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty; expected x0 < x1 and y0 < y1")
    return code, (x0, y0, x1, y1)


def _check_boxes(found: _Found) -> None:
    """Raises `LabelError` if most boxes of the disc miss its point: they were drawn on a copy of another size."""
    known = [key for key in found.boxes if key in found.discs]
    pairs = [(found.discs[key], box) for key in known for box in found.boxes[key].get("OD", [])]
    inside = sum(x0 <= x <= x1 and y0 <= y <= y1 for (x, y), (x0, y0, x1, y1) in pairs)
    if pairs and inside < len(pairs) / 2:
        raise LabelError(
            f"boxes.csv does not fit the photos: {len(pairs) - inside} of its {len(pairs)} disc boxes miss the disc's "
            "point. It was drawn on copies of 1440 px: scale its columns to the photos, or move it away."
        )


def _number(row: Row, column: str) -> int:
    name = _NAME.fullmatch(Path(row.needed(column)).stem)
    if name is None or name[2] is not None:
        raise row.error(column, f"is {row.text(column)!r}; expected a name like IDRiD_001")
    return int(name[1])


def _meaning(name: str, words: dict[str, str]) -> str | None:
    """What the word stands for that a folder's name ends in."""
    return next((meaning for word, meaning in words.items() if _plain(name).endswith(word)), None)


def _subset(where: tuple[str, ...]) -> str | None:
    return next((letter for part in reversed(where) if (letter := _meaning(part, _SUBSETS))), None)


def _split(where: tuple[str, ...]) -> Split | None:
    for part in reversed(where[1:]):
        word = re.search(r"train|(?<!la)test", _plain(part))
        if word:
            return "test" if word.group() == "test" else "train"
    return None


def _needed_split(path: Path, where: tuple[str, ...]) -> Split:
    split = _split(where)
    if split is None:
        raise LabelError(f"{path}: train or test? Expected it in a folder like `a. Training Set` or `b. Testing Set`.")
    return split
