"""A table in one file gives the folders back that were put into it."""

from __future__ import annotations

import json
from pathlib import Path

from research.bundles import add, bundle, read_table, unpack

from funduscope.compare.run_record import read_run, read_runs

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_the_runs_of_a_table_can_be_compared_and_go_back_unchanged(tmp_path: Path) -> None:
    table, again = RESULTS / "published.jsonl.gz", tmp_path / "again.jsonl.gz"
    unpack(table, tmp_path / "runs")
    folders = sorted((tmp_path / "runs").iterdir())
    runs = read_runs(folders)
    assert [run.name for run in runs] == sorted(read_table(table))
    assert all(run.scores["test"].intervals and run.rows["test"] for run in runs)
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


def test_bundle_of_a_run_says_the_same_and_names_no_photo(tmp_path: Path) -> None:
    unpack(RESULTS / "published.jsonl.gz", tmp_path / "runs")
    run = tmp_path / "runs" / "attention_moe"
    rows = run / "scores" / "test" / "photos.jsonl"
    rows.write_text(rows.read_text("utf-8").replace('"key":"#', '"grade_probs":[1],"key":"photo '), "utf-8")
    (run / "best.safetensors").write_bytes(b"weights")
    bundle(run, tmp_path / "bundle")
    first, second = (read_run(folder, "run") for folder in (run, tmp_path / "bundle"))
    assert repr(first.scores["test"].intervals) == repr(second.scores["test"].intervals)
    assert first.cost == second.cost
    assert first.rows["test"].keys() == second.rows["test"].keys()
    bundled = (tmp_path / "bundle" / "scores" / "test" / "photos.jsonl").read_text("utf-8")
    assert "photo " not in bundled
    assert "grade_probs" not in bundled
    assert not (tmp_path / "bundle" / "best.safetensors").exists()
