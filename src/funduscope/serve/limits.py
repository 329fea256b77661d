"""What a request may cost: bytes, seconds and places in the queue; and how its body is read within that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from funduscope.i18n.errors import CodedError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""ASGI's: the next part of a request's body, or that its client is gone."""

BODY_BYTES_PER_S: Final = 50_000
"""A body has a second more than `ServiceLimits.body_start_s` for so many bytes that came."""

LINGER_S: Final = 1.0
LINGER_BYTES: Final = 16_000_000
"""After a refusal the rest of the body is thrown away for so long: a connection that is closed with unread bytes takes
the answer with it."""

CONNECTIONS: Final = 1000
"""Open connections; beyond, a request is answered with 503 by uvicorn itself."""


class RefusalError(CodedError):
    """A request that is not answered. retry_after_s: when to come again; None if that would not help."""

    def __init__(self, code: str, says: str, retry_after_s: int | None = None) -> None:
        super().__init__(code, says)
        self.retry_after_s = retry_after_s


class ClientGoneError(Exception):
    """Nobody waits for the answer anymore."""


@dataclass(frozen=True)
class ServiceLimits:
    """What the service takes at most."""

    max_body_bytes: int = 64_000_000
    """Of a request."""

    queue: int = 16
    """Photos that wait or are read at once, together."""

    parallel: int = 2
    """Photos that are read at once: the number of workers."""

    deadline_s: float = 60.0
    """From the end of a request's body to its answer."""

    body_memory_bytes: int = 256_000_000
    """Of all bodies that the front process has at a time; at least `max_body_bytes`.

    Each is there up to three times for a moment: in parts, whole, and on its way to a worker.
    """

    body_start_s: float = 10.0
    """For the first bytes of a body: see `BODY_BYTES_PER_S`."""


class BodyMemory:
    """The bytes of all bodies in memory."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Gives the function that takes memory for so many bytes more, or raises `RefusalError`; the end of the block
        gives it back."""
        own = 0

        def take(count: int) -> None:
            nonlocal own
            if self.taken + count > self.most:
                raise RefusalError("E_BUSY", "too many photos are being sent at once: send this one again later", 1)
            own += count
            self.taken += count

        try:
            yield take
        finally:
            self.taken -= own


def check_declared(headers: Mapping[str, str], limits: ServiceLimits) -> None:
    """Raises `RefusalError` if the headers announce a body above the limit."""
    with suppress(ValueError):  # the server has refused what is not a number
        if int(headers.get("content-length", "0")) > limits.max_body_bytes:
            raise _too_large(limits)


async def read_body(receive: Receive, limits: ServiceLimits, take: Callable[[int], None]) -> bytes:
    """The whole body. take: see `BodyMemory`.

    Raises `RefusalError`: E_TOO_LARGE as soon as the limit is passed, also if no length was announced, E_SLOW if
    it comes too slowly; `ClientGoneError` if it ends too early.
    """
    parts: list[bytes] = []
    size, started = 0, asyncio.get_running_loop().time()
    while True:
        try:
            async with asyncio.timeout_at(started + limits.body_start_s + size / BODY_BYTES_PER_S):
                message = await receive()
        except TimeoutError:
            says = f"the body came too slowly ({size} bytes so far); expected {BODY_BYTES_PER_S} bytes a second or more"
            raise RefusalError("E_SLOW", says) from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limits.max_body_bytes:
            raise _too_large(limits)
        take(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def discard_rest(receive: Receive) -> None:
    """Throws the rest of a refused request's body away, within `LINGER_S` and `LINGER_BYTES`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            size = 0
            while size < LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _too_large(limits: ServiceLimits) -> RefusalError:
    most = limits.max_body_bytes
    return RefusalError(
        "E_TOO_LARGE", f"the body is larger than {most} bytes; expected at most that: save the photo smaller"
    )
