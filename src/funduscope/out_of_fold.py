"""Which photos each model is scored on, so that no photo is scored by a model that learned from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from funduscope.data.case import Case, LabelError
from funduscope.data.folds import placed
from funduscope.evaluate import score_stream
from funduscope.loading import load
from funduscope.predict.runtime import ModelError
from funduscope.scores import PhotoScore, Scores, summarize
from funduscope.version import __version__

Part = tuple[Path, list[Case]]
Progress = Callable[[Iterable[PhotoScore], str, int | None], Iterable[PhotoScore]]


def plan(models: Sequence[Path], cases: list[Case], fold: int | None) -> list[Part]:
    """Each model with its photos.

    One model: the photos of `fold`, or all of them without one. Several run folders: each the photos of its own test
    fold, which its run.json names. Cases without any fold are put into the same folds as training puts them.
    Raises `LabelError` where a fold has no photo, `ModelError` where a run has no test fold or two have the same.
    """
    if len(models) == 1 and fold is None:
        return [(models[0], cases)]
    placed_by = [placed(cases, model / "folds.csv") for model in models]
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


def test_fold(run: Path) -> int:
    """The fold that a run folder's training left alone. Raises `ModelError`."""
    try:
        fold = json.loads((run / "run.json").read_text("utf-8"))["fold"]
    except (OSError, ValueError, KeyError, TypeError):
        fold = None
    if not isinstance(fold, int):
        raise ModelError(
            "E_MODEL",
            f"{run} names no test fold: several models are scored out of fold, so each has to be the folder of a run "
            "that was trained with --fold.",
        )
    return fold


def score(parts: Sequence[Part], progress: Progress, repeats: int = 1000) -> tuple[Scores, dict[str, Any]]:
    """The scores of all parts' photos together, and what made them."""
    photos: list[PhotoScore] = []
    models: list[dict[str, Any]] = []
    for model, cases in parts:
        predictor = load(model)
        photos.extend(progress(score_stream(predictor, cases), f"Scoring {model.name}", len(cases)))
        card = predictor.card
        folds = sorted({case.fold for case in cases if case.fold is not None})
        models.append({"name": card.name, "version": card.version, "sha256": predictor.runtime.sha256, "folds": folds})
    return summarize(photos, repeats), {"funduscope": __version__, "models": models}
