"""A batch on a Ray cluster: the tables of one machine, whatever becomes of the others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from tests.batch.test_run import tables

from funduscope.batch import ray_readers
from funduscope.batch.ray_readers import PhotoReader
from funduscope.batch.reader import ReadingSettings
from funduscope.batch.run import BatchProgress, run_batch
from funduscope.i18n.errors import CodedError
from funduscope.version import __version__

EYES = 100
PORT = 6391
ADDRESS = f"127.0.0.1:{PORT}"


def start_node(*options: str) -> psutil.Process:
    """One machine of a cluster, of one processor; its processes are children of the one that is answered."""
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus", "1", *options]
    command += ["--disable-usage-stats", "--object-store-memory", "100000000"]
    return psutil.Process(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)


def wait_for_head(node: psutil.Process) -> None:
    """Until the cluster takes connections: on a busy machine that is after many seconds."""
    check = [str(Path(sys.executable).parent / "ray"), "health-check", "--address", ADDRESS]
    for _ in range(60):  # each takes a second or more
        if subprocess.run(check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return
        assert node.status() != psutil.STATUS_ZOMBIE, "the head ended: is its port taken?"
        time.sleep(0.5)
    raise AssertionError("the head never took connections")


def kill(node: psutil.Process) -> None:
    for process in (*node.children(recursive=True), node):
        process.kill()


def actors(node: psutil.Process) -> list[psutil.Process]:
    return [one for one in node.children(recursive=True) if "PhotoReader" in " ".join(one.cmdline())]


@pytest.fixture(scope="module")
def head() -> Iterator[psutil.Process]:
    node = start_node("--head", "--port", str(PORT), "--include-dashboard", "false")
    try:
        wait_for_head(node)
        yield node
    finally:
        kill(node)


@pytest.mark.slow
def test_a_node_joins_and_dies_and_the_tables_are_those_of_one_machine(
    eyes: Path, reading: ReadingSettings, tmp_path: Path, head: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second node starts as the batch does, and dies while it reads."""
    many = tmp_path / "many"
    many.mkdir()
    for number in range(EYES):
        os.link(eyes / "first" / f"eye{number % 3}.png", many / f"eye{number:03}.png")
    (many / "no-photo.jpg").write_bytes(b"no photo")
    run_batch(many, tmp_path / "plain", reading, processes=2)
    answered = ray_readers._answered
    second: list[psutil.Process] = []
    killed_at = []

    def join_then_answer(*arguments: Any) -> Any:
        second.append(start_node("--address", ADDRESS))
        return answered(*arguments)

    def die(now: BatchProgress) -> None:
        if killed_at:
            return
        if not (reads := actors(second[0])):
            time.sleep(0.1)  # until it reads, too
            return
        time.sleep(0.5)
        assert all(one.is_running() for one in reads)
        kill(second[0])
        killed_at.append(now.done)

    monkeypatch.setattr(ray_readers, "_answered", join_then_answer)
    run = run_batch(many, tmp_path / "ray", reading, ray=ADDRESS, progress=die)
    assert killed_at, "the second node never read"
    assert run["photos"] == {"given": EYES + 1, "read": EYES, "refused": 0, "failed": 1}
    assert tables(tmp_path / "ray") == tables(tmp_path / "plain")


@pytest.mark.parametrize(
    ("version", "sha256", "says"),
    [
        ("0.0.0", "", "has funduscope 0.0.0, this one .*: install the same on all"),
        (__version__, "of another", "has another model"),
    ],
    ids=["version", "model"],
)
def test_a_machine_with_another_version_or_model_ends_the_batch(
    eyes: Path, reading: ReadingSettings, monkeypatch: pytest.MonkeyPatch, version: str, sha256: str, says: str
) -> None:
    """What the actor of such a machine answers, without a cluster."""

    def answered(rows: list[dict[str, Any]], source: Path, settings: ReadingSettings) -> Any:
        block = PhotoReader(source, settings)({name: [row[name] for row in rows] for name in rows[0]})
        answers = [dict(zip(block, cells, strict=True)) for cells in zip(*block.values(), strict=True)]
        return SimpleNamespace(iter_rows=lambda: [answer | {"version": version} for answer in answers])

    monkeypatch.setattr(ray_readers, "_connected", lambda address: nullcontext())
    monkeypatch.setattr(ray_readers, "_answered", answered)
    model_sha256 = sha256 or reading.load().sha256
    with pytest.raises(CodedError, match=says) as caught:
        list(ray_readers.read_with_ray([("first/eye0.png", None)], eyes, ADDRESS, reading, model_sha256))
    assert caught.value.code == "E_CONFIG"


def test_an_actor_answers_for_a_block_and_survives_its_photos(eyes: Path, reading: ReadingSettings) -> None:
    reader = PhotoReader(eyes, reading)
    places = ["first/eye0.png", "second/no-photo.jpg", "not-there.jpg", "second/eye3.png"]
    block = {"place": places, "start": [-1] * 4, "size_bytes": [-1] * 4}
    answered = reader(block)
    assert answered["place"] == places
    assert ['"state": "read"' in one for one in answered["answer"]] == [True, False, False, True]
    assert "E_FORMAT" in answered["answer"][1]
    assert "E_NOT_FOUND" in answered["answer"][2]


def test_an_actor_without_the_model_says_so(eyes: Path, reading: ReadingSettings, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    reader = PhotoReader(eyes, replace(reading, model=(tmp_path / "bad.onnx",)))
    block = {"place": ["first/eye0.png"], "start": [-1], "size_bytes": [-1]}
    for _ in range(2):
        assert '"code": "E_MODEL"' in reader(block)["answer"][0]


def test_no_cluster_is_said_in_one_sentence(eyes: Path, reading: ReadingSettings, tmp_path: Path) -> None:
    with pytest.raises(CodedError, match="no Ray cluster") as caught:
        run_batch(eyes, tmp_path / "out", reading, ray="127.0.0.1:1")
    assert "\n" not in caught.value.says
