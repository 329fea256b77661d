"""Samples a second of a training, by the number of processes: one with every core against several with a share each.

    python -m benchmarks.processes --data DATA [--encoder resnet50] [--px 512] [--steps 12] [--compile]

With --compile each is also taken with `training.compile`; under `taskset -c 0` one process of one thread alone. All of
them take turns, so that what else the machine does falls on all of them. Each turn is a training of its own from random
weights: the first two steps do not count. Prints a Markdown table; compare within one run of it, and by the seconds of
processor time where the machine has other work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.cost import machine
from funduscope.progress import no_progress
from funduscope.recipe import Recipe
from funduscope.training import processes
from funduscope.training.acceleration import bfloat16
from funduscope.training.initialization import START
from funduscope.training.samples import prepared
from funduscope.training.train_network import Job, make_loop

TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--encoder", action="append", help="default: resnet50 and resnet18")
    parser.add_argument("--px", type=int, default=512)
    parser.add_argument("--steps", type=int, default=12, help="steps of a turn; a batch is 8 samples")
    parser.add_argument("--compile", action="store_true", help="also with training.compile")
    given = parser.parse_args()
    cases = SplitPlan.of(read_data(given.data), 0).train
    counts = processes.candidates(8)
    print(f"{machine()}, {'bfloat16' if bfloat16('auto') else 'float32'}, {given.px} px, batches of 8.\n")
    print(
        "| encoder | processes | samples a second (smallest / median / largest) | times one | waiting for data "
        "| processor s a sample, of one process | first two steps, s |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # so that the first turn shows what compiling takes
        for encoder in given.encoder or ["resnet50", "resnet18"]:
            jobs = {"": _job(_recipe(encoder, given.px), cases, Path(folder))}
            if given.compile:
                jobs[", compiled"] = _job(_recipe(encoder, given.px, "training.compile=true"), cases, Path(folder))
            turns: dict[tuple[int, str], list[tuple[float, ...]]] = {(n, kind): [] for n in counts for kind in jobs}
            for _ in range(TURNS):
                for count, kind in turns:
                    work = (jobs[kind], given.steps)
                    turns[count, kind].append(processes.run(count, _time, work, processes.Watch()))
            one = statistics.median(rate for rate, *_ in turns[counts[0], ""])
            for (count, kind), found in turns.items():
                rates, waits, busy, firsts = ([*map(float, values)] for values in zip(*found, strict=True))
                each, first = (" / ".join(f"{v:.2f}" for v in _spread(values)) for values in (rates, firsts))
                times, waiting, spent = (statistics.median(v) for v in ([r / one for r in rates], waits, busy))
                print(
                    f"| {encoder} | {count}{kind} | {each} | {times:.2f} | {waiting:.1%} | {spent:.2f} | {first} |",
                    flush=True,
                )


def _spread(values: list[float]) -> tuple[float, float, float]:
    return min(values), statistics.median(values), max(values)


def _recipe(encoder: str, px: int, *more: str) -> Recipe:
    changes = [f"encoder.name={encoder}", "encoder.weights=none", f"views.whole_px={px}", "views.close_px=1440", *more]
    return Recipe.load("plain", [*changes, "sampling.whole={idrid-B=1, srahim=1}", "sampling.close={idrid-A=4}"])


def _job(recipe: Recipe, cases: list[Any], folder: Path) -> Job:
    train, files = prepared(recipe, cases, no_progress)
    return Job(recipe, START, train, [], files, folder, None)


def _time(work: tuple[Job, int], watch: processes.Watch) -> tuple[float, float, float, float]:
    """Samples a second; the share of the time that the first process waited for data; the seconds of processor time
    that it took for a sample of its share; and the seconds of the first two steps, which compile."""
    job, steps = work
    started = time.perf_counter()
    loop = make_loop(job)
    loop.time_steps(1)
    first, busy = time.perf_counter() - started, time.process_time()
    seconds, waiting = loop.time_steps(steps)
    busy = (time.process_time() - busy) / (steps + 1) / job.recipe.training.batch * processes.state().num_processes
    return 1 / seconds, waiting, busy, first


if __name__ == "__main__":
    main()
