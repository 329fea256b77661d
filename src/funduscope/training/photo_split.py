"""Which photos of a run an epoch draws, and which of them can be read."""

from __future__ import annotations

import sys
from pathlib import Path

from funduscope.data.case import Case, LabelError
from funduscope.data.masks import read_votes, size_of
from funduscope.data.prepare import cached, default_cache
from funduscope.duplicates.search import Progress
from funduscope.imaging.photo import PhotoError
from funduscope.recipe import Recipe
from funduscope.training.loop import TrainingError
from funduscope.training.samples import draw_epoch

MOST_UNREADABLE = 0.01
"""Share of the training photos that may be unreadable; more of them is a fault of the data set, not of a photo."""


def drawn(recipe: Recipe, train: list[Case]) -> list[Case]:
    """The training photos that any epoch draws, or of no epoch those that the first would; raises `TrainingError` where
    there are none."""
    epochs = max(recipe.training.epochs, 1)
    seen = {item.case.key for epoch in range(epochs) for item in draw_epoch(train, recipe, epoch)}
    used = [case for case in train if case.key in seen]
    if not used:
        given = ", ".join(sorted({case.dataset for case in train}))
        asked = ", ".join(sorted(recipe.sampling.datasets())) or "none"
        raise TrainingError(
            f"Nothing that this recipe learns is known of the photos given ({given}); it samples {asked}: bring "
            "labels, or name the data set in sampling.whole."
        )
    return used


def readable(cases: list[Case]) -> list[Case]:
    """The photos but those of which a mask or a file of votes cannot be used, each of which is said: better now than
    after the first epoch."""
    kept = []
    for case in cases:
        try:
            _check_masks(case)
        except LabelError as error:
            print(f"left out: {case.key}: {error}", file=sys.stderr)
        else:
            kept.append(case)
    return kept


def _check_masks(case: Case) -> None:
    """Raises `LabelError` where scoring the photo would; a photo that cannot be read itself is scored as refused."""
    masks = [mask for mask in (*case.labels.masks.values(), case.labels.negatives) if mask and not mask.is_absent]
    if not masks and not case.labels.votes:
        return
    try:
        size = size_of(case.path)
    except LabelError:
        return
    for path in case.labels.votes.values():
        read_votes(path, *size)
    for mask in masks:
        mask.load(*size)


def prepared(recipe: Recipe, train: list[Case], progress: Progress) -> tuple[list[Case], dict[str, Path]]:
    """The training photos but those that cannot be read, and the prepared file of each that an epoch draws, by key.

    One that cannot be read is said; more than a few are an error. Without it other photos are drawn than before: what
    they are is seen, and prepared, until all that are drawn can be read. Raises `TrainingError`.
    """
    files: dict[str, Path] = {}
    failed: dict[str, str] = {}
    cache, before = default_cache(), -1
    while len(failed) > before:
        before = len(failed)
        new = [case for case in drawn(recipe, train) if case.key not in files]
        for case in progress(new, "Preparing", len(new)):
            try:
                files[case.key] = cached(case, recipe.views.close_px, cache)
            except (PhotoError, LabelError) as error:
                failed[case.key] = f"{case.key}: {error}"
                print(f"left out: {failed[case.key]}", file=sys.stderr)
        count = len(files) + len(failed)
        if len(failed) > max(1, MOST_UNREADABLE * count):
            example = next(iter(failed.values()))
            raise TrainingError(f"{len(failed)} of {count} photos cannot be read, such as {example}")
        train = [case for case in train if case.key not in failed]
    return train, files
