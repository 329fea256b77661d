"""Messages between the front process and a worker: a JSON header and bytes, each with its length before it."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, NamedTuple

_LENGTHS: Final = struct.Struct(">II")


class PipeMessage(NamedTuple):
    """header: what JSON can say. body: a photo's file, or an answer."""

    header: dict[str, Any]
    body: bytes


def packed(header: Mapping[str, Any], body: bytes = b"") -> list[bytes]:
    """The message's parts, to be written one after the other."""
    text = json.dumps(header).encode()
    return [_LENGTHS.pack(len(text), len(body)) + text, body]


def read_message(stream: BinaryIO) -> PipeMessage | None:
    """The next message; None at the end of the stream, also if it ends within a message."""
    start = stream.read(_LENGTHS.size)
    if len(start) < _LENGTHS.size:
        return None
    of_header, of_body = _LENGTHS.unpack(start)
    header, body = stream.read(of_header), stream.read(of_body)
    return PipeMessage(json.loads(header), body) if len(body) == of_body and len(header) == of_header else None


async def receive_message(stream: asyncio.StreamReader) -> PipeMessage | None:
    """As `read_message`, from a process of asyncio's."""
    try:
        of_header, of_body = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
        header = await stream.readexactly(of_header)
        return PipeMessage(json.loads(header), await stream.readexactly(of_body))
    except asyncio.IncompleteReadError:
        return None
