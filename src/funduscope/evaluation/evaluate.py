"""`evaluate`: scores one model, or several runs each on its own test fold.

With several runs, no photo is scored by a run that learned from it. With one model and no fold all photos are scored,
and a warning gives the number of those that the model learned from or was chosen on.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from funduscope.data.case import Case, LabelError
from funduscope.data.sources import Data, cases_of
from funduscope.evaluation.extra_scores import Extra
from funduscope.evaluation.kept_scores import KeptScores
from funduscope.evaluation.out_of_fold import Overlap, Scored, by_card, members_of, plan, runs_of, seen_before
from funduscope.evaluation.score_photo import can_score, score_stream
from funduscope.evaluation.scores import PhotoScore, Scores, summarize
from funduscope.inference.loading import ModelPath, is_shipped, load
from funduscope.inference.model import Model, identity
from funduscope.inference.runtime import Device
from funduscope.progress import Progress, no_progress
from funduscope.version import __version__


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def evaluate(
    model: Model | ModelPath | Sequence[ModelPath],
    data: Data,
    fold: int | None = None,
    *,
    extra: Extra | None = None,
    keep: KeptScores | None = None,
    device: Device = "auto",
    progress: Progress = no_progress,
    warn: Callable[[str], None] = _warn,
) -> Scores:
    """Scores of every data set, each by itself, with 95 % intervals over visits; docs/protocol.md defines each number.

    model: a loaded model, what `load` takes, or a list of run folders or models in them, each scored on its own test
    fold. data: cases, or paths as `read_data` takes them. fold: the test fold, for one model; without it all photos are
    scored. extra: by name a function of (findings, case) that gives a number, or None if there is none; its mean is
    reported. It is asked of photos that were not refused. keep: keeps each photo's score, so that the same evaluation
    goes on where it was stopped; not together with extra. progress: wraps what takes long. warn: receives a sentence
    about photos that are not scored, or that a model has seen. Raises `LabelError` if a fold has no photo, `ModelError`
    for models that cannot be loaded or scored together, `ValueError` for several runs with a fold, for keep together
    with extra, and for extra scores without a free name or a number.
    """
    listed = model if isinstance(model, Sequence) and not isinstance(model, str) else [model]
    if not listed:
        raise ValueError("No model is given: name one, or the folders of several runs.")
    models = [_scored(one, device) for one in listed]
    if len(models) > 1 and fold is not None:
        raise ValueError(f"Several runs are scored each on its own test fold: leave out fold={fold}.")
    if keep is not None and extra is not None:
        raise ValueError("Scores of one's own are not kept: leave out keep or extra.")
    parts, left = plan(models, cases_of(data), fold)
    if left:
        are = "photo is" if len(left) == 1 else "photos are"
        warn(f"not scored: {len(left)} {are} in no test fold, such as {left[0].key}")
    seen = [_seen(one, cases) for one, cases in parts]
    for sentence in filter(None, (known.warning(name) for runs in seen for name, known in runs)):
        warn(sentence)
    photos: list[PhotoScore] = []
    made: list[dict[str, Any]] = []
    for (one, cases), runs in zip(parts, seen, strict=True):
        predictor = load(one, device=device) if isinstance(one, Path) else one
        name = _called(one) if isinstance(one, Path) else one.card.name
        for sentence in filter(None, (by_card(member, cases) for member in members_of(predictor))):
            warn(sentence)
        if extra is None and not any(can_score(predictor.card, case) or case.labels.quality for case in cases):
            have = f"None of the {len(cases)} photos has" if len(cases) > 1 else "The photo does not have"
            raise LabelError(f"{have} a label that {name} answers, such as a grade (dr) or a mask: nothing to score.")
        if keep is None:
            scored = score_stream(predictor, cases, extra)
        else:
            earlier, scored = keep.resume(predictor, cases)
            if earlier:
                warn(f"continued: {earlier} of {len(cases)} photos were scored before")
        photos.extend(progress(scored, f"Scoring {name}", len(cases)))
        if failed := [photo.row for photo in photos[len(photos) - len(cases) :] if "error" in photo.row]:
            count = "1 photo" if len(failed) == 1 else f"{len(failed)} photos"
            such = f"{failed[0]['key']} ({failed[0]['error']})"
            warn(f"counted as refused: {count} could not be read, such as {such}")
        made.append(_about(predictor, cases) | _most([known.counts() for _, known in runs]))
    return replace(summarize(photos), about={"funduscope": __version__, "models": made})


def _seen(model: Scored, cases: Sequence[Case]) -> list[tuple[str, Overlap]]:
    """`seen_before` of each run that the model is of, with its name."""
    found = [
        (_called(model) if isinstance(model, Path) else run.name, seen_before(run, cases)) for run in runs_of(model)
    ]
    return [(name, seen) for name, seen in found if seen is not None]


def _most(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The largest of each count over the members of a model."""
    return {name: max(count[name] for count in counts) for name in counts[0]} if counts else {}


def _called(path: Path) -> str:
    """A run's folder, or a file with its folder: several runs have files of one name."""
    return path.name if path.is_dir() else f"{path.parent.name}/{path.name}"


def _about(model: Model, cases: Sequence[Case]) -> dict[str, Any]:
    folds = sorted({case.fold for case in cases if case.fold is not None})
    return {**identity(model), "folds": folds}


def _scored(model: Model | ModelPath, device: Device) -> Scored:
    """A model's path, or a model: also of the name of a shipped one."""
    if not isinstance(model, str | os.PathLike):
        return model
    return load(model, device=device) if isinstance(model, str) and is_shipped(model) else Path(model)
