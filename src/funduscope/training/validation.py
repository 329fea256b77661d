"""Validation: scores of an epoch's weights on the validation photos, through the same code that predicts."""

from __future__ import annotations

import numpy as np

from funduscope.data.case import Case
from funduscope.evaluation.evaluate import score_stream
from funduscope.evaluation.score_key import Aspect, Question, ScoreKey, headline
from funduscope.evaluation.scores import Scores, summarize
from funduscope.inference.card import Card
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import TorchRuntime
from funduscope.network.network import Network
from funduscope.recipe import Recipe
from funduscope.training import processes
from funduscope.training.acceleration import bfloat16
from funduscope.training.loop import Validation
from funduscope.training.samples import serves
from funduscope.vocabulary import EITHER_EXUDATE, LESIONS, PHOTO_TASKS

WORTHLESS_PX = 275.0
"""From this distance on a landmark scores 0: half a disc diameter, in pixels of a photo 4288 wide."""


def make_validation(recipe: Recipe, cases: list[Case]) -> Validation:
    """Validation on those cases whose data sets the recipe trains on.

    Photos without lesion masks are predicted from the whole view alone: five times as fast, and all their labels need.
    On a card whole views are predicted in batches, of photos that several threads decode ahead.
    Of several processes each scores its share of the photos; all of them return the scores of all photos.
    """
    card = Card.of(recipe)
    structures = set(card.structures) - {"OD"} or set(card.structures)
    structures |= {EITHER_EXUDATE} if {"EX", "SE"} <= structures else set()
    cases = [case for case in cases if case.dataset in recipe.sampling.datasets()]
    masked = [case for case in cases if structures & set(case.labels.masks)]
    # Without the structures: a grade that implies absent lesions is no mask to compare with.
    plain = recipe.model_copy(update={"tasks": recipe.tasks.model_copy(update={"structures": ()})})
    graded = [case for case in cases if serves(case.labels, "whole", plain)]

    def validate(network: Network) -> dict[str, float]:
        runtime = TorchRuntime(network, card, bfloat16=bfloat16(recipe.training.precision))
        both = Predictor(runtime, batch=runtime.batch)
        whole = both.without_structures()
        of_graded = _scores(whole, graded) if graded else None
        of_masked = _scores(both, masked) if masked and card.structures else None
        return selection(of_graded, of_masked, recipe.training.select)

    return validate


def _scores(predictor: Predictor, cases: list[Case]) -> Scores:
    """Of every process's share of the cases together."""
    mine = list(score_stream(predictor, cases[processes.own_share()]))
    return summarize(processes.gathered(mine), repeats=1)


def selection(graded: Scores | None, masked: Scores | None, select: str = "mean") -> dict[str, float]:
    """Scores by name, and `selection`, by which epochs are compared.

    select mean: the mean of the photo tasks, landmarks and lesions, each in 0..1, as far as they are scored. Photo
    tasks: the mean of their headlines over the data sets. Lesions: the mean average precision over data sets and kinds
    (not the area over 33 thresholds, which an empty map also earns), or the disc's IoU where no lesion is predicted.
    Landmarks: 1 at no distance, 0 at `WORTHLESS_PX`. select accuracy_iou: the mean of the grades' accuracy and the
    lesions' IoU at 0.5.
    """
    scores, headlines, landmarks = _of_graded(graded)
    of_masked, lesions, overlaps = _of_masked(masked)
    scores |= of_masked
    accuracies = [value for name, value in scores.items() if name.endswith(" DR accuracy")]
    parts = [accuracies, overlaps] if select == "accuracy_iou" else [*headlines, landmarks, lesions]
    known = [float(np.nanmean(part)) for part in parts if not np.isnan(part).all()]
    if known:
        scores["selection"] = float(np.mean(known))
    return {name: value for name, value in scores.items() if not np.isnan(value)}


def _of_graded(graded: Scores | None) -> tuple[dict[str, float], list[list[float]], list[float]]:
    """Scores of photo tasks and landmarks by name; by task and data set its headline; by data set the landmarks."""
    scores: dict[str, float] = {}
    headlines: list[list[float]] = [[] for _ in PHOTO_TASKS]
    landmarks: list[float] = []
    for dataset in graded.tables if graded else ():
        assert graded is not None
        for task, values in zip(PHOTO_TASKS, headlines, strict=True):
            for name in ("accuracy", "kappa", "macro precision", "macro recall", "macro F1"):
                scores[f"{dataset} {task.title} {name}"] = graded.number(ScoreKey(dataset, Question(task.title), name))
            values.append(graded.number(ScoreKey(dataset, headline(task), task.headline)))
            scores[f"{dataset} {task.title} {task.headline}"] = values[-1]
        for name in ("disc center", "fovea"):
            distance = graded.number(ScoreKey(dataset, Question(name), "mean px"))
            scores[f"{dataset} {name} px"] = distance
            landmarks.append(max(0.0, 1 - distance / WORTHLESS_PX) if not np.isnan(distance) else np.nan)
    return scores, headlines, landmarks


def _of_masked(masked: Scores | None) -> tuple[dict[str, float], list[float], list[float]]:
    """Scores of masks by name; average precisions and IoUs of lesions, or the disc's IoU instead of both."""
    scores: dict[str, float] = {}
    found: dict[str, list[float]] = {"AP": [], "IoU": [], "disc": []}
    for dataset in masked.tables if masked else ():
        assert masked is not None
        for code in (*LESIONS, EITHER_EXUDATE):
            pixels, mask = Question(code, Aspect.PIXELS), Question(code, Aspect.MASK)
            scores[f"{dataset} {code} AP"] = masked.number(ScoreKey(dataset, pixels, "average precision"))
            for name in ("Dice", "IoU"):
                scores[f"{dataset} {code} {name}"] = masked.number(ScoreKey(dataset, mask, name))
            for name in ("AP", "IoU"):
                found[name].append(scores[f"{dataset} {code} {name}"])
        for name in ("Dice", "IoU"):
            scores[f"{dataset} OD {name}"] = masked.number(ScoreKey(dataset, Question("OD", Aspect.MASK), name))
        found["disc"].append(scores[f"{dataset} OD IoU"])
    lesions, overlaps = (found[name] if not np.isnan(found[name]).all() else found["disc"] for name in ("AP", "IoU"))
    return scores, lesions, overlaps
