"""Which eye it is, against the labels of the data sets that say so: right, wrong, or not reported.

    python -m research.laterality MODEL --data DATA [--most 200]

The disc lies on the nose's side of the fovea; where the fovea lies clearly above the disc, the photo is upside down and
the side is not reported (UPSIDE_DOWN). Nor is it where disc or fovea was estimated from the other one; what the side
would be is counted apart. EyePACS has many photos that were taken upside down. No side was ever learned.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import cv2

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.i18n.errors import PhotoError
from funduscope.inference.anatomy import Anatomy
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor

COLUMNS = ("right", "wrong", "estimated: right", "wrong then", "upside down", "not told otherwise", "refused")


def told(predictor: Predictor, case: Case) -> str:
    """The column of one photo."""
    try:
        found = predictor(case.path)
    except PhotoError:
        return "refused"
    if not found.gradable_ok:
        return "refused"
    if found.estimated and (side := Anatomy(found.disc_xy, found.fovea_xy).laterality):
        return "estimated: right" if side == case.labels.laterality else "wrong then"
    if found.anatomy.laterality is None:
        return "upside down" if found.is_upside_down else "not told otherwise"
    return "right" if found.anatomy.laterality == case.labels.laterality else "wrong"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--most", type=int, default=200, help="photos of a data set")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    predictor = load(given.model)
    if not isinstance(predictor, Predictor):
        parser.error("one model at a time")
    predictor = predictor.without_structures()  # landmarks are read from the whole view
    cases = [case for case in read_data([given.data]) if case.labels.laterality is not None]
    print(f"| data set | photos | {' | '.join(COLUMNS)} |\n|---|---|{'---|' * len(COLUMNS)}")
    for dataset in sorted({case.dataset for case in cases}):
        mine = [case for case in cases if case.dataset == dataset]
        mine = mine[:: max(1, -(-len(mine) // given.most))]
        counts = Counter(told(predictor, case) for case in mine)
        print(f"| {dataset} | {len(mine)} | {' | '.join(str(counts[column]) for column in COLUMNS)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
