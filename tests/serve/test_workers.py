"""The model is loaded anew without losing a photo or a process, whenever the worker dies. A small program that speaks
the worker's messages stands in for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from tests.serve.conftest import run_async

from funduscope.i18n.errors import CodedError
from funduscope.serve import workers
from funduscope.serve.limits import ServiceLimits
from funduscope.serve.workers import Job, Workers, WorkerSettings

WORKER = """#!{python}
import sys, time
from funduscope.serve.worker_pipe import packed, read_message
def send(header):
    sys.stdout.buffer.writelines(packed(header, b"read"))
    sys.stdout.buffer.flush()
read_message(sys.stdin.buffer)
time.sleep({loading_s})
send({{"event": "ready", "about": {{"name": "m", "sha256": "0" * 64}}}})
while (message := read_message(sys.stdin.buffer)) is not None:
    time.sleep({reading_s})
    send({{"event": "done", "job": message.header["job"]}})
"""

Program = Callable[[float, float], None]
"""Makes that program the worker: seconds to load the model, and to read a photo."""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    def use(loading_s: float, reading_s: float) -> None:
        path = tmp_path / "worker"
        path.write_text(WORKER.format(python=python, loading_s=loading_s, reading_s=reading_s), "utf-8")
        path.chmod(0o755)

    python = sys.executable
    monkeypatch.setattr(sys, "executable", str(tmp_path / "worker"))
    return use


@asynccontextmanager
async def alive() -> AsyncIterator[Workers]:
    """Workers of which one is ready, and kept alive."""
    own = Workers(WorkerSettings(), ServiceLimits(), lambda event, fields: None)
    keeping = asyncio.create_task(own.keep_alive())
    try:
        await ready(own)
        yield own
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await own.end()


async def ready(own: Workers) -> None:
    async with asyncio.timeout(60):
        while not own.ready:
            await asyncio.sleep(0.02)


def test_a_photo_that_is_being_read_is_answered_though_the_model_is_loaded_anew(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes, within a request's time; what a worker has to end the service is less."""
    monkeypatch.setattr(workers, "_END_S", 0.1)

    async def body() -> None:
        program(0, 1.5)
        async with alive() as own:
            answer = asyncio.create_task(own.answer(Job(b"x", "application/json")))
            await asyncio.sleep(0.2)
            earlier = own.pid
            await own.replace()
            assert (await answer).body == b"read"
            assert own.pid != earlier

    run_async(body())


def test_a_worker_that_dies_while_the_model_is_loaded_anew_leaves_one_in_its_place(program: Program) -> None:
    async def body() -> None:
        program(0, 0)
        async with alive() as own:
            program(0.5, 0)
            replaced = asyncio.create_task(own.replace())
            await asyncio.sleep(0.2)
            assert own.pid is not None
            os.kill(own.pid, signal.SIGKILL)
            await replaced
            await asyncio.sleep(1)
            children = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
            assert [one.pid for one in children if sys.executable in one.cmdline()] == [own.pid]
            assert (await own.answer(Job(b"x", "application/json"))).body == b"read"
            os.kill(own.pid, signal.SIGKILL)
            with suppress(CodedError):
                await own.answer(Job(b"x", "application/json"))
            await ready(own)
            assert (await own.answer(Job(b"x", "application/json"))).body == b"read"

    run_async(body())


def test_the_new_worker_s_death_is_seen_though_the_old_one_still_reads(program: Program) -> None:
    async def body() -> None:
        program(0, 30)
        async with alive() as own:
            reading = asyncio.create_task(own.answer(Job(b"x", "application/json")))
            await asyncio.sleep(0.2)
            program(0, 0)
            replaced = asyncio.create_task(own.replace())
            earlier = own.pid
            assert earlier is not None
            async with asyncio.timeout(20):
                while own.pid == earlier:
                    await asyncio.sleep(0.02)
            assert own.pid is not None
            os.kill(own.pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while not own.restarts:
                    await asyncio.sleep(0.02)
            await ready(own)
            os.kill(earlier, signal.SIGKILL)
            await replaced
            with suppress(CodedError):
                await reading

    run_async(body())
