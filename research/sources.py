"""What each source of photos is worth, what weights under CC BY alone would be, and what more photos would bring.

    python -m research.sources --data DATA --runs RUNS [--only NAME] ...    trains and scores the rows not there yet
    python -m research.sources --list                                       the rows and the commands that train them
    python -m research.sources --write                                      the tables of docs/sources.md

Every row is the recipe `plain` at one small budget: as many samples drawn, as large. Folds 0 and 1 are kept away;
the weights after the last epoch are scored on fold 0, so that nothing is chosen, and no threshold is fixed (which would
cost more than the training). A stopped row continues. Its scores stand in results/sources.jsonl.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from funduscope import checkpoint
from funduscope.cli.terminal import tracked
from funduscope.data.case import Case
from funduscope.data.folds import share_of
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.score_photo import score_stream
from funduscope.evaluation.scores import PhotoScore, summarize
from funduscope.inference.card import Card
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import TorchRuntime
from funduscope.recipe import Recipe
from funduscope.training.acceleration import bfloat16
from funduscope.training.initialization import first_network
from funduscope.training.loop import Loop
from funduscope.training.samples import prepared
from funduscope.vocabulary import DATASETS, EITHER_EXUDATE

ROOT: Final = Path(__file__).resolve().parents[1]
TABLE: Final = ROOT / "results" / "sources.jsonl"
"""A line a row: its name, command, photos and scores."""

PAGE: Final = ROOT / "docs" / "sources.md"
FOLD: Final = 0

BUDGET: Final = (
    "views.whole_px=256",
    "views.close_px=768",
    "training.epochs=3",
    "training.patience=3",
    "sampling.per_epoch=600",
)

IDRID: Final = ("idrid-A", "idrid-B")
OTHERS: Final = {key: name for key, name in DATASETS.items() if key not in IDRID}
"""Data sets other than IDRiD's, and their names in tables."""

OPEN: Final = "cc-by"
"""The folder, among the runs, of the data of the row that learns from CC BY alone."""


@dataclass(frozen=True)
class Row:
    """One training. says: its first column; data: what is named with --data in its command."""

    name: str
    says: str
    changes: tuple[str, ...] = ()
    data: str = "DATA"

    def command(self) -> str:
        """What a person types for the same training, which then also fixes a card on fold 1."""
        words = ["funduscope", "train", "plain", "--data", self.data, "--run", f"runs/{self.name}"]
        words += ["--fold", str(FOLD)]
        return shlex.join([*words, *(part for change in (*BUDGET, *self.changes) for part in ("--set", change))])


def _without(*names: str) -> tuple[str, ...]:
    return tuple(f"sampling.{view}.{name}=0" for name in names for view in ("whole", "close"))


EVERY: Final = Row("every-source", "every source")
SOURCES: Final = (
    EVERY,
    Row("without-idrid", "without IDRiD", _without(*IDRID)),
    *(Row(f"without-{name}", f"without {words}", _without(name)) for name, words in OTHERS.items()),
    Row("cc-by-alone", "CC BY alone: IDRiD without `boxes.csv`", _without(*OTHERS), OPEN),
)
SHARES: Final = (
    Row("photos-25", "25 %", ("sampling.photos=0.25",)),
    Row("photos-50", "50 %", ("sampling.photos=0.5",)),
)
ROWS: Final = (*SOURCES, *SHARES)

SCORES: Final = (
    ("IDRiD kappa", "idrid-B", "DR", "kappa"),
    ("srahim kappa", "srahim", "DR", "kappa"),
    ("EyePACS kappa", "eyepacs400", "DR", "kappa"),
    ("IDRiD referable AUROC", "idrid-B", "referable DR", "AUROC"),
    ("srahim referable AUROC", "srahim", "referable DR", "AUROC"),
    ("EyePACS referable AUROC", "eyepacs400", "referable DR", "AUROC"),
    ("IDRiD DME accuracy", "idrid-B", "DME", "accuracy"),
    ("fovea, mean px at 4288", "idrid-B", "fovea", "mean px"),
    ("EX average precision", "idrid-A", "EX pixels", "average precision"),
    ("HE average precision", "idrid-A", "HE pixels", "average precision"),
    ("MA average precision", "idrid-A", "MA pixels", "average precision"),
    ("SE average precision", "idrid-A", "SE pixels", "average precision"),
    ("EX or SE average precision, HEI-MED", "heimed", f"{EITHER_EXUDATE} pixels", "average precision"),
    ("EX or SE present, HEI-MED, AUROC", "heimed", f"{EITHER_EXUDATE} present", "AUROC"),
    ("EX present, DIARETDB1, AUROC", "diaretdb1", "EX present", "AUROC"),
    ("HE present, DIARETDB1, AUROC", "diaretdb1", "HE present", "AUROC"),
)
"""Words, data set, state, score: those that need no threshold."""


def cc_by_alone(data: Path, folder: Path) -> Path:
    """Links to IDRiD's files and its folds in `folder`, without the boxes, whose license is another one (CC BY-SA)."""
    files = [path for path in (data / "idrid").rglob("*") if path.is_file()]
    for path in [data / "folds.csv", *files]:
        link = folder / path.relative_to(data)
        if path.name != "boxes.csv" and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return folder


def train(row: Row, data: Path, runs: Path) -> Path:
    """Trains the row, or resumes it; returns the weights after its last epoch."""
    recipe = Recipe.load("plain", [*BUDGET, *row.changes])
    cases = read_data([cc_by_alone(data, runs / OPEN) if row.data == OPEN else data])
    learned = share_of(SplitPlan.of(cases, FOLD).train, recipe.sampling.photos)
    folder = runs / row.name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.training.seed)
    first = first_network(recipe, folder, ())
    learned, files = prepared(first.recipe, learned, tracked)
    Loop(first.recipe, first.network, learned, files, folder, validation=None).run(progress=tracked)
    return folder / "last.safetensors"


def scored(weights: Path, cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """The scores on the cases, each {value, low, high}; lesions are sought where something is known of them in masks
    or by the experts' regions."""
    held = checkpoint.load(weights)
    fast = bfloat16(held.recipe.training.precision)
    both = Card.of(held.recipe)
    photos: list[PhotoScore] = []
    closely = [case for case in cases if case.dataset in ("idrid-A", "heimed", "diaretdb1")]
    others = [case for case in cases if case not in closely]
    network = held.network()
    for card, mine in ((both, closely), (replace(both, close=(), structures=()), others)):
        predictor = Predictor(TorchRuntime(network, card, bfloat16=fast))
        photos += score_stream(predictor, tracked(mine, "Scoring", len(mine)))
    scores = summarize(photos).to_dict()["scores"]
    told = {words: scores[data][state][score] for words, data, state, score in SCORES}
    return {words: {name: one[name] for name in ("value", "low", "high")} for words, one in told.items()}


def page(text: str) -> str:
    """The page with its tables made anew, of the rows that are there; what stands around them is kept."""
    known = read_table()
    by_row = {row: known[row.name] for row in ROWS if row.name in known}
    for name, rows in (("sources", SOURCES), ("curve", (*SHARES, EVERY))):
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        text = before + start + _table(by_row, rows) + end + rest.partition(end)[2]
    return text


def read_table() -> dict[str, dict[str, Any]]:
    """The lines of `TABLE` by the name of the row."""
    if not TABLE.is_file():
        return {}
    lines = [json.loads(line) for line in TABLE.read_text("utf-8").splitlines()]
    return {line["run"]: line for line in lines}


def _table(by_row: dict[Row, Any], rows: Sequence[Row]) -> str:
    there = [row for row in rows if row in by_row]
    lines = [f"| fold 0 | {' | '.join(row.says for row in there)} |", "|---|" + "---|" * len(there)]
    # Rows of earlier data have a score that is no longer made.
    for words in dict.fromkeys(words for row in there for words in by_row[row]["scores"]):
        cells = [_cell(by_row[row]["scores"].get(words, {"value": None})) for row in there]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(score: dict[str, float | None]) -> str:
    if score["value"] is None:
        return "not answered"
    digits = 0 if score["value"] > 10 else 3
    return f"{score['value']:.{digits}f} ({score['low']:.{digits}f} to {score['high']:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "sources")
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.list:
        print("\n".join(row.command() for row in ROWS))
    if given.data:
        stale = [name for name, row in read_table().items() if row["command"] not in {one.command() for one in ROWS}]
        if stale:
            parser.error(f"{TABLE.name} holds rows of earlier commands ({', '.join(stale)}): move it away first")
        kept_away = SplitPlan.of(read_data([given.data]), FOLD).test
        for row in ROWS:
            if given.only and row.name not in given.only:
                continue
            if read_table().get(row.name, {}).get("command") == row.command():
                print(f"{row.name}: is stored already", flush=True)
                continue
            started = time.monotonic()
            weights = train(row, given.data, given.runs)
            about = {"run": row.name, "command": row.command(), "scored on": f"fold {FOLD}, {len(kept_away)} photos"}
            with TABLE.open("a", encoding="utf-8") as file:  # one line at once: rows are made by several processes
                file.write(json.dumps(about | {"scores": scored(weights, kept_away)}) + "\n")
            print(f"{row.name}: {(time.monotonic() - started) / 60:.1f} min", flush=True)
    if given.write:
        PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
