"""How fast `funduscope batch` reads, next to `model.stream`, and whether its memory grows with the number of photos.

python -m benchmarks.batch PHOTOS [--count 40] [--runs 3]    # rates, of photos in a folder
python -m benchmarks.batch --memory 10000                    # memory, drawn eyes and a network of a few dozen numbers

Prints Markdown tables. Rates leave out what comes before the first answer: the list and the model. The three ways are
measured in turn, and each ratio is of one turn. Memory is that of the command and its processes together (proportional
set size), so this part needs Linux.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from PIL import Image

from funduscope.batch.reader import ReadingSettings
from funduscope.batch.run import BatchProgress, run_batch
from funduscope.imaging.find_photos import gather
from funduscope.inference.loading import load
from funduscope.testing.drawn_eyes import draw_eye

DISTINCT = 50
"""Drawn eyes that differ; the others are links to them."""


def rates(photos: Path, count: int, runs: int) -> None:
    """Prints photos a second by `stream` and by batches of one and two processes, and their ratios."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "photos"
        folder.mkdir()
        for number, path in enumerate(gather([photos])[:count]):
            (folder / f"{number:04}{path.suffix}").symlink_to(path.resolve())
        one, two, stream = [], [], []
        for run in range(runs):
            stream.append(_stream_rate(folder))
            for processes, rate in ((1, one), (2, two)):
                rate.append(_batch_rate(folder, Path(top) / f"{run}-{processes}", processes))
    print("| what | photos a second, median | ratio |\n|---|---|---|")
    print(f"| `model.stream`, one process of two threads | {statistics.median(stream):.3f} | |")
    over_stream = statistics.median(b / s for b, s in zip(two, stream, strict=True))
    over_one = statistics.median(b / s for b, s in zip(two, one, strict=True))
    print(f"| `batch`, one process of one thread | {statistics.median(one):.3f} | |")
    print(f"| `batch`, two processes of one thread each | {statistics.median(two):.3f} | {over_stream:.2f} of stream |")
    print(f"| two processes over one | | {over_one:.2f} |")


def _stream_rate(folder: Path) -> float:
    times = [time.perf_counter() for _ in load(threads=2).stream(gather([folder]))]
    return (len(times) - 1) / (times[-1] - times[0])


def _batch_rate(folder: Path, out: Path, processes: int) -> float:
    seen: list[BatchProgress] = []
    run_batch(folder, out, ReadingSettings(), processes=processes, progress=seen.append)
    first, last = seen[processes - 1], seen[-1]
    return (last.done - first.done) / (last.seconds - first.seconds)


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
        reading = ReadingSettings((write_model(Path(top) / "tiny.onnx"),), force=True)
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
    parser.add_argument("--memory", type=int, metavar="PHOTOS")
    options = parser.parse_args()
    if options.photos:
        rates(options.photos, options.count, options.runs)
    if options.memory:
        memory(options.memory)
    if not options.photos and not options.memory:
        parser.error("name a folder of photos, or --memory with a number")


if __name__ == "__main__":
    main()
