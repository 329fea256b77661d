"""Which photos an epoch shows, in which view and order; and their prepared files.

Every random number comes from a generator seeded by (seed, epoch, place in the epoch). So an epoch is the same with any
number of loader workers, and before or after an interruption.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import numpy as np
import torch

from funduscope.data.case import Case, LabelError, Labels, Mask
from funduscope.data.derived_labels import derive_labels
from funduscope.data.masks import read_votes, size_of
from funduscope.data.prepare import cached, default_cache, unusable_masks
from funduscope.i18n.errors import PhotoError, refuse_machine_fault
from funduscope.progress import Progress
from funduscope.recipe import Recipe
from funduscope.training import TrainingError
from funduscope.training.batch import BAGS, Item, allowed, bag_kinds, close_channels, dense_channels, frame_px
from funduscope.training.hard_negatives import Mined, with_mined
from funduscope.vocabulary import DATASETS, EITHER_EXUDATE, View

Entry = TypeVar("Entry", tuple[Case, View], tuple[Case, View, float])

LIKE = 0.9
"""From this ratio on (`difflib`) a name may be another one misspelled; "idrid-A" and "idrid-B" have 0.86."""

MAX_UNREADABLE = 0.01
"""Share of the training photos that may be unreadable, or have unusable masks. More is a fault of the data set."""


def serves(labels: Labels, view: View, recipe: Recipe) -> bool:
    """Whether a view can teach any of the recipe's tasks something from these labels."""
    labels, tasks = derive_labels(labels), recipe.tasks
    unseen = (code for code, count in labels.experts.items() if not count)
    dense = {*labels.masks, *labels.votes, *unseen, *({"OD"} if labels.boxes.get("OD") else ())}
    close = close_channels(recipe)
    if any((code in close) == (view == "close") for code in dense & dense_channels(recipe)):
        return True
    if view == "close":
        return any(bag_kinds(labels, recipe))
    return any(not all(allowed(labels, task)) for task in tasks.photo_tasks) or any(
        labels.point(name) is not None for name in tasks.landmarks
    )


def draw_epoch(cases: list[Case], recipe: Recipe, epoch: int) -> list[Item]:
    """The items of an epoch (counted from 0) in order. A rate of 2.3 gives every case two samples,
    and 30 % of the cases a third one."""
    seed, sampling = recipe.training.seed, recipe.sampling
    rng = np.random.default_rng([seed, epoch])
    rated: list[tuple[Case, View, float]] = [
        (case, view, rate)
        for view, rates in sampling.by_view.items()
        for case in cases
        if (rate := rates.get(case.dataset, 0.0)) and serves(case.labels, view, recipe)
    ]
    if sampling.grade_power:
        rated = _by_grade(rated, sampling.grade_power)
    if sampling.per_epoch and rated and sampling.order == "alternate":
        chosen = _whole_batches(sampling.per_epoch, recipe.training.batch, rated, rng)
    elif sampling.per_epoch and rated:
        chosen = _exactly(sampling.per_epoch, rated, rng)
    else:
        chosen = [(case, view) for case, view, rate in rated for _ in range(int(rate) + int(rng.random() < rate % 1))]
    order = [chosen[place] for place in rng.permutation(len(chosen))]
    if sampling.order == "alternate":
        order = _alternating(order, recipe.training.batch)
    return [Item(*one, seed=(seed, epoch, index)) for index, one in enumerate(order)]


def _by_grade(rated: list[tuple[Case, View, float]], power: float) -> list[tuple[Case, View, float]]:
    """Raises the rates of a data set's rare grades in the whole view; the mean rate of its graded photos stays."""
    counts = Counter((case.dataset, case.labels.grade) for case, view, _ in rated if view == "whole")
    share = {key: count**-power for key, count in counts.items() if key[1] is not None}
    photos, total = Counter[str](), Counter[str]()
    for (dataset, grade), weight in share.items():
        photos[dataset] += counts[dataset, grade]
        total[dataset] += weight * counts[dataset, grade]  # pyright: ignore[reportArgumentType]
    return [
        (case, view, rate * share[key] * photos[case.dataset] / total[case.dataset])
        if view == "whole" and (key := (case.dataset, case.labels.grade)) in share
        else (case, view, rate)
        for case, view, rate in rated
    ]


def _exactly(count: int, rated: list[tuple[Case, View, float]], rng: np.random.Generator) -> list[tuple[Case, View]]:
    """`count` draws in proportion to the rates: systematic sampling over a random order."""
    order = rng.permutation(len(rated))
    rates = np.array([rated[place][2] for place in order])
    edges = np.floor(np.cumsum(rates) * (count / rates.sum()) + rng.random()).astype(int)
    times = np.diff(edges, prepend=0)
    return [rated[place][:2] for place, n in zip(order, times, strict=True) for _ in range(n)][:count]


def _by_kind(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The entries whose photo has masks of its own, and those whose photo has none."""
    return [one for one in entries if one[0].labels.masks], [one for one in entries if not one[0].labels.masks]


def _whole_batches(
    count: int, batch: int, rated: list[tuple[Case, View, float]], rng: np.random.Generator
) -> list[tuple[Case, View]]:
    """`count` draws as `_exactly`, of photos with masks and of photos without in whole batches each."""
    masked, graded = _by_kind(rated)
    rates = [sum(rate for *_, rate in kind) for kind in (masked, graded)]
    first = round(count // batch * rates[0] / sum(rates)) * batch
    drawn: list[tuple[Case, View]] = []
    for kind, number in ((masked, first), (graded, count - first)):
        drawn += _exactly(number, kind, rng) if kind and number else []
    return drawn


def _alternating(chosen: list[tuple[Case, View]], batch: int) -> list[tuple[Case, View]]:
    """The same draws in batches of one kind, evenly mixed: photos with masks of their own, and photos without.

    Draws that do not fill a batch of their kind come last.
    """
    batches: list[tuple[float, list[tuple[Case, View]]]] = []
    rest: list[tuple[Case, View]] = []
    for kind in _by_kind(chosen):
        count = len(kind) // batch
        batches += [((i + 0.5) / count, kind[i * batch : (i + 1) * batch]) for i in range(count)]
        rest += kind[count * batch :]
    return [one for _, group in sorted(batches, key=lambda entry: entry[0]) for one in group] + rest


class EpochBatches(torch.utils.data.Sampler[list[Item]]):
    """Yields this process's part of each batch of the epoch that was chosen last.

    Every process draws the same order, which depends on seed and epoch alone, and takes every N-th item of a batch. So
    one process and several see the same samples in the same batches. A last batch that is not full is left out.
    """

    def __init__(self, cases: list[Case], recipe: Recipe, rank: int = 0, count: int = 1) -> None:
        self.cases, self.recipe, self.rank, self.count = cases, recipe, rank, count
        self.epoch = 0
        """Counted from 0."""
        self.mined: Mined = []
        """Hard negatives of the epoch before."""
        self.parts: list[list[Item]] = []
        """What was yielded of the epoch so far."""
        self.digest = 0
        """Digest of the epoch's samples so far, by their batches. Those of all processes add up to that of one."""

    def __iter__(self) -> Iterator[list[Item]]:
        items, size = draw_epoch(self.cases, self.recipe, self.epoch), self.recipe.training.batch
        if self.mined:
            rng = np.random.default_rng([self.recipe.training.seed, self.epoch, len(items)])
            items = with_mined(items, self.mined, self.cases, rng)
        self.digest, self.parts = 0, []
        for step in range(len(items) // size):
            part = items[step * size : (step + 1) * size][self.rank :: self.count]
            self.digest += sum(crc32(f"{step} {item.case.key} {item.view} {item.seed}".encode()) for item in part)
            self.parts.append(part)
            yield part

    def __len__(self) -> int:
        return len(draw_epoch(self.cases, self.recipe, self.epoch)) // self.recipe.training.batch


def drawn(recipe: Recipe, train: list[Case]) -> list[Case]:
    """The training photos that any epoch draws. A recipe of 0 epochs gets those that a first epoch would draw.

    Raises `TrainingError` if there are none.
    """
    epochs = max(recipe.training.epochs, 1)
    keys = {item.case.key for epoch in range(epochs) for item in draw_epoch(train, recipe, epoch)}
    used = [case for case in train if case.key in keys]
    if not used:
        given = sorted({case.dataset for case in train})
        sampled = recipe.sampling.datasets()
        settings = " ".join(setting_for(name, recipe) for name in given if name not in sampled)
        raise TrainingError(
            f"No photo given ({', '.join(given)}) has a label that this recipe learns from; it samples "
            f"{', '.join(sorted(sampled)) or 'none'}: add labels" + (f", or add {settings}" if settings else "") + "."
        )
    return used


def steps_each(train: list[Case], recipe: Recipe) -> list[int]:
    """The number of steps of each epoch. Raises `TrainingError` if one has none."""
    settings = recipe.training
    steps = [len(draw_epoch(train, recipe, epoch)) // settings.batch for epoch in range(settings.epochs)]
    if not all(steps):
        raise TrainingError(
            f"An epoch has fewer than {settings.batch} samples: add photos, raise sampling.per_epoch if it is "
            "set, or lower training.batch."
        )
    return steps


def setting_for(dataset: str, recipe: Recipe) -> str:
    """What to add to a command so that the recipe learns from a data set that it does not name."""
    views = ("whole", "close") if recipe.views.close else ("whole",)
    return " ".join(f"--set sampling.{view}.{dataset}=1" for view in views)


def shown(recipe: Recipe, train: list[Case], files: dict[str, Path]) -> set[str]:
    """The recipe's tasks of which the prepared photos have an example: structures with one, however weak, in the view
    that learns them, photo tasks with a label or a constraint, landmarks with a marked point."""
    found: set[str] = set()
    close, tasks = close_channels(recipe), recipe.tasks
    for case in (case for case in train if case.key in files):
        if recipe.sampling.whole.get(case.dataset):
            found.update(task for task in tasks.photo_tasks if not all(allowed(case.labels, task)))
            found.update(name for name in tasks.landmarks if case.labels.point(name) is not None)
        with np.load(files[case.key], allow_pickle=False) as file:
            names = {name.removeprefix("coverage ") for name in file.files if name.startswith("coverage ")}
        rates = {code: recipe.sampling.close if code in close else recipe.sampling.whole for code in names}
        found |= {code for code in names if rates[code].get(case.dataset)}
        if recipe.sampling.close.get(case.dataset):
            found.update(code for kind in bag_kinds(case.labels, recipe) for code in BAGS[kind])
    return (found | ({"EX", "SE"} if EITHER_EXUDATE in found else set())) & {*tasks.named}


def warn_unsampled(recipe: Recipe, train: Sequence[Case]) -> None:
    """Names on stderr the data sets that the recipe does not, from which it therefore learns nothing, and what may be
    one of them misspelled."""
    named = recipe.sampling.whole.keys() | recipe.sampling.close.keys()
    given = {case.dataset for case in train}
    for view, rates in recipe.sampling.by_view.items():
        for name in rates.keys() - given - DATASETS.keys():
            spelled = {one.lower(): one for one in given}
            for meant in (spelled[one] for one in get_close_matches(name.lower(), spelled, 1, LIKE)):
                if meant in rates and meant.lower() != name.lower():  # both are meant, and one was not given
                    continue
                print(f"note: sampling.{view} names {name}, which was not given: was {meant} meant?", file=sys.stderr)
    left = Counter(case.dataset for case in train if case.dataset not in named)
    if left and left.keys() != given:
        photos = ", ".join(f"{name} ({count})" for name, count in sorted(left.items()))
        ways = " ".join(setting_for(name, recipe) for name in sorted(left))
        print(f"note: {recipe.name} learns nothing from photos of {photos}. To change that: {ways}", file=sys.stderr)


def warn_not_validated(recipe: Recipe, validation: Sequence[Case]) -> None:
    """Warns where no validation photo can score what the recipe learns."""
    by_loss = recipe.training.select == "loss" and has_examples(recipe, validation)
    if recipe.training.epochs and not by_loss and not has_answers(recipe, validation):
        print(
            "warning: no validation photo has a class, a point or a mask of what the recipe learns (boxes, votes and "
            "constraints cannot be scored), so that nothing chooses the epoch (the last one is kept) and nothing fixes "
            "temperatures and thresholds: make folds of which each has photos of every set with its labels "
            "(`funduscope folds`).",
            file=sys.stderr,
        )


def warn_untaught(recipe: Recipe, taught: Set[str], known: Set[str]) -> None:
    """Warns of answers that the first weights know and no photo teaches. taught, known: as in `Recipe.tasks.named`."""
    left = [name for name in recipe.tasks.named if name in known and name not in taught]
    if recipe.training.epochs and taught and left:
        print(
            f"warning: no training photo shows {_in_words(left, recipe)}: the first weights give these answers, and "
            "what they share with the others is learned without them, so that they may become worse. Score them before "
            "use, or add photos with such labels (--data again).",
            file=sys.stderr,
        )


def not_learned(recipe: Recipe, known: Set[str], photos: str = "no training photo") -> list[str]:
    """The structures, photo tasks and landmarks that neither photos nor first weights nor teachers know (known). They
    are named on stderr. photos: which photos do not show them."""
    left = [name for name in recipe.tasks.named if name not in known]
    if left:
        print(f"note: {photos} shows {_in_words(left, recipe)}: the model's answers leave that out.", file=sys.stderr)
    return left


def _in_words(names: Sequence[str], recipe: Recipe) -> str:
    """Structures, photo tasks and landmarks in a sentence."""
    points = recipe.tasks.landmarks
    return ", ".join(f"the center of the {name.replace('_', ' ')}" if name in points else name for name in names)


def has_examples(recipe: Recipe, cases: Sequence[Case]) -> bool:
    """Whether any photo shows what the recipe learns, in a view that learns it: a class, a place, a structure. That one
    is absent is none."""
    close, wanted, tasks = {*close_channels(recipe)}, dense_channels(recipe), recipe.tasks
    for case in cases:
        labels = case.labels
        there = {code for code, mask in labels.masks.items() if code in wanted and _shows(mask)}
        there |= {"OD"} if labels.boxes.get("OD") else set()
        if recipe.sampling.close.get(case.dataset) and (there & wanted & close or bag_kinds(labels, recipe)):
            return True
        known = any(labels.known_classes(task) is not None for task in tasks.photo_tasks)
        known |= any(labels.point(name) is not None for name in tasks.landmarks)
        if recipe.sampling.whole.get(case.dataset) and (known or (there & wanted) - close):
            return True
    return False


def _shows(mask: Mask) -> bool:
    """Whether a structure is there. Files that may mark nothing are read; what cannot be read is named elsewhere."""
    if mask.is_absent or mask.empty == "error" or mask.read is None:
        return not mask.is_absent
    with suppress(LabelError, OSError):
        return any(bool(mask.read(path).any()) for path in mask.paths)
    return True


def has_answers(recipe: Recipe, cases: Sequence[Case]) -> bool:
    """Whether any photo of the recipe's data sets can score it: by a class, a point, or a mask of a structure there."""
    tasks, wanted = recipe.tasks, dense_channels(recipe)
    return any(
        any(labels.class_of(task) is not None for task in tasks.photo_tasks)
        or any(labels.point(name) is not None for name in tasks.landmarks)
        or any(code in wanted and not mask.is_absent for code, mask in labels.masks.items())
        for labels in (case.labels for case in cases if case.dataset in recipe.sampling.datasets())
    )


def drop_unusable_masks(cases: list[Case]) -> list[Case]:
    """The cases, without the masks and votes that scoring could not read; each of these is named on stderr, before an
    epoch is spent. Photos that cannot be read stay and are scored as refused."""
    return [_with_usable_masks(case) for case in cases]


def _with_usable_masks(case: Case) -> Case:
    """The case without what scoring could not use. A photo that cannot itself be read is scored as refused."""
    labels = case.labels
    try:
        size = size_of(case.path)
    except LabelError as error:
        print(f"warning: {case.key} cannot be read, and is scored as refused: {error}", file=sys.stderr)
        return case

    def usable(code: str, read: Callable[[int, int], object]) -> bool:
        try:
            read(*size)
        except LabelError as error:
            _warn_unusable(case, code, str(error))
            return False
        return True

    masks = {code: mask for code, mask in labels.masks.items() if mask.is_absent or usable(code, mask.load)}
    votes = {code: path for code, path in labels.votes.items() if usable(f"{code} votes", partial(read_votes, path))}
    negatives = labels.negatives
    if negatives is not None and not negatives.is_absent and not usable("negatives", negatives.load):
        negatives = None
    return replace(case, labels=replace(labels, masks=masks, votes=votes, negatives=negatives))


def _warn_unusable(case: Case, code: str, why: str) -> None:
    print(f"left out: {case.key}, {code} alone: {why}", file=sys.stderr)


def prepared(recipe: Recipe, train: list[Case], progress: Progress) -> tuple[list[Case], dict[str, Path]]:
    """The training photos that can be read, and by key the prepared file of each that an epoch draws.

    Photos that cannot be read are named on stderr, and so are masks and votes that cannot be used, which are left out
    by themselves; more than a few of either raise `TrainingError`, and what the machine refuses `PhotoError`. Without
    these photos an epoch draws others, so this repeats until every drawn photo can be read.
    """
    files: dict[str, Path] = {}
    failed: dict[str, str] = {}
    without_mask: dict[str, str] = {}
    cache, before = default_cache(), -1
    while len(failed) > before:
        before = len(failed)
        new = [case for case in drawn(recipe, train) if case.key not in files]
        for case in progress(new, "Preparing", len(new)):
            try:
                files[case.key] = cached(case, frame_px(recipe), cache)
            except PhotoError as error:
                refuse_machine_fault(error)
                failed[case.key] = f"{case.key}: {error}"
                print(f"left out: {failed[case.key]}", file=sys.stderr)
                continue
            for code, why in unusable_masks(files[case.key]).items():
                _warn_unusable(case, code, why)
                without_mask[case.key] = f"{case.key}: {why}"
        count = len(files) + len(failed)
        for bad, what in ((failed, "cannot be read"), (without_mask, "have masks that cannot be used")):
            if len(bad) > max(1, MAX_UNREADABLE * count):
                example = next(iter(bad.values()))
                raise TrainingError(f"{len(bad)} of {count} photos {what}, such as {example}")
        train = [case for case in train if case.key not in failed]
    return train, files
