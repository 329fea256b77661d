"""Trainings of several stages: each stage learns a network in a folder of its own, and the best ones are joined.

run/stages/NAME    the run of a stage, as any other, without a card
run/               the joined model, its card, journal and scores
"""

from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from funduscope import checkpoint
from funduscope.atomic import must_be_writable, read_json, read_lines, write_atomically, write_json
from funduscope.capacity import core_count
from funduscope.checkpoint import BEST, LAST, STAGES, Checkpoint
from funduscope.data.case import Case
from funduscope.data.run_folds import RunFolds
from funduscope.data.splits import SplitPlan
from funduscope.recipe import Recipe
from funduscope.training import TrainingError, processes
from funduscope.training.distill import Teachers
from funduscope.training.initialization import (
    FIRST_CARD,
    FOLDS,
    START,
    Start,
    check_free,
    first_network,
    is_research_only,
    with_variant,
)
from funduscope.training.leakage import earlier
from funduscope.training.lock import only_training
from funduscope.training.processes import Watch
from funduscope.training.samples import drawn, has_examples
from funduscope.training.train_network import (
    MakeValidation,
    about_run,
    check_ended,
    check_stage,
    learn,
    run_before,
    split,
    train_network,
)
from funduscope.training.validation import finish


def run_recipe(
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
    """`train_network`, for recipes with stages too. A stage that has ended is not repeated; one that stopped continues.

    Raises `TrainingError` also if another process trains in the folder, and `OSError` before anything is learned if
    the disk cannot do what a training needs.
    """
    train = _run_stages if recipe.stages else train_network
    if processes.state().is_main_process:
        must_be_writable(folder)
    torch.set_num_threads(min(torch.get_num_threads(), core_count()))
    with only_training(folder) if processes.state().is_main_process else nullcontext():
        return train(recipe, cases, folder, fold, start, make_validation, watch, count=count)


def _run_stages(
    recipe: Recipe,
    cases: list[Case],
    folder: Path,
    fold: int | None,
    start: Start,
    make_validation: MakeValidation | None,
    watch: Watch,
    *,
    count: int | Literal["auto"],
) -> Path:
    if taken := [name for name in recipe.stages if hasattr(nn.ModuleDict(), name)]:
        raise TrainingError(f"The stage name {taken[0]} is an attribute of torch.nn.ModuleDict: choose another name.")
    place = processes.state()
    own_folds = folder / FOLDS
    with place.main_process_first():
        # The folds and the first card of an attempt that failed before any stage had learned are not this run's.
        resumed = own_folds.is_file() and any(folder.glob(f"{STAGES}/*/*.safetensors"))
        plan = split(cases, folder, fold, resumed, recipe, watch.progress)
        if place.is_main_process and not resumed:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / STAGES).is_dir():
                check_free(folder)
            start.keep_card(folder)
    start = replace(start, command=start.command or start.in_words(recipe, fold))
    starts = _starts(recipe, start)
    taught = {name for name in recipe.stages if has_examples(recipe.stage(name), plan.train)}
    begun = bool(start.init) or (folder / FIRST_CARD).is_file()  # a training that continues need not name the weights
    fresh = [name for name in recipe.stages if not (folder / STAGES / name / LAST).is_file()]
    if begun and fresh and not start.init:
        raise TrainingError(
            f"{folder} was begun with first weights, and stage {fresh[0]} is not: name them again (--init)."
        )

    # What is refused is refused before any stage is trained.
    untrained: list[str] = []
    kept: list[str] = []
    for name in recipe.stages:
        own, stage = folder / STAGES / name, recipe.stage(name)
        if _has_ended(own, stage):
            check_ended(stage, plan.cases, own, fold, starts[name])
        elif name in taught or not taught:
            check_stage(stage, plan.train, own, starts[name])
            untrained.append(name)
        else:
            kept.append(name)

    if place.is_main_process:
        for name in kept:
            _keep_first(name, recipe.stage(name), folder / STAGES / name, fold, starts[name])
        if not resumed:
            RunFolds.write(plan.cases, own_folds)

    for name in untrained:
        if place.is_main_process:
            print(f"Stage {name}", file=sys.stderr)
        own, stage = folder / STAGES / name, recipe.stage(name)
        learn(stage, plan.cases, own, fold, starts[name], make_validation, _naming(watch, name), count=count)
    if place.is_main_process:
        _join(recipe, folder, fold, start, plan)
        finish(folder, plan, watch.progress)
    return folder / BEST


def _naming(watch: Watch, stage: str) -> Watch:
    """The same, with the stage in each line that a caller's own function gets, as in the joined journal."""
    report = watch.report
    return watch if report is None else replace(watch, report=lambda line: report(line | {"stage": stage}))


def _starts(recipe: Recipe, start: Start) -> dict[str, Start]:
    """By stage the start, with teachers where they can teach any task of it. Raises `TrainingError` if there are
    teachers and no stage that they can teach."""
    starts = dict.fromkeys(recipe.stages, start)
    left: dict[str, str] = {}
    for name in recipe.stages if start.teachers else ():
        try:
            Teachers([checkpoint.load(path) for path in start.teachers], recipe.stage(name))
        except ValueError as error:
            left[name], starts[name] = str(error), replace(start, teachers=())
    if left and len(left) == len(starts):
        raise TrainingError(" ".join(f"Stage {name}: {why}" for name, why in left.items()))
    for name, why in left.items() if processes.state().is_main_process else ():
        print(f"note: stage {name} learns from labels alone. {why}", file=sys.stderr)
    return starts


def _keep_first(stage: str, recipe: Recipe, folder: Path, fold: int | None, start: Start) -> None:
    """The run of a stage of which no photo shows an example: the first weights as they are. What denies lesions alone
    would teach it to find none. Raises `TrainingError` if there are none that fill its network."""
    first = first_network(recipe, folder, start.init) if start.init else None
    if first is None or not first.known:
        raise TrainingError(
            f"No photo to train on shows what stage {stage} learns ({', '.join(recipe.tasks.named)}), and no first "
            f"weights fill its network{f' ({first.note})' if first else ''}: add labels, start from weights that know "
            "it (--init), which then stay in it, or take a recipe of one network, such as plain."
        )
    print(f"Stage {stage}: no photo shows what it learns, so the first weights stay.", file=sys.stderr)
    about = {"fold": fold, "until": 0, "samples": 0, "processes": 1, "photos": {}, "init": start.first_weights()}
    about["not_learned"] = [name for name in recipe.tasks.named if name not in first.known]
    about["research_only"] = is_research_only([], start)
    about |= {"taken": sorted(first.known), "earlier": earlier(start.weights)}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", about)
    write_atomically(folder / "journal.jsonl", b"")
    progress = {"epoch": 0, "best_epoch": 0, "best_score": 0.0}
    for name in (BEST, LAST):
        checkpoint.save(folder / name, first.recipe, {"weights": first.network.state_dict()}, {}, progress)


def _has_ended(folder: Path, recipe: Recipe) -> bool:
    """Whether the stage has every epoch of the recipe, apart from the encoder's variant that its weights brought."""
    if not (folder / BEST).is_file():
        return False
    last = checkpoint.newest(folder, ())
    if last is None:
        return False
    about = run_before(folder) or {}
    same = with_variant(last.recipe, recipe) == last.recipe
    return same and last.progress["epoch"] >= about.get("until", recipe.training.epochs)


def _join(recipe: Recipe, folder: Path, fold: int | None, start: Start, plan: SplitPlan) -> None:
    """Writes the joined weights, still without a card, the recipe, journal and run.json."""
    folders = {name: folder / STAGES / name for name in recipe.stages}
    bests = {name: checkpoint.load(own / BEST) for name, own in folders.items()}
    joined = joined_recipe(recipe, bests)
    lines = [line | {"stage": name} for name, own in folders.items() for line in read_lines(own / "journal.jsonl")]
    abouts = {name: read_json(own / "run.json") for name, own in folders.items()}
    taught = [recipe.stage(name) for name, best in bests.items() if best.progress["best_epoch"]]
    keys = {case.key for stage in taught for case in drawn(stage, plan.train)}
    used = [case for case in plan.train if case.key in keys]
    began = [one["command"] for one in abouts.values() if "command" in one]
    about = {"command": (*began, start.command)[0]} | about_run(joined, plan, used, fold, start)
    about["init"] = next((one["init"] for one in abouts.values() if one.get("init")), None)
    about["samples"] = sum(one["samples"] for one in abouts.values())
    about["until"] = len(lines)  # with fewer it would be unfinished
    about["processes"] = max(one["processes"] for one in abouts.values())
    if peaks := [one["training_peak_mb"] for one in abouts.values() if "training_peak_mb" in one]:
        about["training_peak_mb"] = max(peaks)
    about["not_learned"] = [code for one in abouts.values() for code in one["not_learned"]]
    taken = [one["taken"] for one in abouts.values() if one.get("taken") is not None]
    about["taken"] = sorted({name for names in taken for name in names}) if taken else None
    about["research_only"] = any(one["research_only"] for one in abouts.values())
    known = [one for own in abouts.values() for one in own.get("earlier", ())]
    about["earlier"] = [one for place, one in enumerate(known) if one not in known[:place]]
    write_atomically(folder / "recipe.toml", joined.to_toml().encode())
    write_json(folder / "run.json", about)
    numbered = (json.dumps(line | {"epoch": place}) + "\n" for place, line in enumerate(lines, 1))
    write_atomically(folder / "journal.jsonl", "".join(numbered).encode())
    weights = {
        f"parts.{name}.{key}": value for name, best in bests.items() for key, value in best.group("weights").items()
    }
    progress = {"epoch": len(lines)} | _progress(bests)
    best = folder / BEST
    if best.is_file() and checkpoint.load(best, ()).progress == progress:
        return  # its card may be finished
    checkpoint.save(best, joined, {"weights": weights}, {}, progress)


def joined_recipe(recipe: Recipe, bests: dict[str, Checkpoint]) -> Recipe:
    """The recipe with the encoders' variant, mean and std as the stages' weights brought them."""
    stages = {
        name: stage | {"encoder": stage.get("encoder", {}) | bests[name].recipe.encoder.model_dump(mode="json")}
        for name, stage in recipe.stages.items()
    }
    return recipe.model_copy(update={"stages": stages})


def _progress(bests: dict[str, Checkpoint]) -> dict[str, Any]:
    """The best epoch of each stage, 0 if the first weights stayed, and the mean of the scores found, -inf if none."""
    scores = [best.progress["best_score"] for best in bests.values() if best.progress["best_epoch"]]
    found = [score for score in scores if math.isfinite(score)]
    epochs = {name: best.progress["best_epoch"] for name, best in bests.items()}
    return {"best_epoch": epochs, "best_score": sum(found) / len(found) if found else -math.inf}
