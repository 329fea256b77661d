"""Starts the service: its address, the limits of connections, and an end that finishes what runs."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import HANDLED_SIGNALS

from funduscope.i18n.errors import CodedError
from funduscope.serve.auth import Guard, Tokens, is_loopback
from funduscope.serve.json_logs import JsonLog, take_over
from funduscope.serve.limits import CONNECTIONS, HEAD_S, UNREAD_BYTES, UNREAD_S, ServiceLimits
from funduscope.serve.routes import make_service
from funduscope.serve.workers import Workers, WorkerSettings

_KEEP_ALIVE_S: Final = 5
_BACKLOG: Final = 1024


class CutOffProtocol(H11Protocol):
    """Ends connections whose client is slow with a request's head, or hardly reads an answer.

    uvicorn itself only ends those that are idle between two requests.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop(self._head_timer)
        self._stop(self._unread_timer)

    def data_received(self, data: bytes) -> None:
        earlier = self.cycle
        super().data_received(data)
        if self.cycle is not earlier:  # a request has begun
            self._stop(self._head_timer)

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()
        if self.cycle is answered and not self.transport.is_closing():
            self._stop(self._head_timer)
            self._head_timer = self.loop.call_later(HEAD_S, self._end_unless_taken, self._unread())

    def _end_unless_taken(self, before: int) -> None:
        """Ends a connection without a further request, unless its client still takes the answer and is not slow."""
        left = self._unread()
        if 0 < left <= before - UNREAD_BYTES:
            self._head_timer = self.loop.call_later(UNREAD_S, self._end_unless_taken, left)
        else:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop(self._unread_timer)
        self._unread_timer = self.loop.call_later(UNREAD_S, self._end_unless_read, self._unread())

    def _unread(self) -> int:
        return self.transport.get_write_buffer_size()  # pyright: ignore[reportAttributeAccessIssue]

    def _end_unless_read(self, before: int) -> None:
        left = self._unread()
        if left > before - UNREAD_BYTES:
            self.transport.abort()
        else:
            self._unread_timer = self.loop.call_later(UNREAD_S, self._end_unless_read, left)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop(self._unread_timer)

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


class ReloadingServer(uvicorn.Server):
    """A server that loads the model anew at SIGHUP, if the system has it, and exits with 0 at SIGTERM, at Ctrl+C and
    where the terminal that it was started in is closed.

    uvicorn raises the signal again after it has shut down, which would give the exit code of a failure.
    """

    def __init__(self, config: uvicorn.Config, workers: Workers) -> None:
        super().__init__(config)
        self._workers = workers
        self._reloading: asyncio.Task[None] | None = None
        self._is_asked = False
        self._has_terminal = _is_at_terminal()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        for number in HANDLED_SIGNALS:
            signal.signal(number, self.handle_exit)
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        yield

    def _reload(self) -> None:
        if self._has_terminal and not _is_at_terminal():
            self.handle_exit(signal.SIGHUP, None)
            return
        self._is_asked = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.ensure_future(self._replace())

    async def _replace(self) -> None:
        while self._is_asked:  # a signal that came meanwhile may stand for another file
            self._is_asked = False
            await self._workers.replace()


def _is_at_terminal() -> bool:
    """Whether stdin is a terminal, and that is still there."""
    try:
        return os.isatty(0)
    except OSError:
        return False


def run_service(
    host: str, port: int, settings: WorkerSettings, limits: ServiceLimits, tokens: Tokens | None, log: JsonLog
) -> None:
    """Serves until SIGTERM or Ctrl+C; then finishes what runs, within the deadline of a request.

    Raises `CodedError` E_CONFIG if the address cannot be used, or reaches beyond this machine without tokens.
    """
    if tokens is None and not is_loopback(host):
        says = (
            f"{host} can be reached from other machines; expected tokens for that: name a file of them with --tokens, "
            "or serve to this machine alone"
        )
        raise CodedError("E_CONFIG", says)
    listening = _listen(host, port)
    _allow_open_files()
    take_over(log)
    address, chosen = listening.getsockname()[:2]
    log("listening", {"address": f"http://{f'[{address}]' if ':' in address else address}:{chosen}"})
    asyncio.run(_serve(listening, settings, limits, Guard(tokens), log))
    log("ended", {})


async def _serve(
    listening: socket.socket, settings: WorkerSettings, limits: ServiceLimits, guard: Guard, log: JsonLog
) -> None:
    workers = Workers(settings, limits, log)
    config = uvicorn.Config(
        make_service(workers, limits, guard, log),  # pyright: ignore[reportArgumentType]
        http=CutOffProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        workers=1,  # not as many as WEB_CONCURRENCY, which is for others, asks for
        timeout_graceful_shutdown=math.ceil(limits.deadline_s),
    )
    await ReloadingServer(config, workers).serve(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        number = error.errno or 0  # negative where the name of the host is unknown; otherwise Python adds its own words
        reason = os.strerror(number) if number > 0 else error.strerror or "it is unknown"
        raise CodedError(
            "E_CONFIG", f"{host}:{port} cannot be served ({reason}): name others by --host, --port"
        ) from None


def _allow_open_files() -> None:
    """Twice as many as there may be connections, if the system lets it."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(2 * CONNECTIONS, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
