"""HEI-MED: exudates of either kind, outlined finely, and what is bright but no exudate (drusen, scars, reflections).

Giancardo et al., Medical Image Analysis 16(1), 2012. Every bright lesion of a photo is labeled, so no file means none.
Hard and soft exudates are not distinguished (both files of a photo are united). Red lesions are unknown.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import ABSENT, Case, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.data.match_photos import photo_rows, photos_in
from funduscope.data.rows import columns_of
from funduscope.vocabulary import EITHER_EXUDATE

NAME = "HEI-MED"

_COLUMNS = ("image", "od_x", "od_y")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's, by the columns of `labels.csv`."""
    return columns_of(folder / "labels.csv").issuperset((*_COLUMNS, "other_px_full"))


def read(folder: Path) -> list[Case]:
    """The cases, a visit each; raises `LabelError` naming row and column."""
    photos, masks = photos_in(folder / "images"), photos_in(folder / "masks")
    cases = []
    for row, path in photo_rows(folder / "labels.csv", _COLUMNS, photos):
        labels = Labels(
            disc_xy=row.point("od_x", "od_y"),
            masks={EITHER_EXUDATE: _mask(masks, f"{path.stem}_EX", f"{path.stem}_SE")},
            negatives=_mask(masks, f"{path.stem}_other"),
        )
        cases.append(Case.of("heimed", path, labels))
    return cases


def _mask(masks: dict[str, Path], *names: str) -> Mask:
    files = tuple(masks[name] for name in names if name in masks)
    return Mask(files, read_mask) if files else ABSENT
