"""What sharing, experts and routed losses are worth: seven comparisons at one budget, three seeds, two test folds.

    python -m research.study --data DATA --runs RUNS               all rows that are not stored yet
    python -m research.study --data DATA --runs RUNS --only NAME   these rows alone; repeatable
    python -m research.study --list                                the rows
    python -m research.study --write                               docs/study.md from the stored rows

Every row is one ResNet-18 with a U-Net, 256 px, the whole eye, 6,000 samples of IDRiD alone; arms differ from `shared`
in one thing. HEI-MED, DIARETDB1, srahim and EyePACS are never learned from: the photos of the test fold among them show
how far a model carries. A row that was begun continues; one that is stored in results/study-foldK.jsonl.gz is skipped.
Rows are ordered by seed, so that a part of them is already a whole study with fewer seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from research.bundles import make_row, read_table

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.recipe import Recipe

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "results"

PX: Final = 256
BASE: Final = f"""
name = "study"
about = "One ResNet-18 with a U-Net for grade, risk, four lesions and the disc, 256 px, 6,000 samples"

[encoder]
name = "resnet18"

[decoder]
skip_channels = []
channels = [128, 64, 32, 32]

[tasks]
landmarks = []
witnesses = false  # what sharing is worth to the heads themselves

[views]
whole_px = {PX}
close_px = {PX}
close = []

[sampling]
per_epoch = 1000

[sampling.whole]
idrid-A = 7.6  # as many photos with masks as with grades
idrid-B = 1

[training]
epochs = 6
patience = 6
judge_every = 2
"""

ARMS: Final[dict[str, tuple[str, ...]]] = {
    "shared": (),
    "grades": ("tasks.structures=[]", "sampling.whole={idrid-B = 1}"),
    "lesions": ("tasks.grade=false", "tasks.dme=false", "sampling.whole={idrid-A = 1}"),
    "soft": ("experts.kind=soft", "experts.keep=all", "experts.width=128"),
    "top_p": ("experts.kind=mixture", "experts.keep=top_p", "experts.width=128"),
    "routed": ("balance.kind=routed",),
    "gates": ("decoder.kind=attention_unet",),
}
"""What an arm changes. grades and lesions: the two single-task halves of `shared`, each with the whole budget and the
photos of its own labels alone."""

TAKEN_OUT: Final = ("uncertainty",)
"""Arms that were trained and are shown, and whose setting (`balance.kind`) was then taken out of the package, since it
helped nowhere and no recipe used it. Only the package as of 2026-11-26 makes their rows again."""

SEEDS: Final = (1, 2, 3)
FOLDS: Final = (2, 3)
LEARNED: Final = ("idrid-A", "idrid-B")
UNSEEN: Final = ("srahim", "eyepacs400", "heimed", "diaretdb1")


@dataclass(frozen=True)
class Row:
    """One training. px: the width of the eye."""

    arm: str
    seed: int
    fold: int
    px: int = PX

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}-fold{self.fold}" + (f"-{self.px}px" if self.px != PX else "")

    def recipe(self, changes: Sequence[str] = ()) -> Recipe:
        """The arm's recipe with the row's seed and size. changes: of the budget, for tests."""
        own = [*ARMS[self.arm], f"training.seed={self.seed}", f"views.whole_px={self.px}", f"views.close_px={self.px}"]
        return Recipe.from_toml(BASE, [*own, *changes])

    @property
    def command(self) -> str:
        return f"python -m research.study --data DATA --only {self.name}"


ROWS: Final = tuple(Row(arm, seed, fold) for seed in SEEDS for fold in FOLDS for arm in ARMS)
LARGER: Final = tuple(Row(arm, 1, fold, 512) for fold in FOLDS for arm in ("shared", "top_p"))
"""What looked most worth it, once more: the page shows them where they are stored."""


def table_of(row: Row, results: Path) -> Path:
    """Where the row is stored, one file a test fold, so that two processes can make rows of two folds."""
    return results / f"study-fold{row.fold}.jsonl.gz"


def stored_in(results: Path) -> set[str]:
    """The names of the rows that are there."""
    return {name for table in {table_of(row, results) for row in ROWS} for name in read_table(table)}


def make(row: Row, cases: Sequence[Case], runs: Path, results: Path = RESULTS, changes: Sequence[str] = ()) -> None:
    """Trains the row or resumes it, scores it on its test fold, counts its cost, and stores all that."""
    learned = [case for case in cases if case.dataset in LEARNED]
    scored = [case for case in cases if case.dataset in (*LEARNED, *UNSEEN)]
    table = table_of(row, results)
    make_row(row.recipe(changes), learned, scored, runs / row.name, row.fold, table, row.command)


def asked() -> argparse.Namespace:
    """What was asked for, with `rows` to be made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "study")
    parser.add_argument("--only", action="append", choices=[row.name for row in (*ROWS, *LARGER)], metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    given.rows = [row for row in (*ROWS, *LARGER) if not given.only or row.name in given.only]
    return given


def main() -> int:
    """Makes the rows that were asked for and are not stored; returns 1 where a page lacks rows."""
    given = asked()
    stored = stored_in(RESULTS)
    for row in given.rows if given.list else ():
        print(f"{row.name}: {'stored' if row.name in stored else row.command}")
    if given.data:
        cases = read_data(given.data)
        for row in given.rows:
            if row.name in stored_in(RESULTS):  # another process may have stored it in the meantime
                print(f"{row.name} is stored already")
                continue
            make(row, cases, given.runs)
    if given.write:
        from research.study_page import write

        missing = [row.name for row in ROWS if row.name not in stored_in(RESULTS)]
        if missing:
            print(f"{len(missing)} of {len(ROWS)} rows are missing, such as {missing[0]}: make them first.")
            return 1
        write(RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
