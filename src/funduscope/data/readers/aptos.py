"""APTOS 2019 Blindness Detection: photos of Aravind Eye Hospital's camps in rural India, a DR grade each.

Kaggle, 2019. `train.csv` and `train_images/` (the test part has no public grades). No patients are named, and some
photos are in it twice, a few with two grades: `funduscope folds` and `funduscope doctor` find them by content. Cameras
differ, many photos are cut above and below, and some copies are squeezed into squares.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import Case, Labels
from funduscope.data.match_photos import folder_named, photo_rows, photos_in
from funduscope.data.rows import columns_of

NAME = "APTOS 2019"

_COLUMNS = ("id_code", "diagnosis")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: `train.csv` with its columns."""
    return columns_of(folder / "train.csv").issuperset(_COLUMNS)


def read(folder: Path) -> list[Case]:
    """The cases, a visit each; raises `LabelError` naming row and column."""
    photos = photos_in(folder_named(folder, "train_images"))
    rows = photo_rows(folder / "train.csv", _COLUMNS, photos)
    return [Case.of("aptos", path, Labels(grade=row.grade("diagnosis"))) for row, path in rows]
