"""A finding: one thing that is wrong with a data set, with the files that show it, its evidence, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from funduscope.doctor.kinds import KINDS, SEVERITIES, Severity


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that proves a finding, drawn only where the page shows it, so that thousands cost nothing.

    draw: () -> (H, W, 3) uint8 RGB, or None where there is nothing to show. Hold paths and numbers in it, no pixels.
    """

    caption: str
    draw: Callable[[], np.ndarray | None]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. kind: a key of `KINDS`.

    files: relative to DATA, with forward slashes; a finding about a whole data set names its folder or label file.
    says: one sentence for this case. evidence: plain JSON (numbers, texts, lists, objects). advice: what to do.
    pictures: for the page only.
    """

    kind: str
    severity: Severity
    files: tuple[str, ...]
    says: str
    evidence: dict[str, Any] = field(default_factory=dict)
    advice: str = ""
    pictures: tuple[Picture, ...] = field(default=(), compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As doctor.json has it."""
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
    advice: str | None = None,
    pictures: Iterable[Picture] = (),
) -> Finding:
    """A finding of a kind, with the severity and the advice of its kind where this case has none of its own."""
    about = KINDS[kind]
    return Finding(
        kind,
        severity or about.severity,
        tuple(files),
        says,
        dict(evidence or {}),
        about.advice if advice is None else advice,
        tuple(pictures),
    )


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The findings worst first, then in the order of `KINDS`, then by file: the order of doctor.json and the page."""
    places = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), places[one.kind], one.files, one.says))
