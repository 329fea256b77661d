"""The recipe's own losses on the validation photos, to be drawn next to those of the training.

Every photo is shown once in each view in which the recipe learns from its labels: the whole eye, and one crop; both
without augmentation, and the same in every epoch.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from funduscope.data.case import Case
from funduscope.data.prepare import cached, default_cache
from funduscope.i18n.errors import PhotoError, refuse_machine_fault
from funduscope.network.network import Network
from funduscope.recipe import Recipe
from funduscope.training import processes
from funduscope.training.acceleration import bfloat16
from funduscope.training.batch import Item, Samples, collate, frame_px
from funduscope.training.losses import loss_sums, losses_of, with_total
from funduscope.training.photo_dataset import NO_AUGMENTATION
from funduscope.training.samples import serves
from funduscope.vocabulary import CLASSES, View


class ValidationLoss:
    """Losses by task and their weighted sum, `total`. Class weights are left out: each photo counts alike.

    Of several processes each computes the losses of its share of the photos; all return those of all photos.
    """

    def __init__(self, recipe: Recipe, cases: list[Case]) -> None:
        self.recipe = recipe.model_copy(update={"augment": NO_AUGMENTATION})
        chosen: list[tuple[Case, View]] = [
            (case, view)
            for view, rate in recipe.sampling.by_view.items()
            for case in cases
            if rate.get(case.dataset) and serves(case.labels, view, recipe)
        ]
        items = [Item(*one, seed=(recipe.training.seed, place)) for place, one in enumerate(chosen)]
        self.items = items[processes.own_share()]
        self.files: dict[str, Path] = {}

    def __call__(self, network: Network) -> dict[str, float]:
        """network: in evaluation mode, on its device."""
        device = next(network.parameters()).device
        low = bfloat16(self.recipe.training.precision)
        own: list[dict[str, Tensor]] = []
        batch = self.recipe.training.batch
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=low):
            for start in range(0, len(self.items), batch):
                own += self._sums(network, self.items[start : start + batch], device)
        sums: dict[str, Tensor] = {}
        for part in processes.all_gather(own):
            for name, values in part.items():
                sums[name] = sums.get(name, 0) + values
        losses = losses_of(sums, self.recipe.loss).items()
        return with_total({f"loss {name}": float(loss) for name, loss in losses}, self.recipe.loss)

    def _sums(self, network: Network, items: list[Item], device: torch.device) -> list[dict[str, Tensor]]:
        """The sums of one batch, on the processor; nothing if no photo of it can be read."""
        recipe, readable = self.recipe, []
        for item in items:
            if item.case.key not in self.files:
                try:
                    self.files[item.case.key] = cached(item.case, frame_px(recipe), default_cache())
                except PhotoError as error:
                    refuse_machine_fault(error)
                    continue  # named when the run began
            readable.append(item)
        if not readable:
            return []
        samples = Samples(self.files, recipe, turned=False)
        made = collate([samples[item] for item in readable]).to(device)
        alike = {name: torch.ones(len(classes), device=device) for name, classes in CLASSES.items()}
        tasks = recipe.tasks
        sums = loss_sums(network(made.image), made, recipe.loss, tasks.structures, alike, tasks.landmarks)
        return [{name: values.float().cpu() for name, values in sums.items()}]
