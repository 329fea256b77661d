"""What became of a photo in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """What became of a photo, or of one frame of its file.

    state: "read", "refused" (no photo that can be graded) or "failed". code, says: why it failed, or why the files of a
    photo that was answered could not be written. found: as in findings.json, without its lists of lesions, which are in
    `lesions` by kind. measures: of light and sharpness.
    """

    name: str
    state: str
    code: str | None = None
    says: str | None = None
    found: Mapping[str, Any] | None = None
    lesions: Mapping[str, list[Mapping[str, Any]]] | None = None
    measures: Mapping[str, float] | None = None
    uncertainty: float | None = None


@dataclass(frozen=True)
class StoredResult(Result):
    """A result with what is known of its photo. frame: 0 of the only photo in a file. copied: cells of the table."""

    place: str = ""
    frame: int = 0
    known: Mapping[str, str] | None = None
    copied: tuple[str, ...] = ()
