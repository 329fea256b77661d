"""EyePACS: hundreds of clinics and cameras; a grade by one reader, which eye, and in the copy for some a quality.

Grades: Kaggle Diabetic Retinopathy Detection, 2015. Quality: EyeQ, Fu et al., MICCAI 2019. The grade of a photo with
EyeQ's quality `reject` is not reliable: it is read, checked and left out, and the quality is the photo's only label.

Two layouts. The official one: `trainLabels.csv` and the photos in `train/` (known from documentation alone), the data
set `eyepacs`. A copy at 400 px with `labels.csv` and `images/`, the data set `eyepacs400`.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import Case, Labels
from funduscope.data.match_photos import folder_named, match, photos_in
from funduscope.data.rows import EYES, QUALITY_WORDS, columns_of, read_sheet

_COLUMNS = ("image", "patient", "eye", "dr", "quality")
_OFFICIAL = ("image", "level")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's, by the columns of its label file."""
    copied, official = columns_of(folder / "labels.csv"), columns_of(folder / "trainLabels.csv")
    return copied.issuperset(_COLUMNS) or official.issuperset(_OFFICIAL)


def read(folder: Path) -> list[Case]:
    """The cases, a patient's two eyes under one visit; raises `LabelError` naming row and column."""
    return _read_official(folder) if (folder / "trainLabels.csv").is_file() else _read_copy(folder)


def _read_copy(folder: Path) -> list[Case]:
    photos, taken = photos_in(folder / "images"), set[str]()
    cases = []
    for row in read_sheet(folder / "labels.csv", _COLUMNS).rows:
        path = match(row, "image", photos, taken)
        grade = row.grade("dr")
        quality = row.one_of("quality", QUALITY_WORDS)
        labels = Labels(
            grade=None if quality == "reject" else grade,
            quality=quality,
            laterality=row.one_of("eye", EYES),
        )
        visit = f"eyepacs400/{row.needed('patient')}"
        cases.append(Case(f"eyepacs400/{path.stem}", "eyepacs400", path.stem, path, visit, labels))
    return cases


def _read_official(folder: Path) -> list[Case]:
    photos, taken = photos_in(folder_named(folder, "train", "train_images", "resized_train")), set[str]()
    cases = []
    for row in read_sheet(folder / "trainLabels.csv", _OFFICIAL).rows:
        path = match(row, "image", photos, taken)
        patient, _, eye = path.stem.rpartition("_")  # "10_left"
        if not patient or eye.lower() not in EYES:
            raise row.error("image", f"is {row.text('image')!r}; expected a name like 10_left or 10_right")
        labels = Labels(grade=row.grade("level"), laterality=EYES[eye.lower()])
        cases.append(Case(f"eyepacs/{path.stem}", "eyepacs", path.stem, path, f"eyepacs/{patient}", labels))
    return cases
