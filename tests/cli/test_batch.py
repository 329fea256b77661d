"""The verb `batch`: its lines of progress, its shares of the cores, and what it says in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import psutil
import pytest

pytest.importorskip("pyarrow", reason="the tables need the extra batch")

from funduscope.batch.run import BatchProgress
from funduscope.cli import batch

Command = Callable[..., tuple[int, str, str]]
PHOTOS = {"given": 600, "read": 600, "refused": 0, "failed": 0}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `run_batch` is called with; here it reads 600 photos, one in half a second."""
    asked: dict[str, Any] = {}
    clock = [1000.0]

    def run_batch(source: Path, out: Path, reading: Any, *, progress: Any, **others: Any) -> dict[str, Any]:
        asked.update(others, threads=reading.threads)
        for done in range(1, 601):
            clock[0] += 0.5
            progress(BatchProgress(done, 600, (done - 1) / 2))
        return {"photos": PHOTOS}

    monkeypatch.setattr("funduscope.batch.run.run_batch", run_batch)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("funduscope.capacity.core_count", lambda: 12)
    monkeypatch.setattr("funduscope.capacity._memory_bytes", lambda: 10**11)
    return asked


def test_progress_is_a_json_line_a_minute(command: Command, given: dict[str, Any], tmp_path: Path) -> None:
    code, out, err = command("batch", tmp_path, "--out", tmp_path / "out", "--json")
    *lines, last = map(json.loads, out.splitlines())
    assert (code, err, last) == (0, "", {"event": "done", **PHOTOS})
    assert [line["done"] for line in lines] == [1, 121, 241, 361, 481], "the first photo, then one a minute"
    assert lines[0] == {"event": "progress", "done": 1, "of": 600, "photos_per_s": None, "left_s": None}
    assert lines[1] == {"event": "progress", "done": 121, "of": 600, "photos_per_s": 2.0, "left_s": 240}


def test_progress_for_people_says_rate_and_time_left(command: Command, given: dict[str, Any], tmp_path: Path) -> None:
    _, out, err = command("batch", tmp_path, "--out", tmp_path / "out")
    assert err.splitlines()[0] == "1 of 600 photos", "what came before it was the start"
    assert err.splitlines()[1] == "121 of 600 photos, 2.0 a second, 4 min left"
    assert err.splitlines()[-1].endswith("60 s left")
    assert out.startswith("600 given, 600 read, 0 refused, 0 failed.\nOpen ")


@pytest.mark.parametrize(("seconds", "says"), [(0, "0 s"), (119, "119 s"), (3600, "60 min"), (9000, "2 h 30 min")])
def test_time_left_in_words(seconds: int, says: str) -> None:
    assert batch._duration(seconds) == says


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ((), (12, 1)),
        (("--processes", "4"), (4, 3)),
        (("--threads", "5"), (2, 5)),
        (("--processes", "20"), (20, 1)),
        (("--device", "cuda"), (2, 6)),
        (("--ray", "auto"), (12, 1)),
    ],
    ids=str,
)
def test_each_process_has_its_share_of_the_cores(
    command: Command, given: dict[str, Any], tmp_path: Path, options: tuple[str, ...], shares: tuple[int, int]
) -> None:
    assert command("batch", tmp_path, "--out", tmp_path / "out", *options)[0] == 0
    assert (given["processes"], given["threads"]) == shares


def test_no_more_processes_read_than_there_is_memory_for(
    command: Command, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("funduscope.capacity._memory_bytes", lambda: 2 * 10**9)
    assert command("batch", tmp_path, "--out", tmp_path / "out")[0] == 0
    assert (given["processes"], given["threads"]) == (4, 3)


@pytest.mark.parametrize(("provider", "shares"), [("CUDA", (2, 6)), ("CPU", (12, 1))])
def test_two_processes_read_only_where_auto_finds_the_runtime_of_a_gpu(
    command: Command,
    given: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    shares: tuple[int, int],
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [f"{provider}ExecutionProvider"])
    assert command("batch", tmp_path, "--out", tmp_path / "out", "--device", "auto")[0] == 0
    assert (given["processes"], given["threads"]) == shares


def test_a_folder_without_photos_is_said_to_have_none(command: Command, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = command("batch", tmp_path / "empty", "--out", tmp_path / "out", "--model", tiny)
    assert code == 1
    assert "empty has no photo" in err


def test_it_works_on_where_nobody_reads_its_lines(tmp_path: Path) -> None:
    """As with `| head -1`, or in a window that was closed."""
    code = "import sys; from funduscope.progress import tell\nfor n in range(99): tell(str(n), sys.stdout)"
    code += "\nopen(sys.argv[1], 'w').write('done')"
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" "$2" | head -1', sys.executable, code, str(tmp_path / "end")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert (tmp_path / "end").read_text() == "done"


def test_tables_are_written_where_a_folder_has_any_name(
    command: Command, tiny: Path, save_eye: Callable[..., Path], tmp_path: Path
) -> None:
    save_eye(tmp_path / "photos" / "eye.png", 360)
    out = tmp_path / os.fsdecode(b"out-\xff")
    try:
        out.mkdir()
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    code, _, err = command("batch", tmp_path / "photos", "--out", out, "--model", tiny, "--processes", 1, "--force")
    assert code == 0, err
    assert (out / "findings.parquet").stat().st_size


@pytest.mark.slow
def test_at_sigterm_it_ends_with_its_processes_and_goes_on(
    tiny: Path, save_eye: Callable[..., Path], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    for number in range(12):
        save_eye(photos / f"{number}.png", 360 + number)
    arguments = ["batch", photos, "--out", tmp_path / "out", "--model", tiny, "--processes", "2", "--json", "--force"]
    command = [sys.executable, "-m", "funduscope", *map(str, arguments)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    one = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert one.stdout is not None
    assert json.loads(one.stdout.readline())["done"] == 1
    family = psutil.Process(one.pid).children(recursive=True)
    one.send_signal(signal.SIGTERM)
    _, err = one.communicate(timeout=300)
    assert one.returncode == 143, err
    assert err.splitlines() == ["funduscope: the batch was ended (SIGTERM): the same command continues"]
    assert not psutil.wait_procs(family, timeout=30)[1], "no process outlives its parent"
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    counts = {"given": 12, "read": 12, "refused": 0, "failed": 0}
    assert json.loads(done.stdout.splitlines()[-1]) == {"event": "done", **counts}
