"""The planted faults with their files, and which of them a report finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from funduscope.doctor.finding import Finding

KINDS_OF_A_SPOILED_FILE = frozenset({"labels_unreadable", "labels_of_other_eyes", "mixed_sizes", "camera_families"})
"""Findings that any fault may entail: a reader stops at it, faults accumulate, sizes differ."""


@dataclass(frozen=True)
class Fault:
    """One planted fault. name: its kind, as in the table.

    files: relative to the data; a finding must name them all. kinds: a finding must have one of them. row: of a label
    file, which the finding must name; None if the fault is in no label file. severity: of the finding, None if it
    does not matter. also: further kinds that the fault entails. touched: further files for which it entails findings.
    """

    name: str
    files: tuple[str, ...]
    kinds: frozenset[str]
    row: int | None = None
    severity: str | None = None
    also: frozenset[str] = frozenset()
    touched: tuple[str, ...] = ()

    def is_found_by(self, finding: Finding) -> bool:
        """Whether a finding is about this fault."""
        if finding.kind not in self.kinds or not set(self.files) <= set(finding.files):
            return False
        if self.severity is not None and finding.severity != self.severity:
            return False
        return self.row is None or self.row in rows_of(finding)

    def explains(self, finding: Finding) -> bool:
        """Whether a finding is about this fault or what it entails."""
        if finding.kind in KINDS_OF_A_SPOILED_FILE:
            return True
        return finding.kind in self.kinds | self.also and bool({*self.files, *self.touched} & set(finding.files))


def rows_of(finding: Finding) -> set[int]:
    """The rows of a label file that a finding names."""
    evidence = finding.evidence
    return {row for row in (evidence.get("row"), *(evidence.get("rows") or ())) if row is not None}


@dataclass
class Plot:
    """A folder of spoiled data sets, with the faults planted in it. `rng` gives every random choice."""

    root: Path
    seed: int
    data: Path | None
    faults: list[Fault] = field(default_factory=list)

    def rng(self, *words: str) -> np.random.Generator:
        """A generator for a kind of fault, so that adding a kind changes no other."""
        return np.random.default_rng([self.seed, *(byte for word in words for byte in word.encode())])

    def plant(
        self,
        name: str,
        files: Sequence[Path],
        kinds: Iterable[str],
        *,
        row: int | None = None,
        severity: str | None = None,
        also: Iterable[str] = (),
        touched: Sequence[Path] = (),
    ) -> None:
        """Records a fault; see `Fault`."""
        named, further = (tuple(path.relative_to(self.root).as_posix() for path in paths) for paths in (files, touched))
        self.faults.append(Fault(name, named, frozenset(kinds), row, severity, frozenset(also), further))


def unexplained(findings: Iterable[Finding], faults: Sequence[Fault]) -> list[Finding]:
    """Findings of severity warning or error that nothing planted explains."""
    serious = (finding for finding in findings if finding.severity != "info")
    return [finding for finding in serious if not any(fault.explains(finding) for fault in faults)]
