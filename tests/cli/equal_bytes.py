"""Reads photos by every entry and number of threads, and checks that findings.json has the same bytes each time.

    python -m tests.cli.equal_bytes PHOTO... [--model MODEL] [--drawn 50]

Entries: the command line, Python, `stream`, the page's reading function, the service's reading function, a batch of one
process and of two. The command prints how many photos gave one findings.json, and for any other photo the entries that
differ.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import cv2
from PIL import Image

from funduscope.app import MODEL_VARIABLE
from funduscope.inference.findings import Findings
from funduscope.inference.loading import load
from funduscope.inference.model import Model
from funduscope.report.write import to_json
from funduscope.testing.drawn_eyes import draw_eye

THREADS = (1, 2)


def load_models(model: str | None) -> dict[int, Model]:
    """That model, or the shipped one, by number of threads."""
    return {threads: load(model, threads=threads) for threads in THREADS}


def answers(path: Path, model: str | None, models: dict[int, Model], folder: Path) -> Iterator[tuple[str, bytes]]:
    """By entry and number of threads the bytes of findings.json.

    model: what the command line and the page load by themselves; models: the same, loaded. folder: an empty one, for
    what the command writes.
    """
    from funduscope.cli.main import main
    from funduscope.serve.answer_formats import JSON
    from funduscope.serve.worker import Job, read_photo

    data = path.read_bytes()
    for threads, loaded in models.items():
        cv2.setNumThreads(threads)
        yield f"Python, {threads} threads", _json(loaded(path))
        yield f"Python from bytes, {threads} threads", _json(loaded(data, name=path.name))
        for again, found in enumerate(loaded.stream([path, path])):
            yield f"stream, place {again}, {threads} threads", _json(found)
        job = Job(data, JSON, path.name)
        yield f"service, {threads} threads", read_photo(loaded, job, lambda: None).body
        out = folder / str(threads)
        command = ["predict", str(path), "--out", str(out), "--threads", str(threads)]
        with contextlib.redirect_stdout(io.StringIO()):
            main([*command, *(["--model", str(model)] if model else [])])
        yield f"command line, {threads} threads", (out / path.stem / "findings.json").read_bytes()
    yield "page", _by_page(data, path.name, model)


def by_batch(paths: Sequence[Path], model: str | None, folder: Path) -> dict[Path, dict[str, bytes]]:
    """By photo what a batch of all of them writes, by its processes and threads. folder: an empty one for its files."""
    import pyarrow.parquet as pq

    from funduscope.batch.reader import ReadingSettings
    from funduscope.batch.run import run_batch

    table = folder / "photos.csv"
    table.write_text("path\n" + "".join(f'"{path.resolve()}"\n' for path in paths), "utf-8")
    found: dict[Path, dict[str, bytes]] = {path: {} for path in paths}
    for processes, threads in ((1, 2), (2, 1)):
        out = folder / str(processes)
        reading = ReadingSettings((model,) if model else (), threads, files=out / "files")
        run_batch(table, out, reading, processes=processes)
        rows = pq.read_table(out / "findings.parquet").to_pylist()
        written = {row["place"]: (out / row["files"] / "findings.json").read_bytes() for row in rows}
        for path in paths:
            entry = f"batch, {processes} processes of {threads} threads"
            found[path][entry] = written.get(path.resolve().as_posix(), b"")
    return found


def _by_page(data: bytes, name: str, model: str | None) -> bytes:
    """What the page's reading function finds. The page keeps its model for as long as its process runs."""
    from funduscope.app.uploads import model as page_model
    from funduscope.app.uploads import read_upload

    earlier = os.environ.get(MODEL_VARIABLE)
    os.environ[MODEL_VARIABLE] = json.dumps([str(model)] if model else [])
    page_model.clear()
    try:
        opened = read_upload(data, name)
    finally:
        page_model.clear()
        del os.environ[MODEL_VARIABLE]
        if earlier is not None:
            os.environ[MODEL_VARIABLE] = earlier
    return _json(opened[1].findings) if isinstance(opened, tuple) else b""


def differences(
    path: Path, model: str | None, models: dict[int, Model], further: Mapping[str, bytes] = MappingProxyType({})
) -> list[list[str]]:
    """The entries by the bytes that they gave: one list where all are equal.

    model, models: as for `answers`. further: bytes by the names of further entries.
    """
    groups: defaultdict[bytes, list[str]] = defaultdict(list)
    for entry, found in further.items():
        groups[found].append(entry)
    with tempfile.TemporaryDirectory() as folder:
        for entry, found in answers(path, model, models, Path(folder)):
            groups[found].append(entry)
    return list(groups.values())


def draw(folder: Path, count: int) -> list[Path]:
    """Drawn eyes of several sizes and grades as JPEG and PNG files."""
    paths = []
    for seed in range(count):
        path = folder / f"eye{seed}.{'jpg' if seed % 2 else 'png'}"
        Image.fromarray(draw_eye(seed, width_px=(640, 900, 1200)[seed % 3]).pixels).save(path)
        paths.append(path)
    return paths


def _json(found: object) -> bytes:
    return to_json(found.to_dict()) if isinstance(found, Findings) else b""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Checks that every entry gives the same findings.json.")
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--drawn", type=int, default=0, help="so many drawn eyes, too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        paths = [*options.photos, *draw(Path(folder), options.drawn)]
        batches = by_batch(paths, options.model, Path(folder))
        models = load_models(options.model)
        different = 0
        for path in paths:
            groups = differences(path, options.model, models, batches[path])
            different += len(groups) > 1
            for group in groups if len(groups) > 1 else ():
                print(f"  {path.name}: {', '.join(group)}", flush=True)
    print(f"{len(paths) - different} of {len(paths)} photos gave the same bytes by every entry.")
    return 1 if different or not paths else 0


if __name__ == "__main__":
    raise SystemExit(main())
