"""How many outlines are of one thing twice, or of exudates in the disc, and were those that are removed lesions?

    python -m research.one_lesion fast --data DATA --photos 60

Up to that many photos of each data set, of folds 0 and 1, evenly spread. Where a photo has masks, an outline that was
removed is compared with them: it is of its own kind, of the kind that was kept, or of neither.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from research.photos_by_set import photos_by_set

from funduscope.data.case import Case
from funduscope.inference.findings import Findings
from funduscope.inference.loading import load
from funduscope.inference.one_lesion import MISTAKEN, NEVER_IN_DISC
from funduscope.vocabulary import LESIONS


def masks_of(case: Case, findings: Findings) -> dict[str, np.ndarray]:
    """The masks (H, W) bool that the photo has, by lesion."""
    height, width = findings.photo.pixels.shape[:2]
    loaded = {code: mask.load(height, width) for code, mask in case.labels.masks.items() if code in LESIONS}
    return {code: mask for code, mask in loaded.items() if mask is not None}


def removed_outlines(findings: Findings, code: str) -> list[np.ndarray]:
    """The places (N, 2) x, y of the outlines of a kind that are not counted, by outline."""
    every = findings.outlines(code)
    mask = findings.mask(code)
    places = [every.places[every.which == number] for number in np.flatnonzero(every.kept)]
    return [of_one for of_one in places if not mask[of_one[0, 1], of_one[0, 0]]]


def measure(findings: Findings, case: Case, counts: Counter[str]) -> None:
    masks = masks_of(case, findings)
    disc = findings.mask("OD")
    for code in LESIONS:
        counts["outlines"] += findings.count(code)
        for places in removed_outlines(findings, code):
            x, y = places.mean(axis=0).astype(int)
            if code in NEVER_IN_DISC and disc[y, x]:
                counts["in the disc"] += 1
                continue
            counts["twice"] += 1
            pair = next(pair for pair in MISTAKEN if code in pair)
            similar = pair[1 - pair.index(code)]
            if code in masks and similar in masks:
                is_own, is_similar = (masks[kind][places[:, 1], places[:, 0]].any() for kind in (code, similar))
                counts["of its own kind" if is_own else "of the kept kind" if is_similar else "of neither"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=60)
    options = parser.parse_args()
    model = load(options.model)

    kinds = ("outlines", "in the disc", "twice", "of its own kind", "of the kept kind", "of neither")
    print(f"| data set | photos answered | {' | '.join(kinds)} |")
    print("|---" * (2 + len(kinds)) + "|")
    for name, chosen in photos_by_set(options.data, options.photos, folds=(0, 1)).items():
        counts = Counter[str]()
        for case in chosen:
            findings = model(case.path)
            if findings.gradable_ok:
                counts["photos"] += 1
                measure(findings, case, counts)
        print(f"| {name} | {counts['photos']} | {' | '.join(str(counts[kind]) for kind in kinds)} |", flush=True)


if __name__ == "__main__":
    main()
