"""Which photos each model is scored on, so that no photo is scored by a model that learned from it.

Given photos that the model's run learned from, or was chosen on, are scored too, and their number is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funduscope.data.case import Case, LabelError
from funduscope.data.folds import fold_key, read_folds
from funduscope.data.splits import SplitPlan, join_sets_without_folds, read_run_json
from funduscope.evaluation.evaluate import score_stream
from funduscope.evaluation.scores import PhotoScore, Scores, summarize
from funduscope.inference.loading import load
from funduscope.inference.runtime import ModelError
from funduscope.version import __version__

Part = tuple[Path, list[Case]]
Progress = Callable[[Iterable[PhotoScore], str, int | None], Iterable[PhotoScore]]


def plan(models: Sequence[Path], cases: list[Case], fold: int | None) -> tuple[list[Part], list[Case]]:
    """Each model with the photos it is scored on, and the photos that no model is scored on though they should be in
    a fold: added after the runs, say.

    One model: the photos of `fold`, or all of them without one; `seen_before` says which of them it knows. Several run
    folders: each the photos of its own test fold, which its run.json names. Folds are as in `SplitPlan`.
    Raises `LabelError` where a fold has no photo, `ModelError` where a run has no test fold or two have the same.
    """
    if len(models) == 1 and fold is None:
        return [(models[0], cases)], []
    folds = [fold] if len(models) == 1 else [held_out_fold(model) for model in models]
    if len(set(folds)) < len(folds):
        listed = ", ".join(map(str, folds))
        raise ModelError("E_MODEL", f"The runs' test folds are {listed}: give one run for each fold.")
    crossing: tuple[Case, ...] = ()
    if not any((_run_of(model) / "folds.csv").is_file() for model in models):
        cases, crossing = join_sets_without_folds(cases)  # as training does before it makes folds: these are the same
    plans = [SplitPlan.of(cases, k, _run_of(model)) for model, k in zip(models, folds, strict=True)]
    for own, k in zip(plans, folds, strict=True):
        if not own.test:
            there = sorted({case.fold for case in plans[0].cases if case.fold is not None})
            raise LabelError(f"No photo is in fold {k}; the data has the folds {', '.join(map(str, there))}.")
    in_none = set.intersection(*({case.key for case in own.unassigned} for own in plans))
    left = [*crossing, *(case for case in plans[0].unassigned if case.key in in_none)]
    return [(model, own.test) for model, own in zip(models, plans, strict=True)], left


@dataclass(frozen=True)
class Seen:
    """The number of given photos that a model learned from, or was chosen on (its epoch, its thresholds)."""

    learned: int
    chosen: int
    photos: int

    def warning(self, model: Path) -> str | None:
        """A warning about scores that are too good; None where no photo was seen."""
        if self.learned:
            more = f", and was chosen on {self.chosen} more" if self.chosen else ""
            return (
                f"warning: {model.name} learned from {self.learned} of these {self.photos} photos{more}: scores on "
                "them are too good. What it has not seen is its test fold, if it has one: --fold."
            )
        if self.chosen:
            return (
                f"warning: {model.name} was chosen on {self.chosen} of these {self.photos} photos, its validation "
                "fold: scores on them are a little too good."
            )
        return None


def seen_before(model: Path, cases: Sequence[Case]) -> Seen | None:
    """The given photos that the model of a run has seen; None without a run.json next to it.

    A photo counts as seen with its whole visit: by the run's folds.csv, and by the data sets that the run learned from.
    """
    run = _run_of(model)
    about, listed = read_run_json(run), run / "folds.csv"
    if "fold" not in about:
        return None
    split = SplitPlan.of_run(run, cases)
    own = {fold_key(case): (case.visit, case.fold) for case in split.cases if case.fold is not None}
    places = read_folds(listed) if listed.is_file() else own
    named = {name.removeprefix("idrid-") for name in about.get("photos", {}).get("train", {})}  # as folds.csv does
    mine = [place for (subset, _), place in places.items() if not named or subset in named]
    learned = {visit for visit, fold in mine if fold not in (split.fold, split.validation_fold)}
    chosen = {visit for visit, fold in mine if fold == split.validation_fold} - learned
    known = Counter(
        "learned" if case.visit in learned else "chosen" for case in split.cases if case.visit in learned | chosen
    )
    return Seen(known["learned"], known["chosen"], len(split.cases))


def _run_of(model: Path) -> Path:
    """The run folder that a model is, or that its file is in."""
    return model if model.is_dir() else model.parent


def held_out_fold(run: Path) -> int:
    """The fold that a run folder's training left alone. Raises `ModelError`."""
    fold = read_run_json(run).get("fold")
    if not isinstance(fold, int):
        raise ModelError(
            "E_MODEL",
            f"{run} names no test fold: several models are scored out of fold, so each has to be the folder of a run "
            "that was trained with --fold.",
        )
    return fold


def score(parts: Sequence[Part], progress: Progress, repeats: int = 1000) -> tuple[Scores, dict[str, Any]]:
    """The scores of the photos of all parts, and what made them: models, their folds, and the photos they had seen."""
    photos: list[PhotoScore] = []
    models: list[dict[str, Any]] = []
    for model, cases in parts:
        predictor = load(model)
        photos.extend(progress(score_stream(predictor, cases), f"Scoring {model.name}", len(cases)))
        card = predictor.card
        folds = sorted({case.fold for case in cases if case.fold is not None})
        known = seen_before(model, cases)
        counts = {} if known is None else {"learned from": known.learned, "chosen on": known.chosen}
        made = {"name": card.name, "version": card.version, "sha256": predictor.sha256, "folds": folds}
        models.append(made | counts)
    return summarize(photos, repeats), {"funduscope": __version__, "models": models}
