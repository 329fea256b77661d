"""How a model's scores fall as photographs get worse: seven kinds of worse, three strengths each.

    python -m benchmarks.robustness MODEL --data DATA --fold 0 [--most 40]

Each strength is one round over the photos of the fold that have grades, landmarks, lesion masks or discs; lesions are
sought where masks are known, and everywhere where they are a witness of the grade. Finished rounds are kept in --cache,
so that a stopped run continues. A refused photo counts as docs/protocol.md says. --most: photos of a data set, every
k-th, where a round over all takes too long.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from benchmarks.spoil import blurred, coarse, compressed, exposed, noisy, shift_color
from benchmarks.unseen import for_photo_tasks, must_have_kept

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.score_key import ScoreKey
from funduscope.evaluation.score_photo import score_photo
from funduscope.evaluation.scores import PhotoScore, summarize
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Failure
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor
from funduscope.vocabulary import EITHER_EXUDATE

Change = Callable[[np.ndarray, str], np.ndarray]

GRADED: Final = ("idrid-B", "srahim", "messidor2")
SETS: Final = (*GRADED, "idrid-A", "heimed")
AS_IT_IS: Final = "as it is"


def _rng(key: str) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))


CHANGES: Final[Mapping[str, Mapping[str, Change]]] = {
    "blur, sigma at 4288 px": {f"{s} px": lambda pixels, key, s=s: blurred(pixels, s) for s in (4, 8, 15)},
    "darker": {f"x{f}": lambda pixels, key, f=f: exposed(pixels, f) for f in (0.7, 0.5, 0.3)},
    "brighter": {f"x{f}": lambda pixels, key, f=f: exposed(pixels, f) for f in (1.3, 1.7, 2.3)},
    "JPEG quality": {f"{q}": lambda pixels, key, q=q: compressed(pixels, q) for q in (50, 25, 10)},
    "noise, levels": {f"{s}": lambda pixels, key, s=s: noisy(pixels, s, _rng(key)) for s in (5, 12, 25)},
    "color, share of a strong shift": {f"{s:g}": lambda pixels, key, s=s: shift_color(pixels, key, s)
                                       for s in (0.25, 0.5, 1.0)},
    "scale, photo's width": {f"{w} px": lambda pixels, key, w=w: coarse(pixels, w) for w in (900, 600, 400)},
}  # fmt: skip
"""Kind to strength to what is done to a photo's pixels."""

ROWS: Final = (
    ("DR kappa, IDRiD", "idrid-B", "DR", "kappa"),
    ("DR kappa, srahim", "srahim", "DR", "kappa"),
    ("DR kappa, Messidor-2", "messidor2", "DR", "kappa"),
    ("referable AUROC, IDRiD", "idrid-B", "referable DR", "AUROC"),
    ("referable AUROC, srahim", "srahim", "referable DR", "AUROC"),
    ("referable AUROC, Messidor-2", "messidor2", "referable DR", "AUROC"),
    ("DME accuracy, IDRiD", "idrid-B", "DME", "accuracy"),
    ("disc, mean px at 4288", "idrid-B", "disc center", "mean px"),
    ("fovea, mean px at 4288", "idrid-B", "fovea", "mean px"),
    ("MA average precision", "idrid-A", "MA pixels", "average precision"),
    ("HE average precision", "idrid-A", "HE pixels", "average precision"),
    ("EX average precision", "idrid-A", "EX pixels", "average precision"),
    ("SE average precision", "idrid-A", "SE pixels", "average precision"),
    ("EX or SE average precision, HEI-MED", "heimed", f"{EITHER_EXUDATE} pixels", "average precision"),
    ("disc IoU", "idrid-A", "OD mask", "IoU"),
)


def score_changed(predictor: Predictor, cases: Iterable[Case], change: Change) -> Iterator[PhotoScore]:
    """Predict and score one photo after another, each changed before the prediction."""
    for case in cases:
        try:
            photo = Photo.open(case.path)
            answer = predictor(replace(photo, pixels=change(photo.pixels, case.key)))
        except PhotoError as error:
            answer = Failure(case.path.name, error.code, error.says)
        yield score_photo(answer, case, predictor.card, judges=predictor.refuses)


def round_of(predictor: Predictor, cases: list[Case], change: Change) -> dict[str, Any]:
    """One strength: every row's value, and how many photos were refused of how many."""
    masked = [case for case in cases if case.labels.masks and case.dataset not in GRADED]
    plain = [case for case in cases if case not in masked]
    photos = [
        *score_changed(for_photo_tasks(predictor), plain, change),
        *score_changed(predictor, masked, change),
    ]
    scores = summarize(photos, repeats=1)
    values = {name: scores.number(ScoreKey.parse(*where)) for name, *where in ROWS}
    told: dict[str, Any] = {name: None if np.isnan(value) else round(value, 4) for name, value in values.items()}
    return told | {"refused": sum(photo.refused for photo in photos), "photos": len(photos)}


def chosen(data: Path, fold: int, most: int) -> list[Case]:
    """The fold's photos of each data set, every k-th, so that there are at most so many."""
    cases = SplitPlan.of(read_data([data]), fold).test
    told: list[Case] = []
    for name in SETS:
        held = [case for case in cases if case.dataset == name]
        told += held[:: max(1, -(-len(held) // most))]
    return told


def tables(rounds: Mapping[str, Mapping[str, Any]]) -> str:
    """A table a kind: a row per score, a column a strength."""
    lines: list[str] = []
    for kind, strengths in CHANGES.items():
        done = [name for name in strengths if f"{kind}/{name}" in rounds]
        columns = [rounds[AS_IT_IS], *(rounds[f"{kind}/{name}"] for name in done)]
        lines += [f"| {kind} | {' | '.join([AS_IT_IS, *done])} |", "|---|" + "---|" * len(columns)]
        for name in [row[0] for row in ROWS]:
            if any(column[name] is not None for column in columns):
                lines.append(f"| {name} | {' | '.join(_words(column[name]) for column in columns)} |")
        shares = [f"{100 * column['refused'] / column['photos']:.0f} %" for column in columns]
        lines += [f"| refused | {' | '.join(shares)} |", ""]
    return "\n".join(lines)


def _words(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="default, fast, an ONNX file or a run folder")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--most", type=int, default=10_000, help="photos of a data set")
    parser.add_argument("--cache", type=Path, default=Path("runs/robustness.json"))
    given = parser.parse_args()
    cv2.setNumThreads(1)
    predictor = load(given.model)
    if not isinstance(predictor, Predictor):
        parser.error("one model at a time")
    must_have_kept(predictor.card, given.fold)
    cases = chosen(given.data, given.fold, given.most)
    about = {"model": predictor.runtime.sha256, "fold": given.fold, "photos": sorted(case.key for case in cases)}
    held = json.loads(given.cache.read_text("utf-8")) if given.cache.is_file() else {}
    rounds: dict[str, Any] = held["rounds"] if held.get("about") == about else {}
    wanted: dict[str, Change] = {AS_IT_IS: lambda pixels, key: pixels}
    wanted |= {f"{kind}/{name}": change for kind, of in CHANGES.items() for name, change in of.items()}
    for name, change in wanted.items():
        if name not in rounds:
            rounds[name] = round_of(predictor, cases, change)
            given.cache.parent.mkdir(parents=True, exist_ok=True)
            given.cache.write_text(json.dumps({"about": about, "rounds": rounds}, indent=1) + "\n", "utf-8")
            print(name, rounds[name], file=sys.stderr, flush=True)
    counts = ", ".join(f"{name} {sum(case.dataset == name for case in cases)}" for name in SETS)
    print(f"Fold {given.fold}, photos: {counts}. Model `{predictor.runtime.sha256[:16]}`.\n\n{tables(rounds)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
