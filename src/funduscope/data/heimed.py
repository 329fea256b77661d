"""HEI-MED: exudates of either kind, outlined finely, and what is bright but no exudate (drusen, scars, reflections).

Giancardo et al., Medical Image Analysis 16(1), 2012. Every bright lesion of a photo is labeled, so no file means none.
Hard and soft exudates are not distinguished (both files of a photo are united). Red lesions are unknown.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import ABSENT, Case, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.data.match_photos import match, photos_in
from funduscope.data.rows import columns_of, read_sheet
from funduscope.vocabulary import EITHER_EXUDATE

_COLUMNS = ("image", "od_x", "od_y")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: `labels.csv` with its columns, and masks."""
    return columns_of(folder / "labels.csv").issuperset((*_COLUMNS, "other_px_full"))


def read(folder: Path) -> list[Case]:
    """The cases, a visit each; raises `LabelError` naming row and column."""
    photos, taken = photos_in(folder / "images"), set[str]()
    masks = photos_in(folder / "masks")
    cases = []
    for row in read_sheet(folder / "labels.csv", _COLUMNS).rows:
        path = match(row, "image", photos, taken)
        labels = Labels(
            disc_xy=row.point("od_x", "od_y"),
            masks={EITHER_EXUDATE: _mask(masks, f"{path.stem}_EX", f"{path.stem}_SE")},
            negatives=_mask(masks, f"{path.stem}_other"),
        )
        key = f"heimed/{path.stem}"
        cases.append(Case(key, "heimed", path.stem, path, key, labels))
    return cases


def _mask(masks: dict[str, Path], *names: str) -> Mask:
    files = tuple(masks[name] for name in names if name in masks)
    return Mask(files, read_mask) if files else ABSENT
