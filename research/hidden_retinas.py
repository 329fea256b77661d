"""What is said of eyes that can hardly be seen: eyes with cataract, rejected photos, and photos made dark.

    python -m research.hidden_retinas --data DATA

Prints, for ODIR's eyes by finding and DRIMDB's pictures by label, how many are refused as no fundus photo, refused as
an eye that cannot be read (RETINA_HIDDEN), refused for another reason, and answered; then, for every n-th photo of each
data set made darker, how many are refused, marked as showing hardly anything (HARDLY_VISIBLE), or neither.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from research.photos_by_set import evenly_spread

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.quality.assessment import assess
from funduscope.quality.image_measures import FRAME_PX

SHOWN_SETS: Final = ("odir400", "drimdb")
LIGHTS: Final = (0.4, 0.3, 0.25, 0.2, 0.15)
"""Shares of a photo's light."""

OUTCOMES: Final = (
    "no fundus",
    "cannot be read",
    "refused otherwise",
    "hardly visible",
    "to be taken again",
    "answered",
)


def outcome(pixels: np.ndarray) -> str:
    """What becomes of a photo (H, W, 3) uint8."""
    reasons, quality = assess(frame(pixels, FRAME_PX), pixels)
    codes = {reason.code for reason in reasons}
    if "NOT_FUNDUS" in codes:
        return "no fundus"
    if "RETINA_HIDDEN" in codes:
        return "cannot be read"
    if reasons or quality is None:
        return "refused otherwise"
    if any(reason.code == "HARDLY_VISIBLE" for reason in quality.reasons):
        return "hardly visible"
    return "to be taken again" if quality.advice == "retake" else "answered"


def print_table(title: str, counts: dict[str, Counter[str]]) -> None:
    print(f"| {title} | photos | {' | '.join(OUTCOMES)} |")
    print("|---" * (2 + len(OUTCOMES)) + "|")
    for name, counter in counts.items():
        cells = [name, str(counter.total()), *(str(counter[outcome]) for outcome in OUTCOMES)]
        print(f"| {' | '.join(cells)} |")
    print()


def print_hidden(cases: Sequence[Case]) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        if case.dataset in SHOWN_SETS:
            group = f"{case.dataset}, {case.labels.finding or case.labels.quality}"
            counts[group][outcome(Photo.open(case.path).pixels)] += 1
    print_table("eyes", dict(sorted(counts.items())))


def print_darkened(cases: Sequence[Case], each: int) -> None:
    counts = {f"{light:.0%} of the light": Counter[str]() for light in LIGHTS}
    for dataset in dict.fromkeys(case.dataset for case in cases):
        group = [case for case in cases if case.dataset == dataset and case.labels.quality in (None, "good")]
        for case in evenly_spread(group, each):
            pixels = Photo.open(case.path).pixels
            for light, counter in zip(LIGHTS, counts.values(), strict=True):
                counter[outcome(np.rint(pixels * light).astype(np.uint8))] += 1
    print_table("photos made darker", counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--each", type=int, default=8, help="photos of a data set that are made darker")
    options = parser.parse_args()

    cases = read_data([options.data])
    print_hidden(cases)
    print_darkened(cases, options.each)


if __name__ == "__main__":
    main()
