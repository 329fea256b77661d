"""DRIMDB: photos of one Turkish clinic judged by quality alone, and pictures that are no fundus photographs.

Sevik et al., Journal of Biomedical Optics 19(4), 2014. A copy with `labels.csv` and `images/`. The authors' classes are
good, bad (here `reject`) and outlier: a picture of something else. Grades and lesions are unknown. Eyes repeat, and no
patient is named. The camera writes a green date at the rim.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import Case, Labels
from funduscope.data.match_photos import photo_rows, photos_in
from funduscope.data.rows import QUALITY_WORDS, columns_of

NAME = "DRIMDB"

_COLUMNS = ("image", "quality")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: `labels.csv` has its two columns and no other."""
    return columns_of(folder / "labels.csv") == frozenset(_COLUMNS)


def read(folder: Path) -> list[Case]:
    """Read the cases, a visit each; raises `LabelError` naming row and column."""
    photos = photos_in(folder / "images")
    cases = []
    for row, path in photo_rows(folder / "labels.csv", _COLUMNS, photos):
        labels = Labels(quality=row.one_of("quality", QUALITY_WORDS))
        cases.append(Case.of("drimdb", path, labels))
    return cases
