"""Trains every recipe at one budget, scores it, and keeps what docs/leaderboard.md is made of.

    python benchmarks/leaderboard.py --data DATA --runs RUNS               all rows that are not there yet
    python benchmarks/leaderboard.py --data DATA --runs RUNS --only NAME   these rows alone; repeatable
    python benchmarks/leaderboard.py --list                                the rows and their commands

The budget is the same for every row of a table: as many samples drawn, as wide (--side-px, --epochs, --per-epoch).
A row that was begun goes on. Its scores are put into docs/leaderboard/NAME; the page itself is written by
`funduscope compare docs/leaderboard/*`. --larger does the three published at a larger size once more, wider, into
docs/leaderboard-larger.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from funduscope.compare.gather import bundle

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "leaderboard"

SIDE_PX, EPOCHS, PER_EPOCH = 256, 3, 800
"""What two processor cores can pay for; an accelerator can pay for more: --side-px, --epochs, --per-epoch."""

LARGER_PX = 384
LARGER = ("resnet_grader", "deeplab_segmenter", "moe_deeplab")

FROM_SCRATCH = ("encoder.weights=none",)
"""For encoders whose ImageNet weights are at no hand; the row says so."""

GRADES_ALONE = ("tasks.structures=[]",)
LESIONS_ALONE = ("tasks.grade=false", "tasks.dme=false")
NO_EXPERTS = ("experts.kind=none",)


@dataclass(frozen=True)
class Row:
    """One training. taught: by the row that is best on validation among those that are there."""

    name: str
    recipe: str
    changes: tuple[str, ...] = ()
    taught: bool = False
    teachers: tuple[str, ...] = ()


ROWS = (
    Row("resnet_grader", "resnet_grader"),
    Row("moe_deeplab", "moe_deeplab"),
    Row("attention_moe", "attention_moe"),
    Row("attention_moe-without", "attention_moe", NO_EXPERTS),
    Row("soft_sharing", "soft_sharing"),
    Row("convnext_grader", "convnext_grader", FROM_SCRATCH),
    Row("unetplusplus_lesions", "unetplusplus_lesions"),
    Row("unet34", "unet34"),
    Row("deeplab_segmenter", "deeplab_segmenter"),
    Row("unet34-grades", "unet34", GRADES_ALONE),
    Row("unet34-lesions", "unet34", LESIONS_ALONE),
    Row("edge", "edge"),
    Row("edge-taught", "edge", taught=True),
)

CHOOSES = (("idrid-B", "DR", "kappa"), ("srahim", "DR", "kappa"), ("idrid-B", "DME", "accuracy"))
"""The scores on validation photos whose mean chooses the teacher."""


def budget(side_px: int, epochs: int, per_epoch: int) -> tuple[str, ...]:
    """The changes that give every recipe the same number of samples of the same size."""
    return (
        f"views.whole_px={side_px}",
        f"views.close_px={side_px}",
        f"training.epochs={epochs}",
        f"training.patience={epochs}",
        f"sampling.per_epoch={per_epoch}",
    )


def best_on_validation(kept: Path = KEPT) -> str:
    """The row that is best on validation photos by the mean of `CHOOSES`, of those that answer all of them."""
    found: dict[str, float] = {}
    for file in sorted(kept.glob("*/scores/validation/scores.json")):
        scores = json.loads(file.read_text())["scores"]
        told = [scores.get(data, {}).get(state, {}).get(score, {}).get("value") for data, state, score in CHOOSES]
        if None not in told:
            found[file.parents[2].name] = sum(told) / len(told)
    if not found:
        sys.exit("No row that could teach is there yet: train the others first.")
    return max(found, key=found.__getitem__)


def commands(row: Row, data: Sequence[Path], runs: Path, paid: tuple[str, ...]) -> list[list[str]]:
    """What a person would type for a row: train, export (so that time and memory are those of ONNX), score."""
    named = [part for path in data for part in ("--data", str(path))]
    run = str(runs / row.name)
    changes = [part for change in (*paid, *row.changes) for part in ("--set", change)]
    teachers = [part for name in row.teachers for part in ("--teacher", str(runs / name))]
    return [
        ["funduscope", "train", row.recipe, *named, "--run", run, "--fold", "0", *teachers, *changes],
        ["funduscope", "export", run],
        ["funduscope", "compare", run, *named, "--out", f"{run}/compared"],
    ]


def main() -> int:
    """Trains and scores the rows that were asked for, in order; returns the exit code of the first that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "leaderboard")
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--larger", action="store_true")
    for name, default in (("--side-px", None), ("--epochs", EPOCHS), ("--per-epoch", PER_EPOCH)):
        parser.add_argument(name, type=int, default=default)
    given = parser.parse_args()
    paid = budget(given.side_px or (LARGER_PX if given.larger else SIDE_PX), given.epochs, given.per_epoch)
    kept, runs = (KEPT.with_name("leaderboard-larger"), given.runs / "larger") if given.larger else (KEPT, given.runs)
    for row in ROWS:
        if (given.only and row.name not in given.only) or (given.larger and row.name not in LARGER):
            continue
        if not given.only and not given.list and (kept / row.name).is_dir():
            print(f"{row.name} is there already")
            continue
        if row.taught and not given.list:
            row = replace(row, teachers=(best_on_validation(),))
        for command in commands(row, given.data or [Path("DATA")], runs, paid):
            print(shlex.join(command), flush=True)
            if given.list:
                continue
            done = subprocess.run([str(Path(sys.executable).with_name(command[0])), *command[1:]], check=False)
            if done.returncode and command[1] != "export":  # where INT8 alone was refused, float32 is there
                return done.returncode
        if not given.list:
            bundle(runs / row.name, kept / row.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
