"""What do the lesion maps alone say of the grade, and is a second witness worth having?

    python -m research.lesion_witness measure MODEL --data DATA --out rows.jsonl [--folds 1 2] [--photo MODEL]
    python -m research.lesion_witness compare rows.jsonl

measure: for each graded photo numbers of the lesion maps (not gated by the grade), and the grade probabilities of the
model, or of another one (`--photo`). Goes on where it stopped. compare: within those photos, by five-fold
cross-validation over visits: the photo's answer, the lesions' answer (an ordinal regression that can only rise with
what was found), and their weighed geometric mean.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
from scipy.optimize import minimize
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from funduscope.data.case import Case
from funduscope.data.sources import read_data
from funduscope.imaging.framing import CropTransform, frame
from funduscope.imaging.photo import Photo, PhotoError
from funduscope.inference.anatomy import Anatomy
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor
from funduscope.quality.assessment import not_gradable
from funduscope.vocabulary import GRADES, LESIONS

SHARES = {"strongest": 1 / 131072, "strong": 1 / 8192}
LEVELS = (0.25, 0.5, 0.75)
NEAR_FRAC = 0.155  # a disc diameter as a share of the frame's side
RIDGE = 1.0


def measure_map(logits: np.ndarray, disc: Any, fovea: Any) -> dict[str, float]:
    """Numbers of one lesion's map (h, w) of logits. disc, fovea: x, y in cells of the map, or None."""
    side = len(logits)
    values = np.sort(np.clip(logits, -9, 9).ravel())[::-1]
    found = {name: float(values[: max(1, round(share * side * side))].mean()) for name, share in SHARES.items()}
    for level in LEVELS:
        mask = logits >= np.log(level / (1 - level))
        count, _, stats, centers = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        found[f"count {level}"] = float(np.log1p(count - 1))
        found[f"area {level}"] = float(np.log1p(1e4 * stats[1:, cv2.CC_STAT_AREA].sum() / side**2))
        if level == 0.5:
            quadrants = Anatomy(disc, fovea).quadrants(centers[1:]) if count > 1 else None
            found["quadrants"] = float(len(set(quadrants or ())))
    if fovea is not None:
        at = np.arange(side) + 0.5
        for name, radius in (("in 1 DD", 1), ("in 2 DD", 2)):
            near = (at[None] - fovea[0]) ** 2 + (at[:, None] - fovea[1]) ** 2 < (radius * NEAR_FRAC * side) ** 2
            inside = np.sort(np.clip(logits[near], -9, 9))[::-1]
            most = max(1, round(SHARES["strong"] * side * side))
            found[name] = float(inside[:most].mean()) if len(inside) else -9.0
    else:
        found |= {"in 1 DD": -9.0, "in 2 DD": -9.0}
    return found


def measure_photo(lesions: Predictor, photo_model: Predictor, case: Case) -> dict[str, Any] | None:
    """A photo's row; None where it cannot be graded."""
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
    numbers: dict[str, float] = {}
    for index, code in enumerate(lesions.card.structures):
        if code not in LESIONS:
            continue
        planes = (views.close if code in lesions.card.close else views.whole).structures
        assert planes is not None
        scale = len(planes[0, index]) / framed.transform.side_px
        disc, fovea = (_cell(framed.transform, scale, xy) for xy in (found.disc_xy, found.fovea_xy))
        measured = measure_map(planes[0, index], disc, fovea)
        numbers |= {f"{code} {name}": round(value, 5) for name, value in measured.items()}
    probs = None if found.grade_probs is None else [round(float(one), 6) for one in found.grade_probs]
    about = {"key": case.key, "dataset": case.dataset, "visit": case.visit, "fold": case.fold}
    return about | {"grade": case.labels.grade, "dme": case.labels.dme, "photo": probs, "lesions": numbers}


def _cell(transform: CropTransform, scale: float, xy: Any) -> Any:
    """x, y of the photo in cells of a map."""
    return None if xy is None else tuple(transform.to_frame(np.array([xy]))[0] * scale)


def measure(given: argparse.Namespace) -> None:
    lesions = load(given.model)
    photo_model = load(given.photo) if given.photo else lesions
    assert isinstance(lesions, Predictor)
    assert isinstance(photo_model, Predictor)
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


class Ordinal:
    """P(grade >= k) = sigmoid(w x - b_k) with w >= 0 on scaled numbers: more of anything is never a lower grade."""

    def __init__(self, rows: np.ndarray, grades: np.ndarray, classes: int = len(GRADES), ridge: float = RIDGE) -> None:
        self.center, self.spread = rows.mean(0), np.maximum(rows.std(0), 1e-6)
        inputs, count = (rows - self.center) / self.spread, rows.shape[1]
        weights = np.concatenate([[1.0 / count] * count, np.linspace(-1, 1, classes - 1)])

        def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
            w, cuts = theta[:count], theta[count:]
            z = (inputs @ w)[:, None] - cuts[None]
            above = grades[:, None] >= np.arange(1, classes)[None]
            p = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
            value = -(np.log(np.where(above, p, 1 - p) + 1e-12)).sum() + ridge / 2 * (w**2).sum()
            pull = p - above
            return value, np.concatenate([inputs.T @ pull.sum(1) + ridge * w, -pull.sum(0)])

        bounds = [(0, None)] * count + [(None, None)] * (classes - 1)
        self.theta = minimize(loss, weights, jac=True, bounds=bounds, method="L-BFGS-B").x
        self.weights, self.cuts = self.theta[:count], np.sort(self.theta[count:])

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        z = ((rows - self.center) / self.spread @ self.weights)[:, None] - self.cuts[None]
        above = 1 / (1 + np.exp(-z))
        edges = np.concatenate([np.ones((len(rows), 1)), above, np.zeros((len(rows), 1))], 1)
        return np.maximum(edges[:, :-1] - edges[:, 1:], 1e-6)


def fused(first: np.ndarray, second: np.ndarray, weights: Any) -> np.ndarray:
    """The weighed geometric mean of two probabilities (N, G)."""
    logs = weights[0] * np.log(first) + weights[1] * np.log(second)
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_weights(first: np.ndarray, second: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """The two weights of `fused` by log-likelihood."""

    def loss(weights: np.ndarray) -> float:
        return -float(np.log(fused(first, second, weights)[np.arange(len(grades)), grades] + 1e-12).mean())

    return minimize(loss, [0.5, 0.5], bounds=[(0, 3), (0, 3)], method="L-BFGS-B").x


def scores(probs: np.ndarray, grades: np.ndarray) -> str:
    """Accuracy, kappa, referable AUROC, mean log-likelihood."""
    answer, truth = probs.argmax(1), grades >= 2
    kappa = cohen_kappa_score(grades, answer, weights="quadratic", labels=range(len(GRADES)))
    likelihood = np.log(probs[np.arange(len(grades)), grades]).mean()
    auroc = roc_auc_score(truth, probs[:, 2:].sum(1)) if 0 < truth.sum() < len(truth) else float("nan")
    return f"{(answer == grades).mean():.3f} | {kappa:.3f} | {auroc:.3f} | {likelihood:.3f}"


def compare(given: argparse.Namespace) -> None:
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in given.rows.open()]
    names = list(rows[0]["lesions"])
    numbers = np.array([[row["lesions"][name] for name in names] for row in rows])
    photo = np.clip([row["photo"] for row in rows], 1e-6, 1)
    grades, sets = np.array([row["grade"] for row in rows]), np.array([row["dataset"] for row in rows])
    visits = np.array([crc32(f"{row['dataset']} {row['visit']}".encode()) % 5 for row in rows])
    lesions, both = np.zeros_like(photo), np.zeros_like(photo)
    for part in range(5):
        train, test = visits != part, visits == part
        inner = np.zeros_like(photo)  # out of fold within the training part, so that the weights are not flattered
        for other in range(5):
            if other != part:
                fitted = Ordinal(numbers[train & (visits != other)], grades[train & (visits != other)])
                inner[visits == other] = fitted(numbers[visits == other])
        weights = fit_weights(photo[train], inner[train], grades[train])
        lesions[test] = Ordinal(numbers[train], grades[train])(numbers[test])
        both[test] = fused(photo[test], lesions[test], weights)
    print("| photos | answer | accuracy | kappa | referable AUROC | log-likelihood |\n|---|---|---|---|---|---|")
    for dataset in sorted({*sets}):
        mine = sets == dataset
        for name, probs in (("photo", photo), ("lesions", lesions), ("both", both)):
            print(f"| {dataset} ({mine.sum()}) | {name} | {scores(probs[mine], grades[mine])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    first = verbs.add_parser("measure")
    first.add_argument("model", type=Path, help="finds the lesions")
    first.add_argument("--photo", type=Path, help="grades the photo; by default the same model")
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
