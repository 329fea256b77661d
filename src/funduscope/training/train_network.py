"""A training of one network from a recipe to a run folder. Of recipes with stages: `stages.run_recipe`.

The order of steps: split, first weights, prepared files, loop, card. Each step is a file of its own.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from funduscope import checkpoint
from funduscope.atomic import read_json, remove_unfinished, write_atomically, write_json
from funduscope.checkpoint import BEST, LAST
from funduscope.data.case import Case
from funduscope.data.fingerprint import fingerprint
from funduscope.data.folds import share_of
from funduscope.data.run_folds import RunFolds
from funduscope.data.shared_labels import share_labels
from funduscope.data.splits import SplitPlan
from funduscope.i18n.errors import RecipeError
from funduscope.progress import Progress, no_progress, tell
from funduscope.recipe import Recipe
from funduscope.training import TrainingError, processes
from funduscope.training.acceleration import mixed_precision
from funduscope.training.distill import load_teachers
from funduscope.training.initialization import (
    FOLDS,
    START,
    FirstNetwork,
    Start,
    check_free,
    first_network,
    is_research_only,
    named,
)
from funduscope.training.journal import draw_samples, environment, peak_mb, sentence
from funduscope.training.leakage import check_weights, earlier
from funduscope.training.loop import Loop, Validation
from funduscope.training.processes import Watch
from funduscope.training.samples import (
    drawn,
    drop_unusable_masks,
    not_learned,
    prepared,
    shown,
    steps_each,
    warn_not_validated,
    warn_unsampled,
    warn_untaught,
)
from funduscope.training.validation import TAUGHT_BY, finish

MakeValidation = Callable[[Recipe, list[Case]], Validation]

SAME = {
    "fold": "another test fold",
    "data_fingerprint": "other photos or labels",
    "teachers": "other teachers",
    "init": "other first weights",
}
"""What of run.json a run that continues must have, and how a refusal calls it."""

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


def train_network(
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
    """Trains a network, or continues the run in the folder, and fixes its card. Returns the best checkpoint.

    start: weights and teachers to begin with. make_validation: makes the validation of each epoch from the resolved
    recipe and the validation photos. count: processes of this machine that share each batch; auto: as many as are
    fastest, by timing a few steps of each. Ignored where `accelerate launch` started the processes. Raises
    `TrainingError`, `RecipeError`.
    """
    plan = learn(recipe, cases, folder, fold, start, make_validation, watch, count=count)
    if processes.state().is_main_process:
        finish(folder, plan, watch.progress)
    return folder / BEST


def learn(
    recipe: Recipe,
    cases: list[Case],
    folder: Path,
    fold: int | None,
    start: Start,
    make_validation: MakeValidation | None,
    watch: Watch,
    *,
    count: int | Literal["auto"],
) -> SplitPlan:
    """Everything of `train_network` up to the best checkpoint, whose card is still empty. Returns the split."""
    place = processes.state()
    with place.main_process_first():  # what it prepares, the others find
        plan, about, job = _prepare(recipe, cases, folder, fold, start, make_validation, watch.progress)
    if watch.report is None:
        epochs = job.recipe.training.epochs
        watch = replace(watch, report=lambda line: tell(sentence(line, epochs), sys.stdout))
    launched = place.num_processes > 1
    about["processes"] = place.num_processes if launched else _chosen(count, job, run_before(folder), watch)
    many, batch = about["processes"], recipe.training.batch
    if many > batch:
        raise TrainingError(f"{many} processes cannot share a batch of {batch}: start fewer.")
    if place.is_main_process:
        _describe(folder, job.recipe, run_before(folder), about)
        if not _has_begun(folder):
            RunFolds.write(plan.cases, folder / FOLDS)
        draw_samples(job.recipe, job.train, job.files, folder / "samples.png")
    alone = launched or about["processes"] == 1
    peak = _train(job, watch) if alone else processes.run(about["processes"], _train, job, watch)
    if place.is_main_process:
        _note_end(folder, job, peak)
    return plan


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
        raise RecipeError("training.epochs is 0, and there are no weights to start from: name some (--init), or train.")
    resumed = _has_begun(folder)
    plan = split(cases, folder, fold, resumed, recipe, progress)
    folder.mkdir(parents=True, exist_ok=True)
    before = run_before(folder)
    first = _first_network(recipe, folder, start)
    recipe = first.recipe
    used = drawn(recipe, plan.train)
    _check_same(folder, before, fold, used, start)
    check_weights(start, plan.test, plan.validation)
    if not resumed and processes.state().is_main_process:
        check_free(folder)
        start.keep_card(folder)
    if first.note and processes.state().is_main_process:
        print(first.note, file=sys.stderr)
    if processes.state().is_main_process:
        warn_unsampled(recipe, plan.train)
        warn_not_validated(recipe, plan.validation)
    learning = used if recipe.training.epochs else []  # with none the first weights stay, and no photo taught them
    about = {"command": start.command or start.in_words(recipe, fold)} | about_run(recipe, plan, learning, fold, start)
    about |= _identity(used, start)
    train, files = prepared(recipe, plan.train, progress)
    steps = steps_each(train, recipe)  # refuses an epoch without a step before anything is written
    about["samples"] = sum(steps) * recipe.training.batch
    about["unreadable"] = sorted({case.key for case in plan.train} - {case.key for case in train})
    if before is not None and resumed:  # its first weights may not be named again
        about |= {name: before[name] for name in TAUGHT_BY}
    else:
        taught = shown(recipe, train, files) if recipe.training.epochs else set[str]()
        teachers = load_teachers(start.teachers, recipe)
        if teachers is None:
            warn_untaught(recipe, taught, first.known)
        elif teachers.unused and processes.state().is_main_process:
            print(f"note: {teachers.unused}", file=sys.stderr)
        known = taught | first.known | (set[str]() if teachers is None else teachers.teaches)
        photos = "no training photo" if len(used) == len(plan.train) else f"none of the {len(used)} photos drawn"
        about["not_learned"] = not_learned(recipe, known, photos)
        about["research_only"] = is_research_only(learning, start)
        about |= {"taken": sorted(first.known) if start.init else None, "earlier": earlier(start.weights)}
    validation = [case.without(about["not_learned"]) for case in plan.validation]  # an untaught answer chooses no epoch
    job = Job(recipe, start, train, validation, files, folder, make_validation)
    return replace(plan, train=train), about, job


def split(
    cases: list[Case], folder: Path, fold: int | None, resumed: bool, recipe: Recipe, progress: Progress
) -> SplitPlan:
    """The run's plan, by its own folds where it is resumed. Raises `TrainingError` if no photo is left to train."""
    if resumed:
        plan = SplitPlan.for_resumed_run(cases, fold, folder, progress)
    else:
        plan = SplitPlan.for_new_run(cases, fold, progress)
    for warning in () if resumed else plan.warnings():
        print(warning, file=sys.stderr)
    train = share_labels(share_of(plan.train, recipe.sampling.photos))
    if fold is not None and not plan.test:
        there = ", ".join(map(str, sorted({case.fold for case in plan.cases if case.fold is not None})))
        raise TrainingError(f"No photo is in fold {fold}; the data has the folds {there}.")
    if not train:
        raise TrainingError(
            "No photo is left to train on: every one is in the test or the validation fold, or in none. At least three "
            "visits or patients in different folds are needed, for training, validation and test (`funduscope folds`; "
            "a table's own column fold comes first: give it three values, or remove it)."
        )
    usable = {case.key: case for case in drop_unusable_masks(plan.validation)}
    kept = [usable.get(case.key, case) for case in plan.cases]  # a next stage names no mask again
    return replace(plan, cases=kept, train=train, validation=[*usable.values()])


def _train(job: Job, watch: Watch) -> float | None:
    """The loop, in one process of several or alone. Returns the peak memory of all of them, in 10**6 bytes."""
    loop = make_loop(job)
    loop.run(watch.report or (lambda line: None), watch.progress)
    peak = peak_mb(loop.device)
    return None if peak is None else processes.all_reduce_number(peak)


def make_loop(job: Job) -> Loop:
    """The loop of a job in this process: network, validation, teachers."""
    first = _first_network(job.recipe, job.folder, job.start)
    recipe, network = first.recipe, first.network
    validation = job.make_validation(recipe, job.validation) if job.make_validation and job.validation else None
    teachers = load_teachers(job.start.teachers, recipe)
    return Loop(recipe, network, job.train, job.files, job.folder, validation, teachers)


def _chosen(count: int | Literal["auto"], job: Job, before: dict[str, Any] | None, watch: Watch) -> int:
    """The number of processes. auto: that of the run so far, or the fastest of a few that are tried."""
    if count != "auto":
        return count
    tried = processes.candidates(job.recipe.training.batch)
    if before is not None and before.get("processes", 0) in tried:
        return before["processes"]
    if len(tried) == 1 or sum(steps_each(job.train, job.recipe)) < SHORT_STEPS:
        return tried[0] if torch.cuda.is_available() else 1
    seconds = {one: processes.run(one, _time_steps, job, watch) for one in tried}
    best = min(tried, key=lambda one: seconds[one])
    found = ", ".join(f"{one}: {value:.2f} s a sample" for one, value in seconds.items())
    print(f"{best} {'process' if best == 1 else 'processes'} (timed {found}).", file=sys.stderr)
    return best


def _time_steps(job: Job, watch: Watch) -> float:
    """Seconds per sample of this number of processes."""
    return make_loop(job).time_steps(processes.STEPS_TIMED)[0]


def _first_network(recipe: Recipe, folder: Path, start: Start) -> FirstNetwork:
    """`first_network` with the recipe's seed. Raises `RecipeError` if widths do not fit the encoder's levels."""
    torch.manual_seed(recipe.training.seed)
    try:
        return first_network(recipe, folder, start.init)
    except ValueError as error:
        raise RecipeError(str(error)) from error


def _note_end(folder: Path, job: Job, peak: float | None) -> None:
    """Enters into run.json the samples that were drawn, fewer where the training lost patience, and the loop's peak
    memory; of a resumed run the largest so far."""
    about = read_json(folder / "run.json")
    known = [one for one in (peak, about.get("training_peak_mb")) if one is not None]
    about |= {"training_peak_mb": round(max(known))} if known else {}
    ended = checkpoint.newest(folder, ())
    if ended is not None:
        steps = steps_each(job.train, job.recipe)[: ended.progress["epoch"]]
        about["samples"] = sum(steps) * job.recipe.training.batch
    write_json(folder / "run.json", about)


def _has_begun(folder: Path) -> bool:
    """Whether the folder has a training that can be resumed."""
    return (folder / FOLDS).is_file() and (folder / LAST).is_file()


def run_before(folder: Path) -> dict[str, Any] | None:
    """The run.json of the run in the folder, if there is one. Raises `OSError` if a run has lost it: nothing would say
    which photos its weights learned from."""
    return read_json(folder / "run.json", "fold") if (folder / LAST).is_file() else None


def check_ended(recipe: Recipe, cases: list[Case], folder: Path, fold: int | None, start: Start) -> None:
    """Refuses to take a run that has ended for one with this fold, these photos, labels, teachers and first weights.

    Raises `TrainingError` if it is another one.
    """
    before = run_before(folder)
    used: list[Case] = []
    if before is not None and "data_fingerprint" in before:  # without, the first weights stayed: nothing was drawn
        plan = split(cases, folder, fold, (folder / FOLDS).is_file(), recipe, no_progress)
        used = drawn(recipe, plan.train)
    _check_same(folder, before, fold, used, start)


def check_stage(recipe: Recipe, train: list[Case], folder: Path, start: Start) -> None:
    """Raises, before an earlier stage is trained, what `learn` would raise of this one's network, photos or batch."""
    _first_network(recipe, folder, start)
    drawn(recipe, train)
    steps_each(train, recipe)


def _check_same(folder: Path, before: dict[str, Any] | None, fold: int | None, used: list[Case], start: Start) -> None:
    """Refuses to continue a run with another fold, other photos, labels, teachers or first weights. The first weights
    need not be named again."""
    before = before or {}
    asked = {"fold": fold, "init": start.first_weights(), **_identity(used, start)}
    theirs = before.get("init") or {}
    if asked["init"] is None or asked["init"]["sha256"] == theirs.get("sha256"):
        asked["init"] = before.get("init")

    for name, what in SAME.items():
        if name in before and before[name] != asked[name]:
            raise TrainingError(
                f"{folder} has a run with {what}: expected {_in_words(before[name])}, got {_in_words(asked[name])}. "
                "Give what it began with, or choose another folder."
            )


def _in_words(value: object) -> str:
    """A value of run.json in a sentence."""
    if isinstance(value, dict):
        return value["name"]
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value)


def _identity(used: list[Case], start: Start) -> dict[str, Any]:
    return {"teachers": [named(path) for path in start.teachers], "data_fingerprint": fingerprint(used)}


def about_run(recipe: Recipe, plan: SplitPlan, used: list[Case], fold: int | None, start: Start) -> dict[str, Any]:
    """What run.json says: everything but the recipe that repeating the run needs."""
    parts = {"train": used, "validation": plan.validation, "test": plan.test}
    counts = {name: dict(Counter(case.dataset for case in cases)) for name, cases in parts.items() if cases}
    return {
        "recipe": recipe.name,
        "fold": fold,
        "validation_fold": plan.validation_fold,
        "seed": recipe.training.seed,
        "init": start.first_weights(),
        "photos": counts,
        **_identity(used, start),
        "precision": {"bf16": "bfloat16", "fp16": "float16", "no": "float32"}[
            mixed_precision(recipe.training.precision)
        ],
        "environment": environment(),
    }


def _describe(folder: Path, recipe: Recipe, before: dict[str, Any] | None, about: dict[str, Any]) -> None:
    """Writes run.json, by which a folder is a training's, and recipe.toml. A resumed run keeps the command that began
    it, its first weights' names and the measured memory."""
    kept = ("command", "training_peak_mb", "init")
    about |= {name: before[name] for name in kept if before is not None and name in before}
    remove_unfinished(folder)
    write_json(folder / "run.json", about)
    write_atomically(folder / "recipe.toml", recipe.to_toml().encode())
