"""One training from a recipe to a run folder: the only function of this package that reads a whole recipe."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from funduscope import checkpoint
from funduscope.data.case import Case
from funduscope.data.folds import share_of, write_folds
from funduscope.data.shared_labels import share_labels
from funduscope.data.splits import SplitPlan
from funduscope.duplicates.search import Progress
from funduscope.evaluation.evaluate import score_stream
from funduscope.evaluation.plots import draw_all
from funduscope.evaluation.scores import summarize
from funduscope.inference.card import Card
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import TorchRuntime
from funduscope.recipe import Recipe, RecipeError
from funduscope.training.calibrate import calibrate
from funduscope.training.distill import Teachers
from funduscope.training.initialization import START, Start, check_like, check_weights, first_network, named
from funduscope.training.journal import environment, fingerprint
from funduscope.training.loop import Judge, Loop, TrainingError, bfloat16
from funduscope.training.ood_reference import fit_distance
from funduscope.training.photo_split import drawn, prepared, readable
from funduscope.training.sample_sheet import draw_samples
from funduscope.training.samples import draw_epoch


def run(
    recipe: Recipe,
    cases: list[Case],
    folder: Path,
    fold: int | None = None,
    start: Start = START,
    make_judge: Callable[[Recipe, list[Case]], Judge] | None = None,
    progress: Progress = lambda items, words, total: items,
) -> Path:
    """Trains, or goes on with what stands in the folder, and returns the best checkpoint.

    start: what it begins with beside the photos. make_judge: makes the judge of the validation photos from the resolved
    recipe. progress: wraps what takes long. Raises `TrainingError`.
    """
    if not recipe.training.epochs and not start.init:
        raise RecipeError("training.epochs is 0, and there are no weights to start from: bring some, or train.")
    held = folder / "folds.csv"
    goes_on = held.is_file() and (folder / "last.safetensors").is_file()
    if start.like is not None:
        parts = SplitPlan.for_refit(cases, folder if goes_on else None)
    elif goes_on:
        parts = SplitPlan.of(cases, fold, folder)
    else:
        parts = SplitPlan.for_new_run(cases, fold, progress)
        for warning in parts.warnings():
            print(warning, file=sys.stderr)
    until = check_like(start, recipe, fold) if start.like is not None else None
    train = share_labels(share_of(parts.train, recipe.sampling.photos))
    parts = replace(parts, train=train, validation=readable(parts.validation))
    if fold is not None and not parts.test:
        raise TrainingError(f"No photo is in fold {fold}, which was to be tested: choose one that folds.csv has.")
    if not parts.train:
        raise TrainingError(
            "No photo is left to train on: every one is in the test or the validation fold, or in none."
        )
    folder.mkdir(parents=True, exist_ok=True)
    _check_fold(folder, fold)
    check_weights(start, parts.test, parts.validation, fold)
    if not goes_on:  # folds may be made anew in the data set: these are this run's
        write_folds(parts.cases, held)
    torch.manual_seed(recipe.training.seed)  # the draw of the first weights
    try:
        recipe, network = first_network(recipe, folder, start.init)
    except ValueError as error:  # widths that do not fit the encoder's levels
        raise RecipeError(str(error)) from error
    used = drawn(recipe, parts.train)
    about = {"command": start.command or start.in_words(recipe, fold)} | _about(recipe, parts, used, fold, start)
    about |= {"until": until} if until is not None else {}
    _check_same(folder, about)
    train, files = prepared(recipe, parts.train, progress)
    unread = {case.key for case in parts.train} - {case.key for case in train}
    parts = replace(parts, train=train)
    _describe(folder, recipe, about | {"unreadable": sorted(unread)})
    draw_samples(recipe, parts.train, files, folder / "samples.png")
    judge = make_judge(recipe, parts.validation) if make_judge and parts.validation else None
    taught = _teachers(start.teachers, recipe) if start.teachers else None
    if taught is not None and taught.unasked:
        print(f"note: {taught.unasked}", file=sys.stderr)
    loop = Loop(recipe, network, parts.train, files, folder, judge, taught)
    loop.run(until=until, progress=progress)
    _note_memory(folder, loop.peak_mb())
    validation = [case for case in parts.validation if case.dataset in recipe.sampling.datasets()]
    return _finish(folder, replace(parts, validation=validation), start.like, progress, loop.accelerator.device)


def _teachers(paths: Sequence[Path], recipe: Recipe) -> Teachers:
    held = [checkpoint.load(path) for path in paths]
    try:
        return Teachers(held, recipe)
    except ValueError as error:  # nothing that they could be asked for
        raise TrainingError(f"{error} Choose teachers that see the eye as large, or other views.") from error


def _note_memory(folder: Path, peak_mb: float | None) -> None:
    """Enters into run.json how much memory the loop took; of a run that went on, the most of its parts."""
    path = folder / "run.json"
    about = json.loads(path.read_text("utf-8"))
    known = [one for one in (peak_mb, about.get("training_peak_mb")) if one is not None]
    if known:
        path.write_text(json.dumps(about | {"training_peak_mb": round(max(known))}, indent=2) + "\n", "utf-8")


def _finish(folder: Path, parts: SplitPlan, like: Path | None, progress: Progress, device: torch.device) -> Path:
    """Fixes the best checkpoint's card on the validation photos, and writes it beside it as card.json.

    like: the run that was repeated on every photo, whose card has what none of them could tell any more. What was
    exported from earlier weights is removed: it would answer in their name.
    """
    path = folder / "best.safetensors"
    held = checkpoint.load(path)
    judged = held.card.get("about", {}).get("epoch") == held.progress["best_epoch"]
    if judged and list((folder / "kept").glob("*-final.safetensors")):
        return path
    for name in ("model.onnx", "model.int8.onnx", "model.safetensors", "export.json"):
        (folder / name).unlink(missing_ok=True)
    card = Card.of(held.recipe)
    network = held.network().to(device)
    validation = parts.validation
    # As training computes: what is fixed here is coarser than that, and float32 takes two to three times as long.
    fast = bfloat16(held.recipe.training.precision)
    if validation:
        predictor = Predictor(TorchRuntime(network, card, bfloat16=fast))
        card = calibrate(predictor, progress(validation, "Calibrating", len(validation)))
    if like is not None:
        theirs = checkpoint.load(like).card
        if not theirs.get("about", {}).get("calibration"):  # a stage on the way: nothing to take over, nor to be used
            return path
        card = Card.from_dict(theirs)
        fixed = f"{like.parent.name}, the same procedure on fewer photos"
        card = replace(card, about=card.about | {"fixed by": fixed, "repeats": _models_of(like)})
    sampling = held.recipe.sampling
    seen = {name for name, rate in sampling.whole.items() if rate} or sampling.datasets()
    clinics = [[case for case in cases if case.dataset in seen] for cases in (parts.train, validation)]
    looking = Predictor(TorchRuntime(network, card, bfloat16=fast))
    distance = fit_distance(looking, clinics[0], clinics[1], progress)
    card = replace(card, distance=distance)
    about: dict[str, Any] = {"epoch": held.progress["best_epoch"], "selection": held.progress["best_score"]}
    run_of = json.loads((folder / "run.json").read_text("utf-8"))
    about["trained on"] = {"test fold left out": run_of["fold"], "photos": run_of["photos"].get("train", {})}
    card = replace(card, about={**card.about, **about})
    checkpoint.save(path, held.recipe, {"weights": held.group("weights")}, card.to_dict(), held.progress)
    (folder / "card.json").write_text(json.dumps(card.to_dict(), indent=2) + "\n", "utf-8")
    if validation:
        scoring = Predictor(TorchRuntime(network, card, bfloat16=fast))
        _score(scoring, validation, folder / "scores" / "validation", progress)
    _keep_dated(folder)
    return path


def _models_of(best: Path) -> list[str]:
    """The SHA-256 of every file by which a run can have been measured: its best checkpoint, and what was exported."""
    export = best.with_name("export.json")
    files = json.loads(export.read_text("utf-8"))["files"].values() if export.is_file() else ()
    return [hashlib.sha256(best.read_bytes()).hexdigest(), *(file["sha256"] for file in files)]


def _score(predictor: Predictor, validation: list[Case], out: Path, progress: Progress) -> None:
    """Scores, a line a photo, and pictures of predictions beside the truth, by the card as it is now fixed."""
    scores = summarize(list(score_stream(predictor, progress(validation, "Scoring", len(validation)))))
    scores.write(out, {"photos": "validation", "command": "funduscope train"})
    draw_all(scores, out)


def _keep_dated(folder: Path) -> None:
    """The best and the final weights under the time at which the run ended: a second training elsewhere does not
    replace them, and a note can name them. Links, where the file system has them: they cost nothing."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = folder / "kept"
    kept.mkdir(exist_ok=True)
    for name, source in (("best", "best.safetensors"), ("final", "last.safetensors")):
        target = kept / f"{stamp}-{name}.safetensors"
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(folder / source)
        except OSError:
            shutil.copyfile(folder / source, target)


def _check_same(folder: Path, about: dict[str, Any]) -> None:
    """A run that goes on with other photos, labels or teachers would be neither of the two."""
    path = folder / "run.json"
    if not (folder / "last.safetensors").is_file() or not path.is_file():
        return
    held = json.loads(path.read_text("utf-8"))
    for name, what in (("data_fingerprint", "photos or labels"), ("teachers", "teachers")):
        if name in held and held[name] != about[name]:
            raise TrainingError(f"{folder} holds a run with other {what}: choose another folder, or bring the same.")


def _check_fold(folder: Path, fold: int | None) -> None:
    """A run that went on with another fold would learn from the photos that it is to be tested on."""
    about = folder / "run.json"
    if not (folder / "last.safetensors").is_file() or not about.is_file():
        return
    held = json.loads(about.read_text("utf-8"))["fold"]
    if held != fold:
        raise TrainingError(f"{folder} holds a run of fold {held}, not of {fold}: choose another folder or that fold.")


def _about(recipe: Recipe, parts: SplitPlan, used: list[Case], fold: int | None, start: Start) -> dict[str, Any]:
    """What run.json says: everything beside the recipe that anybody needs to do it again."""
    counts: dict[str, dict[str, int]] = {}
    for name, cases in (("train", used), ("validation", parts.validation), ("test", parts.test)):
        for case in cases:
            counts.setdefault(name, {}).setdefault(case.dataset, 0)
            counts[name][case.dataset] += 1
    return {
        "recipe": recipe.name,
        "fold": fold,
        "validation_fold": parts.validation[0].fold if parts.validation else None,
        "seed": recipe.training.seed,
        "init": start.first_weights(),
        "teachers": [named(path) for path in start.teachers],
        "photos": counts,
        "samples": sum(len(draw_epoch(parts.train, recipe, epoch)) for epoch in range(recipe.training.epochs)),
        "data_fingerprint": fingerprint(used),
        "precision": "bfloat16" if bfloat16(recipe.training.precision) else "float32",
        "environment": environment(),
    }


def _describe(folder: Path, recipe: Recipe, about: dict[str, Any]) -> None:
    """Writes recipe.toml and run.json; what it began with, and what was measured, stays where the run goes on."""
    path = folder / "run.json"
    held = json.loads(path.read_text("utf-8")) if path.is_file() and (folder / "last.safetensors").is_file() else {}
    about |= {name: held[name] for name in ("training_peak_mb", "init") if name in held}
    (folder / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    (folder / "run.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
