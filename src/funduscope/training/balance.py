"""How the tasks' losses become one."""

from __future__ import annotations

import torch
from torch import Tensor

from funduscope.recipe import Loss


def fixed(losses: dict[str, Tensor], settings: Loss) -> Tensor | None:
    """The sum of the losses that are there, each with the recipe's weight; None where there is none."""
    parts = [getattr(settings, task) * loss for task, loss in losses.items()]
    return torch.stack(parts).sum() if parts else None
