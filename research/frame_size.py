"""How much detail small lesions need: the lesion network of `fast` at three sizes of the eye's frame, at one budget.

    python -m research.frame_size --data DATA --runs RUNS    trains what is not trained, then prints a table

Every row draws as many crops of 448 px, so that a larger frame shows less of the eye in each. Scores are of the
validation photos, fold 1, on which the epoch was chosen, too; fold 0 stays unseen.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from funduscope.cli.terminal import tracked
from funduscope.data.sources import read_data
from funduscope.evaluation.scores import Scores
from funduscope.recipe import Recipe
from funduscope.training.train import train

SIDES_PX: Final = (1024, 1440, 2048)
DATASETS: Final = ("idrid-A", "idrid-B", "eophtha", "diaretdb1", "heimed")
"""Every set with outlines, and healthy eyes of the first."""

BUDGET: Final = ("training.epochs=3", "sampling.per_epoch=2000", "training.judge_every=1")
COLUMNS: Final = (
    ("idrid-A", "MA pixels", "average precision"),
    ("idrid-A", "HE pixels", "average precision"),
    ("idrid-A", "EX pixels", "average precision"),
    ("idrid-A", "SE pixels", "average precision"),
    ("idrid-A", "MA lesions", "sensitivity at 1"),
    ("eophtha", "MA pixels", "average precision"),
    ("eophtha", "MA lesions", "sensitivity at 1"),
    ("heimed", "EX|SE pixels", "average precision"),
)


def _row(scores: Scores) -> list[str]:
    intervals = [scores.tables[dataset][question][score] for dataset, question, score in COLUMNS]
    return [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in intervals]


def main() -> None:
    """Trains or resumes each row, and prints its scores as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    cases = [case for case in read_data(given.data) if case.dataset in DATASETS]
    rows = []
    for side_px in SIDES_PX:
        recipe = Recipe.load("fast", [f"views.close_px={side_px}", *BUDGET]).stage("lesions")
        run = train(recipe, cases, given.runs / str(side_px), 0, processes=given.processes, progress=tracked)
        rows.append([f"{side_px} px", *_row(run.scores)])
    print("| " + " | ".join(["frame", *(" ".join(column) for column in COLUMNS)]) + " |")
    print("|" + "---|" * (len(COLUMNS) + 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
