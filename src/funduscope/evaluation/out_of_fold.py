"""Which photos each model is scored on, so that no photo is scored by a model that learned from it.

Where photos are asked for that the model's run learned from, or was chosen on, they are scored and counted as such.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funduscope.data.case import Case, LabelError
from funduscope.data.folds import assign_folds, fold_key, read_folds, selected_on, unassigned
from funduscope.data.grouping import join_bare
from funduscope.evaluation.evaluate import score_stream
from funduscope.evaluation.scores import PhotoScore, Scores, summarize
from funduscope.inference.loading import load
from funduscope.inference.runtime import ModelError
from funduscope.version import __version__

Part = tuple[Path, list[Case]]
Progress = Callable[[Iterable[PhotoScore], str, int | None], Iterable[PhotoScore]]


def plan(models: Sequence[Path], cases: list[Case], fold: int | None) -> list[Part]:
    """Each model with its photos.

    One model: the photos of `fold`, or all of them without one; `seen_before` tells which of them it knows. Several run
    folders: each the photos of its own test fold, which its run.json names. A run's folds are those of its folds.csv;
    cases without any fold are put into the same folds as training puts them.
    Raises `LabelError` where a fold has no photo, `ModelError` where a run has no test fold or two have the same.
    """
    if len(models) == 1 and fold is None:
        return [(models[0], cases)]
    if not any((_run_of(model) / "folds.csv").is_file() for model in models):
        cases = join_bare(cases)  # as training does before it makes folds, so that these are the same
    placed_by = [assign_folds(cases, _run_of(model) / "folds.csv") for model in models]
    folds = [fold] if len(models) == 1 else [test_fold(model) for model in models]
    if len(set(folds)) < len(folds):
        listed = ", ".join(map(str, folds))
        raise ModelError("E_MODEL", f"The runs' test folds are {listed}: give one run for each fold.")
    parts = [
        (model, [case for case in own if case.fold == k])
        for model, own, k in zip(models, placed_by, folds, strict=True)
    ]
    for (_, mine), k in zip(parts, folds, strict=True):
        if not mine:
            there = sorted({case.fold for case in placed_by[0] if case.fold is not None})
            raise LabelError(f"No photo is in fold {k}; the data has the folds {', '.join(map(str, there))}.")
    return parts


def unplaced(models: Sequence[Path], cases: list[Case]) -> list[Case]:
    """The photos that are in no fold of any of the runs, though others of their data set are: added since, say."""
    left: dict[str, Case] | None = None
    for model in models:
        mine = {case.key: case for case in unassigned(assign_folds(cases, _run_of(model) / "folds.csv"))}
        left = mine if left is None else {key: case for key, case in left.items() if key in mine}
    return list((left or {}).values())


@dataclass(frozen=True)
class Seen:
    """How many of some photos a run's model knows: learned from, or chosen on (its epoch, its thresholds)."""

    learned: int
    chosen: int
    photos: int

    def warning(self, model: Path) -> str | None:
        """What a person has to know before the scores are believed; None where there is nothing."""
        if self.learned:
            beside = f", and was chosen on {self.chosen} more" if self.chosen else ""
            return (
                f"warning: {model.name} learned from {self.learned} of these {self.photos} photos{beside}: scores on "
                "them are too good. What it has not seen is its test fold, if it has one: --fold."
            )
        if self.chosen:
            return (
                f"warning: {model.name} was chosen on {self.chosen} of these {self.photos} photos, its validation "
                "fold: scores on them are a little too good."
            )
        return None


def seen_before(model: Path, cases: Sequence[Case]) -> Seen | None:
    """What the model of a run knows of these photos; None where no run.json beside it says what it learned from.

    A photo is known with its visit: by the run's folds.csv, and by which data sets the run learned from at all.
    """
    run = _run_of(model)
    about = _about(run)
    if "fold" not in about:
        return None
    held = run / "folds.csv"
    cases = assign_folds(cases, held)
    chosen_on = selected_on(run, about, cases)
    own = {fold_key(case): (case.visit, case.fold) for case in cases if case.fold is not None}
    places = read_folds(held) if held.is_file() else own
    named = {name.removeprefix("idrid-") for name in about.get("photos", {}).get("train", {})}  # as folds.csv does
    mine = [place for (subset, _), place in places.items() if not named or subset in named]
    learned = {visit for visit, fold in mine if fold not in (about["fold"], chosen_on)}
    chosen = {visit for visit, fold in mine if fold == chosen_on} - learned
    known = Counter(
        "learned" if case.visit in learned else "chosen" for case in cases if case.visit in learned | chosen
    )
    return Seen(known["learned"], known["chosen"], len(cases))


def _run_of(model: Path) -> Path:
    """The folder of the run that a model is, or lies in."""
    return model if model.is_dir() else model.parent


def _about(run: Path) -> dict[str, Any]:
    """A run's run.json; empty where there is none that can be read."""
    try:
        about = json.loads((run / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def test_fold(run: Path) -> int:
    """The fold that a run folder's training left alone. Raises `ModelError`."""
    fold = _about(run).get("fold")
    if not isinstance(fold, int):
        raise ModelError(
            "E_MODEL",
            f"{run} names no test fold: several models are scored out of fold, so each has to be the folder of a run "
            "that was trained with --fold.",
        )
    return fold


def score(parts: Sequence[Part], progress: Progress, repeats: int = 1000) -> tuple[Scores, dict[str, Any]]:
    """The scores of all parts' photos together, and what made them; of a run's model, how many photos it knew."""
    photos: list[PhotoScore] = []
    models: list[dict[str, Any]] = []
    for model, cases in parts:
        predictor = load(model)
        photos.extend(progress(score_stream(predictor, cases), f"Scoring {model.name}", len(cases)))
        card = predictor.card
        folds = sorted({case.fold for case in cases if case.fold is not None})
        known = seen_before(model, cases)
        told = {} if known is None else {"learned from": known.learned, "chosen on": known.chosen}
        made = {"name": card.name, "version": card.version, "sha256": predictor.runtime.sha256, "folds": folds}
        models.append(made | told)
    return summarize(photos, repeats), {"funduscope": __version__, "models": models}
