"""A table in one file gives the folders back that were put into it."""

from __future__ import annotations

import json
from pathlib import Path

from research.bundles import add, read_table, unpack

from funduscope.compare.run_folder import gather, read_run

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_the_runs_of_a_table_can_be_compared_and_go_back_unchanged(tmp_path: Path) -> None:
    table, again = RESULTS / "published.jsonl.gz", tmp_path / "again.jsonl.gz"
    unpack(table, tmp_path / "runs")
    folders = sorted((tmp_path / "runs").iterdir())
    runs = gather(folders)
    assert [run.name for run in runs] == sorted(read_table(table))
    assert all(run.trees["test"]["scores"] and run.rows["test"] for run in runs)
    for folder in reversed(folders):
        add(again, folder)
    assert again.read_bytes() == table.read_bytes()


def test_a_run_that_is_put_in_again_takes_its_own_place(tmp_path: Path) -> None:
    table, folder = tmp_path / "table.jsonl.gz", tmp_path / "runs"
    unpack(RESULTS / "published.jsonl.gz", folder)
    add(table, folder / "attention_moe")
    (folder / "attention_moe" / "journal.jsonl").write_text('{"epoch": 1, "seconds": 2}\n{"epoch": 2}\n', "utf-8")
    add(table, folder / "attention_moe")
    unpack(table, tmp_path / "out")
    assert list(read_table(table)) == ["attention_moe"]
    assert read_run(tmp_path / "out" / "attention_moe", "attention_moe").journal == [
        {"epoch": 1, "seconds": 2},
        {"epoch": 2},
    ]
    assert json.loads((tmp_path / "out" / "attention_moe" / "run.json").read_text("utf-8"))["fold"] == 0
