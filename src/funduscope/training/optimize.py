"""The optimizer, the schedule of its learning rate, and the average of the weights.

AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. Adam: Kingma and Ba, "Adam: A Method
for Stochastic Optimization", ICLR 2015, with the decay added to the gradient, as published designs use it. Neither
decays vectors. The average is exponential, of the family of Polyak averaging; batch-norm statistics are averaged with
the weights, so that no second pass is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

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


class Plateau:
    """Lowers the learning rate while the validation score does not improve.

    scale: factor of the rate, 1 at first. After `patience` epochs in a row without a better score it is
    multiplied by `factor`, and the count starts again.
    """

    def __init__(self, factor: float, patience: int) -> None:
        self.factor, self.patience = factor, patience
        self.scale, self.waited = 1.0, 0
        self.best = -math.inf

    def step(self, score: float, *, warming_up: bool = False) -> None:
        """Takes an epoch's score; higher is better, NaN never is.

        warming_up: the rate is still rising, so that the epoch does not count as one without improvement.
        """
        if score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += not warming_up
        if self.waited >= self.patience:
            self.scale, self.waited = self.scale * self.factor, 0

    def state(self) -> dict[str, float]:
        """Finite numbers for JSON; `load` restores them."""
        known = {"best": self.best} if math.isfinite(self.best) else {}
        return {"scale": self.scale, "waited": self.waited} | known

    def load(self, state: dict[str, float]) -> None:
        """Restores a stored state."""
        self.scale, self.waited = state["scale"], int(state["waited"])
        self.best = state.get("best", -math.inf)


class MovingAverage:
    """The exponential moving average of a network's weights and statistics.

    The decay starts low and rises to `decay`, so that random first weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Adds the present state of the network."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in network.state_dict().items():
            average = self.state[name]
            if average.is_floating_point():
                average.lerp_(value.detach().to(average.dtype), 1 - keep)
            else:
                average.copy_(value)

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Restores a stored average."""
        self.steps = steps
        self.state = {name: value.to(self.state[name].device, copy=True) for name, value in state.items()}
