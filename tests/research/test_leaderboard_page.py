"""The leaderboard's page is one table, three figures and short, and its table is that of the stored rows."""

from __future__ import annotations

import re
from pathlib import Path

from research.leaderboard_page import GENERATED, PAGE, SCRATCH, make_table, read_rows


def test_the_page_has_the_stored_rows_and_is_short(tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    assert len(text.splitlines()) <= 200
    assert len(re.findall(r"^\|---", text, re.MULTILINE)) == 1, "one table"
    pictures = re.findall(r"\]\(([\w-]+\.png)\)", text)
    assert len(pictures) == 3
    assert sorted(PAGE.parent.glob("leaderboard*")) == sorted([PAGE, *(PAGE.with_name(name) for name in pictures)])
    table = make_table(read_rows(tmp_path))
    assert f"## Scores\n\n{table.render()}\n" in text.partition(GENERATED)[2]


def test_a_row_from_scratch_stands_with_no_other(tmp_path: Path) -> None:
    lines = make_table(read_rows(tmp_path)).lines
    names = [line.name for line in lines]
    assert names[names.index(SCRATCH) + 1 :] == ["convnext_grader"]
    assert all(not cell.mark for cell in lines[-1].cells), "it leads nothing"
