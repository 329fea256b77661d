"""What each threshold of a lesion costs in healthy eyes, and gives in sick ones: validation photos of a model.

    python -m research.lesion_thresholds MODEL --data DATA --fold 0 [--most 60]

FOLD is the test fold, which is left alone; the photos are those of the next one. Healthy eyes: of grade 0, at most
--most a data set, drawn at random. Share: of those in which anything as large as the smallest area is outlined. Areas
are in pixels of the close frame. Dice, precision and recall: over the pixels of IDRiD's photos with masks.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from benchmarks.unseen import must_have_kept

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor
from funduscope.training.calibrate import _healthy, _predict_photo
from funduscope.training.fit_scale import UNSCALED, scaled
from funduscope.vocabulary import LESIONS

THRESHOLDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97)
AREAS_PX2: Final = (16, 64, 128)
MASKED: Final = "idrid-A"


def healthy_of(cases: list[Case], most: int) -> list[Case]:
    """At most that many healthy eyes of each data set."""
    by_set: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if _healthy(case):
            by_set[case.dataset].append(case)
    drawn = random.Random(0)
    return [case for held in by_set.values() for case in drawn.sample(held, min(most, len(held)))]


def largest_px2(mask: np.ndarray) -> int:
    """Pixels of the largest component."""
    stats = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)[2]
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))


def measure(model: Predictor, cases: list[Case]) -> tuple[dict, dict]:
    """By (lesion, data set) the largest outlines of healthy eyes, (photos, thresholds); by lesion the pixels that are
    outlined and true, outlined, and true, (thresholds, 3)."""
    largest: dict[tuple[str, str], list[list[int]]] = defaultdict(list)
    pixels: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((len(THRESHOLDS), 3)))
    for case in cases:
        seen = _predict_photo(model, case)
        if seen is None:
            continue
        for code in (code for code in LESIONS if code in seen.steps):
            probs = scaled(seen.steps[code], UNSCALED)  # the findings' own, by the scale of the card
            masks = [probs >= threshold * 255 for threshold in THRESHOLDS]
            if code in seen.healthy:
                largest[code, case.dataset].append([largest_px2(mask) for mask in masks])
            if case.dataset == MASKED and code in seen.truths:
                truth = seen.truths[code]
                pixels[code] += [[(mask & truth).sum(), mask.sum(), truth.sum()] for mask in masks]
    return largest, pixels


def table(code: str, largest: dict, pixels: dict) -> list[str]:
    """The lines of one lesion."""
    sets = [dataset for kind, dataset in largest if kind == code]
    heads = [f"{dataset}, from {area} px" for area in AREAS_PX2 for dataset in sets]
    lines = [f"| {code}, threshold | {' | '.join(heads)} | Dice | precision | recall |"]
    lines.append("|---" * (len(heads) + 4) + "|")
    for place, threshold in enumerate(THRESHOLDS):
        shares = [np.mean(np.array(largest[code, s])[:, place] >= area) for area in AREAS_PX2 for s in sets]
        both, outlined, true = pixels[code][place]
        parts = (2 * both / max(outlined + true, 1), both / max(outlined, 1), both / max(true, 1))
        lines.append(f"| {threshold:g} | {' | '.join(f'{value:.2f}' for value in (*shares, *parts))} |")
    return [*lines, ""]


def main() -> None:
    """Prints a table a lesion."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--most", type=int, default=60)
    given = parser.parse_args()
    model = load(given.model)
    assert isinstance(model, Predictor)
    must_have_kept(model.card, given.fold)
    held = list(SplitPlan.of(read_data([given.data]), given.fold).validation)
    masked = [case for case in held if case.dataset == MASKED]
    largest, pixels = measure(model, healthy_of(held, given.most) + masked)
    for code in LESIONS:
        print("\n".join(table(code, largest, pixels)))


if __name__ == "__main__":
    main()
