"""All photos of a session as rows: what needs a look first, and the same rows as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from funduscope.app.session import Entry, Session
from funduscope.inference.findings import Failure
from funduscope.report.summary_csv import COLUMNS, SummaryRow, spreadsheet_cells
from funduscope.vocabulary import CODES

MINE: Final = ("corrected_grade", "corrected_dme", "corrected_outlines")
"""Columns beside those of summary.csv: what a person said, and of which kinds the counts are a person's."""


@dataclass(frozen=True)
class Row:
    """One photo. uncertainty: one minus the probability of the answer that was given; None without a grade.

    found: under the photo's thresholds and corrections, with the advice that follows. grade, dme, by_hand: as
    corrected by the person, where they were.
    """

    key: str
    name: str
    found: dict[str, Any]
    grade: int | None
    dme: int | None
    by_hand: tuple[str, ...] = ()

    @property
    def gradable(self) -> bool:
        return self.found["gradable"]["ok"]

    @property
    def refer(self) -> bool:
        """What is advised; a photo that cannot be graded is taken again, unless a person saw enough in it to refer."""
        return bool((self.found["advice"] or {}).get("refer"))

    @property
    def uncertainty(self) -> float | None:
        return None if self.found["confidence"] is None else 1 - self.found["confidence"]

    @property
    def urgency(self) -> tuple[int, float]:
        """What is sorted by: referral first, then photos to take again, then the rest; the unsure ones before."""
        order = 0 if self.refer else 1 if not self.gradable else 2
        return order, -(self.uncertainty or 0.0)


def rows(session: Session) -> list[Row]:
    """Every photo of the session, those that need a look first."""
    return sorted((_row(session, entry) for entry in session.entries.values()), key=lambda row: row.urgency)


def _row(session: Session, entry: Entry) -> Row:
    now = session.history(entry.key).now
    by_hand = tuple(code for code in CODES if code in now.by_hand)
    return Row(entry.key, entry.name, session.found(entry.key), now.grade, now.dme, by_hand)


def as_csv(told: Iterable[Row], refused: Iterable[Failure]) -> bytes:
    """The rows as summary.csv has them, with a person's corrections, and those that were refused; UTF-8 with a mark
    by which spreadsheets know it."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*COLUMNS, *MINE])
    for row in told:
        mine = ["" if value is None else value for value in (row.grade, row.dme, " ".join(row.by_hand))]
        table.writerow([*spreadsheet_cells(SummaryRow(row.name, found=row.found)), *mine])
    for failure in refused:
        table.writerow([*spreadsheet_cells(SummaryRow.of_failure(failure.to_dict())), *("" for _ in MINE)])
    return b"\xef\xbb\xbf" + file.getvalue().encode("utf-8", "replace")
