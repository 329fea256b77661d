"""Two trainings never write into one folder."""

from __future__ import annotations

import errno
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from filelock import FileLock

from funduscope.training import TrainingError, lock
from funduscope.training.lock import only_training


def _train(folder: Path, begun: Connection) -> None:
    with only_training(folder):
        begun.send(True)
        time.sleep(60)


def test_a_second_training_is_refused_until_the_first_has_ended_even_by_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    here, there = multiprocessing.Pipe(duplex=False)
    other = multiprocessing.get_context("spawn").Process(target=_train, args=(folder, there))
    other.start()
    try:
        assert here.recv()
        monkeypatch.setattr(lock, "WAIT_S", 0)
        with pytest.raises(TrainingError, match=r"Another process trains in .*run: wait for it"), only_training(folder):
            pass
        with only_training(tmp_path / "another"):
            pass
    finally:
        other.kill()
        other.join()
    with only_training(folder):
        pass


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_without_locks_a_training_goes_on(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(_: FileLock, timeout: float) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with only_training(tmp_path / "run"):
        (tmp_path / "run" / "run.json").touch()
    assert (tmp_path / "run" / "run.json").is_file()


def test_a_folder_that_stays_empty_is_removed_and_no_other(tmp_path: Path) -> None:
    given, used = tmp_path / "given", tmp_path / "used"
    given.mkdir()
    for folder in (given, used, tmp_path / "runs" / "refused"):
        with pytest.raises(TrainingError, match="refused"):
            _refused(folder, leaves=folder == used)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "runs", "used"]
    assert not list((tmp_path / "runs").iterdir())


def _refused(folder: Path, *, leaves: bool) -> None:
    with only_training(folder):
        if leaves:
            (folder / "run.json").touch()
        raise TrainingError("refused")
