"""srahim: both eyes of 223 patients of another clinic; grades, maculopathy yes or no, which eye.

Rahim S. S., "Retinal Fundus Image Dataset for Diabetic Retinopathy Detection", 2025. No landmarks, no lesion masks:
unknown. Maculopathy is not IDRiD's risk of edema: *no* agrees with risk 0 and *yes* with 1 or 2, a constraint only.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import Case, Labels
from funduscope.data.match_photos import match, photos_in
from funduscope.data.rows import EYES, columns_of, read_sheet

_COLUMNS = ("image", "patient", "eye", "dr", "maculopathy")
_MACULOPATHY = {"0": frozenset({0}), "1": frozenset({1, 2})}


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: `labels.csv` with its columns."""
    return columns_of(folder / "labels.csv").issuperset(_COLUMNS)


def read(folder: Path) -> list[Case]:
    """The cases, a patient's two eyes under one visit; raises `LabelError` naming row and column."""
    photos, taken = photos_in(folder / "images"), set[str]()
    cases = []
    for row in read_sheet(folder / "labels.csv", _COLUMNS).rows:
        path = match(row, "image", photos, taken)
        answer = row.integer("maculopathy", 1)
        labels = Labels(
            grade=row.grade("dr"),
            dme_among=None if answer is None else _MACULOPATHY[str(answer)],
            laterality=row.one_of("eye", EYES),
        )
        visit = f"srahim/{row.needed('patient')}"
        cases.append(Case(f"srahim/{path.stem}", "srahim", path.stem, path, visit, labels))
    return cases
