"""What a batch of whole views costs next to views one by one, and what decoding ahead takes.

    python -m benchmarks.batches [--photos FOLDER] [--encoder resnet50]

Batch sizes take turns, so that what else the machine does falls on all of them; `taskset -c 0` gives one thread. The
networks have random weights and see whole views at 512 px. Prints Markdown; compare within one run of it, and by the
seconds of processor time where the machine has other work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from funduscope.capacity import core_count
from funduscope.evaluation.cost import machine
from funduscope.export.onnx_file import write_onnx
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.imaging.read_ahead import read_ahead
from funduscope.inference.card import Card
from funduscope.inference.runtime import OnnxRuntime, Runtime, TorchRuntime
from funduscope.network.network import build
from funduscope.quality.assessment import assess
from funduscope.recipe import Recipe
from funduscope.training.acceleration import bfloat16

BATCHES = (1, 4, 8)
TURNS = 5
PHOTOS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="JPEGs to decode")
    parser.add_argument("--encoder", action="append", help="default: resnet50 and resnet18")
    given = parser.parse_args()
    paths = [] if given.photos is None else sorted(given.photos.glob("*.jpg"))[:PHOTOS]
    if given.photos is not None and not paths:
        parser.error(f"{given.photos} holds no .jpg")
    views = np.random.default_rng(0).integers(0, 256, (BATCHES[-1], 512, 512, 3), np.uint8)
    print(f"{machine()}; torch in {'bfloat16' if bfloat16('auto') else 'float32'}.\n")
    print("| encoder | runtime | batch | views a second (smallest / median / largest) | times one "
          "| processor s a view | times one |\n|---|---|---|---|---|---|---|")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for encoder in given.encoder or ["resnet50", "resnet18"]:
            for name, runtime in _runtimes(encoder, Path(folder)).items():
                for size, row in _rows(lambda size, run=runtime: _pass(run, views, size), len(views)).items():
                    print(f"| {encoder} | {name} | {size} | {row} |", flush=True)
    if paths:
        print(f"\n| ahead | photos a second, of {len(paths)} | times one | processor s a photo | times one |")
        print("|---|---|---|---|---|")
        for ahead, row in _rows(lambda ahead: _open_all(paths, ahead), len(paths)).items():
            print(f"| {ahead} | {row} |", flush=True)
    if hasattr(os, "getloadavg"):
        print(f"\nLoad average at the end: {os.getloadavg()[0]:.1f}.")


def _runtimes(encoder: str, folder: Path) -> dict[str, Runtime]:
    """One network in torch and in ONNX Runtime."""
    recipe = Recipe.load("plain", [f"encoder.name={encoder}", "encoder.weights=none"])
    network, card = build(recipe).eval(), Card.of(recipe)
    path = write_onnx(network, card, folder / f"{encoder}.onnx")
    return {"torch": TorchRuntime(network, card, bfloat16=bfloat16("auto")), "ONNX": OnnxRuntime(path, core_count())}


def _pass(runtime: Runtime, views: np.ndarray, size: int) -> None:
    for first in range(0, len(views), size):
        runtime(views[first : first + size])


def _open_all(paths: list[Path], ahead: int) -> None:
    for _ in read_ahead(paths, _open, ahead):
        pass


def _open(path: Path) -> None:
    """All that happens to a photo before the network sees it."""
    photo = Photo.open(path)
    assess(frame(photo, 1440), photo.pixels)


def _rows(work: Callable[[int], None], count: int) -> dict[int, str]:
    """By batch size the cells of its row."""
    turns: dict[int, list[tuple[float, float]]] = {size: [] for size in BATCHES}
    work(1)
    for _ in range(TURNS):
        for size, found in turns.items():
            started, busy = time.perf_counter(), time.process_time()
            work(size)
            found.append((count / (time.perf_counter() - started), (time.process_time() - busy) / count))
    rates = {size: [rate for rate, _ in found] for size, found in turns.items()}
    middle = {size: statistics.median(found) for size, found in rates.items()}
    spent = {size: statistics.median(busy for _, busy in found) for size, found in turns.items()}
    return {
        size: f"{min(found):.2f} / {middle[size]:.2f} / {max(found):.2f} | {middle[size] / middle[1]:.2f} "
        f"| {spent[size]:.3f} | {spent[size] / spent[1]:.2f}"
        for size, found in rates.items()
    }


if __name__ == "__main__":
    main()
