"""How fast `funduscope batch` reads, next to `model.stream`, and whether its memory grows with the number of photos.

python -m benchmarks.batch PHOTOS [--count 40] [--runs 3]    # rates, of photos in a folder
python -m benchmarks.batch PHOTOS --ray                      # with those on one node of a Ray cluster
python -m benchmarks.batch PHOTOS --model fast               # by another model
python -m benchmarks.batch PHOTOS --results 100000           # how fast that many results become tables, and their bytes
python -m benchmarks.batch --memory 10000                    # memory, drawn eyes and a network of a few dozen numbers

Prints Markdown tables. Rates are those from a tenth of the answers on: the list, the model and the start of processes
are left out. The ways are measured in turn, and each ratio is of one turn. Memory is that of the
command and its processes together (proportional set size), so this part needs Linux.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from unittest.mock import patch

import psutil
from PIL import Image

from funduscope.batch.reader import ReadingSettings
from funduscope.batch.readers import Job, read_all
from funduscope.batch.results import Result
from funduscope.batch.run import BatchProgress, run_batch
from funduscope.imaging.find_photos import find_photos
from funduscope.inference.loading import load
from funduscope.testing.drawn_eyes import draw_eye

DISTINCT = 50
"""Drawn eyes that differ; the others are links to them."""


RAY_PORT = 6399
FEWEST = 2  # answers, between which there is a time


def rates(photos: Path, count: int, runs: int, ray: bool, model: str) -> None:
    """Prints photos a second by `stream`, by batches of one and two processes, and of Ray, and their ratios."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "photos"
        folder.mkdir()
        for number, path in enumerate(find_photos([photos])[:count]):
            (folder / f"{number:04}{path.suffix}").symlink_to(path.resolve())
        one, two, stream, cluster = [], [], [], []
        for run in range(runs):
            stream.append(_stream_rate(folder, model))
            for processes, rate in ((1, one), (2, two)):
                rate.append(_batch_rate(folder, Path(top) / f"{run}-{processes}", model, processes))
            if ray:
                cluster.append(_ray_rate(folder, Path(top) / f"{run}-ray", model))
    print("| what | photos a second, median | ratio |\n|---|---|---|")
    print(f"| `model.stream`, one process of two threads | {statistics.median(stream):.3f} | |")
    over_stream = statistics.median(b / s for b, s in zip(two, stream, strict=True))
    over_one = statistics.median(b / s for b, s in zip(two, one, strict=True))
    print(f"| `batch`, one process of one thread | {statistics.median(one):.3f} | |")
    print(f"| `batch`, two processes of one thread each | {statistics.median(two):.3f} | {over_stream:.2f} of stream |")
    print(f"| two processes over one | | {over_one:.2f} |")
    if ray:
        over_two = statistics.median(b / s for b, s in zip(cluster, two, strict=True))
        print(
            f"| Ray, one node of two processors | {statistics.median(cluster):.3f} | {over_two:.2f} of two processes |"
        )


def _stream_rate(folder: Path, model: str) -> float:
    return _rate([time.perf_counter() for _ in load(model, threads=2).stream(find_photos([folder]))])


def _batch_rate(folder: Path, out: Path, model: str, processes: int = 1, ray: str = "") -> float:
    seen: list[BatchProgress] = []
    run_batch(folder, out, ReadingSettings((model,)), processes=processes, ray=ray, progress=seen.append)
    return _rate([one.seconds for one in seen])


def _ray_rate(folder: Path, out: Path, model: str) -> float:
    """On a node that is started for it. It asks for two processors, one for each actor."""
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus", "2"]
    command += ["--port", str(RAY_PORT), "--include-dashboard", "false", "--disable-usage-stats"]
    node = psutil.Process(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
    try:
        time.sleep(15)  # until it listens
        return _batch_rate(folder, out, model, ray=f"127.0.0.1:{RAY_PORT}")
    finally:
        for process in (*node.children(recursive=True), node):
            process.kill()


def _rate(times: Sequence[float]) -> float:
    """Answers a second from a tenth of them on."""
    first = len(times) // 10
    return (len(times) - 1 - first) / (times[-1] - times[first])


def results(photos: Path, count: int, given: int) -> None:
    """Prints how fast one process keeps results and writes the tables, and what they take: results of `count` photos
    again and again, up to `given`."""
    with tempfile.TemporaryDirectory() as top:
        read = dict(islice(_read(find_photos([photos])[:count]), count))
        table = Path(top) / "photos.csv"
        table.write_text("path\n" + "".join(f"{number:09}.jpg\n" for number in range(given)))
        seen: list[float] = []

        def again(jobs: Iterable[Job], *others: object) -> Iterator[tuple[str, list[Result]]]:
            for (place, _content), one in zip(jobs, cycle(read.values()), strict=False):
                yield place, one

        began = time.perf_counter()
        with patch("funduscope.batch.run.read_all", again):
            run_batch(table, Path(top) / "out", ReadingSettings(), progress=lambda now: seen.append(now.seconds))
        seconds = time.perf_counter() - began
        print(f"| {given} photos | seconds | photos a second |\n|---|---|---|")
        print(f"| list | {seen[0]:.1f} | {given / seen[0]:.0f} |")
        print(f"| keep results | {seen[-1] - seen[0]:.1f} | {given / (seen[-1] - seen[0]):.0f} |")
        print(f"| write tables and page | {seconds - seen[-1]:.1f} | {given / (seconds - seen[-1]):.0f} |\n")
        print("| file | bytes a photo |\n|---|---|")
        for path in sorted((Path(top) / "out").iterdir()):
            files = path.iterdir() if path.is_dir() else (path,)
            print(f"| {path.name} | {sum(file.stat().st_size for file in files) / given:.1f} |")


def _read(photos: Sequence[Path]) -> Iterator[tuple[str, list[Result]]]:
    jobs: list[Job] = [(path.name, partial(Path, path)) for path in photos]
    return read_all(jobs, 2, ReadingSettings())


def memory(count: int) -> None:
    """Prints the memory of each tenth of a batch of that many drawn eyes."""
    from tests.cli.conftest import write_model

    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "photos"
        folder.mkdir()
        for number in range(count):
            path, first = folder / f"{number:06}.png", folder / f"{number % DISTINCT:06}.png"
            if number < DISTINCT:
                Image.fromarray(draw_eye(number, width_px=420).pixels).save(path)
            else:
                os.link(first, path)
        reading = ReadingSettings((str(write_model(Path(top) / "tiny.onnx")),), force=True)
        sampled: list[list[float]] = [[] for _ in range(10)]
        run_batch(folder, Path(top) / "out", reading, processes=2, progress=_sampler(count, sampled))
    print(f"| tenth of {count} photos | MB, median |\n|---|---|")
    for number, values in enumerate(sampled, 1):
        print(f"| {number} | {statistics.median(values):.1f} |")
    print(f"\nLast over second tenth: {statistics.median(sampled[9]) / statistics.median(sampled[1]):.3f}")


def _sampler(count: int, sampled: list[list[float]]) -> Callable[[BatchProgress], None]:
    every = max(1, count // 500)

    def sample(now: BatchProgress) -> None:
        if now.done % every == 0:
            this = psutil.Process()
            total = sum(process.memory_full_info().pss for process in (this, *this.children(recursive=True)))
            sampled[min(9, (now.done - 1) * 10 // count)].append(total / 1e6)

    return sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="a folder of photos")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="default", help="a model, as for `load`")
    parser.add_argument("--ray", action="store_true", help="measure a Ray node, too")
    parser.add_argument("--results", type=int, metavar="PHOTOS")
    parser.add_argument("--memory", type=int, metavar="PHOTOS")
    options = parser.parse_args()
    if options.photos and (not options.photos.is_dir() or len(find_photos([options.photos])) < FEWEST):
        parser.error(f"{options.photos} is no folder of at least {FEWEST} photos")
    if options.photos and options.results:
        results(options.photos, options.count, options.results)
    elif options.photos:
        rates(options.photos, options.count, options.runs, options.ray, options.model)
    if options.memory:
        memory(options.memory)
    if not options.photos and not options.memory:
        parser.error("name a folder of photos, or --memory with a number")


if __name__ == "__main__":
    main()
