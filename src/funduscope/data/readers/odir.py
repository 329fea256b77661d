"""ODIR-5K: both eyes of Chinese patients, many cameras, with the annotators' keywords for each eye.

Peking University International Competition on Ocular Disease Intelligent Recognition, 2019.

Three layouts. A copy with `labels.csv` and `images/`: eyes without retinopathy, the data set `odir400`. The official
ones, the data set `odir`: `full_df.csv` (a row an eye), and the challenge's workbook or a CSV of it (a row a patient).
Photos may lie in any folder of the data set. The official layouts are known from documentation alone.

A keyword states a grade where it names a stage of diabetic retinopathy, and grade 0 where it says "normal fundus".
"Diabetic retinopathy" without a stage leaves grades 1 to 4. Where no keyword speaks of retinopathy, or it is only
suspected, the grade is unknown. A picture of the outer eye, or of nothing, has quality `not_fundus`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from funduscope.data.case import Case, LabelError, Labels, Laterality
from funduscope.data.match_photos import PHOTO_SUFFIXES, photo_rows, photos_in
from funduscope.data.rows import EYES, Row, columns_of, read_sheet, read_tolerantly
from funduscope.imaging.hidden_files import is_hidden

NAME = "ODIR-5K"

_COPY_COLUMNS: Final = ("image", "patient", "eye", "dr", "finding")
_PHOTO_COLUMNS: Final[dict[Laterality, str]] = {"left": "Left-Fundus", "right": "Right-Fundus"}
_KEYWORD_COLUMNS: Final[dict[Laterality, str]] = {
    "left": "Left-Diagnostic Keywords",
    "right": "Right-Diagnostic Keywords",
}
_PATIENT_COLUMN: Final = "ID"
_OFFICIAL_COLUMNS: Final = (_PATIENT_COLUMN, *_PHOTO_COLUMNS.values(), *_KEYWORD_COLUMNS.values())

_SEPARATORS: Final = re.compile("[,\N{FULLWIDTH COMMA};]")
_STAGES: Final = (
    ("severe proliferative", 4),
    ("mild non", 1),
    ("moderate non", 2),
    ("severe non", 3),
    ("proliferative diabetic", 4),
)
"""The beginning of a keyword and the grade that it states."""

_NOT_FUNDUS: Final = ("anterior segment image", "no fundus image")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's, by the columns of its label file."""
    is_copy = columns_of(folder / "labels.csv").issuperset(_COPY_COLUMNS)
    return is_copy or _official_table(folder) is not None


def read(folder: Path) -> list[Case]:
    """Read the cases, a patient's two eyes under one visit; raises `LabelError` naming row and column."""
    table = _official_table(folder)
    return _read_copy(folder) if table is None else _read_official(folder, table)


def _read_copy(folder: Path) -> list[Case]:
    photos = photos_in(folder / "images")
    cases = []
    for row, path in photo_rows(folder / "labels.csv", _COPY_COLUMNS, photos):
        labels = Labels(
            grade=row.grade("dr"),
            laterality=row.one_of("eye", EYES),
            finding=row.text("finding") or None,
        )
        cases.append(Case.of("odir400", path, labels, row.needed("patient")))
    return cases


def _official_table(folder: Path) -> Path | None:
    """Return the label file with both eyes' keywords: `full_df.csv`, another CSV or the workbook, in this order."""
    for path in [folder / "full_df.csv", *sorted(folder.glob("*.csv"))]:
        if columns_of(path).issuperset(_OFFICIAL_COLUMNS):
            return path

    for path in sorted(folder.glob("*.xlsx")):
        if not is_hidden(path.name) and set(read_tolerantly(path).columns).issuperset(_OFFICIAL_COLUMNS):
            return path
    return None


def _read_official(folder: Path, table: Path) -> list[Case]:
    photos = _photos_below(folder)
    cases: dict[str, Case] = {}

    for row in read_sheet(table, _OFFICIAL_COLUMNS).rows:
        for eye in _eyes_of(row):
            column = _PHOTO_COLUMNS[eye]
            name = Path(row.needed(column)).stem
            if name not in photos:
                advice = "remove the row or add the photo"
                raise row.error(column, f"no photo {name} among the {len(photos)} there; {advice}")

            labels = _labels_of(row.text(_KEYWORD_COLUMNS[eye]), eye)
            case = Case.of("odir", photos[name], labels, row.needed(_PATIENT_COLUMN))
            if cases.setdefault(name, case) != case:
                raise row.error(column, f"{name} is in two rows with different keywords; expected one a photo")
    return list(cases.values())


def _eyes_of(row: Row) -> list[Laterality]:
    """Return the eyes that a row is about: `full_df.csv` has a row an eye, named in its last column."""
    filename = row.text("filename")
    if not filename:
        return list(_PHOTO_COLUMNS)

    eyes: list[Laterality] = [eye for eye, column in _PHOTO_COLUMNS.items() if row.text(column) == filename]
    if not eyes:
        raise row.error("filename", f"is {filename!r}, which is neither the left nor the right photo of its row")
    return eyes


def _labels_of(keywords: str, eye: Laterality) -> Labels:
    """Return what one eye's diagnostic keywords say, as "mild nonproliferative retinopathy，drusen"."""
    phrases = [phrase.strip().lower() for phrase in _SEPARATORS.split(keywords) if phrase.strip()]
    finding = ", ".join(phrases) or None

    if any(phrase in _NOT_FUNDUS for phrase in phrases):
        return Labels(quality="not_fundus", laterality=eye, finding=finding)
    return Labels(classes=_classes_of(phrases), laterality=eye, finding=finding)


def _classes_of(phrases: list[str]) -> dict[str, int | frozenset[int]]:
    """Return the grade, or the possible grades, that the keywords state; nothing where they state none."""
    stages = [grade for phrase in phrases for beginning, grade in _STAGES if phrase.startswith(beginning)]
    if stages:
        return {"grade": max(stages)}
    if "diabetic retinopathy" in phrases:
        return {"grade": frozenset({1, 2, 3, 4})}
    if "normal fundus" in phrases:
        return {"grade": 0}
    return {}


def _photos_below(folder: Path) -> dict[str, Path]:
    """Return name without suffix to photo, of all folders of the data set; of two with one name the first."""
    photos: dict[str, Path] = {}
    for path in _files_below(folder):
        if path.suffix.lower() in PHOTO_SUFFIXES:
            photos.setdefault(path.stem, path)
    if not photos:
        raise LabelError(f"{folder.name} has ODIR's labels but none of its photos (0_left.jpg and so on).")
    return photos


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(place) / name for name in sorted(files) if not is_hidden(name))
