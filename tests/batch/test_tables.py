"""Tables for spreadsheets hold texts, never formulas."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from funduscope.batch.tables import write_csv


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1", "-1+2", "@SUM(1)", "  =1", "\t=1"])
def test_what_a_spreadsheet_would_calculate_becomes_text(tmp_path: Path, cell: str) -> None:
    write_csv(
        tmp_path / "patients.csv", ("patient", "refer", "photos"), [{"patient": cell, "refer": None, "photos": 2}]
    )
    with (tmp_path / "patients.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["patient", "refer", "photos"], [f"'{cell}", "", "2"]]
