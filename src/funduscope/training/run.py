"""A training from a recipe to a run folder. `run` is the only function of this package that reads a whole recipe.

The walk of a set of cases: split, start weights, prepared files, loop, card. Each step is a file of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from funduscope import checkpoint
from funduscope.checkpoint import LAST
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
from funduscope.training import TrainingError, processes
from funduscope.training.calibrate import calibrate, fit_distance
from funduscope.training.distill import Teachers
from funduscope.training.initialization import (
    START,
    First,
    Start,
    check_refit,
    check_weights,
    first_network,
    is_research_only,
    named,
    not_learned,
)
from funduscope.training.journal import draw_samples, environment, fingerprint, peak_mb
from funduscope.training.loop import Loop, Validation, bfloat16, mixed_precision, sentence
from funduscope.training.processes import Watch
from funduscope.training.samples import draw_epoch, drawn, prepared, readable, setting_for, shown

MakeValidation = Callable[[Recipe, list[Case]], Validation]

UNKNOWN_BEFORE: dict[str, Any] = {"not_learned": [], "research_only": True}
"""What run.json and the card say of what taught the model, as runs of older versions have it, which do not say it."""

SHORT_STEPS = 300
"""A training of fewer steps is not worth timing how many processes it should have: it gets one."""


@dataclass(frozen=True)
class Job:
    """What the processes of a training get."""

    recipe: Recipe
    start: Start
    train: list[Case]
    validation: list[Case]
    files: dict[str, Path]
    folder: Path
    make_validation: MakeValidation | None
    until: int | None


def run(
    recipe: Recipe,
    cases: list[Case],
    folder: Path,
    fold: int | None = None,
    start: Start = START,
    make_validation: MakeValidation | None = None,
    watch: Watch = Watch(),  # noqa: B008
    *,
    count: int | Literal["auto"] = 1,
) -> Path:
    """Trains, or continues the run in the folder. Returns the best checkpoint.

    start: weights and teachers to begin with. make_validation: makes the validation of each epoch from the resolved
    recipe and the validation photos. count: processes of this machine
    that share each batch; auto: as many as are fastest, by timing a few steps of each. Without any meaning where
    `accelerate launch` started several. Raises `TrainingError`, `RecipeError`.
    """
    if watch.report is None:
        watch = replace(watch, report=lambda line: print(sentence(line, recipe.training.epochs), flush=True))
    place = processes.state()
    with place.main_process_first():  # what it prepares, the others find
        plan, about, job = _prepare(recipe, cases, folder, fold, start, make_validation, watch.progress)
    launched = place.num_processes > 1
    about["processes"] = place.num_processes if launched else _chosen(count, job, _run_before(folder), watch)
    if about["processes"] > recipe.training.batch:
        raise TrainingError(
            f"{about['processes']} processes cannot share a batch of {recipe.training.batch}: start fewer."
        )
    if place.is_main_process:
        _describe(folder, job.recipe, _run_before(folder), about)
        draw_samples(job.recipe, job.train, job.files, folder / "samples.png")
    alone = launched or about["processes"] == 1
    peak = _train(job, watch) if alone else processes.run(about["processes"], _train, job, watch)
    if not place.is_main_process:
        return folder / "best.safetensors"
    _note_memory(folder, peak)
    scored = [case for case in plan.validation if case.dataset in job.recipe.sampling.datasets()]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return _finish(folder, replace(plan, validation=scored), start.refit, watch.progress, device)


def _prepare(
    recipe: Recipe,
    cases: list[Case],
    folder: Path,
    fold: int | None,
    start: Start,
    make_validation: MakeValidation | None,
    progress: Progress,
) -> tuple[SplitPlan, dict[str, Any], Job]:
    """Splits the cases, checks the start against them and the folder's earlier run, prepares the photos' files.

    Returns the plan, the content of run.json, and what is trained.
    """
    if not recipe.training.epochs and not start.init:
        raise RecipeError("training.epochs is 0, and there are no weights to start from: bring some, or train.")
    own_folds = folder / "folds.csv"
    resumed = own_folds.is_file() and (folder / LAST).is_file()
    until = check_refit(start, recipe, fold) if start.refit is not None else None
    plan = _split(cases, folder, fold, start, resumed, recipe, progress)
    folder.mkdir(parents=True, exist_ok=True)
    before = _run_before(folder)
    if before is not None and before["fold"] != fold:  # it would learn from the photos that it is to be tested on
        raise TrainingError(
            f"{folder} has a run of fold {before['fold']}, not of {fold}: choose another folder or that fold."
        )
    check_weights(start, plan.test, plan.validation, fold)
    if not resumed and processes.state().is_main_process:  # the data set's folds may change: these are this run's
        write_folds(plan.cases, own_folds)
    first = _first_network(recipe, folder, start)
    recipe = first.recipe
    if first.note and processes.state().is_main_process:
        print(first.note, file=sys.stderr)
    _name_unsampled(recipe, plan.train)
    used = drawn(recipe, plan.train)
    about = {"command": start.command or start.in_words(recipe, fold)} | _about(recipe, plan, used, fold, start)
    about |= {"until": until} if until is not None else {}
    _check_same(folder, before, about)
    train, files = prepared(recipe, plan.train, progress)
    about["unreadable"] = sorted({case.key for case in plan.train} - {case.key for case in train})
    if before is not None and resumed:  # its first weights may not be named again
        about |= {name: before.get(name, value) for name, value in UNKNOWN_BEFORE.items()}
    else:
        taught = shown(recipe, train, files) if recipe.training.epochs else set[str]()
        about["not_learned"] = not_learned(recipe, taught | first.known, start.teachers)
        about["research_only"] = is_research_only(used, start)
    job = Job(recipe, start, train, plan.validation, files, folder, make_validation, until)
    return replace(plan, train=train), about, job


def _name_unsampled(recipe: Recipe, train: list[Case]) -> None:
    """Names on stderr the data sets that the recipe does not, from which it therefore learns nothing."""
    named = recipe.sampling.whole.keys() | recipe.sampling.close.keys()
    left = Counter(case.dataset for case in train if case.dataset not in named)
    if left and left.keys() != {case.dataset for case in train} and processes.state().is_main_process:
        photos = ", ".join(f"{name} ({count})" for name, count in sorted(left.items()))
        settings = " ".join(setting_for(name, recipe) for name in sorted(left))
        print(f"note: the recipe learns nothing from photos of {photos}. To change that: {settings}", file=sys.stderr)


def _split(
    cases: list[Case], folder: Path, fold: int | None, start: Start, resumed: bool, recipe: Recipe, progress: Progress
) -> SplitPlan:
    """The run's plan, by its own folds where it is resumed. Raises `TrainingError` where no photo is left to train."""
    if start.refit is not None:
        plan = SplitPlan.for_refit(cases, folder if resumed else None)
    elif resumed:
        plan = SplitPlan.of(cases, fold, folder)
    else:
        plan = SplitPlan.for_new_run(cases, fold, progress)
        for warning in plan.warnings():
            print(warning, file=sys.stderr)
    train = share_labels(share_of(plan.train, recipe.sampling.photos))
    if fold is not None and not plan.test:
        raise TrainingError(f"No photo is in fold {fold}, which was to be tested: choose one that folds.csv has.")
    if not train:
        raise TrainingError(
            "No photo is left to train on: every one is in the test or the validation fold, or in none."
        )
    return replace(plan, train=train, validation=readable(plan.validation))


def _train(job: Job, watch: Watch) -> float | None:
    """The loop, in one process of several or alone. Returns the peak memory of all of them, in 10**6 bytes."""
    loop = make_loop(job)
    loop.run(watch.report or (lambda line: None), job.until, watch.progress)
    peak = peak_mb(loop.device)
    return None if peak is None else processes.total(peak)


def make_loop(job: Job) -> Loop:
    """The loop of a job in this process: network, validation, teachers."""
    first = _first_network(job.recipe, job.folder, job.start)
    recipe, network = first.recipe, first.network
    validation = job.make_validation(recipe, job.validation) if job.make_validation and job.validation else None
    teachers = _teachers(job.start.teachers, recipe)
    return Loop(recipe, network, job.train, job.files, job.folder, validation, teachers)


def _chosen(count: int | Literal["auto"], job: Job, before: dict[str, Any] | None, watch: Watch) -> int:
    """The number of processes. auto: that of the run so far, or the fastest of a few that are tried."""
    if count != "auto":
        return count
    settings = job.recipe.training
    steps = sum(len(draw_epoch(job.train, job.recipe, epoch)) // settings.batch for epoch in range(settings.epochs))
    if before is not None and before.get("processes", 0) in processes.candidates(settings.batch):
        return before["processes"]
    tried = processes.candidates(settings.batch)
    if len(tried) == 1 or steps < SHORT_STEPS:
        return tried[0] if torch.cuda.is_available() else 1
    seconds = {one: processes.run(one, _time_steps, job, watch) for one in tried}
    best = min(tried, key=lambda one: seconds[one])
    found = ", ".join(f"{one}: {value:.2f} s a sample" for one, value in seconds.items())
    print(f"{best} {'process' if best == 1 else 'processes'} (timed {found}).", flush=True)
    return best


def _time_steps(job: Job, watch: Watch) -> float:
    """Seconds a sample of this number of processes."""
    return make_loop(job).time_steps(processes.STEPS_TIMED)[0]


def _first_network(recipe: Recipe, folder: Path, start: Start) -> First:
    """`first_network` with the recipe's seed. Raises `RecipeError` where widths do not fit the encoder's levels."""
    torch.manual_seed(recipe.training.seed)
    try:
        return first_network(recipe, folder, start.init)
    except ValueError as error:
        raise RecipeError(str(error)) from error


def _teachers(paths: Sequence[Path], recipe: Recipe) -> Teachers | None:
    """The teachers of those checkpoints, if any. What they know but cannot teach is named on stderr."""
    if not paths:
        return None
    try:
        teachers = Teachers([checkpoint.load(path) for path in paths], recipe)
    except ValueError as error:  # no answer of theirs can be used
        raise TrainingError(f"{error} Choose teachers that see the eye as large, or other views.") from error
    if teachers.unused:
        print(f"note: {teachers.unused}", file=sys.stderr)
    return teachers


def _note_memory(folder: Path, peak: float | None) -> None:
    """Enters the loop's peak memory into run.json; of a resumed run the largest of its plan."""
    path = folder / "run.json"
    about = json.loads(path.read_text("utf-8"))
    known = [one for one in (peak, about.get("training_peak_mb")) if one is not None]
    if known:
        path.write_text(json.dumps(about | {"training_peak_mb": round(max(known))}, indent=2) + "\n", "utf-8")


def _finish(folder: Path, plan: SplitPlan, refit: Path | None, progress: Progress, device: torch.device) -> Path:
    """Fixes the best checkpoint's card on the validation photos, and writes it as card.json too.

    refit: the run that was repeated on every photo; its card has what no photo is left to fix. What was exported from
    earlier weights is removed, since it would pass for these.
    """
    path = folder / "best.safetensors"
    best = checkpoint.load(path)
    finished = best.card.get("about", {}).get("epoch") == best.progress["best_epoch"]
    if finished and list((folder / "kept").glob("*-final.safetensors")):
        return path
    for name in ("model.onnx", "model.int8.onnx", "model.safetensors", "export.json"):
        (folder / name).unlink(missing_ok=True)
    run_of = json.loads((folder / "run.json").read_text("utf-8"))
    by_data = {name: run_of.get(name, value) for name, value in UNKNOWN_BEFORE.items()}
    by_data["not_learned"] = tuple(by_data["not_learned"])
    card = replace(Card.of(best.recipe), **by_data)
    network = best.network().to(device)
    validation = plan.validation
    # As in training: what is fixed here is coarser than bfloat16, and float32 takes two to three times as long.
    fast = bfloat16(best.recipe.training.precision)
    if validation:
        predictor = Predictor(TorchRuntime(network, card, bfloat16=fast))
        card = calibrate(predictor, progress(validation, "Calibrating", len(validation)))
    if refit is not None:
        theirs = checkpoint.load(refit).card
        if not theirs.get("about", {}).get("calibration"):  # one of several stages: it has no thresholds to take over
            return path
        card = replace(Card.from_dict(theirs), **by_data)
        fixed = f"{refit.parent.name}, the same procedure on fewer photos"
        card = replace(card, about=card.about | {"fixed by": fixed, "repeats": _models_of(refit)})
    sampling = best.recipe.sampling
    learned = {name for name, rate in sampling.whole.items() if rate} or sampling.datasets()
    clinics = [[case for case in cases if case.dataset in learned] for cases in (plan.train, validation)]
    predictor = Predictor(TorchRuntime(network, card, bfloat16=fast))
    card = replace(card, distance=fit_distance(predictor, clinics[0], clinics[1], progress))
    about: dict[str, Any] = {"epoch": best.progress["best_epoch"], "selection": best.progress["best_score"]}
    about["batch norm"] = {"statistics": best.recipe.training.batch_norm, "processes": run_of.get("processes", 1)}
    about["trained on"] = {"test fold left out": run_of["fold"], "photos": run_of["photos"].get("train", {})}
    card = replace(card, about={**card.about, **about})
    checkpoint.save(path, best.recipe, {"weights": best.group("weights")}, card.to_dict(), best.progress)
    (folder / "card.json").write_text(json.dumps(card.to_dict(), indent=2) + "\n", "utf-8")
    if validation:
        predictor = Predictor(TorchRuntime(network, card, bfloat16=fast))
        _score(predictor, validation, folder / "scores" / "validation", progress)
    _keep_dated(folder)
    return path


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
    for name, source in (("best", "best.safetensors"), ("final", LAST)):
        target = kept / f"{stamp}-{name}.safetensors"
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(folder / source)
        except OSError:
            shutil.copyfile(folder / source, target)


def _run_before(folder: Path) -> dict[str, Any] | None:
    """The run.json of the unfinished or finished run in the folder, if there is one."""
    path = folder / "run.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() and (folder / LAST).is_file() else None


def _check_same(folder: Path, before: dict[str, Any] | None, about: dict[str, Any]) -> None:
    """Refuses to continue a run with other photos, labels, teachers or first weights."""
    for name, what in (("data_fingerprint", "photos or labels"), ("teachers", "teachers")):
        if before is not None and name in before and before[name] != about[name]:
            raise TrainingError(f"{folder} has a run with other {what}: choose another folder, or bring the same.")
    if before is not None and about["init"] and (before.get("init") or {}).get("sha256") != about["init"]["sha256"]:
        raise TrainingError(
            f"{folder} has a run that started from {(before.get('init') or {}).get('name', 'other weights')}, and goes "
            "on from there: choose another folder, or leave --init out."
        )


def _about(recipe: Recipe, plan: SplitPlan, used: list[Case], fold: int | None, start: Start) -> dict[str, Any]:
    """What run.json says: everything but the recipe that repeating the run needs."""
    counts: dict[str, dict[str, int]] = {}
    for name, cases in (("train", used), ("validation", plan.validation), ("test", plan.test)):
        for case in cases:
            counts.setdefault(name, {}).setdefault(case.dataset, 0)
            counts[name][case.dataset] += 1
    return {
        "recipe": recipe.name,
        "fold": fold,
        "validation_fold": plan.validation[0].fold if plan.validation else None,
        "seed": recipe.training.seed,
        "init": start.first_weights(),
        "teachers": [named(path) for path in start.teachers],
        "photos": counts,
        "samples": sum(len(draw_epoch(plan.train, recipe, epoch)) for epoch in range(recipe.training.epochs)),
        "data_fingerprint": fingerprint(used),
        "precision": {"bf16": "bfloat16", "fp16": "float16", "no": "float32"}[
            mixed_precision(recipe.training.precision)
        ],
        "environment": environment(),
    }


def _describe(folder: Path, recipe: Recipe, before: dict[str, Any] | None, about: dict[str, Any]) -> None:
    """Writes recipe.toml and run.json. A resumed run keeps its first weights' names and the measured memory."""
    about |= {name: before[name] for name in ("training_peak_mb", "init") if before is not None and name in before}
    (folder / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    (folder / "run.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
