"""Keeps a model's whole findings of labeled photos, one line a photo, so that tables and rules are made in seconds.

    python -m research.stored_findings fast --data DATA --fold 1 --out runs/fast-fold1.jsonl

A stopped run goes on where it ended. A line has the case's key, data set, visit, fold and labels, and the findings as
findings.json has them; a photo that cannot be read has an error code in their place.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.loading import load

Row = dict[str, Any]


def labels_of(case: Case) -> Row:
    """The labels of the whole photo; the possible edema risks as a list."""
    labels = case.labels
    risks = [labels.dme] if labels.dme is not None else labels.possible_classes("dme")
    return {"grade": labels.grade, "dme": risks, "quality": labels.quality, "finding": labels.finding}


def row_of(case: Case, answer: Findings | Failure) -> Row:
    identity = {"key": case.key, "dataset": case.dataset, "visit": case.visit, "fold": case.fold}
    if isinstance(answer, Failure):
        return identity | {"labels": labels_of(case), "error": answer.code}
    return identity | {"labels": labels_of(case), "findings": answer.to_dict()}


def read_rows(path: Path) -> Iterator[Row]:
    """The stored rows; an unfinished last line, of a run that was killed, is left out."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def store(model_name: str, cases: Sequence[Case], path: Path) -> None:
    """Append the findings of the cases that the file does not have yet."""
    finished = set[str]()
    if path.is_file():
        rows = list(read_rows(path))
        finished = {row["key"] for row in rows}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    remaining = [case for case in cases if case.key not in finished]
    path.parent.mkdir(parents=True, exist_ok=True)
    answers = load(model_name).stream((case.path for case in remaining), frames=False)
    with path.open("a", encoding="utf-8") as lines:
        for number, (case, answer) in enumerate(zip(remaining, answers, strict=True), start=1):
            lines.write(json.dumps(row_of(case, answer)) + "\n")
            lines.flush()
            if number % 100 == 0:
                print(f"{number} of {len(remaining)}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fold", type=int)
    parser.add_argument("--sets", nargs="*", help="the data sets, all of them without it")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    cases = read_data([options.data])
    if options.fold is not None:
        cases = [case for case in cases if case.fold == options.fold]
    if options.sets:
        cases = [case for case in cases if case.dataset in options.sets]
    store(options.model, cases, options.out)


if __name__ == "__main__":
    main()
