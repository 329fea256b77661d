"""Tables of docs/sources.md: what each source of photos is worth, and what more would bring.

    python -m research.sources            prints the page with its tables from results/sources.jsonl
    python -m research.sources --write    replaces the tables in the page

The rows were trained by an earlier recipe on earlier photos; research/README.md names the commit
that could train them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
TABLE: Final = ROOT / "results" / "sources.jsonl"
"""A line a run: its name, command, photos and scores."""

PAGE: Final = ROOT / "docs" / "sources.md"

SOURCES: Final = {
    "every-source": "every source",
    "without-idrid": "without IDRiD",
    "without-srahim": "without srahim",
    "without-heimed": "without HEI-MED",
    "without-diaretdb1": "without DIARETDB1",
    "without-eyepacs400": "without EyePACS",
    "cc-by-alone": "CC BY alone: IDRiD without `boxes.csv`",
}
"""Column titles by run."""

SHARES: Final = {"photos-25": "25 %", "photos-50": "50 %", "every-source": "every source"}


def page(text: str) -> str:
    """Return the page with its tables made anew; the text around them stays."""
    runs = read_table()

    for name, titles in (("sources", SOURCES), ("curve", SHARES)):
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, after = text.partition(start)
        text = before + start + format_table(runs, titles) + end + after.partition(end)[2]

    return text


def read_table() -> dict[str, dict[str, Any]]:
    """Read the lines of `TABLE` by the name of the run."""
    lines = [json.loads(line) for line in TABLE.read_text("utf-8").splitlines()]
    return {line["run"]: line for line in lines}


def format_table(runs: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """Format a Markdown table: a row a score that any run has, a column a run."""
    lines = [f"| fold 0 | {' | '.join(titles.values())} |", "|---|" + "---|" * len(titles)]

    for score in dict.fromkeys(score for name in titles for score in runs[name]["scores"]):
        cells = [format_score(runs[name]["scores"].get(score)) for name in titles]
        lines.append(f"| {score} | {' | '.join(cells)} |")

    return "\n".join(lines) + "\n"


def format_score(score: Mapping[str, float | None] | None) -> str:
    """Format a value with its interval; pixels have no decimals."""
    if score is None or score["value"] is None:
        return "not answered"

    digits = 0 if score["value"] > 10 else 3
    return f"{score['value']:.{digits}f} ({score['low']:.{digits}f} to {score['high']:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()

    text = page(PAGE.read_text("utf-8"))
    if options.write:
        PAGE.write_text(text, "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
