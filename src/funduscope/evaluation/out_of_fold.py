"""`evaluate`: scores a model, or several runs each on its own test fold, so that no photo is scored by a model that
learned from it.

Given photos that the model's run learned from, or was chosen on, are scored too, and their number is reported.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from funduscope.data.case import Case, LabelError
from funduscope.data.folds import fold_key
from funduscope.data.run_folds import RunFolds
from funduscope.data.sources import Data, cases_of
from funduscope.data.splits import SplitPlan, join_sets_without_folds, read_run_json
from funduscope.evaluation.evaluate import Extra, answers, score_stream
from funduscope.evaluation.scores import PhotoScore, Scores, summarize
from funduscope.inference.ensemble import Ensemble
from funduscope.inference.loading import ModelPath, is_shipped, load
from funduscope.inference.model import Model
from funduscope.inference.runtime import Device, ModelError
from funduscope.progress import Progress, no_progress
from funduscope.version import __version__

EARLIER: Final = "first weights and teachers"
"""In what a card is about: of each of them, and of theirs, what it was trained on."""

Scored = Path | Model
Part = tuple[Scored, list[Case]]


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def evaluate(
    model: Model | ModelPath | Sequence[ModelPath],
    data: Data,
    fold: int | None = None,
    *,
    extra: Extra | None = None,
    device: Device = "auto",
    repeats: int = 1000,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = _warn,
) -> Scores:
    """Scores of every data set, each by itself, with 95 % intervals over visits; docs/protocol.md defines each number.

    model: a loaded model, what `load` takes, or a list of run folders or models in them, each scored on its own test
    fold. data: cases, or paths as `read_data` takes them. fold: the test fold, for one model; without it all photos are
    scored. extra: by name a function of (findings, case) that gives a number, or None if there is none; its mean is
    reported. It is asked of photos that were not refused. repeats: draws of the bootstrap. progress: wraps what takes
    long. warn: receives a sentence about photos that are not scored, or that a model has seen. Raises `LabelError`
    if a fold has no photo, `ModelError` for models that cannot be loaded or scored together.
    """
    listed = model if isinstance(model, Sequence) and not isinstance(model, str) else [model]
    models = [_scored(one, device) for one in listed]
    if len(models) > 1 and fold is not None:
        raise ValueError(f"Several runs are scored each on its own test fold: leave out fold={fold}.")
    parts, left = plan(models, cases_of(data), fold)
    if left:
        are = "photo is" if len(left) == 1 else "photos are"
        warn(f"not scored: {len(left)} {are} in no test fold, such as {left[0].key}")
    seen = [_seen(one, cases) for one, cases in parts]
    for sentence in filter(None, (known.warning(name) for runs in seen for name, known in runs.items())):
        warn(sentence)
    photos: list[PhotoScore] = []
    made: list[dict[str, Any]] = []
    for (one, cases), runs in zip(parts, seen, strict=True):
        predictor = load(one, device=device) if isinstance(one, Path) else one
        name = _called(one) if isinstance(one, Path) else one.card.name
        for sentence in filter(None, (by_card(member, cases) for member in _members(predictor))):
            warn(sentence)
        if extra is None and not any(answers(predictor.card, case) or case.labels.quality for case in cases):
            have = f"None of the {len(cases)} photos has" if len(cases) > 1 else "The photo does not have"
            raise LabelError(f"{have} a label that {name} answers, such as a grade (dr) or a mask: nothing to score.")
        photos.extend(progress(score_stream(predictor, cases, extra), f"Scoring {name}", len(cases)))
        if failed := [photo.row for photo in photos[len(photos) - len(cases) :] if "error" in photo.row]:
            count = "1 photo" if len(failed) == 1 else f"{len(failed)} photos"
            such = f"{failed[0]['key']} ({failed[0]['error']})"
            warn(f"counted as refused: {count} could not be read, such as {such}")
        made.append(_about(predictor, cases) | next((known.counts() for known in runs.values()), {}))
    return replace(summarize(photos, repeats), about={"funduscope": __version__, "models": made})


def _seen(model: Scored, cases: Sequence[Case]) -> dict[str, Seen]:
    """`seen_before` of each run that the model is of, by name."""
    found = {
        _called(model) if isinstance(model, Path) else run.name: seen_before(run, cases) for run in _runs_of(model)
    }
    return {name: seen for name, seen in found.items() if seen is not None}


def _called(path: Path) -> str:
    """A run's folder, or a file with its folder: several runs have files of one name."""
    return path.name if path.is_dir() else f"{path.parent.name}/{path.name}"


def _about(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    folds = sorted({case.fold for case in cases if case.fold is not None})
    return {"name": model.card.name, "version": model.card.version, "sha256": model.sha256, "folds": folds}


def _scored(model: Model | ModelPath, device: Device) -> Scored:
    """A model's path, or a model: also of the name of a shipped one."""
    if not isinstance(model, str | os.PathLike):
        return model
    return load(model, device=device) if isinstance(model, str) and is_shipped(model) else Path(model)


def plan(models: Sequence[Scored], cases: list[Case], fold: int | None) -> tuple[list[Part], list[Case]]:
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
    runs = [next(iter(_runs_of(model)), None) for model in models]
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
class Seen:
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
                "them are too good. Score it on its test fold (--fold); a refit has none, so score the run that it "
                "repeats."
            )
        if self.chosen:
            return (
                f"warning: {name} was chosen on {self.chosen} of these {self.photos} photos, its validation "
                "fold: scores on them are a little too good."
            )
        return None


def seen_before(run: Path, cases: Sequence[Case]) -> Seen | None:
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
    return Seen(sum(one in learned for one in visits), sum(one in chosen for one in visits), len(cases))


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
    """Whether a photo may be among those that taught a model, by what its card says of these: no official test's is."""
    left_out, photos = taught.get("test fold left out"), taught.get("photos") or {}
    return case.dataset in photos and case.split != "test" and (left_out is None or case.fold != left_out)


def _runs_of(model: Scored) -> list[Path]:
    """The run folders that a model is, or that its file or its members' files are in."""
    if isinstance(model, Path):
        return [model if model.is_dir() else model.parent]
    return [folder for folder in (getattr(one, "folder", None) for one in _members(model)) if folder is not None]


def _members(model: Scored) -> Sequence[Model]:
    """The models of an ensemble, or the model itself; none of a path, which is of a run."""
    if isinstance(model, Path):
        return []
    return model.members if isinstance(model, Ensemble) else [model]


def held_out_fold(run: Scored) -> int:
    """The fold that the training of a run, named by its folder or a model in it, left alone. Raises `ModelError`."""
    fold = read_run_json(_runs_of(run)[0]).get("fold") if isinstance(run, Path) and run.exists() else None
    if not isinstance(fold, int):
        name = run if isinstance(run, Path) else "One of the models"
        raise ModelError(
            "E_MODEL",
            f"{name} names no test fold: several models are scored out of fold, so each has to be the folder of a run "
            "that was trained with --fold, or a model in it. Score any other model alone.",
        )
    return fold
