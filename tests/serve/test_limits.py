"""What is too much is refused at once, and costs nobody else an answer."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
import uvicorn
from tests.serve.conftest import PATIENCE_S, Service, run_async, running, wait_for
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from funduscope.serve.limits import BODY_START_S, HEAD_S, BodyMemory, RefusalError
from funduscope.serve.service import CutOffProtocol

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


@pytest.mark.slow
def test_slow_clients_are_cut_off_and_cost_nobody_an_answer(service: Service, eye: bytes) -> None:
    """Heads and bodies that trickle, and connections that say nothing, a hundred of each."""
    slow = [socket.create_connection(service.place, PATIENCE_S) for _ in range(300)]
    started = time.monotonic()
    for number, connection in enumerate(slow):
        connection.sendall((b"", b"GET /hea", HEAD + b"Content-Length: 1000\r\n\r\nx")[number % 3])
    with service.client() as client:
        assert client.post("/v1/findings", content=eye).status_code == 200
    answers = []
    for number, connection in enumerate(slow):
        try:
            while number % 3 == 1 and time.monotonic() - started < 0.9 * HEAD_S:
                connection.sendall(b"l")  # a byte now and then does not help
                time.sleep(0.2)
            answers.append(answer_of(connection))
        except OSError:
            answers.append(b"")
        connection.close()
    assert time.monotonic() - started < max(HEAD_S, BODY_START_S) + 15
    assert all(answer == b"" for number, answer in enumerate(answers) if number % 3 < 2)
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers[2::3])
    assert service.lines("request")[-1]["code"] == "E_SLOW"


@pytest.mark.parametrize(
    ("resumes", "bytes_each_time", "aborted"), [(False, 0, True), (False, 600_000, False), (True, 0, False)]
)
def test_an_answer_that_is_hardly_read_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, resumes: bool, bytes_each_time: int, aborted: bool
) -> None:
    """A real client would have to leave megabytes unread: the system's buffers take that much."""
    monkeypatch.setattr("funduscope.serve.service.UNREAD_S", 0.01)
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    transport.get_write_buffer_size.side_effect = itertools.count(10**9, -bytes_each_time)

    async def leave() -> None:
        protocol = CutOffProtocol(uvicorn.Config(Mock()), ServerState(), {}, asyncio.get_running_loop())
        protocol.connection_made(transport)
        protocol.pause_writing()
        if resumes:
            protocol.resume_writing()
        await asyncio.sleep(0.1)

    run_async(leave())
    assert transport.abort.called == aborted


@pytest.mark.parametrize(("reads_each_time", "waits"), [(600_000, True), (0, False)])
def test_an_answer_that_is_still_read_is_not_cut_off(
    monkeypatch: pytest.MonkeyPatch, reads_each_time: int, waits: bool
) -> None:
    """An answer counts as given while megabytes of it wait for a slow connection."""
    for name in ("HEAD_S", "UNREAD_S"):
        monkeypatch.setattr(f"funduscope.serve.service.{name}", 0.02)
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    transport.is_closing.return_value = False
    left = [3_000_000]

    def unread() -> int:
        left[0] = max(left[0] - reads_each_time, 0)
        return left[0]

    transport.get_write_buffer_size.side_effect = unread

    async def answer() -> None:
        protocol = CutOffProtocol(uvicorn.Config(Mock()), ServerState(), {}, asyncio.get_running_loop())
        protocol.connection_made(transport)
        monkeypatch.setattr(H11Protocol, "on_response_complete", lambda self: None)
        protocol.on_response_complete()
        await asyncio.sleep(0.05)
        assert transport.abort.called != waits
        await asyncio.sleep(0.3)

    run_async(answer())
    assert (left[0] == 0) == waits
    assert transport.abort.called, "once it is read, or is not read any more"
