"""Damages files of every kind that the package reads, and checks that each gives an answer or an error with a code.

    python -m tests.fuzz.fuzz --inputs 10000 --kind photo --seed 1
    python -m tests.fuzz.fuzz --inputs 500 --kind model       # mutated photos through the whole shipped model

Each input depends on the kind, the seed and its number alone, so a finding is made again from these three. It goes up
to the framed photo or the parsed table. A finding is an exception that is no error for people, more than 5 s of
processor (and more than three times what an intact file takes), more than 1 GB over the process's memory before, or a
process that ends. The command prints outcomes by code, and findings.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import multiprocessing
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.fuzz import fuzz_seeds
from tests.fuzz.fuzz_changes import intact, mutated

if TYPE_CHECKING:
    from funduscope.batch.store import Store

MAX_PHOTO_S: Final = 5.0
MAX_TIMES: Final = 3.0
"""An input may take `MAX_PHOTO_S`; where an intact one takes long, as through the whole model, this many times that."""

MAX_BYTES: Final = 1_000_000_000
PATIENCE_S: Final = 1800.0
"""After this long without an input done, its process is ended. A process that shares its cores with others may need
minutes to start."""

PART: Final = 10_000
"""Inputs of one process, whose start takes as long as a thousand cheap ones."""

Outcome = tuple[str, str]
"""A code, or "answer"; and what is wrong, or nothing."""


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
    elif kind == "photo_table":
        from funduscope.batch.photo_list import open_list

        path = folder / ("photos.parquet" if data.startswith(b"PAR1") else "photos.csv")
        path.write_bytes(data)
        with _store(folder) as store:
            store.update(open_list(path, ["clinic"]))
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
    with _store(folder) as store:
        store.update(photos)
        for place, entry in store.waiting():
            try:
                for photo in Photo.open_all(photos.content(place, entry)):
                    frame(photo, 128)
            except CodedError as error:
                problems.append(error)
    if problems:
        raise problems[0]


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[Store]:
    """What a batch keeps of its photos, of this input alone."""
    from funduscope.batch.store import SHARDS, Store

    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    with contextlib.closing(Store(folder, {})) as store:
        yield store


def _read_model_or_labels(kind: str, data: bytes, folder: Path) -> None:
    if kind in ("archive", "corrections"):
        from funduscope.app.import_labels import read_zip

        list(read_zip(data if kind == "archive" else fuzz_seeds.archive_of(data)))
    elif kind.endswith("checkpoint"):
        from funduscope import checkpoint
        from funduscope.inference.card import Card

        path = folder / ("x.safetensors" if kind == "checkpoint" else "x.onnx")
        path.write_bytes(data)
        loaded = checkpoint.load(path)
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


def outcome(kind: str, data: bytes, folder: Path, most_s: float = MAX_PHOTO_S) -> Outcome:
    """What reading an input gives; more than `most_s` of processor is a fault."""
    from funduscope.data.case import LabelError
    from funduscope.i18n.errors import HTTP_STATUS, CodedError
    from funduscope.recipe import RecipeError

    before, started = _reset_peak(), time.process_time()
    code, wrong = "answer", ""
    try:
        read(kind, data, folder)
    except (LabelError, RecipeError) as error:  # a sentence without a code
        code = type(error).__name__
    except CodedError as error:
        code = error.code
        wrong = "" if code in HTTP_STATUS and code != "E_INTERNAL" else f"the code {code}"
    except Exception as error:
        code, wrong = "exception", f"{type(error).__name__}: {error}"[:300]
    spent, grown = time.process_time() - started, _peak() - before
    if spent > most_s or grown > MAX_BYTES:
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
        most_s = longest(kind, Path(folder))
        for number in numbers:
            pipe.send((number, *outcome(kind, mutated(kind, seed, number), Path(folder), most_s)))


def longest(kind: str, folder: Path) -> float:
    """Seconds of processor that an input of the kind may take, by an intact file on this machine."""
    data = intact(kind)[0]
    outcome(kind, data, folder)  # imports count neither as time nor as memory
    started = time.process_time()
    outcome(kind, data, folder)
    return max(MAX_PHOTO_S, MAX_TIMES * (time.process_time() - started))


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
