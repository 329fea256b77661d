"""Labeled photos as a torch data set, for a custom training loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from funduscope.data.case import Case
from funduscope.data.prepare import cached, default_cache
from funduscope.recipe import Recipe
from funduscope.settings import Augment
from funduscope.training.batch import Batch, Item, Samples, frame_px
from funduscope.vocabulary import View

NO_AUGMENTATION = Augment(mirror=0, warp=0, tone=0, blur=0, noise=0, jpeg=0)


class PhotoDataset(torch.utils.data.Dataset[Batch]):
    """A sample for each case: the image as a network sees it, its targets, and what of them is known (`Batch`).

    view: "whole", the eye shrunk to `recipe.views.whole_px`, with grade, edema risk, landmarks and the structures that
    are read from this view; or "close", a crop of that size from the frame of `recipe.views.close_px`, with the others.
    augment: True for the recipe's settings, False for none, or custom settings. recipe: views, tasks and
    augmentation; by default those of `Recipe`. cache: the folder of prepared photos, made when they are first asked
    for; by default `FUNDUSCOPE_CACHE` or the user's cache.

    Where a crop is, and how it is augmented, is drawn anew each time from torch's random numbers, so
    `torch.manual_seed` repeats it. Use `collate` as the loader's `collate_fn`. Raises `PhotoError` or `LabelError` for
    a photo or mask that cannot be read, `ValueError` for an unknown view.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        view: View = "whole",
        augment: bool | Augment = False,
        recipe: Recipe | None = None,
        cache: Path | str | None = None,
    ) -> None:
        if view not in ("whole", "close"):
            raise ValueError(f"There is no view {view!r}; expected whole or close.")
        recipe = recipe or Recipe(name="photos")
        if not isinstance(augment, bool):
            recipe = recipe.model_copy(update={"augment": augment})
        elif not augment:
            recipe = recipe.model_copy(update={"augment": NO_AUGMENTATION})
        self.cases, self.recipe = list(cases), recipe
        self.turned = augment is not False
        self.view: View = view
        self.cache = default_cache() if cache is None else Path(cache)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Batch:
        case = self.cases[index]
        file = cached(case, frame_px(self.recipe), self.cache)
        seed = int(torch.randint(2**62, ()))
        return Samples({case.key: file}, self.recipe, turned=self.turned)[Item(case, self.view, (seed,))]
