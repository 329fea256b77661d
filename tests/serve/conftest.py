"""The service in a process of its own, with a model of a few dozen numbers."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image
from tests.cli.conftest import write_model

from funduscope.testing.drawn_eyes import draw_eye

PATIENCE_S = 180


@dataclass
class Service:
    """A running service. temporary: its folder for temporary files, empty at first."""

    process: subprocess.Popen[bytes]
    log: Path
    temporary: Path

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The log, or its lines of one event."""
        lines = [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]
        return [line for line in lines if event in ("", line["event"])]

    @property
    def address(self) -> str:
        return wait_for(lambda: self.lines("listening"))[0]["address"]

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        return host, int(port)

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.address, timeout=PATIENCE_S, headers=headers, trust_env=False)

    def is_ready(self) -> bool:
        return httpx.get(f"{self.address}/readyz", trust_env=False).status_code == 200

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that have the model, the oldest first."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    @property
    def worker(self) -> psutil.Process:
        """The only one of them."""
        (worker,) = self.workers
        return worker

    @contextmanager
    def busy(self) -> Iterator[psutil.Process]:
        """Within the block the worker does nothing: what it was given waits."""
        worker = self.worker
        worker.suspend()
        try:
            yield worker
        finally:
            with suppress(psutil.NoSuchProcess):
                worker.resume()

    def figure(self, name: str) -> float:
        """A figure of /metrics; 0 where it is not there yet."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} ")), 0.0)


def wait_for(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once that is true."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@contextmanager
def running(folder: Path, *options: object) -> Iterator[Service]:
    """A service with these options, on a free port, until the block ends."""
    temporary = folder / "temporary"
    temporary.mkdir(parents=True)
    command = [sys.executable, "-m", "funduscope", "serve", "--port", "0", *map(str, options)]
    with (folder / "log").open("wb") as log, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=errors,
            # A platform sets WEB_CONCURRENCY for others: it must not end the service.
            env=os.environ | {"TMPDIR": str(temporary), "WEB_CONCURRENCY": "auto"},
        )
        service = Service(process, folder / "log", temporary)
        try:
            yield service
        finally:
            if process.poll() is None:
                for worker in service.workers:
                    worker.resume()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()
    if process.returncode != -signal.SIGKILL:  # of one that is killed Python names the semaphores that it had
        assert (folder / "errors").read_text() == ""


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's file."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="package")
def service(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Reads one photo at a time, lets two wait, takes 2 MB."""
    options = "--model", tiny, "--parallel", 1, "--queue", 3, "--max-body", 2
    with running(tmp_path_factory.mktemp("service"), *options) as started:
        wait_for(started.is_ready)
        yield started


@pytest.fixture(scope="package")
def eye() -> bytes:
    """A PNG file of a drawn eye."""
    file = io.BytesIO()
    Image.fromarray(draw_eye(5, width_px=480).pixels).save(file, "PNG")
    return file.getvalue()
