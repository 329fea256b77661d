"""The tables of docs/errors.md are those of `i18n.error_codes`; no other code is raised.

`python tests/contracts/test_error_codes.py` writes the tables into the page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from funduscope.i18n import error_codes
from funduscope.i18n.error_codes import (
    ERROR_CODES,
    PHOTO_CODES,
    PROGRAM_CODES,
    REQUEST_CODES,
    ErrorCode,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "errors.md"
TABLES = {"photo": PHOTO_CODES, "program": PROGRAM_CODES, "request": REQUEST_CODES}


def format_table(codes: Mapping[str, ErrorCode]) -> str:
    lines = ["| code | HTTP | what it means | what to do |", "|---|---|---|---|"]
    for code, entry in codes.items():
        lines.append(f"| {code} | {entry.http_status} | {entry.meaning} | {entry.remedy} |")
    return "\n".join(lines) + "\n"


def fill_page(text: str) -> str:
    """Return the page with each table between its markers made anew."""
    for name, codes in TABLES.items():
        start, end = f"<!-- codes: {name} -->\n", "<!-- end of codes -->"
        before, _, after = text.partition(start)
        text = before + start + format_table(codes) + end + after.partition(end)[2]
    return text


def test_page_has_the_tables_of_the_package() -> None:
    text = PAGE.read_text("utf-8")
    assert fill_page(text) == text, "stale: run python tests/contracts/test_error_codes.py"


def test_every_code_is_raised_and_no_other_is_raised_or_documented() -> None:
    paths = set((ROOT / "src").rglob("*.py")) - {Path(error_codes.__file__)}
    source = "".join(path.read_text("utf-8") for path in paths)
    assert set(re.findall(r'"(E_[A-Z_]+)"', source)) == set(ERROR_CODES)

    pages = [path.read_text("utf-8") for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))]
    assert set(re.findall(r"\bE_[A-Z_]+\b", "".join(pages))) == set(ERROR_CODES)


if __name__ == "__main__":
    PAGE.write_text(fill_page(PAGE.read_text("utf-8")), "utf-8")
