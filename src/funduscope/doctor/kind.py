"""What is said of a kind of finding, whatever the case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Kind:
    """severity: unless a finding says otherwise. title: a heading. spoils: why it matters. advice: what to do."""

    group: Literal["Photographs", "Cameras", "Twins", "Labels", "Masks", "Joins", "Splits", "Label noise"]
    severity: Literal["error", "warning", "info"]
    title: str
    spoils: str
    advice: str
