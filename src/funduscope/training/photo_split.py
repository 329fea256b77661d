"""Which photos a run learns from, selects on and leaves alone; which of them it draws, and which can be read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from funduscope.data.case import Case, LabelError
from funduscope.data.folds import assign_folds, official_test, unassigned, validation_fold
from funduscope.data.grouping import join_bare
from funduscope.data.masks import read_votes, size_of
from funduscope.data.prepare import cached, default_cache
from funduscope.duplicates.search import Progress
from funduscope.imaging.photo import PhotoError
from funduscope.recipe import Recipe
from funduscope.training.loop import TrainingError
from funduscope.training.samples import draw_epoch

MOST_UNREADABLE = 0.01
"""Share of the training photos that may be unreadable; more of them is a fault of the data set, not of a photo."""


@dataclass(frozen=True)
class Split:
    """Which cases a run learns from, selects on, and leaves alone."""

    train: list[Case]
    validation: list[Case]
    test: list[Case]


def split(cases: list[Case], fold: int | None) -> Split:
    """Fold k tests, fold k+1 selects, the others train; without a fold nothing is kept to test, and fold 0 selects."""
    cases = assign_folds(cases)
    validating = validation_fold(fold, cases)
    return Split(
        train=[case for case in cases if case.fold not in (None, fold, validating)],
        validation=[case for case in cases if case.fold == validating],
        test=[case for case in cases if fold is not None and case.fold == fold],
    )


def on_every_photo(cases: list[Case]) -> Split:
    """Nothing is kept to select or to test but what is nobody's to learn from: an official test split, with whatever
    else shows its eyes."""
    apart = {case.visit for case in cases if official_test(case)}
    return Split([case for case in cases if case.visit not in apart], [], [])


def placed_anew(cases: list[Case], progress: Progress) -> list[Case]:
    """The cases in their folds; says which photos are in none, and so neither learned from nor scored."""
    joined = join_bare(cases, progress=progress)
    held = {case.key for case in joined}
    parted = [case.key for case in cases if case.key not in held]
    if parted:
        print(
            f"left out: {len(parted)} photos of data sets without folds, such as {parted[0]}: their visits or eyes are "
            "in two folds of the other data sets. Mend those, or make folds over all data: `funduscope folds`.",
            file=sys.stderr,
        )
    done = assign_folds(joined)
    left = unassigned(done)
    if left:
        print(
            f"left out: {len(left)} {'photo has' if len(left) == 1 else 'photos have'} no fold, such as "
            f"{left[0].key}, where others of the same data set have one: give every photo its fold, or none.",
            file=sys.stderr,
        )
    return done


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
