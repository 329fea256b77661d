"""Starts the service: its address, the limits of connections, and an end that finishes what runs."""

from __future__ import annotations

import math
import os
import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Final

import uvicorn

from funduscope.i18n.errors import CodedError
from funduscope.serve.auth import Guard, Tokens, is_loopback
from funduscope.serve.json_logs import JsonLog, take_over
from funduscope.serve.limits import CONNECTIONS, ServiceLimits
from funduscope.serve.routes import make_service
from funduscope.serve.worker import WorkerSettings
from funduscope.serve.worker_pool import WorkerPool

_KEEP_ALIVE_S: Final = 5
_BACKLOG: Final = 1024


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
    address, port = listening.getsockname()[:2]
    if ":" in address:
        address = f"[{address}]"
    log("listening", {"address": f"http://{address}:{port}"})

    workers = WorkerPool(settings, limits, log)
    config = uvicorn.Config(
        make_service(workers, limits, Guard(tokens), log),  # pyright: ignore[reportArgumentType]
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
    _handle_signals(workers)
    with suppress(KeyboardInterrupt, SystemExit):
        uvicorn.Server(config).run(sockets=[listening])
    log("ended", {})


def _handle_signals(workers: WorkerPool) -> None:
    """Load the model anew at SIGHUP; exit with 0 at SIGTERM.

    uvicorn raises SIGINT and SIGTERM again when it has ended in order. By default SIGTERM would then
    give the exit code of a failure.
    """
    has_terminal = _is_at_terminal()

    def exit_in_order(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    def reload_or_end(_number: int, _frame: FrameType | None) -> None:
        if has_terminal and not _is_at_terminal():  # the terminal was closed
            signal.raise_signal(signal.SIGTERM)
        else:
            workers.reload()

    signal.signal(signal.SIGTERM, exit_in_order)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, reload_or_end)


def _is_at_terminal() -> bool:
    """Return whether stdin is a terminal that is still there."""
    try:
        return os.isatty(0)
    except OSError:
        return False


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
