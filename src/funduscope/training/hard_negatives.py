"""Hard negatives: crops without any lesion in which the network found one, shown again in the next epoch.

Dark places at a vessel's crossing, reflections and dust are rare among the crops of healthy eyes, but are most of what
is later outlined falsely. After Felzenszwalb et al., "Object Detection with Discriminatively Trained Part-Based
Models", PAMI 2010. Differs: what is shown again is the same crop with the same augmentation, in the share that the
recipe gives (`sampling.hard_negatives`), and each epoch finds its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from funduscope.data.case import Case
from funduscope.data.prepare import CHANNELS
from funduscope.recipe import Recipe
from funduscope.training import processes
from funduscope.training.batch import Batch, Item
from funduscope.vocabulary import EITHER_EXUDATE

EITHER = CHANNELS.index(EITHER_EXUDATE)
"""Where an exudate of unknown kind is marked: a lesion, though of no channel that is learned."""

Mined = list[tuple[str, tuple[int, ...]]]
"""Crops by the key of their case and the seed that draws them, the most falsely answered first."""


class HardNegatives:
    """Collects the crops of an epoch. samples: of the epoch, which has the share `sampling.hard_negatives` of them."""

    def __init__(self, recipe: Recipe, samples: int = 0) -> None:
        codes = [code for code in recipe.tasks.structures if code in recipe.views.close]
        self.count = round(recipe.sampling.hard_negatives * samples)
        self.planes = [recipe.tasks.structures.index(code) for code in codes]
        self.channels = [CHANNELS.index(code) for code in codes]
        self.batches = 0
        self.seen: list[tuple[float, str, tuple[int, ...]]] = []

    @torch.no_grad()
    def see(self, parts: Sequence[Sequence[Item]], batch: Batch, logits: Tensor | None) -> None:
        """Takes the crops without a lesion of the next batch. parts: the items of every batch so far. logits:
        (B, L, h, w) of structures."""
        if logits is None:
            return
        items, self.batches = parts[self.batches], self.batches + 1
        known, coverage = batch.known[:, self.channels], batch.coverage[:, [*self.channels, EITHER]]
        empty = known.flatten(2).any(2).all(1) & ~coverage.flatten(1).any(1) & ~batch.whole
        if batch.bags is not None:
            empty &= ~batch.bags.flatten(1).any(1)
        step = known.shape[-1] // logits.shape[-1]
        inside = known[:, :, ::step, ::step]
        false = (
            (logits[:, self.planes].float().sigmoid() * inside).square().sum((1, 2, 3))
        )  # many faint pixels are no lesion
        for place in empty.nonzero().flatten().tolist():
            self.seen.append((float(false[place]), items[place].case.key, items[place].seed))

    def mined(self) -> Mined:
        """The worst crops of all processes."""
        every = sorted(processes.all_gather(self.seen), key=lambda one: (-one[0], one[1:]))
        return [(key, tuple(seed)) for _, key, seed in every[: self.count]]


def with_mined(items: list[Item], mined: Mined, cases: Sequence[Case], rng: np.random.Generator) -> list[Item]:
    """An epoch's items, as many of them replaced by mined crops as there are such crops."""
    by_key = {case.key: case for case in cases}
    places = rng.choice(len(items), min(len(mined), len(items)), replace=False)
    again = {place: Item(by_key[key], "close", tuple(seed)) for place, (key, seed) in zip(places.tolist(), mined)}  # noqa: B905
    return [again.get(place, item) for place, item in enumerate(items)]
