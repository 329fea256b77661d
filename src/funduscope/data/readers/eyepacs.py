"""EyePACS: hundreds of clinics and cameras; a grade by one reader, which eye, and in the copy for some a quality.

Grades: Kaggle Diabetic Retinopathy Detection, 2015. Quality: EyeQ, Fu et al., MICCAI 2019. The grade of a photo with
EyeQ's quality `reject` is not reliable: it is read, checked and left out, and the quality is the photo's only label.

Two layouts. The official one: `trainLabels.csv` and the photos in `train/` (known from documentation alone), the data
set `eyepacs`. Reduced copies with `labels.csv` and `images/`: the data set is called as the folder where that is a name
such as `eyepacs1024` (1024 px wide), otherwise `eyepacs400`.
"""

from __future__ import annotations

import re
from pathlib import Path

from funduscope.data.case import Case, Labels
from funduscope.data.match_photos import folder_named, photo_rows, photos_in
from funduscope.data.rows import EYES, QUALITY_WORDS, columns_of

NAME = "EyePACS"

_COLUMNS = ("image", "patient", "eye", "dr", "quality")
_OFFICIAL = ("image", "level")
_COPY_NAME = re.compile(r"eyepacs\d+")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's, by the columns of its label file."""
    copied, official = columns_of(folder / "labels.csv"), columns_of(folder / "trainLabels.csv")
    return copied.issuperset(_COLUMNS) or official.issuperset(_OFFICIAL)


def read(folder: Path) -> list[Case]:
    """The cases, a patient's two eyes under one visit; raises `LabelError` naming row and column."""
    return _read_official(folder) if (folder / "trainLabels.csv").is_file() else _read_copy(folder)


def _read_copy(folder: Path) -> list[Case]:
    folder_name = folder.resolve().name.lower()
    dataset = folder_name if _COPY_NAME.fullmatch(folder_name) else "eyepacs400"

    cases = []
    for row, path in photo_rows(folder / "labels.csv", _COLUMNS, photos_in(folder / "images")):
        grade, quality = row.grade("dr"), row.one_of("quality", QUALITY_WORDS)
        kept = None if quality == "reject" else grade
        labels = Labels(grade=kept, quality=quality, laterality=row.one_of("eye", EYES))
        cases.append(Case.of(dataset, path, labels, row.needed("patient")))
    return cases


def _read_official(folder: Path) -> list[Case]:
    photos = photos_in(folder_named(folder, "train", "train_images", "resized_train"))
    cases = []
    for row, path in photo_rows(folder / "trainLabels.csv", _OFFICIAL, photos):
        patient, _, eye = path.stem.rpartition("_")  # "10_left"
        if not patient or eye.lower() not in EYES:
            raise row.error("image", f"is {row.text('image')!r}; expected a name like 10_left or 10_right")
        cases.append(Case.of("eyepacs", path, Labels(grade=row.grade("level"), laterality=EYES[eye.lower()]), patient))
    return cases
