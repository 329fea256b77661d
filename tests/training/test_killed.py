"""A training that is killed again and again draws the samples of one that is not. A long test: a file of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from funduscope.data.case import Case
from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.recipe import Recipe
from funduscope.training.run import run


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_draws_the_samples_of_an_undisturbed_run(
    steady: Recipe, cases: list[Case], data: Path, cache: Path, tmp_path: Path
) -> None:
    """Of one and of two processes in turn. The parent is killed; its processes end with it."""
    longer = steady.model_copy(update={"training": steady.training.model_copy(update={"epochs": 12, "patience": 12})})
    toml, folder, rng = tmp_path / "recipe.toml", tmp_path / "run", random.Random(5)
    toml.write_text(longer.to_toml())
    command = [sys.executable, "-m", "funduscope.cli.main", "train", toml, "--data", data, "--run", folder, "--fold", 0]
    environment = os.environ | {CACHE_VARIABLE: str(cache)}
    for place in range(11):
        one = subprocess.Popen([*map(str, command), "--processes", str(1 + place % 2)], env=environment)
        if place < 10:
            before = len(_lines(folder))
            while one.poll() is None and len(_lines(folder)) <= before:
                time.sleep(0.05)
            time.sleep(rng.uniform(0, 1.0))
            family = (
                [psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)]
                if one.poll() is None
                else []
            )
            one.kill()
            assert not psutil.wait_procs(family, timeout=30)[1], "no process outlives its parent"
        assert one.wait(300) in (0, -signal.SIGKILL)
    run(longer, cases, tmp_path / "undisturbed", 0)
    digests = [[line["samples_digest"] for line in _lines(one)] for one in (folder, tmp_path / "undisturbed")]
    assert len(digests[0]) == 12
    assert digests[0] == digests[1]


def _lines(folder: Path) -> list[dict[str, float]]:
    """Whole lines alone: a killed process may have left a part of one."""
    path = folder / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.is_file() else []
