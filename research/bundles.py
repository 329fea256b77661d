"""Bundles of runs: folders with what `funduscope compare` reads of a run, and tables of them in one file.

A bundle has no weights, and hashes in place of the names of photos and patients. `results/NAME.jsonl.gz` has a line a
run: its name, and each file of its bundle by path. JSON is kept parsed; lines of JSON as blocks of rows under their
keys, which are then written once. Nothing is lost on the way.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from funduscope.atomic import read_json, read_lines
from funduscope.cli.terminal import tracked
from funduscope.compare.run_record import COST, PARTS, hashed
from funduscope.compare.score_kinds import PACKED, Row
from funduscope.compare.score_runs import score_run
from funduscope.data.case import Case
from funduscope.recipe import Recipe
from funduscope.training.train import train
from funduscope.vocabulary import CLASSES

_COLUMNS: Final = {
    *("key", "dataset", "visit", "refused", "maculopathy", *CLASSES, *(f"predicted_{name}" for name in CLASSES)),
    *("disc center px", "fovea px", "false lesions", *PACKED),
}
"""Of a photo's row, what scores and tests are taken of."""


def bundle(run: Path, folder: Path) -> None:
    """Write the bundle of a run into a new folder."""
    folder.mkdir(parents=True)
    for name in ("recipe.toml", "run.json", "journal.jsonl"):
        shutil.copyfile(run / name, folder / name)

    for part in PARTS:
        scores = run / "scores" / part
        if not (scores / "scores.json").is_file():
            continue
        target = folder / "scores" / part
        target.mkdir(parents=True)
        trimmed = _trim(read_json(scores / "scores.json"))
        (target / "scores.json").write_text(json.dumps(trimmed), "utf-8")
        rows = [_narrow(row) for row in read_lines(scores / "photos.jsonl")]
        (target / "photos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    cost = run / "scores" / COST
    if cost.is_file():
        (folder / "scores").mkdir(exist_ok=True)
        shutil.copyfile(cost, folder / "scores" / COST)


def _trim(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the scores and their numbers of photos, without curves."""
    scores = {
        dataset: {
            state: {score: _select(interval, ("value", "low", "high")) for score, interval in table.items()}
            for state, table in states.items()
        }
        for dataset, states in tree["scores"].items()
    }
    details: dict[str, Any] = {}
    for dataset, counts in tree["details"].items():
        states = {
            state: _select(of_state, ("photos", "refused", "visits")) for state, of_state in counts["states"].items()
        }
        details[dataset] = {**_select(counts, ("photos", "refused")), "states": states}
    return {"about": tree["about"], "scores": scores, "details": details}


def _select(tree: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: tree[key] for key in keys if key in tree}


def _narrow(row: Row) -> Row:
    kept = {name: value for name, value in row.items() if name in _COLUMNS}
    return kept | {name: hashed(row[name]) for name in ("key", "visit")}


def read_table(table: Path) -> dict[str, dict[str, Any]]:
    """The files of every run of a table, by name and path; nothing where there is no table yet."""
    if not table.is_file():
        return {}
    lines = [json.loads(line) for line in gzip.decompress(table.read_bytes()).splitlines()]
    return {line["run"]: line["files"] for line in lines}


def add(table: Path, folder: Path) -> None:
    """Puts the bundle in `folder` into the table, in the place of an older one of its name; names are in order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    runs = read_table(table) | {folder.name: {path.relative_to(folder).as_posix(): _packed(path) for path in files}}
    table.parent.mkdir(exist_ok=True)
    lines = [json.dumps({"run": name, "files": runs[name]}, separators=(",", ":")) for name in sorted(runs)]
    text = "".join(f"{line}\n" for line in lines)
    table.write_bytes(gzip.compress(text.encode(), mtime=0))  # without a time the bytes depend on the content alone


def make_row(
    recipe: Recipe,
    learned: Sequence[Case],
    scored: Sequence[Case],
    folder: Path,
    fold: int,
    table: Path,
    command: str,
    processes: int = 1,
) -> None:
    """Trains a run in `folder` or resumes it, scores it on its test fold, counts its cost, and puts it into the
    table."""
    train(recipe, learned, folder, fold, command=command, progress=tracked, processes=processes)
    store_row(folder, scored, table)


def make_row_so_far(
    recipe: Recipe, learned: Sequence[Case], scored: Sequence[Case], folder: Path, fold: int, table: Path
) -> None:
    """As `make_row`, but of a training that has begun and is not continued: its best epoch so far is scored."""
    from funduscope.training.train_network import split
    from funduscope.training.validation import finish

    finish(folder, split(list(learned), folder, fold, True, recipe, tracked), tracked)
    store_row(folder, scored, table)


def store_row(folder: Path, scored: Sequence[Case], table: Path) -> None:
    """Scores a run on its test fold, counts its cost, and puts it into the table."""
    score_run(folder, scored, tracked, parts=("test",))
    with tempfile.TemporaryDirectory() as kept:
        bundle(folder, Path(kept) / folder.name)
        add(table, Path(kept) / folder.name)


def unpack(table: Path, folder: Path) -> None:
    """Writes each run of the table into a folder of its name under `folder`."""
    for name, files in read_table(table).items():
        for path, content in files.items():
            target = folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_text(path, content), "utf-8")


def _packed(path: Path) -> Any:
    text = path.read_text("utf-8")
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
        return [[keys, *(list(row.values()) for row in block)] for keys, block in groupby(rows, key=list)]
    return json.loads(text) if path.suffix == ".json" else text


def _text(path: str, content: Any) -> str:
    if path.endswith(".jsonl"):
        rows = [dict(zip(keys, values, strict=True)) for keys, *block in content for values in block]
        return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    return json.dumps(content) + "\n" if path.endswith(".json") else content
