"""exudates/: hard exudates only, on center crops of 1024 px with coarse edges, from IDRiD.

Every other lesion is unknown, not absent. The manifest tells each photo's twin in IDRiD's grading set and its visit.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import Case, LabelError, Labels, Mask
from funduscope.data.masks import read_mask
from funduscope.data.photos import match, photos_in
from funduscope.data.rows import Row, columns_of, read_sheet

_COLUMNS = ("image", "mask_EX", "visit")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: `manifest.csv` with its columns."""
    return columns_of(folder / "manifest.csv").issuperset(_COLUMNS)


def read(folder: Path) -> list[Case]:
    """The cases; raises `LabelError` naming row and column.

    A visit is named after the twin of its first photo ("B/train/IDRiD_254" is the case "idrid-B/train/IDRiD_254"), so
    that twins stay in one fold where folds are made anew.
    """
    photos, taken = photos_in(folder / "images"), set[str]()
    visits: dict[str, str] = {}
    cases = []
    for row in read_sheet(folder / "manifest.csv", _COLUMNS).rows:
        file = folder / row.needed("image")
        path = match(Row(row.file, row.number, {"image": file.stem}), "image", photos, taken)
        mask = folder / row.needed("mask_EX")
        if not mask.is_file():
            raise row.error("mask_EX", f"{mask.name} is not there; hard exudates are all that this set knows")
        twin = row.text("same_photo_as")
        visit = visits.setdefault(row.needed("visit"), f"idrid-{twin}" if twin else f"exudates/{row.text('visit')}")
        labels = Labels(masks={"EX": Mask((mask,), read_mask)})
        cases.append(Case(f"exudates/{path.stem}", "exudates", path.stem, path, visit, labels))
    if not cases:
        raise LabelError("manifest.csv has no row; expected one a photo.")
    return cases
