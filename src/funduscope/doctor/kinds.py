"""Every kind of finding with its texts, read from kinds.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Final, Literal, get_args

Group = Literal["Duplicates", "Photographs", "Cameras", "Labels", "Masks", "Joins", "Splits", "Label noise"]
Severity = Literal["error", "warning", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")
"""Worst first. error: it makes a training or a score wrong; warning: it may; info: worth knowing."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Texts of one kind of finding. severity: unless a finding has its own. why: why it matters. advice: what to do.

    Raises `ValueError` for a group or severity that does not exist, and for a text that is empty.
    """

    group: Group
    severity: Severity
    title: str
    why: str
    advice: str

    def __post_init__(self) -> None:
        if self.group not in get_args(Group) or self.severity not in SEVERITIES:
            raise ValueError(f"Unknown group or severity in kinds.toml: {self.group}, {self.severity}.")
        if not all((self.title, self.why, self.advice)):
            raise ValueError(f"A kind in kinds.toml has an empty text: {self.title or self.why or self.advice!r}.")


def _read() -> dict[str, Kind]:
    text = resources.files("funduscope").joinpath("doctor", "kinds.toml").read_text(encoding="utf-8")
    return {name: Kind(**fields) for name, fields in tomllib.loads(text).items()}


KINDS: Final[dict[str, Kind]] = _read()
"""Name to kind, in the order in which findings are shown."""
