"""Messidor-2: 874 examinations of three French hospitals, graded by three retina specialists who adjudicated.

Photos: Decencière et al., Image Analysis & Stereology 33(3), 2014 (Topcon TRC NW6, 45 degrees). Grades: Krause et al.,
Ophthalmology 125(8), 2018. Macular edema is yes or no (hard exudates within one disc diameter of the fovea): *yes* is
IDRiD's risk 2, *no* is 0 or 1, so it constrains the risk and does not state it. No lesion masks, no landmarks.

Two layouts. The official one: `IMAGES/`, the graders' `messidor_data.csv`, and the authors' `messidor-2.csv`, which
pairs left and right eyes (known from documentation alone). A copy: `images/` and `labels.csv`, whose `group` binds
neighboring names, both eyes of a patient among them.
"""

from __future__ import annotations

from pathlib import Path

from funduscope.data.case import Case, Labels, Laterality
from funduscope.data.match_photos import folder_named, photo_rows, photos_in
from funduscope.data.rows import columns_of, read_sheet

NAME = "Messidor-2"

_COLUMNS = ("image", "dr", "dme", "group")
_OFFICIAL = ("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable")
_PAIRS: tuple[Laterality, Laterality] = ("left", "right")
_EDEMA = (frozenset({0, 1}), frozenset({2}))


def recognize(folder: Path) -> bool:
    """Whether the folder is this set's, by the columns of its label file."""
    copied, official = columns_of(folder / "labels.csv"), columns_of(folder / "messidor_data.csv")
    return copied.issuperset(_COLUMNS) or official.issuperset(_OFFICIAL)


def read(folder: Path) -> list[Case]:
    """The cases; a visit is a group or an examination. Raises `LabelError` naming row and column."""
    official = (folder / "messidor_data.csv").is_file()
    file, columns = ("messidor_data.csv", _OFFICIAL) if official else ("labels.csv", _COLUMNS)
    _, dr, dme, last = columns
    photos = photos_in(folder_named(folder, "images"))
    pairs = _pairs(folder)
    cases = []
    for row, path in photo_rows(folder / file, columns, photos):
        grade, edema = row.grade(dr), row.integer(dme, 1)
        visit, laterality = pairs.get(path.stem, (path.stem, None))
        rejected = official and row.integer(last, 1) == 0
        labels = Labels(
            grade=None if rejected else grade,
            classes={} if rejected or edema is None else {"dme": _EDEMA[edema]},
            quality="reject" if rejected else None,
            laterality=laterality,
        )
        cases.append(Case.of("messidor2", path, labels, visit if official else row.needed(last)))
    return cases


def _pairs(folder: Path) -> dict[str, tuple[str, Laterality]]:
    """Photo to (examination, eye) by the official list of pairs; empty if there is none."""
    places: dict[str, tuple[str, Laterality]] = {}
    for file in sorted(folder.glob("*.csv")):
        if columns_of(file) == frozenset(_PAIRS):
            for row in read_sheet(file, _PAIRS).rows:
                names: dict[Laterality, str] = {eye: Path(row.text(eye)).stem for eye in _PAIRS if row.text(eye)}
                exam = next(iter(names.values()), "")
                places |= {name: (exam, eye) for eye, name in names.items()}
    return places
