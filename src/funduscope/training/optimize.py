"""The optimizer, the schedule of its learning rate, and the average of the weights.

AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. Adam: Kingma and Ba, "Adam: A Method
for Stochastic Optimization", ICLR 2015, with the decay added to the gradient, as published designs use it. Neither
decays vectors. The average is exponential, of the family of Polyak averaging; batch-norm statistics are averaged with
the weights, so that no second pass is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from funduscope.settings import Training


def make_optimizer(
    network: nn.Module, settings: Training, extra: Sequence[nn.Parameter] = (), extra_rate: float = 0.0
) -> torch.optim.Optimizer:
    """The recipe's optimizer. Vectors (biases and norms) are not decayed; the encoder may have a rate of its own.

    extra: further parameters, such as the balance's, with the learning rate `extra_rate` and without decay; they come
    last.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        groups.setdefault((name.startswith("encoder."), parameter.ndim > 1), []).append(parameter)
    settled = [
        {
            "params": parameters,
            "lr": settings.learning_rate * (settings.encoder_rate_frac if of_encoder else 1.0),
            "weight_decay": settings.weight_decay if is_matrix else 0.0,
        }
        for (of_encoder, is_matrix), parameters in sorted(groups.items(), key=lambda entry: entry[0])
    ]
    if extra:
        settled.append({"params": list(extra), "lr": extra_rate, "weight_decay": 0.0})
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    return kinds[settings.optimizer](settled)


def rate_at(progress: float, warm_up_frac: float, schedule: str = "cosine") -> float:
    """Factor on the learning rate at `progress`, the share of all steps that are done: a linear rise, then a cosine to
    0.

    With another schedule it stays full after the rise; the loop lowers it by epoch (step) or score (plateau).
    """
    if progress < warm_up_frac:
        return max(progress / warm_up_frac, 0.01)
    if schedule != "cosine":
        return 1.0
    rest = (progress - warm_up_frac) / max(1 - warm_up_frac, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def make_plateau(factor: float, patience: int) -> ReduceLROnPlateau:
    """Lowers a factor on the learning rate, `get_last_lr()[0]`, while the validation score does not improve.

    After `patience` epochs in a row without a better score it is multiplied by `factor`, and the count starts again.
    """
    scale = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)  # learns nothing: its rate is the factor
    return ReduceLROnPlateau(scale, "max", factor, patience - 1, threshold=0.0, eps=0.0)


def load_plateau(plateau: ReduceLROnPlateau, state: dict[str, Any]) -> None:
    """Restores a stored state."""
    plateau.load_state_dict(state)
    plateau.optimizer.param_groups[0]["lr"] = plateau.get_last_lr()[0]


def make_average(network: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a network's weights and statistics.

    The decay starts low and rises to `decay`, so that random first weights are soon forgotten.
    """

    def update(averages: list[Tensor], values: list[Tensor], count: Tensor) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - keep)
            else:
                average.copy_(value)

    average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)  # pyright: ignore[reportArgumentType]
    average.n_averaged += 1  # the first weights, which the first update would replace otherwise
    return average
