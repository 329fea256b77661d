"""The roles of a label file's columns, by their names, and what a cell in each role may contain.

The names are those of the supported data sets and of users' own tables, and other usual spellings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from funduscope.data.case import LabelError
from funduscope.data.folds import MAX_FOLD
from funduscope.data.rows import EYES, NOT_KNOWN, QUALITY_WORDS, Row, patient_name
from funduscope.data.table import EMPTY_WORDS
from funduscope.vocabulary import CLASSES, CODES, DME_RISKS, FURTHER_TASKS, GRADES, VOTERS

EXPERT_CODES: Final = ("MA", "HE", "EX", "SE", "IRMA", "NV")
POINTS: Final = ("disc", "fovea")
BOX_SIDES: Final = ("x0", "y0", "x1", "y1")

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "image": ("imagename", "imageno", "image", "imageid", "imagefile", "path", "file", "filename", "idcode", "photo"),
    "grade": (
        "retinopathygrade",
        "dr",
        "drgrade",
        "adjudicateddrgrade",
        "grade",
        "level",
        "diagnosis",
        "diabeticretinopathy",
        "icdr",
    ),
    "dme": ("riskofmacularedema", "riskofmacularoedema", "dme", "dmerisk", "dmegrade", "edema"),
    "maculopathy": ("maculopathy",),
    "edema": ("adjudicateddme",),
    "quality": ("quality",),
    "eye": ("eye", "laterality", "side"),
    "patient": ("patient", "patientid", "visit", "subject"),
    "empty_masks": ("emptymasks",),
    "fold": ("fold",),
    "subset": ("subset",),
    "disc_x": ("odx", "discx", "opticdiscx"),
    "disc_y": ("ody", "discy", "opticdiscy"),
    "fovea_x": ("foveax", "maculax"),
    "fovea_y": ("foveay", "maculay"),
    "x": ("xcoordinate",),
    "y": ("ycoordinate",),
    "structure": ("structure",),
    "x0": ("x0",),
    "y0": ("y0",),
    "x1": ("x1",),
    "y1": ("y1",),
    **{task.name: (task.name.replace("_", ""),) for task in FURTHER_TASKS},
} | {f"mask_{code}": (f"mask{code.lower()}",) for code in CODES}

GRADING: Final = frozenset({*CLASSES, "maculopathy", "edema", "quality"})


@dataclass(frozen=True)
class Cell:
    """One cell of a label file. value: what its text means; None if it is empty or impossible."""

    column: str
    text: str
    value: Any = None


def plain(text: str) -> str:
    """Lower-case letters and digits alone: "Risk of macular edema " and "risk_of_macular_edema" are one."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def roles_of(columns: Sequence[str], folders: Sequence[str]) -> dict[str, str]:
    """Role to column. folders: the parts of the file's path, which show whether its points are foveas or discs."""
    by_plain: dict[str, str] = {}
    for name in columns:
        by_plain.setdefault(plain(name), name)
    roles = {}
    for role, names in _NAMES.items():
        found = next((by_plain[name] for name in names if name in by_plain), None)
        if found is not None:
            roles[role] = found
    if {"image", "dr", "dme", "group"} <= set(by_plain):  # Messidor-2 as it is copied: macular edema, yes or no
        roles["edema"] = roles.pop("dme")
    experts = {code: by_plain[code.lower()] for code in EXPERT_CODES if code.lower() in by_plain}
    if len(experts) >= 3:  # a single column of such a name may be anything
        roles |= {f"experts_{code}": column for code, column in experts.items()}
    if "x" in roles and "y" in roles:
        point = "fovea" if any("fovea" in plain(part) for part in folders) else "disc"
        roles |= {f"{point}_x": roles.pop("x"), f"{point}_y": roles.pop("y")}
    return {role: column for role, column in roles.items() if role not in ("x", "y")}


Parse = Callable[[Row, str], Any]
"""A row and a column to the value of the cell; raises `LabelError` if it is impossible."""


def _whole(highest: int) -> tuple[str, Parse]:
    expected = f"a whole number from 0 to {highest}, or nothing where unknown"
    return expected, lambda row, column: row.integer(column, highest)


def _word(meanings: Mapping[str, str]) -> tuple[str, Parse]:
    expected = f"one of {', '.join(meanings)}, or nothing where unknown"
    return expected, lambda row, column: row.one_of(column, meanings)


_NUMBER: Final = ("a number like 12.5, or nothing where unknown", Row.number_at)
_TEXT: Final = ("a text", lambda row, column: row.text(column) or None)


def _person(row: Row, column: str) -> str | None:
    name = patient_name(row.text(column))
    return None if name.lower() in NOT_KNOWN else name or None


_MEANINGS: Final[dict[str, tuple[str, Parse]]] = {
    "grade": (_whole(len(GRADES) - 1)[0], Row.grade),
    "dme": _whole(len(DME_RISKS) - 1),
    **{task.name: _whole(len(task.classes) - 1) for task in FURTHER_TASKS},
    "maculopathy": _whole(1),
    "edema": _whole(1),
    "quality": _word(QUALITY_WORDS),
    "eye": _word(EYES),
    "patient": ("the name of one patient or visit (leave the cell empty where it is not known)", _person),
    "empty_masks": _word(EMPTY_WORDS),
    "fold": _whole(MAX_FOLD),
    "structure": (
        f"one of {', '.join(CODES)}",
        lambda row, column: row.text(column) if row.text(column) in CODES else None,
    ),
    **{f"{point}_{axis}": _NUMBER for point in POINTS for axis in "xy"},
    **dict.fromkeys(BOX_SIDES, _NUMBER),
    **{f"experts_{code}": _whole(VOTERS) for code in EXPERT_CODES},
}


def expected(role: str) -> str:
    """What a cell of that role may contain, in words."""
    return _MEANINGS.get(role, _TEXT)[0]


def cell_of(role: str, column: str, row: Row) -> Cell:
    """A row's cell in its role."""
    try:
        return Cell(column, row.text(column), _MEANINGS.get(role, _TEXT)[1](row, column))
    except LabelError:
        return Cell(column, row.text(column))
