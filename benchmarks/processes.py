"""Samples a second of a training, by the number of processes: one with every core against several with a share each.

    python -m benchmarks.processes --data DATA [--encoder resnet50] [--px 512] [--steps 12]

The numbers of processes take turns, so that what else the machine does falls on all of them. Each turn is a training of
its own from random weights: the first step does not count. Prints a Markdown table; compare within one run of it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.duplicates.search import no_progress
from funduscope.evaluation.cost import machine
from funduscope.recipe import Recipe, load_recipe
from funduscope.training import processes
from funduscope.training.initialization import START
from funduscope.training.loop import bfloat16
from funduscope.training.run import Job, make_loop
from funduscope.training.samples import prepared

TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--encoder", action="append", help="default: resnet50 and resnet18")
    parser.add_argument("--px", type=int, default=512)
    parser.add_argument("--steps", type=int, default=12, help="steps of a turn; a batch is 8 samples")
    given = parser.parse_args()
    cases = SplitPlan.of(read_data(given.data), 0).train
    counts = processes.candidates(8)
    print(f"{machine()}, {'bfloat16' if bfloat16('auto') else 'float32'}, {given.px} px, batches of 8.\n")
    print("| encoder | processes | samples a second (smallest / median / largest) | times one | waiting for data |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for encoder in given.encoder or ["resnet50", "resnet18"]:
            job = _job(_recipe(encoder, given.px), cases, Path(folder))
            turns: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
            for _ in range(TURNS):
                for count in counts:
                    work = (job, given.steps)
                    turns[count].append(processes.run(count, _time, work, processes.Watch()))
            one = statistics.median(rate for rate, _ in turns[counts[0]])
            for count, found in turns.items():
                rates = sorted(rate for rate, _ in found)
                middle, waiting = statistics.median(rates), statistics.median(share for _, share in found)
                each = " / ".join(f"{rate:.2f}" for rate in (rates[0], middle, rates[-1]))
                print(f"| {encoder} | {count} | {each} | {middle / one:.2f} | {waiting:.1%} |", flush=True)


def _recipe(encoder: str, px: int) -> Recipe:
    changes = [f"encoder.name={encoder}", "encoder.weights=none", f"views.whole_px={px}", "views.close_px=1440"]
    return load_recipe("plain", [*changes, "sampling.whole={idrid-B=1, srahim=1}", "sampling.close={idrid-A=4}"])


def _job(recipe: Recipe, cases: list[Any], folder: Path) -> Job:
    train, files = prepared(recipe, cases, no_progress)
    return Job(recipe, START, train, [], files, folder, None, None)


def _time(work: tuple[Job, int], watch: processes.Watch) -> tuple[float, float]:
    """Samples a second, and the share of the time that the first process waited for data."""
    job, steps = work
    loop = make_loop(job)
    seconds, waiting = loop.time_steps(steps)
    return 1 / seconds, waiting


if __name__ == "__main__":
    main()
