"""A training that is killed again and again draws the samples of one that is not. A long test: a file of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tests import less_work

from funduscope.cli.main import main
from funduscope.data.case import Case
from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.recipe import Recipe
from funduscope.training.train_network import train_network

KILLS, EPOCHS = 3, 7
CONTEXT = multiprocessing.get_context("forkserver")  # which has imported torch: a training starts in no time


def train(arguments: list[str], cache: Path) -> None:
    """The command, in a process of its own."""
    os.environ[CACHE_VARIABLE] = str(cache)
    torch.set_num_threads(1)
    less_work.draw_less()
    less_work.draw_no_pictures()
    less_work.export_less()
    sys.exit(main(arguments))


@pytest.mark.slow
def test_killed_at_random_moments_it_draws_the_samples_of_an_undisturbed_run(
    steady: Recipe, cases: list[Case], data: Path, cache: Path, tmp_path: Path
) -> None:
    """Of one and of two processes. The parent is killed; its processes end with it."""
    training = steady.training.model_copy(update={"epochs": EPOCHS, "patience": EPOCHS})
    longer = steady.model_copy(update={"training": training})
    toml, folder, rng = tmp_path / "recipe.toml", tmp_path / "run", random.Random(5)
    toml.write_text(longer.to_toml())
    CONTEXT.set_forkserver_preload([__name__])
    for place in range(KILLS + 1):
        arguments = ["train", toml, "--data", data, "--run", folder, "--fold", 0, "--processes", 1 + (place % 3 == 1)]
        one = CONTEXT.Process(target=train, args=([*map(str, arguments)], cache))
        one.start()
        if place < KILLS:
            before = len(_lines(folder))
            while one.is_alive() and len(_lines(folder)) <= before:
                time.sleep(0.05)
            time.sleep(rng.uniform(0, 1.0))
            assert one.is_alive(), "it ended before it was killed: give it more epochs"
            family = [psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)]
            one.kill()
            assert not psutil.wait_procs(family, timeout=30)[1], "no process outlives its parent"
        one.join(300)
        assert one.exitcode == (-signal.SIGKILL if place < KILLS else 0)
    train_network(longer, cases, tmp_path / "undisturbed", 0)
    digests = [[line["samples_digest"] for line in _lines(one)] for one in (folder, tmp_path / "undisturbed")]
    assert len(digests[0]) == EPOCHS
    assert digests[0] == digests[1]


def _lines(folder: Path) -> list[dict[str, Any]]:
    """Whole lines alone: a killed process may have left a part of one."""
    path = folder / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.is_file() else []
