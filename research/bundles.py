"""A table of runs in one file, and the folders of them that `funduscope compare` reads.

`results/NAME.jsonl.gz` has a line a run: its name, and each file of its bundle (compare/run_folder.py) by path. JSON is
kept parsed; lines of JSON as blocks of rows under their keys, which are then written once. Nothing is lost on the way.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from funduscope.cli.terminal import tracked
from funduscope.compare.run_folder import bundle
from funduscope.compare.score_runs import score_runs
from funduscope.data.case import Case
from funduscope.recipe import Recipe
from funduscope.training.train import train


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
    from funduscope.training.initialization import START
    from funduscope.training.train_network import split
    from funduscope.training.validation import finish

    finish(folder, split(list(learned), folder, fold, START, True, recipe, tracked), START, tracked)
    store_row(folder, scored, table)


def store_row(folder: Path, scored: Sequence[Case], table: Path) -> None:
    """Scores a run on its test fold, counts its cost, and puts it into the table."""
    score_runs(folder, scored, every_set=True, progress=tracked, wanted_parts=("test",))
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
