"""Does the answer change where lesions are filled in, and not where something else is: "what would change this grade".

    python -m research.filled_lesions --data DATA            prints the tables of docs/explanations.md
    python -m research.filled_lesions --data DATA --write    and keeps what the package says with its own table

Lesions outlined by hand are filled in, one kind after another and all together; then, in the untouched photo, control
regions of the same shapes, turned around the middle of the eye to where no lesion and no disc is. Photos of folds 0 and
1, from which the model did not learn; where the shipped model learned from every photo, --run names the run that it
repeats, which is measured in its place. Each photo is one JSON file in --cache.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmarks.unseen import SHIPPED, measured
from research.explanation_facts import keep, mean_of, said, triple
from research.explanations import cases_of

from funduscope.data.case import Case
from funduscope.explain.counterfactual import ALL, PredictedAnswer, changes, without
from funduscope.explain.inpaint import margin_px
from funduscope.explain.map_reliability import FILE
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Findings
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor

SETS = ("idrid-A", "heimed")
KEPT = "idrid-A"
SIDES = ("lesions", "control")
TURNS = tuple(range(20, 341, 20))


@dataclass
class Row:
    """One photo and one kind. lesions, control: the answer afterwards; area, control_area: filled shares of the photo.

    left: how much of the lesions the model still finds afterwards; None for all kinds together.
    """

    case: str
    dataset: str
    visit: str
    code: str
    before: dict[str, Any]
    lesions: dict[str, Any]
    control: dict[str, Any]
    area: float
    control_area: float
    left: float | None


def masks_of(case: Case, photo: Photo) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The lesions by kind, and everything that a control region must stay away from."""
    every = {code: mask.load(photo.height, photo.width) for code, mask in case.labels.masks.items()}
    every = {code: mask for code, mask in every.items() if mask is not None}
    avoid = np.logical_or.reduce(list(every.values()))
    negatives = case.labels.negatives and case.labels.negatives.load(photo.height, photo.width)
    if negatives is not None:
        avoid |= negatives
    return {code: mask for code, mask in every.items() if code != "OD" and mask.any()}, avoid


def turned(mask: np.ndarray, transform: CropTransform, avoid: np.ndarray, found: Findings) -> np.ndarray:
    """The mask turned around the middle of the eye, or its mirror image, to where it covers least of what to avoid."""
    reach = round(margin_px(transform) * transform.px_per_frame_px)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    barred = cv2.dilate((avoid | found.mask("OD")).astype(np.uint8), kernel).astype(bool)
    barred |= found.photo.pixels.max(axis=2) < 10
    center = transform.left_px + transform.size_px / 2, transform.top_px + transform.size_px / 2
    best: tuple[float, np.ndarray] | None = None
    for mirrored in (False, True):
        for turn in TURNS:
            way = cv2.getRotationMatrix2D(center, turn, 1.0)
            if mirrored:
                way = way @ np.array([[-1, 0, 2 * center[0]], [0, 1, 0], [0, 0, 1.0]])
            there = cv2.warpAffine(mask.astype(np.uint8), way, mask.shape[::-1], flags=cv2.INTER_NEAREST).astype(bool)
            free = there & ~barred
            if best is None or free.sum() > best[0]:
                best = float(free.sum()), free
    assert best is not None
    return best[1]


def looked_at(case: Case, predictor: Predictor) -> Iterator[Row]:
    """Every kind of lesion of one photo, and all of them."""
    photo = Photo.open(case.path)
    found = predictor(photo)
    masks, avoid = masks_of(case, photo)
    for change in changes(predictor, found, masks):
        mask = np.logical_or.reduce(list(masks.values())) if change.code == ALL else masks[change.code]
        control = turned(mask, found.transform, avoid, found)
        after = without(predictor, found, control, avoid)
        yield Row(
            case.key, case.dataset, case.visit, change.code, asdict(change.before), asdict(change.after),
            asdict(PredictedAnswer.of(after)), change.area_frac, float(control.mean()), change.left_frac,
        )  # fmt: skip


def log_odds(chance: float) -> float:
    held = min(max(chance, 1e-4), 1 - 1e-4)
    return float(np.log(held / (1 - held)))


def fell(rows: list[Row], key: str, side: str) -> list[tuple[str, float]]:
    """By visit: how much a probability fell, in probability."""
    return [(row.visit, row.before[key] - getattr(row, side)[key]) for row in rows]


def fell_odds(rows: list[Row], key: str, side: str) -> list[tuple[str, float]]:
    return [(row.visit, log_odds(row.before[key]) - log_odds(getattr(row, side)[key])) for row in rows]


def table(rows: list[Row], dataset: str, key: str, answer: str) -> list[str]:
    """key: "referable" or "edema"; answer: the grade or risk that goes with it."""
    mine = [row for row in rows if row.dataset == dataset]
    lines = [
        f"#### {key}, {dataset}",
        "",
        f"| filled in | photos | share of the photo | P({key}) before | fell by, lesions | fell by, control "
        f"| log odds fell by, lesions | by control | {answer} changed, lesions / control | lesions still found |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for code in dict.fromkeys(row.code for row in mine):
        of = [row for row in mine if row.code == code]
        changed = [sum(row.before[answer] != getattr(row, side)[answer] for row in of) for side in SIDES]
        left = [row.left for row in of if row.left is not None]
        cells = [
            code.replace("|", " or "),
            str(len(of)),
            f"{np.mean([row.area for row in of]):.4f} / {np.mean([row.control_area for row in of]):.4f}",
            f"{np.mean([row.before[key] for row in of]):.2f}",
            *(said(mean_of(fell(of, key, side))) for side in SIDES),
            *(said(mean_of(fell_odds(of, key, side))) for side in SIDES),
            f"{changed[0]} / {changed[1]}",
            f"{np.mean(left):.2f}" if left else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def facts(rows: list[Row]) -> Mapping[str, Any]:
    """What the package says: see `funduscope.explain.map_reliability.Filling`."""
    mine = [row for row in rows if row.dataset == KEPT and row.code == ALL]
    return {
        "photos": len(mine),
        **{side: triple(mean_of(fell(mine, "referable", side))) for side in SIDES},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("runs/filled"))
    parser.add_argument("--model", choices=SHIPPED, default="default", help="the shipped model (default: default)")
    parser.add_argument("--run", type=Path, help="the exported run that the shipped model repeats")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {FILE}")
    given = parser.parse_args()
    model = measured(given.run, given.model)
    predictor = load(model.onnx, threads=1)
    place = given.cache / predictor.runtime.sha256[:12]
    place.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for dataset in SETS:
        for case in cases_of(given.data, dataset):
            file = place / f"{case.key.replace('/', '-')}.json"
            if not file.is_file():
                file.write_text(json.dumps([asdict(row) for row in looked_at(case, predictor)]), "utf-8")
                print(case.key, file=sys.stderr, flush=True)
            rows += [Row(**row) for row in json.loads(file.read_text("utf-8"))]
    print("\n".join(table(rows, "idrid-A", "referable", "grade")))
    for dataset in SETS:
        print("\n".join(table([row for row in rows if row.code in ("EX", "EX|SE", ALL)], dataset, "edema", "dme")))
    if given.write:
        command = f"python -m research.filled_lesions --data DATA --write{model.option}"
        keep(model.stands_for, predictor.card.name, "filling", dict(facts(rows)), command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
