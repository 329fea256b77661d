"""How small is a true lesion, and how many outlines of each size are true?

    python -m research.false_lesions --model MODEL --data DATA --answers FOLDER

Every third photo of IDRiD's part A, at its own size. Areas are in parts per million of the square around the field of
view, the unit of `inference.objects.MIN_PPM`, and in pixels of a photo 4288 wide. An outline is true where it
shares a pixel with a true lesion of its kind. FOLDER keeps the model's answers; the command continues where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.unseen import must_have_kept
from research.stored_answers import stored

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.imaging.photo import Photo
from funduscope.inference.loading import load
from funduscope.inference.objects import MIN_PPM, Components
from funduscope.inference.predictor import Predictor
from funduscope.metrics.dense import FrocState, froc_by_area
from funduscope.vocabulary import LESIONS

STEPS_PPM = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0)
OFFICIAL_PX = 3409
"""Side of the square around the field of view in IDRiD's photos as released, 4288 wide."""

EVERY = 3


def measured(model: Predictor, case: Case, answers: Path) -> dict[str, tuple[np.ndarray, FrocState]]:
    """By kind the areas of the true lesions, and the outlines at the card's threshold against them, all in ppm."""
    found = stored(model, f"{case.key} as it is", lambda: Photo.open(case.path), answers)
    if found is None:
        return {}
    rows, square = {}, found.transform.size_px**2
    for code in LESIONS:
        mask = case.labels.masks.get(code)
        truth = None if mask is None else mask.load(found.photo.height, found.photo.width)
        if truth is None or code not in found.codes:
            continue
        whole = found.transform.mask_to_photo(found.frame_probs[code], found.card.thresholds[code])
        state = froc_by_area(whole, truth)
        state = replace(state, found=1e6 * state.found / square, false=1e6 * state.false / square)
        rows[code] = (1e6 * Components.of(truth).areas / square, state)
    return rows


def line(code: str, least: float, state: FrocState, what: str) -> str:
    """A line of the second table: what is left with this smallest area."""
    false = np.count_nonzero(state.false >= least) / state.photos
    found = np.count_nonzero(state.found >= least) / max(state.lesions, 1)
    pixels = least * 1e-6 * OFFICIAL_PX**2
    return f"| {code} | {what} | {least:g} | {pixels:.0f} | {false:.1f} | {found:.3f} | {state.f1_at(least):.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--model", required=True, help="one that left photos out; fast, a run folder or an ONNX file")
    given = parser.parse_args()
    model = load(given.model)
    assert isinstance(model, Predictor)
    must_have_kept(model.card)
    cases = [case for case in read_data([given.data]) if case.dataset == "idrid-A"][::EVERY]
    rows = [one for case in cases if (one := measured(model, case, given.answers))]
    print(f"{len(rows)} photos, {model.card.name} {model.sha256[:12]}\n")
    print("| true lesions | number | smallest 1 %, ppm (px) | 5 % | 10 % | half |\n|---|---|---|---|---|---|")
    totals = {code: FrocState.total(one[code][1] for one in rows if code in one) for code in LESIONS}
    for code in LESIONS:
        areas = np.concatenate([one[code][0] for one in rows if code in one])
        cells = [f"{ppm:.1f} ({ppm * 1e-6 * OFFICIAL_PX**2:.0f})" for ppm in np.percentile(areas, [1, 5, 10, 50])]
        print(f"| {code} | {len(areas)} | {' | '.join(cells)} |")
    print("\n| kind | | smallest, ppm | px | false outlines a photo | true lesions found | F1 |")
    print("|---|---|---|---|---|---|---|")
    for code, state in totals.items():
        side = model.card.close_px
        before = 1e6 * model.card.smallest_px2.get(code, 0.0) / side**2
        for least in STEPS_PPM:
            print(line(code, least, state, ""))
        print(line(code, before, state, "the card alone"))
        print(line(code, max(before, MIN_PPM[code]), state, "as shown"))


if __name__ == "__main__":
    main()
