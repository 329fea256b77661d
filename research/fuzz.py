"""Damages files of every kind that the package reads, and checks that each gives an answer or an error with a code.

    python -m research.fuzz --inputs 10000 --kind photo --seed 1
    python -m research.fuzz --inputs 500 --kind model       # mutated photos through the whole shipped model

Each input depends on the kind, the seed and its number alone, so a finding is made again from these three. It goes up
to the framed photo or the parsed table. A finding is an exception that is no error for people, more than 5 s, more
than 1 GB over the process's memory before, or a process that ends. The command prints outcomes by code, and findings.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import multiprocessing
import random
import re
import struct
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from research import fuzz_seeds

MOST_S: Final = 5.0
MOST_BYTES: Final = 1_000_000_000
PATIENCE_S: Final = 300.0
"""After this long without an input done, its process is ended."""

PART: Final = 10_000
"""Inputs of one process, whose start takes as long as a thousand cheap ones."""

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
Outcome = tuple[str, str]
"""A code, or "answer"; and what is wrong, or nothing."""


def mutated(kind: str, seed: int, number: int) -> bytes:
    """The input of this number."""
    draw = random.Random(f"{kind} {seed} {number}")
    seeds = _seeds("photo" if kind == "model" else kind)
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
def _seeds(kind: str) -> list[bytes]:
    return fuzz_seeds.SEEDS[kind]()


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


def read(kind: str, data: bytes, folder: Path) -> None:
    """Reads an input up to the framed photo or the parsed table; for `model`, up to findings.json."""
    from funduscope.imaging.framing import frame
    from funduscope.imaging.photo import Photo

    if kind in ("photo", "dicom"):
        for photo in Photo.open_all(data):
            frame(photo, 128)
    elif kind == "model":
        from funduscope.report.write import to_json

        # Forced, since a photo that is refused would not reach the network.
        to_json(_shipped()(Photo.open(data), force=True).to_dict())
    elif kind == "table":
        from funduscope.data import table

        eye = folder / "eye.jpg"
        if not eye.is_file():
            eye.write_bytes(fuzz_seeds.photos()[3])
        (folder / "table.csv").write_bytes(data)
        table.read(folder / "table.csv")
    elif kind == "recipe":
        from funduscope.recipe import Recipe

        (folder / "recipe.toml").write_bytes(data)
        Recipe.load(folder / "recipe.toml").to_toml()
    elif kind == "photo_archive":
        _read_photo_archive(data, folder)
    else:
        _read_model_or_labels(kind, data, folder)


def _read_photo_archive(data: bytes, folder: Path) -> None:
    """All photos as `funduscope batch` reads them: one that fails does not keep the others from being read."""
    from funduscope.batch.photo_list import open_list
    from funduscope.i18n.errors import CodedError
    from funduscope.imaging.framing import frame
    from funduscope.imaging.photo import Photo

    packed = {b"\x1f\x8b": ".tar.gz", b"\xfd7": ".tar.xz", b"PK": ".zip"}
    path = folder / f"photos{packed.get(data[:2], '.tar')}"
    path.write_bytes(data)
    photos, problems = open_list(path), []
    for listed in photos:
        try:
            if listed.problem is None:
                for photo in Photo.open_all(photos.content(listed.place, listed.entry)):
                    frame(photo, 128)
        except CodedError as error:
            problems.append(error)
    if problems:
        raise problems[0]


def _read_model_or_labels(kind: str, data: bytes, folder: Path) -> None:
    if kind in ("archive", "corrections"):
        from funduscope.app.import_labels import read_zip

        list(read_zip(data if kind == "archive" else fuzz_seeds.archive_of(data)))
    elif kind == "checkpoint":
        from funduscope import checkpoint
        from funduscope.inference.card import Card

        (folder / "x.safetensors").write_bytes(data)
        loaded = checkpoint.load(folder / "x.safetensors")
        try:
            Card.from_dict(loaded.card)
        except (KeyError, TypeError, ValueError) as error:  # as `inference.loading` does
            raise checkpoint.CheckpointError("E_CONFIG", f"no usable card: {error}") from error
    else:
        from funduscope.imaging.photo import Photo
        from funduscope.inference.loading import load

        (folder / "x.onnx").write_bytes(fuzz_seeds.model_with(data))
        load(folder / "x.onnx", threads=1)(Photo.open(fuzz_seeds.eye()), force=True).to_dict()


@cache
def _shipped() -> Any:
    from funduscope.inference.loading import load

    return load(threads=1)


def outcome(kind: str, data: bytes, folder: Path) -> Outcome:
    """What reading an input gives."""
    from funduscope.data.case import LabelError
    from funduscope.i18n.errors import CODES, CodedError
    from funduscope.recipe import RecipeError

    before, started = _reset_peak(), time.process_time()
    code, wrong = "answer", ""
    try:
        read(kind, data, folder)
    except (LabelError, RecipeError) as error:  # a sentence without a code
        code = type(error).__name__
    except CodedError as error:
        code = error.code
        wrong = "" if code in CODES and code != "E_INTERNAL" else f"the code {code}"
    except Exception as error:
        code, wrong = "exception", f"{type(error).__name__}: {error}"[:300]
    spent, grown = time.process_time() - started, _peak() - before
    if spent > MOST_S or grown > MOST_BYTES:
        wrong = wrong or f"{spent:.1f} s of processor, {grown / 1e6:.0f} MB"
    return code, wrong


def _reset_peak() -> int:
    with contextlib.suppress(OSError):  # refused, the peak only grows, which finds less
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """Largest resident memory of this process in bytes; 0 where the system does not say."""
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _work(kind: str, seed: int, numbers: range, pipe: Any) -> None:
    import cv2

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        read_once(kind, Path(folder))  # imports count neither as time nor as memory
        for number in numbers:
            pipe.send((number, *outcome(kind, mutated(kind, seed, number), Path(folder))))


def read_once(kind: str, folder: Path) -> None:
    """Reads an intact file of the kind."""
    outcome(kind, _seeds("photo" if kind == "model" else kind)[0], folder)


def fuzz(kind: str, seed: int, numbers: range) -> Iterator[tuple[int, str, str]]:
    """The number, code and fault of each input, read in processes of their own; one that ends is a fault, too."""
    start = numbers.start
    while start < numbers.stop:
        ours, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
        part = range(start, min(start + PART, numbers.stop))
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(kind, seed, part, theirs))
        process.start()
        theirs.close()
        try:
            while start < part.stop:
                if not ours.poll(PATIENCE_S):
                    process.kill()
                number, code, wrong = ours.recv()
                start = number + 1
                yield number, code, wrong
        except EOFError:
            process.join()
            yield start, "ended", f"the process ended with {process.exitcode}"
            start += 1
        process.join()


def main() -> int:
    parser = argparse.ArgumentParser(description="Damages files, and checks that each gives an answer or a code.")
    parser.add_argument("--inputs", type=int, default=1000, help="of each kind")
    parser.add_argument("--kind", choices=(*fuzz_seeds.SEEDS, "model"), action="append")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed = False
    for kind in options.kind or fuzz_seeds.SEEDS:
        codes: collections.Counter[str] = collections.Counter()
        for number, code, wrong in fuzz(kind, options.seed, range(options.inputs)):
            codes[code] += 1
            if wrong:
                failed = True
                print(f"  {kind} --seed {options.seed}, input {number}: {wrong}", flush=True)
        print(f"{kind}: {options.inputs} inputs: {dict(codes.most_common())}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
