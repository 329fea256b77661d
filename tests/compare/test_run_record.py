"""Runs are read from their folders; another folder and a damaged file are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from funduscope.atomic import DamagedFileError
from funduscope.compare.run_record import CompareError, read_runs


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match=r"has no recipe\.toml: expected the folder of a run"):
        read_runs([tmp_path])


def test_run_cannot_be_compared_with_itself(fabricate, tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run")
    with pytest.raises(CompareError, match="twice"):
        read_runs([run, tmp_path / "." / "run"])


def test_runs_of_one_name_are_told_apart_by_their_folders(fabricate, tmp_path: Path) -> None:
    folders = [fabricate(tmp_path / name) for name in ("x/fold0/run", "y/fold0/run", "z/other")]
    assert [run.name for run in read_runs(folders)] == ["x/fold0/run", "y/fold0/run", "z/other"]
    assert [run.name for run in read_runs(folders[1:])] == ["run", "other"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b"[]"),
        ("journal.jsonl", b"3\n"),
        ("scores/cost.json", b"{"),
        ("scores/test/scores.json", b"{}"),
        ("scores/test/photos.jsonl", b"3\n"),
    ],
)
def test_damaged_file_is_named(fabricate, tmp_path: Path, name: str, content: bytes) -> None:
    folder = fabricate(tmp_path / "run")
    (folder / name).write_bytes(content)
    with pytest.raises(DamagedFileError, match=rf"run/{name} is damaged"):
        read_runs([folder])


def test_unusable_recipe_is_named(fabricate, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "run")
    (folder / "recipe.toml").write_text("name = 3")
    with pytest.raises(CompareError, match=r"run has a recipe that cannot be used"):
        read_runs([folder])


def test_training_that_goes_on_is_unfinished(fabricate, recipe_of, tmp_path: Path) -> None:
    folders = [fabricate(tmp_path / name) for name in ("ended", "killed")]
    folders.append(fabricate(tmp_path / "stopped", recipe_of("plain", "training.patience=2")))
    lines = [{"epoch": epoch, "seconds": 1.0, "best": epoch == 1} for epoch in (1, 2, 3)]
    for folder in folders[1:]:
        (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [run.unfinished for run in read_runs(folders)] == ["", "not finished: 3 of 4 epochs", ""]


def test_paused_epoch_does_not_count_as_slow(fabricate, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "paused")
    lines = [{"epoch": epoch, "seconds": seconds} for epoch, seconds in enumerate((120, 9000, 132, 126), 1)]
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_runs([folder])[0].seconds_an_epoch == [129]
