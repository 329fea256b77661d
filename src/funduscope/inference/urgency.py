"""How soon an eye should be seen: routine, soon or urgent, by the table in urgency.toml or a clinic's own."""

from __future__ import annotations

import hashlib
import os
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, Literal, get_args

from funduscope.i18n.errors import CodedError
from funduscope.vocabulary import DME_RISKS, GRADES

Urgency = Literal["routine", "soon", "urgent"]
URGENCIES: Final[tuple[Urgency, ...]] = get_args(Urgency)
"""From the least to the most urgent."""

VARIABLE: Final = "FUNDUSCOPE_URGENCY"
"""The environment variable that may name a clinic's own table."""


def urgency(grade: int | None, risk: int | None, refer: bool) -> Urgency:
    """How soon an eye with this grade and edema risk (None if unknown) should be seen; at least soon if referred.

    Raises `CodedError` with the code E_CONFIG if a clinic's own table cannot be read.
    """
    table = urgency_table()
    answers = [table[name][value] for name, value in (("grade", grade), ("dme", risk)) if value is not None]
    return max([*answers, "soon" if refer else "routine"], key=URGENCIES.index)


def urgency_table() -> dict[str, list[Urgency]]:
    """For "grade" and "dme" the urgency of each value: the package's table, or a clinic's own.

    Raises `CodedError` with the code E_CONFIG if a clinic's own table cannot be read.
    """
    return _table(os.environ.get(VARIABLE, ""))


def urgency_sha256() -> str:
    """The hash of the table: with another one the same photo may be given other advice."""
    return hashlib.sha256(repr(urgency_table()).encode()).hexdigest()


@cache
def _table(path: str) -> dict[str, list[Urgency]]:
    """The table of a file, or the package's own for an empty path."""
    try:
        file = Path(path).expanduser() if path else resources.files("funduscope") / "inference" / "urgency.toml"
        table = tomllib.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise CodedError("E_CONFIG", f"{VARIABLE}: {path} is not there; correct the variable, or unset it.") from error
    except (OSError, ValueError, RuntimeError) as error:  # the last where ~name names no user
        raise CodedError("E_CONFIG", f"{VARIABLE}: {path} cannot be read as a table of urgency: {error}") from error
    for name, count in (("grade", len(GRADES)), ("dme", len(DME_RISKS))):
        row = table.get(name)
        if not isinstance(row, list) or len(row) != count or not all(value in URGENCIES for value in row):
            wanted = f"expected {count} values, each one of {', '.join(URGENCIES)}"
            raise CodedError("E_CONFIG", f"{VARIABLE}: in {path}, {name} is {row!r}; {wanted}")
    return table
