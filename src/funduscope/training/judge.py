"""The judge of a training: scores the validation photos through the using side, and says which epoch is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from funduscope.data.case import Case
from funduscope.evaluate import Scores, evaluate
from funduscope.network.network import Network
from funduscope.predict.card import Card
from funduscope.predict.predictor import Predictor
from funduscope.predict.runtime import TorchRuntime
from funduscope.recipe import Recipe
from funduscope.training.loop import Judge, bfloat16
from funduscope.training.samples import serves
from funduscope.vocabulary import EITHER_EXUDATE, LESIONS

# A landmark this far off, in pixels of a 4288-wide photo, earns nothing (half a disc diameter).
WORTHLESS_PX = 275.0


def make_judge(recipe: Recipe, cases: list[Case]) -> Judge:
    """A judge on those validation cases whose data sets the recipe trains on.

    Photos without lesion masks are looked at whole only, which is five times quicker and all that their labels need.
    """
    card = Card.of(recipe)
    masked = [case for case in cases if case.dataset in recipe.sampling.close and set(case.labels.masks) - {"OD"}]
    graded = [case for case in cases if case.dataset in recipe.sampling.whole and serves(case.labels, "whole")]

    def judge(network: Network) -> dict[str, float]:
        speed = bfloat16(recipe.training.precision)
        whole = Predictor(TorchRuntime(network, replace(card, close=(), structures=()), bfloat16=speed))
        both = Predictor(TorchRuntime(network, card, bfloat16=speed))
        of_graded = evaluate(whole, graded, repeats=1) if graded else None
        of_masked = evaluate(both, masked, repeats=1) if masked and card.structures else None
        return selection(of_graded, of_masked)

    return judge


def selection(graded: Scores | None, masked: Scores | None) -> dict[str, float]:
    """Scores by name, and `selection`: the mean of what there is of grades, DME, lesions and landmarks, each in 0..1.

    Grades: the mean kappa over the data sets. Lesions: the mean average precision over data sets and kinds (not the
    33-threshold area, which an empty map also earns). Landmarks: 1 at no distance, 0 at half a disc diameter.
    """
    scores: dict[str, float] = {}
    parts: list[list[float]] = [[], [], [], []]
    for dataset in graded.tables if graded else ():
        assert graded is not None
        kappa, dme = graded.value(dataset, "DR", "kappa"), graded.value(dataset, "DME", "accuracy")
        scores |= {f"{dataset} DR kappa": kappa, f"{dataset} DR accuracy": graded.value(dataset, "DR", "accuracy")}
        scores[f"{dataset} DME accuracy"] = dme
        parts[0].append(kappa)
        parts[1].append(dme)
        for name in ("disc center", "fovea"):
            distance = graded.value(dataset, name, "mean px")
            scores[f"{dataset} {name} px"] = distance
            parts[3].append(max(0.0, 1 - distance / WORTHLESS_PX) if not np.isnan(distance) else np.nan)
    for dataset in masked.tables if masked else ():
        assert masked is not None
        for code in (*LESIONS, EITHER_EXUDATE):
            value = masked.value(dataset, f"{code} pixels", "average precision")
            scores[f"{dataset} {code} AP"] = value
            parts[2].append(value)
        scores[f"{dataset} OD IoU"] = masked.value(dataset, "OD mask", "IoU")
    known = [float(np.nanmean(part)) for part in parts if not np.isnan(part).all()]
    if known:
        scores["selection"] = float(np.mean(known))
    return {name: value for name, value in scores.items() if not np.isnan(value)}
