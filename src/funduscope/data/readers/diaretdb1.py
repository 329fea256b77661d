"""DIARETDB1 v2.1: regions that contain lesions, marked by four experts. They label presence and place, not edges.

Kauppi et al., BMVC 2007. `votes` has a file for each kind of lesion that was marked, `experts` the number of the four
who saw the kind anywhere, 0 included. No other data set here labels IRMA and new vessels (NV).
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import Case, Labels
from funduscope.data.match_photos import photo_rows, photos_in
from funduscope.data.rows import Row, columns_of
from funduscope.vocabulary import VOTERS

NAME = "DIARETDB1"

KINDS = ("MA", "HE", "EX", "SE", "IRMA", "NV")
_COLUMNS = ("image", *KINDS, "od_x", "od_y")


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's: `labels.csv` with its columns, and votes."""
    return columns_of(folder / "labels.csv").issuperset(_COLUMNS) and (folder / "votes").is_dir()


def read(folder: Path) -> list[Case]:
    """The cases, a visit each; raises `LabelError` naming row and column."""
    photos, votes = photos_in(folder / "images"), photos_in(folder / "votes")
    rows = photo_rows(folder / "labels.csv", _COLUMNS, photos)
    return [Case.of("diaretdb1", path, _labels(row, path.stem, votes)) for row, path in rows]


def _labels(row: Row, name: str, votes: dict[str, Path]) -> Labels:
    experts = {kind: row.integer(kind, VOTERS) for kind in KINDS}
    files = {kind: votes[f"{name}_{kind}"] for kind in KINDS if f"{name}_{kind}" in votes}
    for kind, count in experts.items():
        if count and kind not in files:
            raise row.error(kind, f"{count} experts saw it, but votes/{name}_{kind}.png is not there")
    return Labels(
        disc_xy=row.point("od_x", "od_y"),
        votes=files,
        experts={kind: count for kind, count in experts.items() if count is not None},
    )
