"""Work shared out to processes: a script that cannot start any gets that as its error, instead of blaming its jobs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from funduscope import process_pool

SCRIPT = """
from funduscope.process_pool import run_jobs
{guard}for job, result in run_jobs(abs, [-1, -2, -3], 1):
{guard}    print(job, result)
"""


def _said(place: Path, guard: str) -> subprocess.CompletedProcess[str]:
    script = place / "script.py"
    text = SCRIPT.format(guard="    " if guard else "").replace("    for", f"{guard}\n    for", 1)
    script.write_text(text)
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)


def _end_with_what_sigint_does() -> None:
    sys.exit(3 if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else 4)


def test_threads_that_start_processes_at_once_leave_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)

    def submit(work: Any, job: int) -> tuple[str | None, str | None]:
        time.sleep(0.01)  # processes start meanwhile
        return os.environ.get("OPENBLAS_NUM_THREADS"), os.environ.get("MKL_NUM_THREADS")

    pool: Any = SimpleNamespace(submit=submit)
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda job: process_pool._submit(pool, abs, job), range(24)))
    assert seen == [("1", "1")] * 24
    assert dict(os.environ) == before


def test_ctrl_c_while_processes_start_is_left_to_the_parent() -> None:
    """They import for seconds before they could say so themselves, and would each print a traceback."""
    before = signal.getsignal(signal.SIGINT)
    child = multiprocessing.get_context("spawn").Process(target=_end_with_what_sigint_does)
    with process_pool.ignoring_interrupts():
        child.start()
    assert signal.getsignal(signal.SIGINT) is before
    child.join()
    assert child.exitcode == 3


def test_a_script_that_begins_while_it_is_imported_is_told_what_to_do(tmp_path: Path) -> None:
    done = _said(tmp_path, "")
    assert done.returncode == 1
    assert "no worker process can be started" in done.stderr
    assert "1" not in done.stdout


def test_a_script_that_guards_its_beginning_works(tmp_path: Path) -> None:
    done = _said(tmp_path, 'if __name__ == "__main__":')
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["-1 1", "-2 2", "-3 3"]


def test_a_job_is_not_lost_where_the_pool_breaks_as_it_is_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    submit, calls = process_pool._submit, iter(range(100))

    def breaks_once(*job: Any) -> Any:
        if next(calls) == 2:
            raise BrokenProcessPool
        return submit(*job)

    monkeypatch.setattr(process_pool, "_submit", breaks_once)
    assert dict(process_pool.run_jobs(abs, range(-6, 0), workers=1)) == {-number: number for number in range(1, 7)}
