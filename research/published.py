"""Trains each published design at its author's own budget, scores it on fold 0, and stores the row.

    python -m research.published --data DATA --runs RUNS               all rows that are not stored yet
    python -m research.published --data DATA --runs RUNS --only NAME   these rows alone; repeatable
    python -m research.published --data DATA --runs RUNS --only NAME --so-far   a training that stopped, as it stands
    python -m research.published --list                                the rows
    python -m research.published --unpack FOLDER                       the stored rows as folders of runs
    python -m research.published --pack FOLDER                         such folders back into the table

Each row is a recipe of `published/`: folds 2 to 4 teach it, three fifths of the photos that its authors learned from,
so that all of its epochs are three fifths of their budget in pixels (of `moe_deeplab`, which has ten steps an epoch
whatever the photos, all of it; at half the size a quarter of either); fold 1 chooses the epoch, and ends the training
after five judgments without a better one. What else differs from the file is in `ROWS`. A row that was begun continues;
one whose training has ended and which is stored in results/published.jsonl.gz is skipped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from research.bundles import add, make_row, make_row_so_far, unpack

from funduscope.compare.run_record import read_run
from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.recipe import Recipe

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "results" / "published.jsonl.gz"
JUDGMENTS: Final = 5
SHOWN: Final = ("idrid-A", "idrid-B", "srahim")
"""The data sets of docs/leaderboard.md."""

RESNET: Final = "encoder.name=resnet50"
"""ImageNet weights of the first ResNet-50, in place of torchvision's second ones, which could not be had."""

SCRATCH: Final = "encoder.weights=none"
"""No ImageNet weights of a ConvNeXt could be had."""


@dataclass(frozen=True)
class Row:
    """One training: a recipe, and what differs from its file."""

    name: str
    source: str
    changes: tuple[str, ...] = ()

    def recipe(self, changes: Sequence[str] = ()) -> Recipe:
        """changes: of the budget, for tests."""
        given = Recipe.load(self.source, [*self.changes, *changes])
        patience = JUDGMENTS * given.training.judge_every
        return Recipe.load(self.source, [*self.changes, *changes, f"training.patience={patience}"])

    @property
    def command(self) -> str:
        return f"python -m research.published --data DATA --only {self.name}"


ROWS: Final = (
    Row("resnet_grader", "published/resnet_grader", (RESNET,)),
    Row("convnext_grader", "published/convnext_grader", (SCRATCH,)),
    Row("soft_sharing", "published/soft_sharing"),
    Row("resnet_grader-512", "resnet_grader"),
    Row("attention_moe", "published/attention_moe"),
    Row("unet34", "published/unet34"),
    Row("deeplab_segmenter-half", "published/deeplab_segmenter", (RESNET, "views.whole_px=512", "views.close_px=864")),
    Row("moe_deeplab-half", "published/moe_deeplab", (RESNET, "views.whole_px=448", "views.close_px=448")),
    Row("unetplusplus_lesions", "unetplusplus_lesions"),
)
"""In the order of what they cost. Two are not their authors': `resnet_grader` at 512 px on two data sets, and
`unetplusplus_lesions`, which was announced and never published; both are recipes of this project. S3's two large
designs are trained at half their authors' size."""


def make(
    row: Row,
    cases: Sequence[Case],
    runs: Path,
    results: Path = RESULTS,
    changes: Sequence[str] = (),
    processes: int = 1,
    *,
    so_far: bool = False,
) -> None:
    """Trains the row or resumes it, scores it on fold 0 of every data set, counts its cost, and stores all that.

    changes: of the budget, for tests. processes: see `train`. so_far: learns nothing more, and scores the best epoch on
    the data sets that the page shows.
    """
    recipe = row.recipe(changes)
    learned = [case for case in cases if case.dataset in recipe.sampling.datasets()]
    folder = runs / row.name
    if so_far:
        shown = [case for case in cases if case.dataset in SHOWN]
        make_row_so_far(recipe, learned, shown, folder, 0, results)
    else:
        make_row(recipe, learned, cases, folder, 0, results, row.command, processes)


def is_stored(row: Row, results: Path = RESULTS) -> bool:
    """Whether the table has the row of a training that has ended."""
    with tempfile.TemporaryDirectory() as folder:
        unpack(results, Path(folder))
        place = Path(folder) / row.name
        return place.is_dir() and not read_run(place, row.name).unfinished


def asked() -> argparse.Namespace:
    """What was asked for, with `rows` to be made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "published")
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS], metavar="NAME")
    parser.add_argument("--processes", type=int, default=1, help="that share each batch, a core each")
    parser.add_argument("--so-far", action="store_true", help="score the best epoch so far; learn nothing more")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--unpack", type=Path, metavar="FOLDER")
    parser.add_argument("--pack", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    given.rows = [row for row in ROWS if not given.only or row.name in given.only]
    return given


def main() -> int:
    """Makes the rows that were asked for and are not stored."""
    given = asked()
    if given.unpack:
        unpack(RESULTS, given.unpack)
    for folder in sorted(given.pack.iterdir()) if given.pack else ():
        add(RESULTS, folder)
    for row in given.rows if given.list else ():
        print(f"{row.name}: {'stored' if is_stored(row) else row.command}")
    cases = read_data(given.data) if given.data else []
    for row in given.rows if cases else ():
        if is_stored(row):  # another process may have stored it in the meantime
            print(f"{row.name} is stored already")
            continue
        make(row, cases, given.runs, processes=given.processes, so_far=given.so_far)
    return 0


if __name__ == "__main__":
    sys.exit(main())
