"""Accuracy against time: how near the lesions are looked at, and whether the whole eye is looked at mirrored, too.

    python -m benchmarks.nearness MODEL --data DATA --fold 1

The same weights, seen at other sizes than the card's; thresholds stay. Lesions on the photos with masks, grades on
those of IDRiD and srahim. Seconds are of the network alone, the median over the photos with masks; the sizes take
turns photo by photo, so that a busy minute falls on all of them, and are also given relative to the first row's. Use
the validation fold for choosing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from benchmarks.robustness import ROWS

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.score_key import ScoreKey
from funduscope.evaluation.score_photo import score_photo
from funduscope.evaluation.scores import PhotoScore, summarize
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import Outputs, Runtime
from funduscope.vocabulary import View

MASKED: Final = ("idrid-A", "heimed")
GRADED: Final = ("idrid-B", "srahim")


class Timed:
    """A runtime that adds up how long its network works."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.card, self.sha256 = runtime, runtime.card, runtime.sha256
        self.seconds = 0.0

    def __call__(self, images: np.ndarray, view: View = "whole") -> Outputs:
        begun = time.perf_counter()
        outputs = self.runtime(images, view)
        self.seconds += time.perf_counter() - begun
        return outputs


def at_size(card: Card, close_px: int) -> Card:
    """The same card, looking at an eye so many pixels wide; its smallest areas go with the square of it."""
    shrunk = (close_px / card.close_px) ** 2
    return replace(card, close_px=close_px, smallest_px2={k: v * shrunk for k, v in card.smallest_px2.items()})


def lesions(model: Predictor, cases: Sequence[Case], sizes: Sequence[int]) -> list[str]:
    """A row a size: seconds of the network, then the scores of masks."""
    rows = [row for row in ROWS if row[1] in MASKED]
    runtimes = {size: Timed(model.runtime) for size in sizes}
    seconds: dict[int, list[float]] = defaultdict(list)
    scored: dict[int, list[PhotoScore]] = defaultdict(list)
    for case in cases:
        photo = Photo.open(case.path)
        for size, runtime in runtimes.items():
            view, before = Predictor(runtime, at_size(model.card, size)), runtime.seconds
            scored[size].append(score_photo(view(photo), case, view.card))
            seconds[size].append(runtime.seconds - before)
    lines = [f"| close view | seconds | beside {sizes[0]} px | {' | '.join(row[0] for row in rows)} |"]
    lines.append("|---" * (3 + len(rows)) + "|")
    took = {size: statistics.median(each) for size, each in seconds.items()}
    for size in sizes:
        scores = summarize(scored[size], repeats=1)
        told = " | ".join(f"{scores.number(ScoreKey.parse(*where)):.3f}" for _, *where in rows)
        lines.append(f"| {size} px | {took[size]:.2f} | {took[size] / took[sizes[0]]:.2f} | {told} |")
    return lines


def grades(model: Predictor, cases: Sequence[Case]) -> list[str]:
    """Two rows: the whole eye once, and its mirror image, too."""
    rows = [row for row in ROWS if row[1] in GRADED]
    lines = [f"| whole view, by itself | {' | '.join(row[0] for row in rows)} |", "|---" * (1 + len(rows)) + "|"]
    for mirrored in (False, True):
        card = replace(model.card, mirrored=mirrored, structures=(), close=())
        view = Predictor(model.runtime, card)
        seen = [score_photo(view(Photo.open(case.path)), case, view.card) for case in cases]
        scores = summarize(seen, repeats=1)
        told = " | ".join(f"{value:.1f}" if value >= 10 else f"{value:.3f}" for value in
                          (scores.number(ScoreKey.parse(*where)) for _, *where in rows))  # fmt: skip
        lines.append(f"| {'mirrored, too' if mirrored else 'once'} | {told} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="default, fast, an ONNX file or a run folder")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1440, 1216, 1024, 768])
    given = parser.parse_args()
    cv2.setNumThreads(1)
    model = load(given.model)
    if not isinstance(model, Predictor):
        parser.error("one model at a time")
    plan = SplitPlan.of(read_data([given.data]), given.fold)
    kept = model.card.about.get("trained on", {}).get("test fold left out")
    if kept is None or given.fold not in (kept, SplitPlan.of(plan.cases, kept).validation_fold):
        parser.error(f"the model learned from fold {given.fold}, or does not say: name a run's test or validation fold")
    held = plan.test
    masked = [case for case in held if case.dataset in MASKED and case.labels.masks]
    print(f"Model `{model.runtime.sha256[:16]}`, fold {given.fold}, {len(masked)} photos with masks.\n")
    print("\n".join(lesions(model, masked, given.sizes)), end="\n\n", flush=True)
    print("\n".join(grades(model, [case for case in held if case.dataset in GRADED])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
