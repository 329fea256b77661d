"""A batch that is killed again and again ends in the tables of one that nothing disturbed. A long test: a file of its
own."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
from tests.batch.test_run import tables

from funduscope.batch import readers, store
from funduscope.batch.reader import ReadingSettings
from funduscope.batch.run import run_batch

EYES = 90
CONTEXT = multiprocessing.get_context("forkserver")  # which has imported everything: a run starts in no time
KILLED = [("worker", "parent"), ("everything",)] * 3
"""What is killed in each run, one after the other: nine in all."""


def read(source: Path, out: Path, reading: ReadingSettings, pipe: Connection) -> None:
    """A run, in a process of its own, that tells of each photo. What was read is on the disk at once."""
    store.SHARD_S = 0.0
    readers.TRIES = 100  # no photo is to blame here
    run_batch(source, out, reading, processes=2, progress=lambda now: pipe.send(now.total))


@pytest.mark.slow
def test_killed_at_nine_moments_it_goes_on_to_the_same_tables(
    eyes: Path, reading: ReadingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that reads, the command, and all at once are killed in turn: while it lists, loads, reads, or writes
    tables."""
    many, rng = tmp_path / "many", random.Random(5)
    many.mkdir()
    for number in range(EYES):
        os.link(eyes / "first" / f"eye{number % 3}.png", many / f"eye{number:03}.png")
    (many / "no-photo.jpg").write_bytes(b"no photo")
    run_batch(many, tmp_path / "whole", reading, processes=2)
    CONTEXT.set_forkserver_preload([__name__])
    waiting = [disturb(many, tmp_path / "out", reading, rng, victims) for victims in KILLED]
    assert len(set(waiting)) > 3, "each run continues where the one before was killed"
    monkeypatch.setattr(readers, "TRIES", 100)
    run = run_batch(many, tmp_path / "out", reading, processes=2)
    assert run["photos"] == {"given": EYES + 1, "read": EYES, "refused": 0, "failed": 1}
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")


def disturb(source: Path, out: Path, reading: ReadingSettings, rng: random.Random, victims: Sequence[str]) -> int:
    """Starts a run and kills each victim after some more photos; answers how many photos it had to read, or 0."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    command = CONTEXT.Process(target=read, args=(source, out, reading, theirs))
    command.start()
    theirs.close()
    assert command.pid is not None
    family: list[psutil.Process] = []
    waiting = 0
    for victim in victims:
        with suppress(EOFError):  # it has ended
            for _ in range(rng.randrange(5)):
                waiting = ours.recv()
        time.sleep(rng.uniform(0, 0.3))
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(command.pid).children(recursive=True)
        assert command.is_alive(), "it ended before it was killed: give it more to read"
        _kill(victim, command.pid, family, rng)
    command.join()
    assert not psutil.wait_procs(family, timeout=60)[1], "no process outlives the command"
    return waiting


def _kill(victim: str, command: int, family: Sequence[psutil.Process], rng: random.Random) -> None:
    if victim != "worker":
        os.kill(command, signal.SIGKILL)
    for one in family if victim == "everything" else rng.sample([*family], min(1, len(family))):
        with suppress(psutil.NoSuchProcess):
            if victim != "parent":
                one.kill()
