"""AdamW, its schedule, and the average of the weights.

Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. The average is the exponential one of Polyak
averaging's family; batch-norm statistics are averaged with the weights, so the average needs no second pass.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from funduscope.recipe import Training


def make_optimizer(network: nn.Module, settings: Training) -> torch.optim.AdamW:
    """AdamW; vectors (biases and norms) are not decayed, the encoder may have a rate of its own."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        groups.setdefault((name.startswith("encoder."), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": settings.learning_rate * (settings.encoder_rate_frac if of_encoder else 1.0),
                "weight_decay": settings.weight_decay if is_matrix else 0.0,
            }
            for (of_encoder, is_matrix), parameters in sorted(groups.items(), key=lambda entry: entry[0])
        ]
    )


def rate_at(progress: float, warm_up_frac: float) -> float:
    """Share of the full learning rate at that share of all steps: a linear rise, then half a cosine to nothing."""
    if progress < warm_up_frac:
        return max(progress / warm_up_frac, 0.01)
    rest = (progress - warm_up_frac) / max(1 - warm_up_frac, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


class Average:
    """The exponential moving average of a network's weights and statistics.

    The decay starts low and rises to `decay`, so that the random start is soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes in the network as it is now."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in network.state_dict().items():
            held = self.state[name]
            if held.is_floating_point():
                held.lerp_(value.detach().to(held.dtype), 1 - keep)
            else:
                held.copy_(value)

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Goes on from a stored average."""
        self.steps = steps
        self.state = {name: value.to(self.state[name].device, copy=True) for name, value in state.items()}
