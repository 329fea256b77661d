"""What do the lesion maps alone say of the grade, and is a second witness worth having?

    python -m research.lesion_witness measure MODEL --data DATA --out rows.jsonl [--folds 1 2] [--photo MODEL]
    python -m research.lesion_witness compare rows.jsonl

measure: for each graded photo numbers of the lesion maps (not gated by the grade), and the grade probabilities of the
model, or of another one (`--photo`). Continues where it stopped. compare: the photo's answer, the lesions' answer and
their joint answer, each out of fold, as calibration fits them (training/fit_witnesses.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.unseen import must_have_kept
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor, lesion_features
from funduscope.quality.assessment import not_gradable
from funduscope.training.fit_witnesses import fit_witness
from funduscope.vocabulary import GRADES


def measure_photo(lesions: Predictor, photo_model: Predictor, case: Case) -> dict[str, Any] | None:
    """A photo's row; None if it cannot be graded."""
    try:
        photo = Photo.open(case.path)
    except PhotoError:
        return None
    framed = frame(photo, lesions.card.close_px)
    if not_gradable(framed):
        return None
    other = framed if photo_model.card.close_px == lesions.card.close_px else frame(photo, photo_model.card.close_px)
    plain = photo_model.without_structures()
    found, _ = plain.run(photo, other)
    views = lesions.forward_views(framed.image)
    points = {"optic_disc": found.disc_xy, "fovea": found.fovea_xy}
    measured = lesion_features(views, lesions.card, points, framed.transform)
    numbers = {name: round(value, 5) for name, value in measured.items()}
    probs = None if found.grade_probs is None else [round(float(one), 6) for one in found.grade_probs]
    about = {"key": case.key, "dataset": case.dataset, "visit": case.visit, "fold": case.fold}
    return about | {"grade": case.labels.grade, "dme": case.labels.dme, "photo": probs, "lesions": numbers}


def measure(given: argparse.Namespace) -> None:
    lesions = load(given.model)
    photo_model = load(given.photo) if given.photo else lesions
    assert isinstance(lesions, Predictor)
    assert isinstance(photo_model, Predictor)
    for one in (lesions, photo_model):
        must_have_kept(one.card)
    done = {json.loads(line)["key"] for line in given.out.open()} if given.out.is_file() else set()
    cases = [case for case in read_data([given.data]) if case.labels.grade is not None and case.fold in given.folds]
    with given.out.open("a") as file:
        for case in cases:
            if case.key in done or (case.labels.masks and not given.masked):
                continue
            row = measure_photo(lesions, photo_model, case)
            if row is not None:
                file.write(json.dumps(row) + "\n")
                file.flush()


def scores(probs: np.ndarray, grades: np.ndarray) -> str:
    """Accuracy, kappa, referable AUROC, mean log-likelihood."""
    answer, truth = probs.argmax(1), grades >= 2
    kappa = cohen_kappa_score(grades, answer, weights="quadratic", labels=range(len(GRADES)))
    likelihood = np.log(probs[np.arange(len(grades)), grades]).mean()
    auroc = roc_auc_score(truth, probs[:, 2:].sum(1)) if 0 < truth.sum() < len(truth) else float("nan")
    return f"{(answer == grades).mean():.3f} | {kappa:.3f} | {auroc:.3f} | {likelihood:.3f}"


def compare(given: argparse.Namespace) -> None:
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in given.rows.open()]
    photo = np.clip([row["photo"] for row in rows], 1e-6, 1)
    grades, sets = np.array([row["grade"] for row in rows]), np.array([row["dataset"] for row in rows])
    fitted = fit_witness(
        [row["lesions"] for row in rows], photo, grades, [f"{r['dataset']} {r['visit']}" for r in rows]
    )
    assert fitted is not None, "too few photos of a grade"
    print(f"shares of photo and lesions: {fitted.witness.shares}\n")
    print("| photos | answer | accuracy | kappa | referable AUROC | log-likelihood |\n|---|---|---|---|---|---|")
    for dataset in sorted({*sets}):
        mine = sets == dataset
        for name, probs in (("photo", photo), ("lesions", fitted.lesions), ("both", fitted.joint)):
            print(f"| {dataset} ({mine.sum()}) | {name} | {scores(probs[mine], grades[mine])} |")
    weights = sorted(zip(fitted.witness.numbers, fitted.witness.weights, strict=True), key=lambda one: -one[1])
    print("\n" + ", ".join(f"{name} {weight:.2f}" for name, weight in weights[:12]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    first = verbs.add_parser("measure")
    first.add_argument("model", help="finds the lesions")
    first.add_argument("--photo", help="grades the photo; by default the same model")
    first.add_argument("--data", type=Path, required=True)
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--folds", type=int, nargs="+", default=[1])
    first.add_argument("--masked", action="store_true", help="photos with lesion masks too")
    first.set_defaults(run=measure)
    second = verbs.add_parser("compare")
    second.add_argument("rows", type=Path)
    second.set_defaults(run=compare)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
