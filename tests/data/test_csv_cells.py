"""Cells for spreadsheets: none of them becomes a formula."""

from __future__ import annotations

import pytest

from funduscope.data.csv_cells import guarded


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_a_spreadsheet_would_calculate_becomes_text(start: str) -> None:
    assert guarded(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "＋", "－", "＠"])
def test_white_space_before_a_sign_hides_no_formula(start: str) -> None:
    assert guarded(f" \t{start}1+1") == f"' \t{start}1+1"


def test_other_cells_stay_as_they_are() -> None:
    assert [guarded(text) for text in ("", "eye 1.jpg", "12.5", "a=b")] == ["", "eye 1.jpg", "12.5", "a=b"]
    assert guarded("a\0b") == "ab"
