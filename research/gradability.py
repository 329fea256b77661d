"""Fits the measure of whether a photo can be graded, and prints how well it does on photos it did not learn from.

    python -m research.gradability --data DATA                     the tables, cross-fitted over the folds, by visit
    python -m research.gradability --data DATA --write             also fits on everything and writes gradability.json

Good: photos of IDRiD, srahim, HEI-MED and DIARETDB1, as they are and a little worse (JPEG quality 50, exposure x0.8),
drawn eyes, and EyePACS photos whose quality was called good. Bad: EyePACS photos called reject, and the four clinics'
photos blurred, moved, darkened, brightened, cut, hazed or behind lashes, each by a strength drawn for it. The kinds in
the table have fixed strengths. Below the threshold a photo should be taken again: the largest score below which there
are few good photos of any data set, by the cross-fitted scores. Measuring takes minutes and is kept in --cache. Needs
scikit-learn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from benchmarks.spoil import Pixels, Spoil, blurred, compressed, exposed, halved, hazed, lashed, moved
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.quality.gradability import FEATURES, Gradability, features
from funduscope.quality.image_measures import FRAME_PX, measure, small_frame
from funduscope.quality.mlp import MLP, to_json
from funduscope.testing.drawn_eyes import STYLES, draw_eye

FILE = Path(__file__).resolve().parents[1] / "src" / "funduscope" / "models" / "gradability.json"
CLINICS: Final = ("idrid-B", "srahim", "heimed", "diaretdb1")
DRAWN: Final = 80
HIDDEN, MEMBERS, CHECKED_MEMBERS = 16, 8, 2
"""Of the networks that ship; those of a fold, whose scores the tables show, are fewer."""
EYEPACS_WEIGHT, MILD_WEIGHT = 4.0, 2.0
"""Weights of an EyePACS photo against one of the clinics', and of a slightly worsened photo against the original."""
THRESHOLDS: Final = tuple(float(step) for step in np.round(np.arange(0.05, 0.61, 0.01), 2))
"""A photo should be taken again below one of these scores: the largest that blames few good photos."""
MAX_BLAMED: Final = 0.04
"""Share of EyePACS's good photos, and of each clinic's photos as they are, that may lie below it."""
REFUSAL: Final = 0.01
"""Refused below this one: the model then misses most of what it should find (trust.py shows it)."""

SPOILED: Final[Mapping[str, Spoil]] = {
    "blur": lambda pixels, rng: blurred(pixels, rng.uniform(11, 30)),
    "movement": lambda pixels, rng: moved(pixels, rng.uniform(60, 140), rng),
    "dark": lambda pixels, rng: exposed(pixels, rng.uniform(0.1, 0.3)),
    "bright": lambda pixels, rng: exposed(pixels, rng.uniform(2.4, 4.0)),
    "cut": halved,
    "haze": lambda pixels, rng: hazed(pixels, rng.uniform(0.7, 0.9)),
    "lashes": lashed,
}
"""What bad photos are learned from; each of its own strength."""

MILD: Final[Mapping[str, Spoil]] = {
    "JPEG quality 50": lambda pixels, rng: compressed(pixels, 50),
    "exposure x0.8": lambda pixels, rng: exposed(pixels, 0.8),
}
TESTED: Final[Mapping[str, Spoil]] = {
    "blur, sigma 15 px at 4288": lambda pixels, rng: blurred(pixels, 15),
    "movement, 80 px at 4288": lambda pixels, rng: moved(pixels, 80, rng),
    "exposure x0.25": lambda pixels, rng: exposed(pixels, 0.25),
    "exposure x2.8": lambda pixels, rng: exposed(pixels, 2.8),
    "half cropped": halved,
    "haze": lambda pixels, rng: hazed(pixels, 0.75),
    "lashes": lashed,
}


@dataclass(frozen=True, eq=False)
class Row:
    """One look at one photo: its data set, visit, fold, kind ("as it is", one of the above, or EyePACS' label)."""

    data_set: str
    visit: str
    fold: int | None
    kind: str
    values: np.ndarray


def measured(pixels: Pixels) -> np.ndarray:
    framed = frame(pixels, FRAME_PX)
    return features(measure(pixels, small_frame(framed, pixels)))


def looks(path: Path, key: str) -> list[tuple[str, np.ndarray]]:
    """A clinic's photo as it is, a little worse, spoiled to learn from and spoiled to test."""
    cv2.setNumThreads(1)
    pixels = Photo.open(path).pixels
    rng = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))
    kinds = {"as it is": lambda pixels, rng: pixels, **MILD, **TESTED, **{f"learn {k}": s for k, s in SPOILED.items()}}
    return [(kind, measured(spoil(pixels, rng))) for kind, spoil in kinds.items()]


def as_it_is(path: Path, key: str) -> list[tuple[str, np.ndarray]]:
    cv2.setNumThreads(1)
    return [("as it is", measured(Photo.open(path).pixels))]


def gathered(data: Path, most: int, workers: int) -> list[Row]:
    """Every look at every photo that is used; at most so many photos of a clinic, every k-th."""
    rows: list[Row] = []
    cases = SplitPlan.of(read_data([data])).cases
    with ProcessPoolExecutor(workers) as pool:
        for name in CLINICS:
            held = [case for case in cases if case.dataset == name]
            held = held[:: max(1, -(-len(held) // most))]
            told = pool.map(looks, [case.path for case in held], [case.key for case in held], chunksize=4)
            rows += [
                Row(name, c.visit, c.fold, kind, v) for c, all_of in zip(held, told, strict=True) for kind, v in all_of
            ]
            print(f"{name}: {len(held)} photos", file=sys.stderr, flush=True)
        judged = [case for case in cases if case.labels.quality is not None]
        told = pool.map(as_it_is, [case.path for case in judged], [case.key for case in judged], chunksize=16)
        rows += [
            Row(c.dataset, c.visit, c.fold, str(c.labels.quality), v) for c, ((_, v),) in zip(judged, told, strict=True)
        ]
    for seed in range(DRAWN):
        style = list(STYLES.values())[seed % len(STYLES)]
        eye = draw_eye(seed, width_px=500, style=style).pixels
        rows.append(Row("drawn", f"drawn {seed}", seed % 5, "as it is", measured(eye)))
    return rows


def taught(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, F), good or not (N,), weights (N,) of what is learned from."""
    held: list[tuple[np.ndarray, bool, float]] = []
    for row in rows:
        if row.kind in ("good", "reject"):
            held.append((row.values, row.kind == "good", EYEPACS_WEIGHT))
        elif row.kind == "as it is":
            held.append((row.values, True, 1.0))
        elif row.kind in MILD:
            held.append((row.values, True, MILD_WEIGHT))
        elif row.kind.startswith("learn "):
            held.append((row.values, False, 0.5))
    values, good, weight = zip(*held, strict=True)
    return np.stack(values), np.array(good), np.array(weight)


def fitted(rows: list[Row], members: int = MEMBERS) -> Gradability:
    """Several networks of one hidden layer, each from draws and a start of its own, as one: their mean logit."""
    values, good, weight = taught(rows)
    center, scale = values.mean(axis=0), values.std(axis=0) + 1e-6
    parts = []
    for seed in range(members):
        drawn = np.random.default_rng(seed).choice(len(good), round(weight.sum()), p=weight / weight.sum())
        network = MLPClassifier((HIDDEN,), activation="tanh", alpha=0.3, max_iter=800, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the last digits of a fit do not matter here
            parts.append(network.fit((values[drawn] - center) / scale, good[drawn]))
    layers = (
        (np.hstack([one.coefs_[0] for one in parts]), np.concatenate([one.intercepts_[0] for one in parts])),
        (np.vstack([one.coefs_[1] for one in parts]) / members, np.mean([one.intercepts_[1] for one in parts], 0)),
    )
    usual = np.median(np.stack([row.values for row in rows if row.kind == "as it is"]), axis=0)
    return Gradability(MLP(center, scale, layers), usual, REFUSAL, REFUSAL, {})


def cross_fitted(rows: list[Row]) -> np.ndarray:
    """Each row's score by a fit that saw no photo of its fold."""
    scores = np.zeros(len(rows))
    folds = sorted({row.fold for row in rows if row.fold is not None})
    for fold in folds:
        model = fitted([row for row in rows if row.fold != fold], CHECKED_MEMBERS)
        for place, row in enumerate(rows):
            if row.fold == fold:
                scores[place] = model.network.probability(row.values)
    return scores


def threshold_of(rows: Sequence[Row], scores: np.ndarray) -> float:
    """The largest of `THRESHOLDS` below which lie at most `MAX_BLAMED` of the good photos of any data set."""
    good = [
        scores[[row.data_set == name and row.kind in ("good", "as it is") for row in rows]]
        for name in (*CLINICS, "eyepacs400")
    ]
    fit = [limit for limit in THRESHOLDS if all((of < limit).mean() <= MAX_BLAMED for of in good if len(of))]
    return max(fit, default=THRESHOLDS[0])


def blamed_apart(rows: Sequence[Row], scores: np.ndarray) -> np.ndarray:
    """(N,) bool: below the threshold that the other folds' scores give."""
    folds = np.array([-1 if row.fold is None else row.fold for row in rows])
    blamed = np.zeros(len(rows), bool)
    for fold in set(folds.tolist()):
        others = np.flatnonzero(folds != fold)
        limit = threshold_of([rows[place] for place in others.tolist()], scores[others])
        blamed[folds == fold] = scores[folds == fold] < limit
    return blamed


def interval(score: Callable[[np.ndarray], float], visits: np.ndarray, draws: int = 500) -> tuple[float, float]:
    """95 % by bootstrap over visits; score: of indices."""
    names, which = np.unique(visits, return_inverse=True)
    groups = [np.flatnonzero(which == k) for k in range(len(names))]
    rng = np.random.default_rng(0)
    told = []
    for _ in range(draws):
        index = np.concatenate([groups[k] for k in rng.integers(0, len(names), len(names))])
        value = score(index)
        if np.isfinite(value):
            told.append(value)
    return tuple(np.percentile(told, (2.5, 97.5)))  # pyright: ignore[reportReturnType]


def tables(rows: list[Row], scores: np.ndarray) -> Iterator[str]:
    sets, kinds = np.array([row.data_set for row in rows]), np.array([row.kind for row in rows])
    visits = np.array([row.visit for row in rows])
    threshold, apart = threshold_of(rows, scores), blamed_apart(rows, scores)

    def auroc(bad: np.ndarray, good: np.ndarray) -> str:
        chosen = np.flatnonzero(bad | good)
        of = partial(_auroc, scores[chosen], bad[chosen])
        low, high = interval(of, visits[chosen])
        return f"{of(np.arange(len(chosen))):.3f} ({low:.3f}-{high:.3f})"

    def refused(which: np.ndarray) -> str:
        shares = [f"{100 * (scores[which] < limit).mean():.1f}" for limit in (threshold, REFUSAL)]
        return f"{' / '.join(shares)} % of {which.sum()}"

    yield "| AUROC (95 % interval) | " + " | ".join(CLINICS) + " |"
    yield "|---|" + "---|" * len(CLINICS)
    for kind in TESTED:
        cells = [auroc((sets == name) & (kinds == kind), (sets == name) & (kinds == "as it is")) for name in CLINICS]
        yield f"| {kind} | " + " | ".join(cells) + " |"
    yield ""
    yield f"Taken again below {threshold:.2f}, refused below {REFUSAL}."
    yield ""
    yield "| to take again, refused ones included / refused | " + " | ".join(CLINICS) + " |"
    yield "|---|" + "---|" * len(CLINICS)
    for kind in ("as it is", *MILD, *TESTED):
        yield f"| {kind} | " + " | ".join(refused((sets == name) & (kinds == kind)) for name in CLINICS) + " |"
    yield ""
    eyepacs = sets == "eyepacs400"
    yield f"EyePACS, reject against good: AUROC {auroc(eyepacs & (kinds == 'reject'), eyepacs & (kinds == 'good'))}."
    told = [f"{kind} {refused(eyepacs & (kinds == kind))}" for kind in ("good", "usable", "reject")]
    yield f"EyePACS, to take again / refused: {', '.join(told)}. Drawn eyes: {refused(sets == 'drawn')}."
    of_kind = {kind: eyepacs & (kinds == kind) for kind in ("reject", "good")}
    told = [f"{100 * apart[which].mean():.1f} % of {which.sum()} {kind}" for kind, which in of_kind.items()]
    yield f"EyePACS, to take again by a threshold of the other folds: {', '.join(told)}."


def _auroc(scores: np.ndarray, bad: np.ndarray, index: np.ndarray) -> float:
    if len(set(bad[index])) < 2:
        return float("nan")
    return float(roc_auc_score(bad[index], -scores[index]))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("runs/gradability.npz"))
    parser.add_argument("--most", type=int, default=200, help="photos of a clinic")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="fit on everything and write gradability.json")
    given = parser.parse_args()
    if given.cache.is_file() and not given.write:  # what ships is measured anew
        print(f"From {given.cache}, whatever the data and --most: remove it to measure anew.", file=sys.stderr)
        rows = _kept(given.cache)
    else:
        rows = gathered(given.data, given.most, given.workers)
        _keep(given.cache, rows)
    scores = cross_fitted(rows)
    print("\n".join(tables(rows, scores)))
    if given.write:
        model = replace(fitted(rows), threshold=threshold_of(rows, scores))
        photos = {name: len({row.visit for row in rows if row.data_set == name}) for name in (*CLINICS, "eyepacs400")}
        about = {
            "command": "python -m research.gradability --data DATA --write",
            "features": FEATURES,
            "visits": photos,
        }
        held = replace(model, about=about)
        FILE.write_text(to_json(held) + "\n", "utf-8")
        print(f"\n{FILE.name}: {FILE.stat().st_size} bytes")
    return 0


def _keep(file: Path, rows: list[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    words = json.dumps([[row.data_set, row.visit, row.fold, row.kind] for row in rows])
    np.savez_compressed(file, values=np.stack([row.values for row in rows]), words=np.array(words))


def _kept(file: Path) -> list[Row]:
    held = np.load(file)
    return [
        Row(*words, values=values) for words, values in zip(json.loads(str(held["words"])), held["values"], strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
