"""What every request passes: its number, who may ask, headers of the answer, one line of log, the figures."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from funduscope.i18n.errors import HTTP_STATUS, CodedError
from funduscope.serve.auth import PATHS_WITHOUT_TOKEN, Guard
from funduscope.serve.json_logs import JsonLog
from funduscope.serve.limits import ClientGoneError, Receive, RefusalError, discard_rest
from funduscope.serve.service_metrics import ServiceMetrics

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

GONE: Final = 499
"""In log and figures, the status of a request whose client left before the answer."""

_MEMORY_S: Final = 10
"""When to come again where memory was short."""

SECURITY_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


@dataclass
class RequestRecord:
    """What is noted of a request. number: given by the service, never by the client. route: as the service names it.
    status: of the answer, None before it. code: of the refusal. sha256: of the photo."""

    number: str = field(default_factory=lambda: uuid.uuid4().hex)
    route: str = "other"
    status: int | None = None
    code: str | None = None
    sha256: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def record_of(scope: MutableMapping[str, Any]) -> RequestRecord:
    """The record of a request that came through the gate."""
    return scope["state"]["record"]


def refusal_response(error: CodedError, record: RequestRecord) -> Response:
    """The answer to a request that is refused: status, code, sentence."""
    record.code = error.code
    headers = {}
    if error.code == "E_TOKEN":
        headers["www-authenticate"] = "Bearer"
    wait_s = error.retry_after_s if isinstance(error, RefusalError) else _MEMORY_S if error.code == "E_MEMORY" else None
    if wait_s is not None:
        headers["retry-after"] = str(wait_s)
    content = {"error": {"code": error.code, "says": error.says}, "request": record.number}
    return JSONResponse(content, HTTP_STATUS[error.code], headers)


def unexpected_error(error: Exception) -> RefusalError:
    """An error that nobody foresaw, by its kind alone: its text may quote the request."""
    return RefusalError(
        "E_INTERNAL",
        f"an unexpected error while this request was answered ({type(error).__name__}): please report it",
    )


class RequestGate:
    """An ASGI application around another: see the file's first line.

    routes: the paths that log and figures name; any other is "other".
    """

    def __init__(
        self, inner: Application, guard: Guard, metrics: ServiceMetrics, log: JsonLog, routes: frozenset[str]
    ) -> None:
        self._inner, self._guard, self._metrics, self._log, self._routes = inner, guard, metrics, log, routes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        started = time.perf_counter()
        path, headers = scope["path"], Headers(scope=scope)
        record = RequestRecord(route=path if path in self._routes else "other")
        scope.setdefault("state", {})["record"] = record
        exchange = _Exchange(record, headers, receive, send)
        try:
            self._guard.check(path, headers)
            await self._inner(scope, exchange.receive, exchange.send)
        except ClientGoneError:
            record.status = GONE
        except CodedError as error:
            await refusal_response(error, record)(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:  # the service ends, and this request has not even arrived
            if record.status is not None:
                raise
            ends = RefusalError("E_BUSY", "the service is being stopped: send the request again later", 5)
            await refusal_response(ends, record)(scope, exchange.receive, exchange.send)
        except Exception as error:
            self._log("fault", {"level": "error", "request": record.number, "kind": type(error).__name__})
            if record.status is None:
                await refusal_response(unexpected_error(error), record)(scope, exchange.receive, exchange.send)
        finally:
            self._conclude(record, time.perf_counter() - started)

    def _conclude(self, record: RequestRecord, seconds: float) -> None:
        status = GONE if record.status is None else record.status
        self._metrics.count_request(record.route, status, record.code, seconds)
        self._metrics.count_stages(record.seconds)
        if record.route in PATHS_WITHOUT_TOKEN and status == 200:
            return
        fields = {"request": record.number, "route": record.route, "status": status, "code": record.code}
        photo = {"sha256": record.sha256[:12]} if record.sha256 else {}
        self._log("request", fields | photo | {"seconds": round(seconds, 4), "stages": record.seconds})


class _Exchange:
    """One request and its answer: adds headers, and closes connections whose request was not read to its end."""

    def __init__(self, record: RequestRecord, headers: Headers, receive: Receive, send: Send) -> None:
        self._record, self._receive, self._send = record, receive, send
        self._unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    async def receive(self) -> MutableMapping[str, Any]:
        """The next part of the request."""
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """The next part of the answer."""
        if message["type"] == "http.response.start":
            self._record.status = message["status"]
            headers = [*message.get("headers", []), *SECURITY_HEADERS]
            headers.append((b"x-request-id", self._record.number.encode()))
            if self._unread:
                headers.append((b"connection", b"close"))
            await self._send({**message, "headers": headers})
        elif self._unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await discard_rest(self.receive)
            await self._send({"type": "http.response.body", "body": b""})
        else:
            await self._send(message)
