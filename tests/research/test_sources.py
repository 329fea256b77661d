"""The page of what each source is worth is made of the stored rows, whatever scores they have."""

from __future__ import annotations

from research import sources


def test_the_tables_are_those_of_the_stored_rows() -> None:
    text = sources.PAGE.read_text("utf-8")
    assert sources.page(text) == text, "docs/sources.md is stale: run python -m research.sources --write"
    assert "| EX average precision, exudates/ |" in text, "a score that is no longer made stays on the page"
