"""srahim: both eyes of 223 patients of another clinic; grades, maculopathy yes or no, which eye.

Rahim S. S., "Retinal Fundus Image Dataset for Diabetic Retinopathy Detection", 2025. No landmarks, no lesion masks:
unknown. Maculopathy is not IDRiD's risk of edema: *no* agrees with risk 0 and *yes* with 1 or 2, a constraint only.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import Case, Labels
from funduscope.data.match_photos import photo_rows, photos_in
from funduscope.data.rows import EYES, columns_of

NAME = "srahim"

_COLUMNS = ("image", "patient", "eye", "dr", "maculopathy")
_MACULOPATHY = (frozenset({0}), frozenset({1, 2}))


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: `labels.csv` with its columns."""
    return columns_of(folder / "labels.csv").issuperset(_COLUMNS)


def read(folder: Path) -> list[Case]:
    """The cases, a patient's two eyes under one visit; raises `LabelError` naming row and column."""
    cases = []
    for row, path in photo_rows(folder / "labels.csv", _COLUMNS, photos_in(folder / "images")):
        maculopathy = row.integer("maculopathy", 1)
        labels = Labels(
            grade=row.grade("dr"),
            classes={} if maculopathy is None else {"dme": _MACULOPATHY[maculopathy]},
            laterality=row.one_of("eye", EYES),
        )
        cases.append(Case.of("srahim", path, labels, row.needed("patient")))
    return cases
