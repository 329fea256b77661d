"""How well an epoch's samples were answered: accuracy, Dice and IoU on the training samples, for the journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from funduscope.data.prepare import CHANNELS
from funduscope.network.network import Outputs
from funduscope.training.batch import Batch
from funduscope.training.losses import Sums
from funduscope.vocabulary import PHOTO_TASKS

_HALF: Final = 128  # of a pixel's coverage
_ACCURACY: Final = " accuracy"
_MASK: Final = " mask"


def score_sums(outputs: Outputs, batch: Batch, structures: Sequence[str]) -> Sums:
    """What `SampleScores` needs of a batch.

    By `TASK accuracy` of the photo tasks: the photos whose likeliest class is the label, and those with a label. By
    `CODE mask` of the structures, over known pixels at the size of the maps: those both marked (a probability of at
    least 0.5) and true, marked, and true (covered by half).
    """
    sums: Sums = {}
    for task in PHOTO_TASKS:
        logits = outputs.classes.get(task.name)
        if logits is not None:
            allowed = batch.allowed[task.name]
            labeled = allowed.sum(1) == 1
            right = allowed.gather(1, logits.detach().argmax(1, keepdim=True)).squeeze(1) & labeled
            sums[task.name + _ACCURACY] = torch.stack([right.sum(), labeled.sum()]).float()
    if outputs.structures is None:
        return sums
    marked = outputs.structures.detach() >= 0
    channels = [CHANNELS.index(code) for code in structures]
    size = marked.shape[-2:]
    covered, known = (
        F.interpolate(planes[:, channels].float(), size=size, mode="nearest-exact")
        for planes in (batch.coverage, batch.known)
    )
    is_known, true = known > 0, covered >= _HALF
    parts = torch.stack([marked & true & is_known, marked & is_known, true & is_known]).sum((1, 3, 4))
    return sums | {code + _MASK: parts[:, index].float() for index, code in enumerate(structures)}


class SampleScores:
    """Adds up the sums of an epoch's batches, so that each photo and pixel counts the same, whatever its batch."""

    def __init__(self) -> None:
        self.right: dict[str, Tensor] = defaultdict(lambda: torch.zeros(2, dtype=torch.float64))
        self.masks: dict[str, Tensor] = defaultdict(lambda: torch.zeros(3, dtype=torch.float64))

    def take(self, sums: Sums) -> None:
        """Takes those of `score_sums` out of a batch's sums."""
        for suffix, totals in ((_ACCURACY, self.right), (_MASK, self.masks)):
            for name in [name for name in sums if name.endswith(suffix)]:
                totals[name.removesuffix(suffix)] += sums.pop(name).detach().cpu()

    def numbers(self) -> dict[str, float]:
        """Accuracy of each photo task, Dice and IoU of each structure, by names of the journal.

        A task without a labeled photo has none, nor has a structure without a true pixel.
        """
        found: dict[str, float] = {}
        for task, (right, labeled) in ((task, parts.tolist()) for task, parts in self.right.items()):
            if labeled:
                found[f"training {task}{_ACCURACY}"] = right / labeled
        for code, (both, marked, true) in ((code, parts.tolist()) for code, parts in self.masks.items()):
            if true:
                found[f"training {code} Dice"] = 2 * both / (marked + true)
                found[f"training {code} IoU"] = both / (marked + true - both)
        return found
