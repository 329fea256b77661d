"""A finding: one fault of a data set, with its files, its evidence and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from funduscope.doctor.kinds import KINDS, SEVERITIES, Severity

MAX_SINGLE: Final = 50
"""Rows, photos or masks of one fault that get a finding each; more are one finding."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that proves a finding, drawn only if the page shows it.

    draw: () -> (H, W, 3) uint8 RGB, or None if there is nothing to show. It should refer to paths and numbers alone:
    there may be thousands of pictures.
    """

    caption: str
    draw: Callable[[], np.ndarray | None]


@dataclass(frozen=True)
class Finding:
    """One fault of a data set. kind: a key of `KINDS`.

    files: relative to DATA, with forward slashes; a finding about a whole data set names its folder or label file.
    says: one sentence for this case. evidence: plain JSON (numbers, texts, lists, objects). advice: what to do.
    pictures: for the page alone.
    """

    kind: str
    severity: Severity
    files: tuple[str, ...]
    says: str
    evidence: dict[str, Any] = field(default_factory=dict)
    advice: str = ""
    pictures: tuple[Picture, ...] = field(default=(), compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The entry in doctor.json."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "files": list(self.files),
            "says": self.says,
            "evidence": self.evidence,
            "advice": self.advice,
        }


def found(
    kind: str,
    files: Sequence[str],
    says: str,
    evidence: Mapping[str, Any] | None = None,
    *,
    severity: Severity | None = None,
    pictures: Iterable[Picture] = (),
) -> Finding:
    """A finding of a kind; its severity is that of the kind unless one is given."""
    defaults = KINDS[kind]
    return Finding(
        kind,
        severity or defaults.severity,
        tuple(files),
        says,
        dict(evidence or {}),
        defaults.advice,
        tuple(pictures),
    )


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The findings by severity, worst first, then in the order of `KINDS`, then by file, as in doctor.json."""
    order = list(KINDS).index
    return sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), order(one.kind), one.files, one.says))
