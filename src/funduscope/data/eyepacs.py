"""eyepacs400: hundreds of clinics and cameras at 400 px; a grade by one reader, which eye, and for some a quality.

Grades: Kaggle Diabetic Retinopathy Detection, 2015. Quality: EyeQ, Fu et al., MICCAI 2019. The grade of a photo that
EyeQ calls `reject` should not be believed: such a photo is known for its quality and for nothing else here, so its
grade is read, checked and left out.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import Case, Labels
from funduscope.data.photos import match, photos_in
from funduscope.data.rows import EYES, QUALITY_WORDS, columns_of, read_sheet

_COLUMNS = ("image", "patient", "eye", "dr", "quality")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: `labels.csv` with its columns."""
    return columns_of(folder / "labels.csv").issuperset(_COLUMNS)


def read(folder: Path) -> list[Case]:
    """The cases, a patient's two eyes under one visit; raises `LabelError` naming row and column."""
    photos, taken = photos_in(folder / "images"), set[str]()
    cases = []
    for row in read_sheet(folder / "labels.csv", _COLUMNS).rows:
        path = match(row, "image", photos, taken)
        grade = row.integer("dr", 4)
        quality = row.one_of("quality", QUALITY_WORDS)
        labels = Labels(
            grade=None if quality == "reject" else grade,
            quality=quality,
            laterality=row.one_of("eye", EYES),
        )
        visit = f"eyepacs400/{row.needed('patient')}"
        cases.append(Case(f"eyepacs400/{path.stem}", "eyepacs400", path.stem, path, visit, labels))
    return cases
