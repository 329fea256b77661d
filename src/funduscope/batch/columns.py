"""The columns of the tables of a batch: name, type and unit of each, and where findings.json has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from funduscope.batch.photo_list import KNOWN
from funduscope.batch.reader import MEASURES, files_folder
from funduscope.batch.results import StoredResult
from funduscope.inference.anatomy import QUADRANTS
from funduscope.inference.card import Card
from funduscope.inference.stated import undisputed_eye
from funduscope.vocabulary import DME_RISKS, FURTHER_TASKS, GRADES, LESIONS

Kind = Literal["text", "int", "float", "bool"]
PROBABILITY: Final = "probability, 0 to 1"
PIXELS: Final = "pixels of the upright photo"
AREA: Final = "pixels of the upright photo, area"
DIAMETERS: Final = "disc diameters"
SQUARES: Final = "squared disc diameters"


@dataclass(frozen=True)
class Column:
    """name: in the table. kind: of its values, each of which may be missing. unit: "" if there is none. value: from
    a result, or from a lesion's object."""

    name: str
    kind: Kind
    value: Callable[[Any], Any]
    unit: str = ""


def side_conflict(one: StoredResult) -> bool | None:
    """Whether the table, or the file itself, names another eye than disc and fovea show; None if nothing tells."""
    named, found = (one.known or {}).get("eye"), one.found or {}
    if not (seen := found.get("laterality")):
        return None
    return True if undisputed_eye(found) is None else named != seen if named else None


def place_columns(copied: Sequence[str]) -> list[Column]:
    """What names a photo. copied: names of the table's columns that were asked for."""
    columns = [Column("place", "text", lambda one: one.place), Column("photo", "text", lambda one: one.name)]
    columns += [Column(name, "text", lambda one, name=name: (one.known or {}).get(name) or None) for name in KNOWN]
    return columns + [Column(name, "text", lambda one, at=at: one.copied[at]) for at, name in enumerate(copied)]


def finding_columns(card: Card, copied: Sequence[str], files: str = "") -> list[Column]:
    """Every scalar of findings.json, of photos that were read and of those that were refused.

    Left out: what run.json has, what is the same in every photo, and names of numbers and codes. files: the folder of
    photos' files, where there is one.
    """
    columns = [
        *place_columns(copied),
        Column("state", "text", lambda one: one.state),
        *([Column("files", "text", lambda one: files_place(files, one.place, one.name, one.code))] if files else ()),
        _column("sha256", "text", "photo", "sha256"),
        _column("width_px", "int", "photo", "width", unit=PIXELS),
        _column("height_px", "int", "photo", "height", unit=PIXELS),
        _column("gradable", "bool", "gradable", "ok"),
        _column("gradability", "float", "gradable", "score", unit=PROBABILITY),
        _column("advice", "text", "gradable", "advice"),
        Column("reasons", "text", lambda one: _codes(one, "gradable", "reasons")),
        *[
            _column("trust" if part == "trust" else f"headline_{part}", "text", "headline", part, "code")
            for part in ("trust", "grade", "dme", "referral")
        ],
        _column("grade", "int", "predicted_grade"),
        _column("confidence", "float", "confidence", unit=PROBABILITY),
        *[_at(f"p{grade}", "probabilities", place=grade) for grade in range(len(GRADES))],
        Column("grade_set", "text", lambda one: _joined(_get(one, "grade_set"))),
        _column("dme", "int", "dme", "risk"),
        _column("dme_confidence", "float", "dme", "confidence", unit=PROBABILITY),
        *[_at(f"dme_p{risk}", "dme", "probabilities", place=risk) for risk in range(len(DME_RISKS))],
        _column("referable", "bool", "referable", "value"),
        _column("referable_probability", "float", "referable", "probability", unit=PROBABILITY),
        _column("referable_threshold", "float", "referable", "threshold", unit=PROBABILITY),
        _column("refer", "bool", "advice", "refer"),
        _column("urgency", "text", "advice", "urgency"),
        *[_column(f"urgency_{name}", "text", "advice", name) for name in ("by_grade", "by_dme")],
        Column("because", "text", lambda one: _codes(one, "advice", "because")),
        *_witness_columns(card),
        *_task_columns(),
        _column("laterality", "text", "laterality"),
        Column("side_conflict", "bool", side_conflict),
    ]
    columns += _landmark_columns()
    for code in (code for code in card.structures if code in LESIONS):
        columns += _kind_columns(code)
    columns += [
        *[
            _at(f"rules_grade_{end}", "rules", "grade_range", place=at, kind="int")
            for at, end in enumerate(("from", "to"))
        ],
        _column("rules_agree", "bool", "rules", "agrees"),
        _column("rules_dme", "int", "rules", "dme_risk"),
        _at("rules_dme_to", "rules", "dme_range", place=1, kind="int"),
        _column("rules_dme_agree", "bool", "rules", "dme_agrees"),
        Column("evidence", "text", lambda one: _codes(one, "evidence")),
        _column("training_distance", "float", "training_distance", "value"),
        _column("training_percentile", "float", "training_distance", "percentile", unit="percent, 0 to 100"),
        Column("warnings", "text", lambda one: _codes(one, "warnings")),
        Column("uncertainty", "float", lambda one: _rounded(one.uncertainty), "0, sure, to 1"),
    ]
    return columns


def files_place(files: str, place: str | None, name: str, code: str | None) -> str | None:
    """The folder of a photo's files below `files`; None if there is none. code: why they could not be written."""
    return f"{files}/{files_folder(place, name)}" if files and place and code is None else None


def measure_columns() -> list[Column]:
    """Measures of light and sharpness (quality/image_measures.py)."""
    return [Column(name, "float", lambda one, name=name: (one.measures or {}).get(name)) for name in MEASURES]


LESION_COLUMNS: Final = (
    Column("kind", "text", lambda one: one["kind"]),
    Column("number", "int", lambda one: one["number"]),
    Column("x_px", "float", lambda one: one["x_px"], PIXELS),
    Column("y_px", "float", lambda one: one["y_px"], PIXELS),
    Column("area_px", "int", lambda one: one["area_px"], AREA),
    Column("nearest_fovea_dd", "float", lambda one: one.get("nearest_fovea_dd"), DIAMETERS),
    Column("quadrant", "text", lambda one: one.get("quadrant")),
    Column("probability", "float", lambda one: one.get("probability"), PROBABILITY),
)
"""Columns of one lesion, next to its photo's place. number: from 1, the largest of its kind first."""


def _kind_columns(code: str) -> list[Column]:
    at = "lesions", code
    return [
        _column(f"{code}_present", "bool", *at, "present"),
        _column(f"{code}_threshold", "float", *at, "threshold", unit=PROBABILITY),
        _column(f"{code}_count", "int", *at, "count"),
        _column(f"{code}_area_px", "int", *at, "area_px", unit=AREA),
        _column(f"{code}_area_dd2", "float", *at, "area_dd2", unit=SQUARES),
        _column(f"{code}_area_mm2", "float", *at, "area_mm2", unit="square millimeters"),
        _column(f"{code}_nearest_fovea_dd", "float", *at, "nearest_fovea_dd", unit=DIAMETERS),
        _column(f"{code}_nearest_fovea_mm", "float", *at, "nearest_fovea_mm", unit="millimeters"),
        *[_column(f"{code}_{quadrant}", "int", *at, "by_quadrant", quadrant) for quadrant in QUADRANTS],
    ]


def _witness_columns(card: Card) -> list[Column]:
    """What the photo and what the lesions each say alone, of models that have both."""
    if not card.witnesses:
        return []
    classes = {"grade": len(GRADES), "dme": len(DME_RISKS)}
    return [
        _at(f"{name}_{task}_p{at}", "witnesses", name, task, place=at)
        for name in ("photo", "lesions")
        for task, count in classes.items()
        for at in range(count)
    ]


def _landmark_columns() -> list[Column]:
    columns = [
        _column(f"{point}_{axis}_px", "float", "landmarks", point, f"{axis}_px", unit=PIXELS)
        for point in ("optic_disc", "fovea")
        for axis in "xy"
    ]
    return [
        *columns,
        _column("optic_disc_diameter_px", "float", "landmarks", "optic_disc", "diameter_px", unit=PIXELS),
        _column("optic_disc_diameter_mm", "float", "landmarks", "optic_disc", "diameter_mm", unit="millimeters"),
    ]


def _task_columns() -> list[Column]:
    columns = []
    for task in FURTHER_TASKS:
        path = "tasks", task.name
        columns += [
            _column(task.name, "int", *path, "class"),
            _column(f"{task.name}_confidence", "float", *path, "confidence", unit=PROBABILITY),
            *[_at(f"{task.name}_p{at}", *path, "probabilities", place=at) for at in range(len(task.classes))],
        ]
    return columns


def _column(name: str, kind: Kind, *path: str, unit: str = "") -> Column:
    return Column(name, kind, lambda one: _get(one, *path), unit)


def _at(name: str, *path: str, place: int, kind: Kind = "float") -> Column:
    """One of a list of numbers."""

    def value(one: StoredResult) -> Any:
        numbers = _get(one, *path)
        return numbers[place] if numbers else None

    return Column(name, kind, value, PROBABILITY if kind == "float" else "")


def _get(one: StoredResult, *path: str) -> Any:
    found: Any = one.found
    for name in path:
        if not found:
            return None
        found = found.get(name)
    return found


def _codes(one: StoredResult, *path: str) -> str:
    return " ".join(note["code"] for note in _get(one, *path) or ())


def _joined(values: Sequence[object] | None) -> str | None:
    return None if values is None else " ".join(map(str, values))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
