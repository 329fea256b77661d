"""What was planted where, and what of it a report names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from funduscope.doctor.finding import Finding

KINDS_OF_A_SPOILED_FILE = frozenset({"labels_unreadable", "labels_of_other_eyes", "mixed_sizes", "camera_families"})
"""What the doctor may say besides of a data set that has faults: a reader stops at them, they pile up, sizes differ."""


@dataclass(frozen=True)
class Fault:
    """One planted fault. name: of its kind, as the table shows it.

    files: relative to the data; a finding must name them all. kinds: of which one finding must be. row: of a label
    file, where the fault is in one, which the finding must name. severity: the one that the finding must have, where
    that is the point. also: kinds that the fault entails besides. touched: files that it entails them for.
    """

    name: str
    files: tuple[str, ...]
    kinds: frozenset[str]
    row: int | None = None
    severity: str | None = None
    also: frozenset[str] = frozenset()
    touched: tuple[str, ...] = ()

    def is_told_by(self, finding: Finding) -> bool:
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
    held = finding.evidence
    return {row for row in (held.get("row"), *(held.get("rows") or ())) if row is not None}


@dataclass
class Plot:
    """A folder in the making: what is planted in it is noted. `lot` decides everything that is left to chance."""

    root: Path
    seed: int
    data: Path | None
    faults: list[Fault] = field(default_factory=list)

    def lot(self, *words: str) -> np.random.Generator:
        """A generator for a place: adding a kind of fault changes no other."""
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
        """Note a fault; see `Fault`."""
        named, beside = (tuple(path.relative_to(self.root).as_posix() for path in paths) for paths in (files, touched))
        self.faults.append(Fault(name, named, frozenset(kinds), row, severity, frozenset(also), beside))


def unexplained(findings: Iterable[Finding], faults: Sequence[Fault]) -> list[Finding]:
    """Findings of severity warning or error that nothing planted explains."""
    serious = (finding for finding in findings if finding.severity != "info")
    return [finding for finding in serious if not any(fault.explains(finding) for fault in faults)]
