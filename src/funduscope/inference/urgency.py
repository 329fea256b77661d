"""How soon an eye should be seen: routine, soon or urgent, by the table in urgency.toml or a clinic's own."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, get_args

from funduscope.i18n.errors import CodedError
from funduscope.vocabulary import DME_RISKS, GRADES

Urgency = Literal["routine", "soon", "urgent"]
URGENCIES: Final[tuple[Urgency, ...]] = get_args(Urgency)
"""From the least to the most urgent."""

VARIABLE: Final = "FUNDUSCOPE_URGENCY"
"""The environment variable that may name a clinic's own table."""


@dataclass(frozen=True)
class NeededEvidence:
    """What an edema risk needs before it makes a referral urgent."""

    dme_probability: float
    """Of the risks that are urgent, where the model outlines hard exudates."""

    dme_probability_alone: float
    """The same where it does not."""

    exudate_area_dd2: float
    """Area of the hard exudates that make the risk, in squares of the disc's diameter."""


@dataclass(frozen=True)
class UrgencyTable:
    """The urgency of each grade and of each edema risk, and what evidence an urgent one needs."""

    grade: tuple[Urgency, ...]
    dme: tuple[Urgency, ...]
    evidence: NeededEvidence

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def urgency(grade: int | None, risk: int | None, refer: bool) -> Urgency:
    """How soon an eye that surely has this grade and edema risk (None if unknown) should be seen.

    At least soon if referred. Raises `CodedError` with the code E_CONFIG if a clinic's own table cannot be read.
    """
    table = urgency_table()
    of_grade = "routine" if grade is None else table.grade[grade]
    of_risk = "routine" if risk is None else table.dme[risk]
    return most_urgent(of_grade, of_risk, "soon" if refer else "routine")


def most_urgent(*urgencies: Urgency) -> Urgency:
    return max(urgencies, key=URGENCIES.index)


def urgency_table() -> UrgencyTable:
    """The package's table, or a clinic's own.

    Raises `CodedError` with the code E_CONFIG if a clinic's own table cannot be read.
    """
    return _read_table(os.environ.get(VARIABLE, ""))


def urgency_sha256() -> str:
    """The hash of the table: with another one the same photo may be given other advice."""
    return hashlib.sha256(repr(urgency_table()).encode()).hexdigest()


@cache
def _read_table(path: str) -> UrgencyTable:
    """The table of a file, or the package's own for an empty path."""
    package_file = resources.files("funduscope") / "inference" / "urgency.toml"
    package_evidence = tomllib.loads(package_file.read_text("utf-8"))["evidence"]
    try:
        file = Path(path).expanduser() if path else package_file
        tree = tomllib.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise CodedError("E_CONFIG", f"{VARIABLE}: {path} is not there; correct the variable, or unset it.") from error
    except (OSError, ValueError, RuntimeError) as error:  # the last where ~name names no user
        raise CodedError("E_CONFIG", f"{VARIABLE}: {path} cannot be read as a table of urgency: {error}") from error

    rows = {
        name: _urgencies(tree, name, count, path) for name, count in (("grade", len(GRADES)), ("dme", len(DME_RISKS)))
    }
    evidence = _needed_evidence(tree.get("evidence", {}), package_evidence, path)
    return UrgencyTable(rows["grade"], rows["dme"], evidence)


def _urgencies(tree: Mapping[str, Any], name: str, count: int, path: str) -> tuple[Urgency, ...]:
    row = tree.get(name)
    if not isinstance(row, list) or len(row) != count or not all(value in URGENCIES for value in row):
        expected = f"expected {count} values, each one of {', '.join(URGENCIES)}"
        raise CodedError("E_CONFIG", f"{VARIABLE}: in {path}, {name} is {row!r}; {expected}")
    return tuple(row)


def _needed_evidence(given: Any, usual: Mapping[str, float], path: str) -> NeededEvidence:
    """The values that a table gives, and the package's for those that it leaves out."""
    names = [field.name for field in fields(NeededEvidence)]
    is_table = isinstance(given, dict) and set(given) <= set(names)
    if not is_table or not all(type(value) in (int, float) and value >= 0 for value in given.values()):
        expected = f"expected numbers of at least 0, named {', '.join(names)}"
        raise CodedError("E_CONFIG", f"{VARIABLE}: in {path}, evidence is {given!r}; {expected}")
    return NeededEvidence(**{**usual, **given})
