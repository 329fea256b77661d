"""How well an epoch's samples were outlined: Dice and IoU of the training samples, for the journal."""

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

_HALF: Final = 128  # of a pixel's coverage


def mask_sums(outputs: Outputs, batch: Batch, structures: Sequence[str]) -> Sums:
    """By `CODE mask` of the structures, over known pixels at the size of the maps: those both marked (a probability of
    at least 0.5) and true, marked, and true (covered by half)."""
    if outputs.structures is None:
        return {}
    marked = outputs.structures.detach() >= 0
    channels = [CHANNELS.index(code) for code in structures]
    size = marked.shape[-2:]
    covered, known = (
        F.interpolate(planes[:, channels].float(), size=size, mode="nearest-exact")
        for planes in (batch.coverage, batch.known)
    )
    is_known, true = known > 0, covered >= _HALF
    parts = torch.stack([marked & true & is_known, marked & is_known, true & is_known]).sum((1, 3, 4))
    return {f"{code} mask": parts[:, index].float() for index, code in enumerate(structures)}


class Overlaps:
    """Takes the sums of an epoch's batches."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(3, dtype=torch.float64))

    def take(self, sums: Sums) -> None:
        """Takes those of `mask_sums` out of a batch's sums."""
        for name in [name for name in sums if name.endswith(" mask")]:
            self.sums[name.removesuffix(" mask")] += sums.pop(name).detach().cpu()

    def numbers(self) -> dict[str, float]:
        """Dice and IoU of each structure, by names of the journal. Without a true pixel there is neither."""
        found: dict[str, float] = {}
        for code, (both, marked, true) in ((code, parts.tolist()) for code, parts in self.sums.items()):
            if true:
                found[f"training {code} Dice"] = 2 * both / (marked + true)
                found[f"training {code} IoU"] = both / (marked + true - both)
        return found
