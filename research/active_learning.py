"""Do twenty photos that the model is least sure of teach it more of a new clinic than twenty at random?

    python -m research.active_learning measure --model MODEL --data DATA --out features.npz
                                               [--dataset messidor2] [--most 600]
    python -m research.active_learning compare features.npz

measure: pooled features, grade probabilities and training distance by a model, one upright whole view a
photo, for photos of a data set that it never saw, in a random order; continues where it stopped. compare: anew for each
seed half of the photos, whole visits, are the clinic's test, the other half its photos without labels. Twenty of these
are labeled, and a linear layer on the frozen features, added to the model's own log probabilities and pulled to 0, is
fitted to them. The twenty are chosen at random, by the entropy of the grade, by training distance, or by both as
`inference.uncertainty` weighs them in photos without lesions.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from funduscope.data.sources import read_data
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.loading import load
from funduscope.inference.ood import ood_score
from funduscope.inference.predictor import Predictor, class_probabilities
from funduscope.inference.runtime import softmax
from funduscope.inference.uncertainty import combined, entropy
from funduscope.quality.assessment import not_gradable
from funduscope.vocabulary import GRADES, REFERABLE_FROM

ORDER_SEED = 20261123
SAVE_EVERY = 20
SEEDS = 20
LABELLED = 20
DIRECTIONS = 32
"""Principal directions of the clinic's features that the layer sees: no label is needed to find them."""

PULLS = (1.0, 10.0, 100.0)
"""Weights of the squared weights against the sum of the losses of the labeled photos, one table each."""


def measure(given: argparse.Namespace) -> None:
    """Writes an npz of features (N, C), probs (N, G), percentile (N,), grade (N,), visit (N,), key (N,)."""
    model = load(given.model, threads=1)
    assert isinstance(model, Predictor)
    if given.dataset in model.card.about.get("trained on", {}).get("photos", {}):
        raise SystemExit(f"{given.model} learned from {given.dataset}: name a model, or a data set, without the other.")
    one_view = replace(model.card, structures=(), close=(), mirrored=False, close_px=model.card.whole_px)
    model = Predictor(model.runtime, one_view)
    cases = [case for case in read_data([given.data]) if case.dataset == given.dataset]
    cases = [case for case in cases if case.labels.grade is not None]
    cases = [cases[i] for i in np.random.default_rng(ORDER_SEED).permutation(len(cases))[: given.most]]
    rows: dict[str, list[np.ndarray]] = {}
    if given.out.is_file():
        with np.load(given.out) as known:
            rows = {name: list(known[name]) for name in known.files}
    done = {*map(str, rows.get("key", ()))}
    for number, case in enumerate(case for case in cases if case.key not in done):
        framed = frame(Photo.open(case.path), one_view.close_px)
        if not_gradable(framed):
            continue
        whole = model.whole_view(framed.image)
        assert whole.features is not None
        distance = ood_score(whole.features[0], one_view.distance)
        row = {
            "features": whole.features[0].astype(np.float32),
            "probs": class_probabilities(whole, "grade", one_view),
            "percentile": np.nan if distance is None else distance.percentile,
            "grade": case.labels.grade,
            "visit": case.visit,
            "key": case.key,
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(np.asarray(value))
        if number % SAVE_EVERY == SAVE_EVERY - 1:
            _save(given.out, rows)
    _save(given.out, rows)


def _save(path: Path, rows: dict[str, list[np.ndarray]]) -> None:
    arrays: dict[str, Any] = {name: np.stack(values) for name, values in rows.items()}
    np.savez(path, **arrays)


Head = tuple[np.ndarray, np.ndarray]
"""Inputs (N, D + 1) of the layer, the last one 1, and the model's log probabilities (N, G)."""


def fitted(head: Head, grades: np.ndarray, pull: float) -> np.ndarray:
    """(D + 1, G): the layer's weights for the labeled photos."""
    inputs, logs = head
    shape = (inputs.shape[1], len(GRADES))
    one_hot = np.eye(len(GRADES))[grades]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        probs = softmax(logs + inputs @ weights, 1)
        value = -np.log(np.maximum((probs * one_hot).sum(1), 1e-12)).sum() + pull * (weights**2).sum()
        return float(value), (inputs.T @ (probs - one_hot) + 2 * pull * weights).ravel()

    return minimize(loss, np.zeros(np.prod(shape)), jac=True, method="L-BFGS-B").x.reshape(shape)


def scores(head: Head, weights: np.ndarray, grades: np.ndarray) -> tuple[float, float, float, float]:
    """Kappa, accuracy, referable AUROC, mean log-likelihood."""
    probs = softmax(head[1] + head[0] @ weights, 1)
    answer, truth = probs.argmax(1), grades >= REFERABLE_FROM
    kappa = cohen_kappa_score(grades, answer, weights="quadratic", labels=range(len(GRADES)))
    likelihood = np.log(np.maximum(probs[np.arange(len(grades)), grades], 1e-12)).mean()
    auroc = roc_auc_score(truth, probs[:, REFERABLE_FROM:].sum(1))
    return float(kappa), float((answer == grades).mean()), float(auroc), float(likelihood)


def one_seed(rows: dict[str, np.ndarray], seed: int, pull: float) -> dict[str, tuple[float, ...]]:
    """The scores on the clinic's test after each way of choosing."""
    rng = np.random.default_rng(seed)
    visits = rng.permutation(np.unique(rows["visit"]))
    is_test = np.isin(rows["visit"], visits[: len(visits) // 2])
    pool, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    features = rows["features"] / np.linalg.norm(rows["features"], axis=1, keepdims=True)
    mean = features[pool].mean(0)
    directions = np.linalg.svd(features[pool] - mean, full_matrices=False)[2][:DIRECTIONS]
    inputs = (features - mean) @ directions.T
    inputs = np.c_[inputs / inputs[pool].std(), np.ones(len(inputs))]
    logs = np.log(np.maximum(rows["probs"], 1e-6))
    spread = np.array([entropy(one) for one in rows["probs"]])
    far = rows["percentile"] / 100
    both = np.array([combined(pair) for pair in zip(spread, far, strict=True)])
    chosen = {"none": pool[:0], "random": rng.permutation(pool)[:LABELLED]}
    for name, values in (("entropy", spread), ("training distance", far), ("both", both)):
        chosen[name] = pool[np.argsort(-values[pool], kind="stable")][:LABELLED]
    chosen["all of them"] = pool
    return {
        name: scores(
            (inputs[test], logs[test]),
            fitted((inputs[those], logs[those]), rows["grade"][those], pull),
            rows["grade"][test],
        )
        for name, those in chosen.items()
    }


def compare(given: argparse.Namespace) -> None:
    """Prints the means over the seeds, and the paired differences from a random choice."""
    with np.load(given.features) as kept:
        rows = {name: kept[name] for name in kept.files}
    counts = np.bincount(rows["grade"], minlength=len(GRADES)).tolist()
    print(f"{len(rows['grade'])} photos, grades {counts}; {SEEDS} seeds, {LABELLED} photos labeled")
    for pull in PULLS:
        print(f"\nPulled to the model's own answer by {pull:g}:\n")
        print_table([one_seed(rows, seed, pull) for seed in range(SEEDS)])


def print_table(found: list[dict[str, tuple[float, ...]]]) -> None:
    """A line for each way of choosing. found: of each seed."""
    head = "| chosen by | kappa | accuracy | referable AUROC | log-likelihood |"
    print(f"{head} kappa less random's (± its standard deviation over seeds) | better in |")
    print("|---|---|---|---|---|---|---|")
    for name in found[0]:
        mine = np.array([one[name] for one in found])
        apart = mine[:, 0] - np.array([one["random"][0] for one in found])
        cells = " | ".join(f"{value:.3f}" for value in mine.mean(0))
        print(f"| {name} | {cells} | {apart.mean():+.3f} ± {apart.std(ddof=1):.3f} | {(apart > 0).sum()} of {SEEDS} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    first = verbs.add_parser("measure")
    first.add_argument("--data", type=Path, required=True)
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--model", required=True, help="fast, a run folder or an ONNX file")
    first.add_argument("--dataset", default="messidor2")
    first.add_argument("--most", type=int, default=600)
    first.set_defaults(run=measure)
    second = verbs.add_parser("compare")
    second.add_argument("features", type=Path)
    second.set_defaults(run=compare)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
