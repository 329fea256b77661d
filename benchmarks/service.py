"""What the service costs next to the model alone, and what it keeps under load: each figure is a ratio within one run.

    python -m benchmarks.service [--model MODEL] [--photo FILE] [--only throughput overload ...] [sizes]

Starts `funduscope serve` on a free port. The parts, with their bars in docs/serve.md:

- throughput: photos a second by 4 clients, over `model.stream` and findings.json in this process, in turns;
- overload: 50 clients at once, who come again a moment after a 503; a probe asks for `/healthz` meanwhile;
- refusals: requests of which 19 of 20 are refused before the model; memory of all processes by halves;
- schema: schemathesis over the OpenAPI document (development group).

Memory and workers are found by psutil (development group). Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

import funduscope
from funduscope.evaluation.cost import machine
from funduscope.report.write import to_json

QUEUE, PARALLEL = 16, 2
LIMIT_MB = 16
PARTS = ("throughput", "overload", "refusals", "schema")


class Answer(NamedTuple):
    """Status (0 where the connection broke) and seconds from the opening of the connection."""

    status: int
    seconds: float
    retry_after: bool


@dataclass
class Served:
    """A running service and its processes."""

    port: int
    front: psutil.Process

    @property
    def memory(self) -> tuple[float, float]:
        """MB of front and workers."""
        workers = self.front.children()
        return self.front.memory_info().rss / 1e6, sum(worker.memory_info().rss for worker in workers) / 1e6


@contextmanager
def served(model: str | None, *options: str) -> Iterator[Served]:
    """A service whose model is ready, until the block ends."""
    arguments = [] if model is None else ["--model", str(model)]
    arguments += ["--port", "0", "--queue", str(QUEUE), "--parallel", str(PARALLEL), "--max-body", str(LIMIT_MB)]
    command = [sys.executable, "-m", "funduscope", "serve", *arguments, *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log)
        try:
            port = None
            while port is None:
                _must_run(process)
                time.sleep(0.05)
                log.seek(0)
                found = re.search(r'"address":"http://[^"]*:(\d+)"', log.read())
                port = int(found[1]) if found else None
            while asyncio.run(ask(port, "/readyz")).status != 200:
                _must_run(process)
                time.sleep(0.1)
            yield Served(port, psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait()


def _must_run(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise SystemExit("The service did not start; its last line says why.")


async def ask(
    port: int, path: str, body: bytes | None = None, headers: str = "", declared: int | None = None
) -> Answer:
    """One request on a connection of its own; the answer is read while the body is still sent."""
    started = time.perf_counter()
    status, retry_after = 0, False
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        method = "GET" if body is None else "POST"
        length = "" if body is None else f"Content-Length: {len(body) if declared is None else declared}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}{headers}\r\n"
        writer.write(head.encode() + (body or b""))
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status, retry_after = int(text.split()[1]), "\r\nretry-after:" in text
        size = re.search(r"\r\ncontent-length: (\d+)", text)
        await reader.readexactly(int(size[1]) if size else 0)
    except (OSError, asyncio.IncompleteReadError):
        status = 0
    seconds = time.perf_counter() - started
    if writer is not None:
        writer.transport.abort()
    return Answer(status, seconds, retry_after)


async def together(clients: int, work: Callable[[int], Awaitable[None]]) -> None:
    await asyncio.gather(*(work(number) for number in range(clients)))


def p95(seconds: list[float]) -> float:
    return float(np.percentile(seconds, 95)) if seconds else float("nan")


def measure_throughput(given: argparse.Namespace, photo: bytes) -> None:
    """Turns of the service and of the stream, so that other work of the machine falls on both."""
    model = funduscope.load(given.model)

    def stream(count: int) -> None:
        for found in model.stream([photo] * count):
            to_json(found.to_dict())

    async def service(count: int) -> None:
        left = list(range(count))

        async def client(_: int) -> None:
            while left:
                left.pop()
                answer = await ask(here.port, "/v1/findings", photo)
                assert answer.status == 200, answer

        await together(4, client)

    rates: dict[str, list[float]] = {"stream": [], "service": []}
    with served(given.model) as here:
        stream(2)
        asyncio.run(service(4))
        for _ in range(given.turns):
            for name, run in (("stream", stream), ("service", lambda count: asyncio.run(service(count)))):
                started = time.perf_counter()
                run(given.photos)
                rates[name].append(given.photos / (time.perf_counter() - started))
        front, worker = here.memory
    each = [ours / theirs for ours, theirs in zip(rates["service"], rates["stream"], strict=True)]
    shown = ", ".join(f"{one:.2f}" for one in each)
    row("throughput at 4 clients over `model.stream`", statistics.median(each), "0.95 or more",
        f"{statistics.median(rates['service']):.2f} and {statistics.median(rates['stream']):.2f} photos a second; "
        f"turns of {given.photos} photos: {shown}; front {front:.0f} MB, workers {worker:.0f} MB")  # fmt: skip


def measure_overload(given: argparse.Namespace, photo: bytes) -> None:
    """50 clients for some time, and then until all that was taken is answered."""
    answers: list[Answer] = []
    health: list[float] = []

    async def run(port: int) -> float:
        started = time.perf_counter()

        async def client(_: int) -> None:
            while time.perf_counter() - started < given.seconds:
                answers.append(one := await ask(port, "/v1/findings", photo))
                if one.status == 503:
                    await asyncio.sleep(given.again)

        async def probe() -> None:
            while time.perf_counter() - started < given.seconds:
                health.append((await ask(port, "/healthz")).seconds)
                await asyncio.sleep(0.1)

        await asyncio.gather(together(50, client), probe())
        return time.perf_counter() - started

    with served(given.model, "--deadline", "600") as here:
        asyncio.run(ask(here.port, "/v1/findings", photo))
        took = asyncio.run(run(here.port))
    statuses = Counter(one.status for one in answers)
    taken = [one.seconds for one in answers if one.status == 200]
    refused = [one.seconds for one in answers if one.status == 503]
    service_s = took / max(1, len(taken))
    others = {status: count for status, count in statuses.items() if status not in (200, 503)}
    lacking = sum(one.status == 503 and not one.retry_after for one in answers)
    row("answers to 50 clients other than 200 or 503", sum(others.values()), "0",
        f"{statuses[200]} x 200, {statuses[503]} x 503 ({lacking} without Retry-After) {others or ''}")  # fmt: skip
    row("p95 of a 503 over p95 of `/healthz`", p95(refused) / p95(health), "5 or less",
        f"{1e3 * p95(refused):.1f} and {1e3 * p95(health):.1f} ms")  # fmt: skip
    row(f"p95 of a 200 over queue length ({QUEUE}) x service time", p95(taken) / (QUEUE * service_s), "1.2 or less",
        f"{p95(taken):.1f} s; {service_s:.2f} s a photo")  # fmt: skip


def measure_refusals(given: argparse.Namespace, photo: bytes) -> None:
    """Requests in a fixed order; one of twenty is answered by the model."""
    token = "0123456789abcdef" * 2
    good = f"Authorization: Bearer {token}\r\n"
    wrong = good.replace("0123", "3210")
    rubbish = np.random.default_rng(0).bytes(100_000)
    kinds: list[tuple[int, Callable[[int], Awaitable[Answer]]]] = [
        (415, lambda port: ask(port, "/v1/findings", rubbish, good)),
        (422, lambda port: ask(port, "/v1/findings", photo[:-2], good)),
        (413, lambda port: ask(port, "/v1/findings", b"x", good, declared=LIMIT_MB * 1_000_000 + 1)),
        (401, lambda port: ask(port, "/v1/findings", photo, wrong)),
        (401, lambda port: ask(port, "/v1/findings", photo)),
        (400, lambda port: ask(port, "/v1/findings", rubbish, good + "Content-Type: multipart/form-data\r\n")),
        (406, lambda port: ask(port, "/v1/findings", photo, good + "Accept: text/html\r\n")),
        (404, lambda port: ask(port, "/nothing", None, good)),
    ]
    unexpected: Counter[tuple[int, int]] = Counter()
    samples: list[tuple[float, float]] = []

    async def run(here: Served) -> None:
        left = iter(range(given.requests))

        async def client(_: int) -> None:
            for number in left:
                wanted, send = kinds[number % len(kinds)]
                if number % 20 == 0:
                    wanted, send = 200, lambda port: ask(port, "/v1/findings", photo, good)
                got = (await send(here.port)).status
                if got != wanted:
                    unexpected[wanted, got] += 1
                if number % max(1, given.requests // 400) == 0:
                    samples.append(here.memory)

        await together(8, client)

    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        tokens.write_text(token)
        with served(given.model, "--tokens", str(tokens), "--deadline", "600") as here:
            asyncio.run(run(here))
    both = [front + worker for front, worker in samples]
    middle = len(both) // 2
    ratio = statistics.mean(both[middle:]) / statistics.mean(both[:middle])
    front, worker = samples[-1]
    row(f"memory of the second half of {given.requests} requests over the first", ratio, "1.05 or less",
        f"front {front:.0f} MB, workers {worker:.0f} MB at the end; largest {max(both):.0f} MB, "
        f"of the first half {max(both[:middle]):.0f} MB")  # fmt: skip
    row("other codes than expected", sum(unexpected.values()), "0", str(dict(unexpected) or ""))


def measure_schema(given: argparse.Namespace, photo: bytes) -> None:
    """Every check of schemathesis but that valid data are accepted: a schema cannot say what a fundus photo is."""
    with served(given.model) as here, tempfile.TemporaryDirectory() as folder:
        address = f"http://127.0.0.1:{here.port}/openapi.json"
        tool = Path(sys.executable).with_name("schemathesis")
        command = [tool, "run", address, "--max-examples", str(given.cases), "--continue-on-failure", "--no-color",
                   "--exclude-checks", "positive_data_acceptance", "--seed", str(given.seed)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    text = done.stdout
    cases = re.search(r"(\d+) generated[^\n]*", text)
    row("schemathesis, exit code", done.returncode, "0", cases[0] if cases else text[-300:])
    if done.returncode:
        print(text, file=sys.stderr)


def row(what: str, value: float, bar: str, detail: str) -> None:
    """One line of the table."""
    shown = f"{value:.2f}" if isinstance(value, float) else str(value)
    print(f"| {what} | {shown} | {bar} | {detail} |", flush=True)


def main() -> None:
    """Runs the parts and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="default: the shipped one")
    parser.add_argument("--photo", type=Path, help="default: the demo photo, 3504 x 2336")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--photos", type=int, default=24, help="in each turn of throughput")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=120, help="of overload")
    parser.add_argument("--again", type=float, default=0.5, help="seconds after which a refused client comes again")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--cases", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0, help="of schemathesis")
    given = parser.parse_args()
    demo = resources.files("funduscope") / "demo" / "hrf_07_dr.jpg"
    photo = demo.read_bytes() if given.photo is None else given.photo.read_bytes()
    sizes = {name: value for name, value in vars(given).items() if name not in ("model", "photo", "only")}
    print(f"{machine()}; {json.dumps(sizes)}.\n\n| what | measured | bar | |\n|---|---|---|---|")
    for part in given.only:
        globals()[f"measure_{part}"](given, photo)
    print(f"\nLoad average at the end: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
