"""A table of the user's own photos: a CSV with a row for each photo and a column for each kind of label."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from funduscope.data.case import ABSENT, Case, Empty, LabelError, Labels, Mask, Point
from funduscope.data.folds import MAX_FOLD, PATIENT, TABLE
from funduscope.data.masks import read_mask, size_of
from funduscope.data.rows import EYES, NOT_KNOWN, QUALITY_WORDS, Row, patient_name, read_sheet
from funduscope.vocabulary import CODES, FURTHER_TASKS

MASK_COLUMNS = {f"mask_{code}": code for code in CODES}
CLASS_COLUMNS = {task.name: len(task.classes) - 1 for task in FURTHER_TASKS}
"""The columns of further photo tasks, with the highest class."""
COLUMNS = (
    *("path", "dr", "dme", *CLASS_COLUMNS, "od_x", "od_y", "fovea_x", "fovea_y", "patient", "quality", "eye", "fold"),
    *MASK_COLUMNS,
)
EMPTY_COLUMN = "empty_masks"
EMPTY_WORDS: dict[str, Empty] = {"absent": "absent", "unknown": "unknown", "error": "error"}
NONE_WORD = "none"

_MAX_NAMED = 10


def read(path: Path) -> list[Case]:
    """The cases of a table; raises `LabelError` naming row and column of the first fault, and the other rows.

    An empty cell means unknown, the word `none` in a mask's column known to be absent. Several masks of a structure are
    separated by `;` and united. `empty_masks` says what mask files that mark nothing mean: absent, unknown or (without
    the column) error. Paths are relative to the table. A case's name is its path as written.
    """
    sheet = read_sheet(path, ("path",))
    unknown = [name for name in sheet.columns if name not in (*COLUMNS, EMPTY_COLUMN)]
    if unknown:
        raise LabelError(
            f"{path.name} has a column {', '.join(unknown)}; known are {', '.join((*COLUMNS, EMPTY_COLUMN))}."
        )
    if not sheet.rows:
        raise LabelError(f"{path.name} has no row; expected one a photo.")
    first: dict[Path, int] = {}
    spelled: dict[str, str] = {}
    folds: dict[str, int | None] = {}
    faults: dict[int, LabelError] = {}
    cases = []
    for row in sheet.rows:
        try:
            case = _case(row)
            resolved = case.path.resolve()
            if first.setdefault(resolved, row.number) != row.number:
                raise row.error("path", f"{case.name} is also in row {first[resolved]}; expected one row a photo")
            patient = patient_name(row.text("patient"))
            if patient.isdecimal() and (other := spelled.setdefault(patient.lstrip("0"), patient)) != patient:
                says = f"is {patient!r}, and {other!r} in an earlier row: spell one patient in one way"
                raise row.error("patient", says)
            if folds.setdefault(case.visit, case.fold) != case.fold:
                says = f"patient {row.text('patient')} has another fold in an earlier row; expected one"
                raise row.error("fold", says)
        except LabelError as error:
            faults[row.number] = error
        else:
            cases.append(case)
    if faults:
        error = next(iter(faults.values()))
        raise LabelError(f"{error}{_others([*faults][1:])}") from error
    return cases


def _case(row: Row) -> Case:
    name = row.needed("path").replace("\\", "/")
    path = spelled_as_stored(row.file.parent, name)
    if path is None:
        raise row.error("path", f"no file {name} (looked next to the table, in {row.file.parent})")
    try:
        size = size_of(path)
    except LabelError as error:
        raise row.error("path", str(error).rstrip(".")) from error
    empty = row.one_of(EMPTY_COLUMN, EMPTY_WORDS) or "error"
    masks = {code: mask for column, code in MASK_COLUMNS.items() if (mask := _mask(row, column, size, empty))}
    classes = {column: row.integer(column, highest) for column, highest in CLASS_COLUMNS.items()}
    labels = Labels(
        grade=row.grade("dr"),
        dme=row.integer("dme", 2),
        classes={name: label for name, label in classes.items() if label is not None},
        quality=row.one_of("quality", QUALITY_WORDS),
        laterality=row.one_of("eye", EYES),
        disc_xy=_point(row, "od", size),
        fovea_xy=_point(row, "fovea", size),
        masks=masks,
    )
    patient = patient_name(row.text("patient"))
    if patient.lower() in NOT_KNOWN:
        raise row.error("patient", f"is {patient!r}; expected the cell to be empty where the patient is not known")
    visit = f"{PATIENT}{patient}" if patient else f"{TABLE}/{name}"
    fold = row.integer("fold", MAX_FOLD)
    # Photos of the user's own: nobody knows of terms that would bind them.
    return Case(f"{TABLE}/{name}", TABLE, name, path, visit, labels, fold, research_only=False)


def _others(rows: list[int]) -> str:
    """A sentence about the further rows that have a fault."""
    if not rows:
        return ""
    named = ", ".join(map(str, rows[:_MAX_NAMED]))
    more = f" and {len(rows) - _MAX_NAMED} more" if len(rows) > _MAX_NAMED else ""
    return f" Row{'s' if len(rows) > 1 else ''} {named}{more} {'have' if len(rows) > 1 else 'has'} a fault, too."


def spelled_as_stored(folder: Path, name: str) -> Path | None:
    """The file of that name; a letter with an accent is one or two characters, as the program that wrote it has it."""
    names = dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))
    return next((path for each in names if _is_file(path := folder / each)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # longer than a name may be
        return False


def _point(row: Row, landmark: str, size: tuple[int, int]) -> Point | None:
    point = row.point(f"{landmark}_x", f"{landmark}_y")
    if point is not None and not (0 <= point[0] <= size[1] and 0 <= point[1] <= size[0]):
        where = f"({point[0]:g}, {point[1]:g}) lies outside the photo of {size[1]}x{size[0]} px"
        raise row.error(f"{landmark}_x", f"{where}; expected pixels of that file, x right and y down")
    return point


def _mask(row: Row, column: str, size: tuple[int, int], empty: Empty) -> Mask | None:
    text = row.text(column)
    if not text:
        return None
    if text.lower() == NONE_WORD:
        return ABSENT
    files = []
    for piece in filter(None, (piece.strip().replace("\\", "/") for piece in text.split(";"))):
        file = spelled_as_stored(row.file.parent, piece)
        if file is None:
            otherwise = f"write {NONE_WORD} where the photo has none of it, nothing where unknown"
            raise row.error(column, f"no file {piece} (looked next to the table); {otherwise}")
        try:
            found = size_of(file, mask=True)
        except LabelError as error:
            raise row.error(column, str(error).rstrip(".")) from error
        if found != size:
            raise row.error(column, f"{piece} is {found[1]}x{found[0]} px, its photo {size[1]}x{size[0]} px")
        files.append(file)
    if not files:  # of two empty names joined by a program; a mask without files would mean that there is none
        says = f"is {text!r}, which names no file; expected one, {NONE_WORD} where the photo has none of it, or nothing"
        raise row.error(column, says)
    return Mask(tuple(files), read_mask, empty)
