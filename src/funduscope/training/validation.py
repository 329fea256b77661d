"""What the validation photos decide: the score of an epoch's weights, and at the end the card of the best ones.

Both go through the same code that predicts.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from funduscope import checkpoint
from funduscope.atomic import link_or_copy, read_json, replacing, write_json
from funduscope.checkpoint import BEST, LAST
from funduscope.data.case import Case
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.out_of_fold import EARLIER
from funduscope.evaluation.plots import draw_all
from funduscope.evaluation.score_key import Aspect, Question, ScoreKey, headline_question
from funduscope.evaluation.score_photo import score_stream
from funduscope.evaluation.scores import Scores, summarize
from funduscope.inference.card import Card
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import ModelError, TorchRuntime
from funduscope.metrics import DenseState
from funduscope.network.network import Network
from funduscope.progress import Progress
from funduscope.recipe import Recipe
from funduscope.training import TrainingError, processes
from funduscope.training.acceleration import bfloat16
from funduscope.training.calibrate import MIN_POSITIVE, calibrate, fit_ood_reference
from funduscope.training.initialization import first_card
from funduscope.training.journal import CURVES
from funduscope.training.loop import Validation
from funduscope.training.samples import serves
from funduscope.training.validation_loss import ValidationLoss
from funduscope.vocabulary import EITHER_EXUDATE, LESIONS, PHOTO_TASKS

TAUGHT_BY = ("not_learned", "research_only", "earlier", "taken")
"""What run.json says of what taught the model."""

WORTHLESS_PX = 275.0
"""From this distance on a landmark scores 0: half a disc diameter, in pixels of a photo 4288 wide."""


def make_validation(recipe: Recipe, cases: list[Case]) -> Validation:
    """Validation on those cases whose data sets the recipe trains on.

    Photos without lesion masks are predicted from the whole view alone: five times as fast, and all their labels need.
    On a GPU whole views are predicted in batches, of photos that several threads decode ahead.
    Of several processes each scores its share of the photos; all of them return the scores of all photos. The losses on
    these photos are among the scores, as `loss ...`; for `training.select` loss, the total decides.
    """
    card = Card.of(recipe)
    structures = set(card.structures) - {"OD"} or set(card.structures)
    structures |= {EITHER_EXUDATE} if {"EX", "SE"} <= structures else set()
    cases = [case for case in cases if case.dataset in recipe.sampling.datasets()]
    masked = [case for case in cases if structures & set(case.labels.masks)]
    if "OD" in card.structures:  # where nothing but the disc is outlined, the disc decides
        masked = masked or [case for case in cases if "OD" in case.labels.masks]
    # Without the structures: a grade that implies absent lesions is no mask to compare with.
    plain = recipe.model_copy(update={"tasks": recipe.tasks.model_copy(update={"structures": ()})})
    graded = [case for case in cases if serves(case.labels, "whole", plain)]
    losses = ValidationLoss(recipe, cases)

    def validate(network: Network) -> dict[str, float]:
        runtime = TorchRuntime(network, card, bfloat16=bfloat16(recipe.training.precision))
        both = Predictor(runtime, batch=runtime.batch)
        whole = both.without_structures()
        try:
            of_graded = _scores(whole, graded) if graded else None
            of_masked = _scores(both, masked) if masked and card.structures else None
        except ModelError as error:  # numbers that are not finite
            says = "The network's answers are no numbers any more: the training diverged; lower training.learning_rate."
            raise TrainingError(says) from error
        found = losses(network)
        scores = selection(of_graded, of_masked, recipe.training.select) | found
        if recipe.training.select == "loss" and "loss total" in found:
            scores["selection"] = -found["loss total"]
        return scores

    return validate


def _scores(predictor: Predictor, cases: list[Case]) -> Scores:
    """The scores of all cases; each process predicts its share of them."""
    mine = list(score_stream(predictor, cases[processes.own_share()]))
    return summarize(processes.all_gather(mine), repeats=1)


def selection(graded: Scores | None, masked: Scores | None, select: str = "mean") -> dict[str, float]:
    """Scores by name, and `selection`, by which epochs are compared.

    select mean: the mean of the photo tasks, landmarks and lesions, each in 0..1, as far as they are scored. Photo
    tasks: the headline score of each, averaged over the data sets; accuracy where all labels are of one class.
    Lesions: the mean average precision over data sets and kinds (not the area over 33 thresholds, which an empty map
    also earns) that `MIN_POSITIVE` photos show, or all where none is shown by so many; or the disc's IoU where no
    lesion is predicted.
    Landmarks: 1 at no distance, 0 at `WORTHLESS_PX`. select accuracy_iou: the mean of the grades' accuracy (without
    grades, of the other photo tasks') and the lesions' IoU at 0.5.
    """
    scores, headlines, landmarks = _of_graded(graded)
    of_masked, lesions, overlaps = _of_masked(masked)
    scores |= of_masked
    accurate = {name: value for name, value in scores.items() if name.endswith(" accuracy") and not np.isnan(value)}
    accuracies = [value for name, value in accurate.items() if name.endswith(" DR accuracy")] or [*accurate.values()]
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
    if graded is None:
        return scores, headlines, landmarks
    for dataset in graded.tables:
        for task, values in zip(PHOTO_TASKS, headlines, strict=True):
            for name in ("accuracy", "kappa", "macro precision", "macro recall", "macro F1"):
                scores[f"{dataset} {task.title} {name}"] = graded.number(ScoreKey(dataset, Question(task.title), name))
            score = graded.number(ScoreKey(dataset, headline_question(task), task.headline))
            scores[f"{dataset} {task.title} {task.headline}"] = score
            if graded.has_one_label(dataset, Question(task.title)):  # kappa may be 0 then, and areas do not exist
                score = scores[f"{dataset} {task.title} accuracy"]
            values.append(score)
        for name in ("disc center", "fovea"):
            distance = graded.number(ScoreKey(dataset, Question(name), "mean px"))
            scores[f"{dataset} {name} px"] = distance
            landmarks.append(max(0.0, 1 - distance / WORTHLESS_PX) if not np.isnan(distance) else np.nan)
    return scores, headlines, landmarks


def _of_masked(masked: Scores | None) -> tuple[dict[str, float], list[float], list[float]]:
    """Scores of masks by name; average precisions and IoUs of lesions, or the disc's IoU instead of both."""
    scores: dict[str, float] = {}
    found: dict[str, list[float]] = {"AP": [], "IoU": [], "disc": []}
    firm: dict[str, list[float]] = {"AP": [], "IoU": []}
    if masked is None:
        return scores, [], []
    for dataset in masked.tables:
        for code in (*LESIONS, EITHER_EXUDATE):
            pixels, mask = Question(code, Aspect.PIXELS), Question(code, Aspect.MASK)
            scores[f"{dataset} {code} AP"] = masked.number(ScoreKey(dataset, pixels, "average precision"))
            for name in ("Dice", "IoU"):
                scores[f"{dataset} {code} {name}"] = masked.number(ScoreKey(dataset, mask, name))
            photos = [one.states.get(pixels) for one in masked.photos if one.case.dataset == dataset]
            shown = sum(isinstance(one, DenseState) and one.positives > 0 for one in photos)
            for name in ("AP", "IoU"):
                found[name].append(scores[f"{dataset} {code} {name}"])
                firm[name] += found[name][-1:] if shown >= MIN_POSITIVE else []
        for name in ("Dice", "IoU"):
            scores[f"{dataset} OD {name}"] = masked.number(ScoreKey(dataset, Question("OD", Aspect.MASK), name))
        found["disc"].append(scores[f"{dataset} OD IoU"])
    of_lesions = [firm[name] or found[name] for name in ("AP", "IoU")]  # a single photo must not choose the epoch
    lesions, overlaps = (one if not np.isnan(one).all() else found["disc"] for one in of_lesions)
    return scores, lesions, overlaps


def finish(folder: Path, plan: SplitPlan, progress: Progress) -> None:
    """Fixes the best checkpoint's card on the validation photos, and writes it as card.json too.

    What the validation photos of a fine-tuned model cannot fix stays as it is in the card of the first weights. What
    was exported from earlier weights is removed, since it would pass for these.
    """
    best = _best_of(folder)
    validation = [case for case in plan.validation if case.dataset in best.recipe.all_sampling.datasets()]
    if _is_finished(folder, best, validation):
        if not list((folder / "kept").glob(f"*-{BEST}")):
            _keep_dated(folder)
        return
    for name in ("validation/scores.json", "model.onnx", "model.int8.onnx", "model.safetensors", "export.json"):
        (folder / name).unlink(missing_ok=True)  # of an earlier best epoch
    run = read_json(folder / "run.json")
    card = replace(Card.of(best.recipe).without(run["not_learned"]), research_only=run["research_only"])
    network = best.network().to("cuda" if torch.cuda.is_available() else "cpu")
    # As in training: what is fixed here is coarser than bfloat16, and float32 takes two to three times as long.
    runtime = TorchRuntime(network, card, bfloat16=bfloat16(best.recipe.training.precision))
    if validation:
        before = first_card(folder, run["taken"])
        card = calibrate(Predictor(runtime), validation, progress, before, witnesses=best.recipe.tasks.witnesses)
    sampling = best.recipe.all_sampling
    learned = {name for name, rate in sampling.whole.items() if rate} or sampling.datasets()
    clinics = [[case for case in cases if case.dataset in learned] for cases in (plan.train, validation)]
    card = replace(card, distance=fit_ood_reference(Predictor(runtime, card), clinics[0], clinics[1], progress))
    card = replace(card, about=card.about | _about_training(best, run))
    checkpoint.save(folder / BEST, best.recipe, {"weights": best.group("weights")}, card.to_dict(), best.progress)
    write_json(folder / "card.json", card.to_dict())
    if validation:
        predictor = Predictor(runtime, card, batch=runtime.batch)
        precision = "bfloat16" if runtime.bfloat16 else "float32"
        _score(predictor, validation, folder / "validation", precision, progress)
    _keep_dated(folder)


def _is_finished(folder: Path, best: checkpoint.Checkpoint, validation: list[Case]) -> bool:
    """Whether the best epoch has its card, card.json too, and its scores if there is a photo to score."""
    has_card = best.card.get("about", {}).get("epoch") == best.progress["best_epoch"]
    needed = [folder / "card.json", *([folder / "validation" / "scores.json"] if validation else [])]
    return has_card and all(path.is_file() for path in needed)


def _about_training(best: checkpoint.Checkpoint, run: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of its training; the score of the epoch if a validation photo gave one."""
    about: dict[str, Any] = {"epoch": best.progress["best_epoch"]}
    about |= {"selection": best.progress["best_score"]} if math.isfinite(best.progress["best_score"]) else {}
    about["batch norm"] = {"statistics": best.recipe.training.batch_norm, "processes": run.get("processes", 1)}
    about["trained on"] = {"test fold left out": run["fold"], "photos": run["photos"].get("train", {})}
    return about | ({EARLIER: run["earlier"]} if run["earlier"] else {})


def _best_of(folder: Path) -> checkpoint.Checkpoint:
    """The best checkpoint. Raises `TrainingError` if it is gone or damaged; what may replace it is named."""
    try:
        return checkpoint.load(folder / BEST)
    except checkpoint.CheckpointError as error:
        if error.code not in ("E_WEIGHTS", "E_HASH"):  # the machine's fault
            raise
        copies = sorted((folder / "kept").glob(f"*-{BEST}"))
        remedy = f"copy {copies[-1]} there" if copies else "restore it from a backup, or train into another folder"
        raise TrainingError(f"{folder / BEST} cannot be used: {error} To continue, {remedy}.") from error


def _score(predictor: Predictor, validation: list[Case], out: Path, precision: str, progress: Progress) -> None:
    """Writes pictures of predictions next to the truth, a line per photo, and last the scores: with these it is
    done."""
    scores = summarize(list(score_stream(predictor, progress(validation, "Scoring", len(validation)))))
    draw_all(scores, out)
    scores.write(out, {"photos": "validation", "command": "funduscope train", "precision": precision})


def _keep_dated(folder: Path) -> None:
    """Keeps the best and the final weights, and the curves, of stages too, under the time at which the run ended, so
    that no later training replaces them. Weights as links, if the file system has them."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = folder / "kept"
    kept.mkdir(exist_ok=True)
    for name, source in (("final", LAST), ("best", BEST)):
        if not (folder / source).is_file():  # of a model of several stages only the best is whole
            continue
        link_or_copy(folder / source, kept / f"{stamp}-{name}.safetensors")
    for curves in folder.rglob(CURVES):  # drawn in place, so that a link would change with a later training
        stage = "" if curves.parent == folder else f"{curves.parent.name}-"
        with replacing(kept / f"{stamp}-{stage}{CURVES}") as unfinished:
            shutil.copyfile(curves, unfinished)
