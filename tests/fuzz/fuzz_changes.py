"""Damages a file: bytes anywhere, or a part of its structure with lengths and checksums that fit, so that it gets
further in. What comes out depends on kind, seed and number alone."""

from __future__ import annotations

import json
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from typing import Any, Final

from tests.fuzz import fuzz_seeds

NUMBERS: Final = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 1, 1.5, 1e308, 10**30, float("nan"), float("inf"), "", "x", "../../x", "\0", "\ud800", "EX"),
    *([], [1], [[]], [None], {}, {"x": 1}, {"EX": None}, "9" * 5000),
)
"""Values that are put in the place of those in a JSON tree."""

PIECES: Final = (
    *(b"\0", b'"', b"'", b"\n", b"\r", b",", b";", b"=", b"[", b"{", b"]" * 9, b"[" * 3000, b"-1", b"1e999", b"nan"),
    *(
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"9" * 400,
        b"9" * 5000,
        b"../../etc/passwd",
        b"none",
        b"inf",
        b"a.b.c",
        b"\xef\xbb\xbf",
    ),
    b"\x00\x00\x00\x00" * 40,
)


def mutated(kind: str, seed: int, number: int) -> bytes:
    """The input of this number."""
    draw = random.Random(f"{kind} {seed} {number}")
    seeds = intact(kind)
    data = draw.choice(seeds)
    if draw.random() < 0.02:
        return draw.randbytes(draw.choice((0, 1, 7, 200, 5000)))
    inner = STRUCTURED.get(kind)
    if inner is not None and draw.random() < 0.6:
        data = inner(data, draw)
        if draw.random() < 0.7:
            return data
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        data = _bytes_changed(data, draw, seeds)
    return data


@cache
def intact(kind: str) -> list[bytes]:
    """The files of a kind that are damaged; `model` takes photos."""
    return fuzz_seeds.SEEDS["photo" if kind == "model" else kind]()


def _bytes_changed(data: bytes, draw: random.Random, seeds: list[bytes]) -> bytes:
    size = len(data)
    # Half of the changes are near the beginning, where headers are.
    at = draw.randrange(size + 1) if draw.random() < 0.5 else draw.randrange(min(size, 600) + 1)
    until = min(size, at + draw.choice((1, 2, 4, 16, 200, 5000)))
    what = draw.randrange(8)
    if what == 0 and size:
        at = min(at, size - 1)
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    if what == 1:
        return data[:at]
    if what == 2:
        return data[:at] + data[until:]
    if what == 3:
        return data[:until] + data[at:until] * draw.choice((1, 2, 50)) + data[until:]
    if what == 4:
        return data[:at] + draw.choice(PIECES) + data[at:]
    if what == 5:
        number = struct.pack(draw.choice("<>") + "I", draw.choice(NUMBERS))[: draw.choice((1, 2, 4))]
        return data[:at] + number + data[at + len(number) :]
    if what == 6:
        other = draw.choice(seeds)
        return data[:at] + other[draw.randrange(len(other) + 1) :]
    return data[:at] + draw.randbytes(until - at) + data[until:]


def _png_changed(data: bytes, draw: random.Random) -> bytes:
    """A PNG with a changed, doubled, lost or added chunk, and checksums that fit; other photos as they are."""
    if not data.startswith(b"\x89PNG"):
        return data
    chunks, at = [], 8
    while at + 8 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    at = draw.randrange(len(chunks))
    name, body = chunks[at]
    what = draw.randrange(5)
    if what == 0:
        chunks[at] = name, _bytes_changed(body, draw, [body])
    elif what == 1:
        chunks.insert(draw.randrange(len(chunks)), (name, body))
    elif what == 2:
        del chunks[at]
    elif what == 3:
        kinds = (b"zTXt", b"iCCP", b"tRNS", b"PLTE", b"acTL", b"fdAT", b"eXIf", b"gAMA", b"sBIT")
        text = b"x\0\0" + zlib.compress(bytes(draw.choice((10, 100_000, 20_000_000))))
        chunks.insert(draw.randrange(len(chunks)), (draw.choice(kinds), draw.choice((text, draw.randbytes(40), b""))))
    else:
        head = bytearray(chunks[0][1])
        place = draw.choice((0, 4, 8, 9, 10, 11, 12))
        head[place : place + (4 if place < 8 else 1)] = struct.pack(">I", draw.choice(NUMBERS))[0 if place < 8 else 3 :]
        chunks[0] = chunks[0][0], bytes(head)
    coded = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return data[:8] + b"".join(coded)


def _json_changed(text: bytes, draw: random.Random) -> bytes:
    """JSON with one value, or one key, changed, anywhere in the tree."""
    tree = json.loads(text)
    places = list(_places(tree))
    for _ in range(draw.choice((1, 1, 2))):
        holder, key = draw.choice(places)
        what = draw.randrange(6)
        if what == 0 and isinstance(holder, dict):
            holder.pop(key, None)
        elif what == 1 and isinstance(holder, dict):
            holder[draw.choice(("x", "", "name", "EX", "grade"))] = draw.choice(VALUES)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = draw.choice(VALUES)
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(value)


def _zip_changed(data: bytes, draw: random.Random) -> bytes:
    """An archive one of whose files is changed, renamed, lost or blown up, and whose checksums fit."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice(sorted(parts))
    what = draw.randrange(6)
    if what == 0:
        parts[draw.choice(("../x", "/etc/passwd", "a\\b", name.upper(), "x/" * 99))] = parts.pop(name)
    elif what == 1:
        del parts[name]
    elif what == 2:
        parts[name] = bytes(draw.choice((10_000, 30_000_000)))
    elif name.endswith(".json"):
        parts[name] = _json_changed(parts[name], draw)
    else:
        parts[name] = _bytes_changed(parts[name], draw, [parts[name]])
    return fuzz_seeds.zip_of(parts, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _checkpoint_changed(data: bytes, draw: random.Random) -> bytes:
    """A checkpoint with a change in its header's JSON, or in the JSON or TOML within; the header's length fits."""
    size = struct.unpack_from("<Q", data)[0]
    head = json.loads(data[8 : 8 + size])
    about = head["__metadata__"]
    name = draw.choice(sorted(about))
    if draw.random() < 0.3:
        text = _json_changed(json.dumps(head).encode(), draw)
    else:
        is_json = name in ("card", "progress", "digests", "vocabulary") and draw.random() < 0.8
        inner = about[name].encode()
        inner = _json_changed(inner, draw) if is_json else _bytes_changed(inner, draw, [inner])
        about[name] = inner.decode("utf-8", "replace")
        text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _toml_changed(data: bytes, draw: random.Random) -> bytes:
    """A recipe in which the value of a line is another."""
    lines = data.split(b"\n")
    at = draw.choice([index for index, line in enumerate(lines) if b"=" in line])
    values = [b"-1", b"0", b"1e308", b"nan", b"inf", b"9" * 400, b"[]", b"{}", b"true", b'""', b'"x"', b"[[[[]]]]"]
    values += [b"[" * 3000, b"1979-05-27", b'["EX", "EX"]', b'"\\u0000"', b"99999999999"]
    lines[at] = re.sub(rb"=.*", lambda _: b"= " + draw.choice(values), lines[at])
    return b"\n".join(lines)


def _photo_archive_changed(data: bytes, draw: random.Random) -> bytes:
    """A zip as by `_zip_changed`; a tar as a plain one with a changed header whose checksum fits."""
    if data.startswith(b"PK"):
        return _zip_changed(data, draw)
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        plain = bytearray(b"".join(_member(archive, info) for info in archive.getmembers()) + bytes(1024))
    header = bytearray(_bytes_changed(bytes(plain[:512]), draw, [bytes(plain[:512])])[:512].ljust(512, b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header + plain[512:])


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    content = file.read() if file else b""
    return info.tobuf() + content + bytes(-len(content) % 512)


STRUCTURED: Final[dict[str, Callable[[bytes, random.Random], bytes]]] = {
    "photo": _png_changed,
    "model": _png_changed,
    "photo_archive": _photo_archive_changed,
    "archive": _zip_changed,
    "checkpoint": _checkpoint_changed,
    "card": _json_changed,
    "corrections": _json_changed,
    "recipe": _toml_changed,
}
"""By kind a change that leaves checksums and lengths right, so that it gets further in."""
