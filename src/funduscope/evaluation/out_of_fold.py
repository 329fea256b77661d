"""Which photos a model may be scored on: the test fold of each of several runs, and what a model has already seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from funduscope.data.case import Case, LabelError
from funduscope.data.folds import fold_key
from funduscope.data.run_folds import RunFolds
from funduscope.data.splits import SplitPlan, join_sets_without_folds, read_run_json
from funduscope.inference.ensemble import Ensemble
from funduscope.inference.model import Model
from funduscope.inference.runtime import ModelError

EARLIER: Final = "first weights and teachers"
"""In what a card is about: of each of them, and of theirs, what it was trained on."""

Scored = Path | Model
ModelCases = tuple[Scored, list[Case]]


def plan(models: Sequence[Scored], cases: list[Case], fold: int | None) -> tuple[list[ModelCases], list[Case]]:
    """Each model with the photos it is scored on, and the photos that no model is scored on though they should be in
    a fold: added after the runs, say.

    One model: the photos of `fold`, or all of them without one; `seen_before` says which of them it knows. Several
    runs, by their folders or models in them: each the photos of its own test fold, which its run.json names. Folds are
    as in `SplitPlan`.
    Raises `LabelError` if a fold has no photo, `ModelError` if a run has no test fold, or two have the same fold
    or the same photos in it.
    """
    if len(models) == 1 and fold is None:
        return [(models[0], cases)], []
    folds = [fold] if len(models) == 1 else [held_out_fold(model) for model in models]
    runs = [next(iter(runs_of(model)), None) for model in models]
    if len(set(folds)) < len(folds):
        listed = ", ".join(map(str, folds))
        raise ModelError("E_MODEL", f"The runs' test folds are {listed}: give one run for each fold.")
    crossing: tuple[Case, ...] = ()
    if not any(run and (run / "folds.csv").is_file() for run in runs):
        cases, crossing = join_sets_without_folds(cases)  # as training does before it makes folds: these are the same
    plans = [SplitPlan.of(cases, k, run) for run, k in zip(runs, folds, strict=True)]
    for own, k in zip(plans, folds, strict=True):
        if not own.test:
            there = sorted({case.fold for case in plans[0].cases if case.fold is not None})
            raise LabelError(f"No photo is in fold {k}; the data has the folds {', '.join(map(str, there))}.")
    tested = Counter(case.key for own in plans for case in own.test)
    if twice := [key for key, count in tested.items() if count > 1]:
        raise ModelError(
            "E_MODEL",
            f"The runs have folds of their own that overlap: {len(twice)} photos, such as {twice[0]}, would be scored "
            "twice. Give runs that were trained on the same folds.csv.",
        )
    in_none = set.intersection(*({case.key for case in own.unassigned} for own in plans))
    lost = [case for case in plans[0].cases if len(plans) > 1 and case.fold in folds and case.key not in tested]
    left = [*crossing, *(case for case in plans[0].unassigned if case.key in in_none), *lost]
    return [(model, own.test) for model, own in zip(models, plans, strict=True)], left


@dataclass(frozen=True)
class Overlap:
    """The number of given photos that a model learned from, or was chosen on (its epoch, its thresholds)."""

    learned: int
    chosen: int
    photos: int

    def counts(self) -> dict[str, int]:
        """As scores.json has them."""
        return {"learned from": self.learned, "chosen on": self.chosen}

    def warning(self, name: str) -> str | None:
        """A warning about scores that are too good; None if no photo was seen. name: of the model."""
        if self.learned:
            more = f", and was chosen on {self.chosen} more" if self.chosen else ""
            return (
                f"warning: {name} learned from {self.learned} of these {self.photos} photos{more}: scores on "
                "them are too good. Score it on its test fold (--fold)."
            )
        if self.chosen:
            return (
                f"warning: {name} was chosen on {self.chosen} of these {self.photos} photos, its validation "
                "fold: scores on them are a little too good."
            )
        return None


def seen_before(run: Path, cases: Sequence[Case]) -> Overlap | None:
    """The given photos that the model of a run has seen; None without a run.json in the folder.

    A photo counts as seen with its whole visit: by the run's folds.csv, and by the data sets that the run learned from.
    """
    about, listed = read_run_json(run), run / "folds.csv"
    if "fold" not in about:
        return None
    split = SplitPlan.of_run(run, cases)
    own = {fold_key(case): (case.visit, case.fold) for case in split.cases if case.fold is not None}
    folds = RunFolds.read(listed) if listed.is_file() else RunFolds(own)
    known = folds.of(cases if listed.is_file() else split.cases)
    named = {name.removeprefix("idrid-") for name in about.get("photos", {}).get("train", {})}  # as folds.csv does
    mine = [place for (subset, _), place in folds.places.items() if not named or subset in named]
    learned = {visit for visit, fold in mine if fold not in (split.fold, split.validation_fold)}
    chosen = {visit for visit, fold in mine if fold == split.validation_fold} - learned
    visits = [known.visit(case) for case in cases]
    return Overlap(sum(one in learned for one in visits), sum(one in chosen for one in visits), len(cases))


def by_card(model: Model, cases: Sequence[Case]) -> str | None:
    """A warning if a model learned from the data sets of these photos by its card, or if its first weights or
    teachers did; of one that left a fold out, about the photos that are in another or in none.

    What the model itself learned is not asked of the card where it lies in its run's folder: `seen_before` knows more.
    """
    folder = getattr(model, "folder", None)
    is_known = folder is not None and "fold" in read_run_json(folder)
    taught = [] if is_known else [model.card.about.get("trained on") or {}]
    taught += model.card.about.get(EARLIER) or ()
    may = [case for case in cases if any(may_know(one, case) for one in taught)]
    if not may:
        return None
    sets = ", ".join(sorted({case.dataset for case in may}))
    who = f"first weights or teachers of {model.card.name}" if is_known else model.card.name
    return (
        f"warning: {who} learned from photos of {sets}, as its card says: {len(may)} of these {len(cases)} photos may "
        "be among them, and scores on those are too good."
    )


def may_know(taught: Mapping[str, Any], case: Case) -> bool:
    """Whether the model may have been trained on this photo, by its card; on photos of an official test no model is."""
    left_out, photos = taught.get("test fold left out"), taught.get("photos") or {}
    return case.dataset in photos and case.split != "test" and (left_out is None or case.fold != left_out)


def runs_of(model: Scored) -> list[Path]:
    """The run folders that a model is, or that its file or its members' files are in."""
    if isinstance(model, Path):
        return [model if model.is_dir() else model.parent]
    return [folder for folder in (getattr(one, "folder", None) for one in members_of(model)) if folder is not None]


def members_of(model: Scored) -> Sequence[Model]:
    """The models of an ensemble, or the model itself; none of a path, which is of a run."""
    if isinstance(model, Path):
        return []
    return model.members if isinstance(model, Ensemble) else [model]


def held_out_fold(run: Scored) -> int:
    """The fold that the training of a run, named by its folder or a model in it, left alone. Raises `ModelError`."""
    fold = read_run_json(runs_of(run)[0]).get("fold") if isinstance(run, Path) and run.exists() else None
    if not isinstance(fold, int):
        name = run if isinstance(run, Path) else f"The model {run.card.name}"
        raise ModelError(
            "E_MODEL",
            f"{name} names no test fold: several models are scored out of fold, so each has to be the folder of a run "
            "that was trained with --fold, or a model in it. Score any other model alone.",
        )
    return fold
