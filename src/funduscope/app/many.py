"""All photos of a session as rows: what needs a look first, and the same rows as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from funduscope.app.shelf import Entry, Shelf
from funduscope.predict.findings import Failure
from funduscope.predict.summary import COLUMNS, SummaryRow, harmless

MINE: Final = ("corrected_grade", "corrected_dme")
"""Columns beside those of summary.csv: what a person said."""


@dataclass(frozen=True)
class Row:
    """One photo. uncertainty: one minus the probability of the answer that was given; None without a grade.

    grade, dme: as corrected by the person, where they were.
    """

    key: str
    name: str
    found: dict[str, Any]
    grade: int | None
    dme: int | None

    @property
    def gradable(self) -> bool:
        return self.found["gradable"]["ok"]

    @property
    def refer(self) -> bool:
        """What the page advises; a photo that cannot be graded is not referred, it is taken again."""
        return bool((self.found["advice"] or {}).get("refer"))

    @property
    def uncertainty(self) -> float | None:
        return None if self.found["confidence"] is None else 1 - self.found["confidence"]

    @property
    def urgency(self) -> tuple[int, float]:
        """What is sorted by: referral first, then photos to take again, then the rest; the unsure ones before."""
        order = 0 if self.refer else 1 if not self.gradable else 2
        return order, -(self.uncertainty or 0.0)


def rows(shelf: Shelf) -> list[Row]:
    """Every photo of the session, those that need a look first."""
    return sorted((_row(shelf, entry) for entry in shelf.entries.values()), key=lambda row: row.urgency)


def _row(shelf: Shelf, entry: Entry) -> Row:
    now = shelf.history(entry.key).now
    return Row(entry.key, entry.name, entry.found, now.grade, now.dme)


def as_csv(told: Iterable[Row], refused: Iterable[Failure]) -> bytes:
    """The rows as summary.csv has them, with a person's corrections, and those that were refused; UTF-8 with a mark
    by which spreadsheets know it."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*COLUMNS, *MINE])
    for row in told:
        mine = ["" if value is None else value for value in (row.grade, row.dme)]
        table.writerow([*harmless(SummaryRow(row.name, found=row.found)), *mine])
    for failure in refused:
        table.writerow([*harmless(SummaryRow.of_failure(failure.to_dict())), "", ""])
    return b"\xef\xbb\xbf" + file.getvalue().encode("utf-8", "replace")
