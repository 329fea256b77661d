"""Trains the rows of a table at one budget, scores them, and keeps what the table's page is made of.

    python -m research.leaderboard --data DATA --runs RUNS               all rows that are not there yet
    python -m research.leaderboard --data DATA --runs RUNS --only NAME   these rows alone; repeatable
    python -m research.leaderboard --table NAME ...                      another table than the leaderboard
    python -m research.leaderboard --list                                the rows and their commands
    python -m research.leaderboard --unpack FOLDER                       the table's rows as folders of runs
    python -m research.leaderboard --pack FOLDER                         such folders back into the table

leaderboard: every recipe but `plain`, `flagship`, `fast` and the published ones, and research/edge.toml.
leaderboard-larger: S3's designs and `moe_aspp` at 384 px, and `edge` with and without a stage of the flagship as its
teacher, which reads what it teaches at 512 px.
The budget is the same for every row of a table: as many samples drawn, as wide (--side-px, --epochs, --per-epoch).
A row that was begun goes on. Its scores are put into results/TABLE.jsonl.gz, of which `python -m
research.leaderboard_page` makes docs/leaderboard.md. Every score of a table is on the page that `funduscope compare
FOLDER/*` writes of the folders that --unpack writes.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from research.bundles import add, read_table, unpack

from funduscope.compare.run_folder import bundle

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"

FROM_SCRATCH = ("encoder.weights=none",)
"""For encoders whose ImageNet weights are at no hand; the row says so."""

GRADES_ALONE = ("tasks.structures=[]",)
LESIONS_ALONE = ("tasks.grade=false", "tasks.dme=false")
NO_EXPERTS = ("experts.kind=none",)

EDGE = "research/edge.toml"
"""The recipe of the rows `edge`, which is no longer in the package: `fast` took its place."""


@dataclass(frozen=True)
class Row:
    """One training. taught: by the row that is best on validation among those that are there. teachers: runs by name,
    next to this one."""

    name: str
    recipe: str
    changes: tuple[str, ...] = ()
    taught: bool = False
    teachers: tuple[str, ...] = ()


RECIPES = (
    Row("resnet_grader", "resnet_grader"),
    Row("moe_deeplab", "moe_deeplab"),
    Row("moe_aspp", "moe_aspp"),
    Row("attention_moe", "attention_moe"),
    Row("attention_moe-without", "attention_moe", NO_EXPERTS),
    Row("soft_sharing", "soft_sharing"),
    Row("convnext_grader", "convnext_grader", FROM_SCRATCH),
    Row("unetplusplus_lesions", "unetplusplus_lesions"),
    Row("unet34", "unet34"),
    Row("deeplab_segmenter", "deeplab_segmenter"),
    Row("unet34-grades", "unet34", GRADES_ALONE),
    Row("unet34-lesions", "unet34", LESIONS_ALONE),
    Row("edge", EDGE),
    Row("edge-taught", EDGE, taught=True),
)

LARGER = (
    *(row for row in RECIPES if row.name in ("resnet_grader", "deeplab_segmenter", "moe_deeplab", "moe_aspp", "edge")),
    Row("edge-taught", EDGE, teachers=("flagship",)),
)
"""The teacher of the stored row saw neither fold 0 nor fold 1: candidates/flagship as the commit "Ship the mean of the
stages on every photo, with the figures of the run that it repeats" has it, to be put at
RUNS/leaderboard-larger/flagship."""


@dataclass(frozen=True)
class Table:
    """Rows at one budget: what two processor cores can pay for; an accelerator can pay for more."""

    rows: tuple[Row, ...]
    whole_px: int
    close_px: int
    epochs: int
    per_epoch: int


TABLES = {"leaderboard": Table(RECIPES, 256, 256, 3, 800), "leaderboard-larger": Table(LARGER, 384, 384, 3, 800)}

CHOOSES = (("idrid-B", "DR", "kappa"), ("srahim", "DR", "kappa"), ("idrid-B", "DME", "accuracy"))
"""The scores on validation photos whose mean chooses the teacher."""


def budget(table: Table) -> tuple[str, ...]:
    """The changes that give every recipe the same number of samples of the same size."""
    return (
        f"views.whole_px={table.whole_px}",
        f"views.close_px={table.close_px}",
        f"training.epochs={table.epochs}",
        f"training.patience={table.epochs}",
        f"sampling.per_epoch={table.per_epoch}",
    )


def best_on_validation(results: Path) -> str:
    """The row that is best on validation photos by the mean of `CHOOSES`, of those that answer all of them."""
    found: dict[str, float] = {}
    for name, files in read_table(results).items():
        scores = files["scores/validation/scores.json"]["scores"]
        values = [scores.get(data, {}).get(state, {}).get(score, {}).get("value") for data, state, score in CHOOSES]
        if None not in values:
            found[name] = sum(values) / len(values)
    if not found:
        sys.exit("No row that could teach is there yet: train the others first.")
    return max(found, key=found.__getitem__)


def commands(row: Row, data: Sequence[Path], runs: Path, table: Table) -> list[list[str]]:
    """What a person would type for a row: train, export (so that time and memory are those of ONNX), score."""
    named = [part for path in data for part in ("--data", str(path))]
    run = str(runs / row.name)
    changes = [part for change in (*budget(table), *row.changes) for part in ("--set", change)]
    teachers = [part for name in row.teachers for part in ("--teacher", str(runs / name))]
    return [
        ["funduscope", "train", row.recipe, *named, "--run", run, "--fold", "0", *teachers, *changes],
        ["funduscope", "export", run],
        ["funduscope", "compare", run, *named, "--out", f"{run}/compared"],
    ]


def asked() -> argparse.Namespace:
    """What was asked for, with `table` as it is to be trained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--table", choices=TABLES, default="leaderboard", dest="name")
    parser.add_argument("--only", action="append")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--unpack", type=Path, metavar="FOLDER")
    parser.add_argument("--pack", type=Path, metavar="FOLDER")
    for name in ("--side-px", "--epochs", "--per-epoch"):
        parser.add_argument(name, type=int)
    given = parser.parse_args()
    table = TABLES[given.name]
    unknown = [name for name in given.only or () if name not in {row.name for row in table.rows}]
    if unknown:
        parser.error(f"no row {unknown[0]!r} in {given.name}; there are {', '.join(row.name for row in table.rows)}")
    sides = {"whole_px": given.side_px, "close_px": given.side_px and given.side_px * table.close_px // table.whole_px}
    changed = {**sides, "epochs": given.epochs, "per_epoch": given.per_epoch}
    given.table = replace(table, **{name: value for name, value in changed.items() if value})
    return given


def main() -> int:
    """Trains and scores the rows that were asked for, in order; returns the exit code of the first that failed."""
    given = asked()
    table: Table = given.table
    results, runs = RESULTS / f"{given.name}.jsonl.gz", given.runs / given.name
    if given.unpack:
        unpack(results, given.unpack)
    for folder in sorted(given.pack.iterdir()) if given.pack else ():
        add(results, folder)
    if given.unpack or given.pack:
        return 0
    done = read_table(results)
    for row in table.rows:
        if given.only and row.name not in given.only:
            continue
        if not given.only and not given.list and row.name in done:
            print(f"{row.name} is there already")
            continue
        if row.taught and not given.list:
            row = replace(row, teachers=(best_on_validation(results),))
        for command in commands(row, given.data or [Path("DATA")], runs, table):
            print(shlex.join(command), flush=True)
            if given.list:
                continue
            ended = subprocess.run([str(Path(sys.executable).with_name(command[0])), *command[1:]], check=False)
            if ended.returncode and command[1] != "export":  # where INT8 alone was refused, float32 is there
                return ended.returncode
        if not given.list:
            with tempfile.TemporaryDirectory() as folder:
                bundle(runs / row.name, Path(folder) / row.name)
                add(results, Path(folder) / row.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
