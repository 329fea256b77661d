"""How the tasks' losses become one: their weights.

One interface, `Balance`; a recipe names the kind, and every kind starts from the recipe's weights.

fixed: the recipe's weights, unchanged.

routed: a small network turns the losses into task weights and is trained by the weighted loss: the dynamic routing of
recipe `soft_sharing`. Differs: as published, nothing keeps it from giving every task a
weight of 0, which minimizes the loss; with a constant sum of weights, all weight on the smallest loss would. Here the
network sees and minimizes each loss relative to its own running mean, so that no task is small by its scale, and the
divergence of its shares from the recipe's is added (`anchor`). The minimum is then the recipe's share times
exp(-relative loss / anchor): a task that does worse than recently weighs less. The weights keep the sum of the
recipe's, and none falls below a share (`floor`) of its own. The sum is over the tasks that were seen so far, by their
last losses; a batch that lacks some of them leaves those alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from funduscope.settings import Balance as Settings

_ROUTER_WIDTH = 16
_MEAN_KEPT = 0.98
"""Decay of the running mean of a task's loss, per batch that has the task: a mean over about 50 of them."""
_TINY = 1e-8


class Balance(nn.Module, ABC):
    """Makes one loss of several and adds its gradients.

    Learned weights are parameters of this module, with a learning rate of their own; other state that a resumed run
    needs is a buffer. start: the first weights by task; a task of weight 0 is ignored.
    """

    def __init__(self, start: dict[str, float]) -> None:
        super().__init__()
        self.start = dict(start)
        self.tasks = tuple(task for task, weight in start.items() if weight > 0)
        self.applied: dict[str, float] = {}
        """The weights by task of the last batch, without the tasks that it lacked."""

    @abstractmethod
    def combine(self, losses: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """The weighted total of at least one finite loss, and a further term to minimize that is not part of it.

        Only the gradients of the second matter, not its value. losses: scalars by task, all of a weight above 0. Sets
        `applied`.
        """

    def backward(
        self, losses: dict[str, Tensor], extra: Tensor | None, backward: Callable[[Tensor], None]
    ) -> Tensor | None:
        """Adds all gradients to `.grad`. Returns the detached weighted total, including `extra`.

        losses: by task, those that the batch has. extra: added without a weight. backward: turns a scalar into
        gradients (accelerate's, or `Tensor.backward`); called once. None if no task has a loss. A total that is not
        finite is returned without any gradient.
        """
        counted = {task: loss.float() for task, loss in losses.items() if self.start[task] > 0}
        if not counted:
            return None
        every = torch.stack([*counted.values(), *([] if extra is None else [extra.float()])])
        if not bool(torch.isfinite(every).all()):
            return every.detach().sum()
        total, further = self.combine(counted)
        total = total if extra is None else total + extra
        backward(total if further is None else total + further)
        return total.detach()

    def places(self, tasks: Sequence[str]) -> list[int]:
        """The indices of the tasks in `self.tasks`."""
        return [self.tasks.index(task) for task in tasks]

    def starts(self, tasks: Sequence[str], like: Tensor) -> Tensor:
        """(T,) the tasks' start weights, on the device of `like`."""
        return torch.tensor([self.start[task] for task in tasks], device=like.device)

    def weighed(self, losses: dict[str, Tensor], weights: Tensor) -> Tensor:
        """The sum of the losses times (T,) weights in the same order. Sets `applied`."""
        self.applied = dict(zip(losses, weights.tolist(), strict=True))
        return (weights * torch.stack(list(losses.values()))).sum()


class Fixed(Balance):
    """The recipe's weights."""

    def combine(self, losses: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        values = list(losses.values())
        return self.weighed(losses, self.starts(list(losses), values[0])), None


class LossRouter(Balance):
    """A network from the logarithms of the losses, relative to their running means, to the weights.

    floor: the share of its start weight that a task keeps at least. anchor: strength of the pull to the start weights.
    """

    def __init__(self, start: dict[str, float], floor: float, anchor: float) -> None:
        super().__init__(start)
        self.floor, self.anchor = floor, anchor
        count = len(self.tasks)
        last = nn.Linear(_ROUTER_WIDTH, count)
        nn.init.zeros_(last.weight)  # so that it starts from the recipe's weights
        nn.init.zeros_(last.bias)
        self.router = nn.Sequential(nn.Linear(2 * count, _ROUTER_WIDTH), nn.Tanh(), last)
        self.register_buffer("last", torch.zeros(count))  # each task's last loss; 0 before it
        self.register_buffer("mean", torch.zeros(count))  # and its running mean

    def combine(self, losses: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        self._remember(list(losses), torch.stack(list(losses.values())).detach())
        seen = self._seen()
        shares = self._shares(seen)
        starts = self.starts(seen, shares)
        weights = self._weigh(shares, starts).detach()
        total = self.weighed(losses, weights[[seen.index(task) for task in losses]])
        away = (shares * (shares.clamp(min=_TINY) * starts.sum() / starts).log()).sum()
        return total, (shares * self._relative(seen)).sum() + self.anchor * away

    def _seen(self) -> list[str]:
        """The tasks that had a loss so far: batches may alternate, and know one of them each."""
        return [task for task, last in zip(self.tasks, cast(Tensor, self.last).tolist(), strict=True) if last]

    def _remember(self, tasks: Sequence[str], values: Tensor) -> None:
        """Updates last losses and running means."""
        last, mean, places = cast(Tensor, self.last), cast(Tensor, self.mean), self.places(tasks)
        last[places] = values.clamp(min=_TINY)
        moved = _MEAN_KEPT * mean[places] + (1 - _MEAN_KEPT) * last[places]
        mean[places] = torch.where(mean[places] > 0, moved, last[places])

    def _relative(self, tasks: Sequence[str]) -> Tensor:
        """(T,) the last losses over their running means."""
        places = self.places(tasks)
        return cast(Tensor, self.last)[places] / cast(Tensor, self.mean)[places]

    def _shares(self, tasks: Sequence[str]) -> Tensor:
        """(T,) shares of those tasks by their last losses, summing to 1. The router sees which tasks are there."""
        last, places = cast(Tensor, self.last), self.places(tasks)
        there, logs = torch.zeros_like(last), torch.zeros_like(last)
        there[places], logs[places] = 1.0, self._relative(tasks).log()
        logits = self.router(torch.cat([logs, there]))[places]
        return torch.softmax(logits + self.starts(tasks, last).log(), 0)

    def _weigh(self, shares: Tensor, starts: Tensor) -> Tensor:
        return self.floor * starts + (1 - self.floor) * starts.sum() * shares


def make_balance(settings: Settings, start: dict[str, float]) -> Balance:
    """The balance of a recipe, from the weights of its losses by task."""
    kinds: dict[str, Callable[[], Balance]] = {
        "fixed": lambda: Fixed(start),
        "routed": lambda: LossRouter(start, settings.floor, settings.anchor),
    }
    return kinds[settings.kind]()
