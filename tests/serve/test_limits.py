"""What is too much is refused at once, and costs nobody else an answer."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serve.conftest import PATIENCE_S, Service, running, wait_for

from funduscope.serve.limits import BODY_BYTES_PER_S, BodyMemory, RefusalError, ServiceLimits, read_body

LIMIT = 2_000_000
HEAD = b"POST /v1/findings HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection(service.place, PATIENCE_S) as connection:
        yield connection


def answer_of(connection: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def in_background(service: Service, **given: Any) -> tuple[threading.Thread, list[httpx.Response]]:
    """Posts to the findings in a thread, which leaves the answer in the list."""
    answers: list[httpx.Response] = []

    def post() -> None:
        with service.client() as client:
            answers.append(client.post("/v1/findings", **given))

    thread = threading.Thread(target=post)
    thread.start()
    return thread, answers


def waits(service: Service, count: int) -> bool:
    return service.figure("funduscope_photos_waiting") + service.figure("funduscope_photos_running") == count


def test_a_length_above_the_limit_is_refused_before_a_byte_comes(service: Service) -> None:
    with connected(service) as connection:
        connection.sendall(HEAD + f"Content-Length: {LIMIT + 1}\r\n\r\n".encode())
        answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"E_TOO_LARGE"' in answer
    with service.client() as client:
        assert client.post("/v1/findings", content=bytes(LIMIT + 1)).status_code == 413
        assert client.post("/v1/findings", content=bytes(LIMIT)).status_code == 415


def test_chunks_above_the_limit_are_refused_before_they_end(service: Service) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with connected(service) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(LIMIT // 0x10000 + 1):
            connection.sendall(chunk)
        answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_full_queue_refuses_at_once_and_answers_what_it_took(service: Service, eye: bytes) -> None:
    with service.busy():
        taken = [in_background(service, content=eye) for _ in range(3)]
        wait_for(lambda: waits(service, 3))
        with service.client() as client:
            started = time.monotonic()
            refused = client.post("/v1/findings", content=eye)
            took = time.monotonic() - started
            assert client.get("/healthz").status_code == 200
        with connected(service) as connection:  # refused before the body comes
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
            assert answer_of(connection).startswith(b"HTTP/1.1 503 ")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "E_BUSY")
    assert int(refused.headers["retry-after"]) >= 1
    assert took < 5, "the worker is stopped: to wait would take for ever"
    for thread, _ in taken:
        thread.join(PATIENCE_S)
    assert [answer.status_code for _, answers in taken for answer in answers] == [200, 200, 200]


def test_the_work_of_a_client_that_went_away_is_not_done(service: Service, eye: bytes) -> None:
    read, figure = 'funduscope_stage_seconds_count{stage="open"}', "funduscope_photos_waiting"
    with service.client() as client:
        client.post("/v1/findings", content=eye)
    before, gone = service.figure(read), len([1 for line in service.lines("request") if line["status"] == 499])
    with service.busy():
        thread, answers = in_background(service, content=eye)
        wait_for(lambda: waits(service, 1))
        with connected(service) as connection:
            connection.sendall(HEAD + f"Content-Length: {len(eye)}\r\n\r\n".encode() + eye)
            wait_for(lambda: service.figure(figure) == 1)
        wait_for(lambda: service.figure(figure) == 0)
        with connected(service) as connection:  # and one that leaves while it sends
            connection.sendall(HEAD + f"Content-Length: {len(eye)}\r\n\r\n".encode() + eye[:100])
    thread.join(PATIENCE_S)
    assert answers[0].status_code == 200
    wait_for(lambda: len([1 for line in service.lines("request") if line["status"] == 499]) == gone + 2)
    wait_for(lambda: service.figure(read) == before + 1)


@pytest.mark.slow
def test_a_photo_that_takes_too_long_is_given_up_and_then_its_worker(tiny: Path, eye: bytes, tmp_path: Path) -> None:
    with running(tmp_path, "--model", tiny, "--deadline", 1.5, "--parallel", 1) as service:
        wait_for(service.is_ready)
        first = service.worker.pid
        with service.busy(), service.client() as client:
            late = client.post("/v1/findings", content=eye)
            waited = client.post("/v1/findings", content=eye)
            wait_for(lambda: service.lines("worker ended"))
        for answer in (late, waited):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "E_DEADLINE")
            assert "retry-after" in answer.headers
        wait_for(service.is_ready)
        assert service.worker.pid != first
        with service.client() as client:
            assert client.post("/v1/findings", content=eye).status_code == 200


def test_all_bodies_together_take_bounded_memory() -> None:
    memory = BodyMemory(100)
    with memory.body() as take:
        take(60)
        with memory.body() as other:
            other(40)
            with pytest.raises(RefusalError) as caught:
                other(1)
            assert (caught.value.code, caught.value.retry_after_s) == ("E_BUSY", 1)
        assert memory.taken == 60
        take(40)
    assert memory.taken == 0


def test_body_that_comes_too_slowly_is_refused() -> None:
    """Nothing comes after the first bytes, which were enough for 20 ms."""

    async def read() -> None:
        parts = [{"type": "http.request", "body": bytes(BODY_BYTES_PER_S // 50), "more_body": True}]

        async def receive() -> Any:
            if not parts:
                await asyncio.sleep(PATIENCE_S)
            return parts.pop()

        await read_body(receive, ServiceLimits(body_start_s=0.01), lambda _: None)

    with pytest.raises(RefusalError) as caught:
        asyncio.run(read())
    assert caught.value.code == "E_SLOW"


def test_slow_clients_cost_nobody_an_answer(service: Service, eye: bytes) -> None:
    """Connections that say nothing, heads and bodies that are never finished."""
    starts = b"", b"GET /hea", HEAD + b"Content-Length: 1000\r\n\r\nx"
    with ExitStack() as slow:
        for number in range(60):
            slow.enter_context(connected(service)).sendall(starts[number % 3])
        with service.client() as client:
            assert client.post("/v1/findings", content=eye).status_code == 200
