"""The end of a training: the best weights get their card, scores and a dated copy."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from funduscope import checkpoint
from funduscope.checkpoint import LAST
from funduscope.data.case import Case
from funduscope.data.splits import SplitPlan
from funduscope.duplicates.search import Progress
from funduscope.evaluation.evaluate import score_stream
from funduscope.evaluation.plots import draw_all
from funduscope.evaluation.scores import summarize
from funduscope.inference.card import Card
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import TorchRuntime
from funduscope.training.acceleration import bfloat16
from funduscope.training.calibrate import calibrate, fit_distance

UNKNOWN_BEFORE: dict[str, Any] = {"not_learned": [], "research_only": True}
"""What run.json and the card say of what taught the model, as runs of older versions have it, which do not say it."""


def finish(folder: Path, plan: SplitPlan, refit: Path | None, progress: Progress) -> Path:
    """Fixes the best checkpoint's card on the validation photos, and writes it as card.json too.

    refit: the run that was repeated on every photo; its card has what no photo is left to fix. What was exported from
    earlier weights is removed, since it would pass for these.
    """
    path = folder / "best.safetensors"
    best = checkpoint.load(path)
    finished = best.card.get("about", {}).get("epoch") == best.progress["best_epoch"]
    if finished and list((folder / "kept").glob("*-best.safetensors")):
        return path
    for name in ("model.onnx", "model.int8.onnx", "model.safetensors", "export.json"):
        (folder / name).unlink(missing_ok=True)
    run_of = json.loads((folder / "run.json").read_text("utf-8"))
    by_data = {name: run_of.get(name, value) for name, value in UNKNOWN_BEFORE.items()}
    left, research_only = by_data["not_learned"], by_data["research_only"]
    card = replace(Card.of(best.recipe).without(left), research_only=research_only)
    network = best.network().to("cuda" if torch.cuda.is_available() else "cpu")
    validation = [case for case in plan.validation if case.dataset in best.recipe.sampling.datasets()]
    # As in training: what is fixed here is coarser than bfloat16, and float32 takes two to three times as long.
    runtime = TorchRuntime(network, card, bfloat16=bfloat16(best.recipe.training.precision))
    if validation:
        predictor = Predictor(runtime)
        card = calibrate(predictor, validation, progress)
    if refit is not None:
        theirs = checkpoint.load(refit).card
        if not theirs.get("about", {}).get("calibration"):  # one of several stages: it has no thresholds to take over
            return path
        card = replace(Card.from_dict(theirs).without(left), research_only=research_only)
        fixed = f"{refit.parent.name}, the same procedure on fewer photos"
        card = replace(card, about=card.about | {"fixed by": fixed, "repeats": _models_of(refit)})
    sampling = best.recipe.sampling
    learned = {name for name, rate in sampling.whole.items() if rate} or sampling.datasets()
    clinics = [[case for case in cases if case.dataset in learned] for cases in (plan.train, validation)]
    predictor = Predictor(runtime, card)
    card = replace(card, distance=fit_distance(predictor, clinics[0], clinics[1], progress))
    about: dict[str, Any] = {"epoch": best.progress["best_epoch"], "selection": best.progress["best_score"]}
    about["batch norm"] = {"statistics": best.recipe.training.batch_norm, "processes": run_of.get("processes", 1)}
    about["trained on"] = {"test fold left out": run_of["fold"], "photos": run_of["photos"].get("train", {})}
    card = replace(card, about={**card.about, **about})
    checkpoint.save(path, best.recipe, {"weights": best.group("weights")}, card.to_dict(), best.progress)
    (folder / "card.json").write_text(json.dumps(card.to_dict(), indent=2) + "\n", "utf-8")
    if validation:
        predictor = Predictor(runtime, card, batch=runtime.batch)
        _score(predictor, validation, folder / "scores" / "validation", progress)
    _keep_dated(folder)
    return path


def is_calibrated(weights: Path) -> bool:
    """Whether a run's best checkpoint has thresholds and temperatures."""
    return bool(checkpoint.load(weights, ()).card.get("about", {}).get("calibration"))


def _models_of(best: Path) -> list[str]:
    """The SHA-256 of every file of a run that may have been scored: its best checkpoint, and what was exported."""
    export = best.with_name("export.json")
    files = json.loads(export.read_text("utf-8"))["files"].values() if export.is_file() else ()
    return [hashlib.sha256(best.read_bytes()).hexdigest(), *(file["sha256"] for file in files)]


def _score(predictor: Predictor, validation: list[Case], out: Path, progress: Progress) -> None:
    """Writes scores, a line per photo, and pictures of predictions next to the truth."""
    scores = summarize(list(score_stream(predictor, progress(validation, "Scoring", len(validation)))))
    scores.write(out, {"photos": "validation", "command": "funduscope train"})
    draw_all(scores, out)


def _keep_dated(folder: Path) -> None:
    """Keeps the best and the final weights under the time at which the run ended, so that no later training replaces
    them. Links, where the file system has them."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = folder / "kept"
    kept.mkdir(exist_ok=True)
    for name, source in (("final", LAST), ("best", "best.safetensors")):
        if not (folder / source).is_file():  # of a model of several stages only the best is whole
            continue
        target = kept / f"{stamp}-{name}.safetensors"
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(folder / source)
        except OSError:
            shutil.copyfile(folder / source, target)
