"""The heads: small modules, one per task, that turn features into logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funduscope.network.routing import Dispatch, Gate, Routed
from funduscope.settings import Experts

STRUCTURE_BIAS = -4.0
"""First logit of a structure's maps: before anything is learned, a pixel is rarely a lesion."""


class ClassifierHead(nn.Module):
    """Mean over the map, hidden layers if any, dropout, one linear layer: (B, C, h, w) to (B, classes).

    hidden: widths of the layers before the last, each with ReLU and dropout. Without any, the head is linear on pooled
    features, and weights times features is its exact class activation map; with some, there is no such map.
    """

    def __init__(self, channels: int, classes: int, dropout: float, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.before = _layers([channels, *hidden], dropout) if hidden else nn.Dropout(dropout)
        self.linear = nn.Linear([channels, *hidden][-1], classes)

    def forward(self, deepest: Tensor) -> Tensor:
        return self.linear(self.before(deepest.mean(dim=(2, 3))))

    def activation_map(self, deepest: Tensor) -> Tensor | None:
        """(B, classes, h, w): what each cell contributes to each logit, times h w; the mean over the map is the logits.

        Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016. Differs: the bias is spread
        evenly, so that the map accounts for the whole logit. None with hidden layers. Without dropout.
        """
        if not isinstance(self.before, nn.Dropout):
            return None
        return F.conv2d(deepest, self.linear.weight[:, :, None, None], self.linear.bias)


class ExpertClassifierHead(nn.Module):
    """Experts of one task on pooled features, mixed for each photo by the task's gate, then as `ClassifierHead`.

    Experts: one linear layer and ReLU each, hidden[0] wide; further widths follow the mixture. A task's gate over
    experts: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD
    2018. Differs: the experts belong to this task alone, and only those that the gate keeps are computed.
    """

    def __init__(self, channels: int, classes: int, dropout: float, hidden: Sequence[int], settings: Experts) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("heads.hidden is empty, expected is the experts' width first: set it, such as [512].")
        self.gate = Gate(channels, settings)
        self.dispatch = Dispatch(
            [nn.Sequential(nn.Linear(channels, hidden[0]), nn.ReLU()) for _ in range(settings.count)],
            settings.keep == "all",
        )
        self.dropout = nn.Dropout(dropout)
        self.before = _layers(hidden, dropout)
        self.linear = nn.Linear(hidden[-1], classes)

    def forward(self, deepest: Tensor) -> tuple[Tensor, Routed]:
        """(B, C, h, w) to logits (B, classes), and the routing."""
        pooled = deepest.mean(dim=(2, 3))
        routed = self.gate(pooled)
        mixture = self.dropout(self.dispatch(pooled, routed.gates))
        return self.linear(self.before(mixture)), routed


class DenseHead(nn.Module):
    """One convolution, 3x3 unless side_px is 1: (B, C, h, w) to (B, maps, h, w).

    start: the first bias of the maps, `STRUCTURE_BIAS` for structures.
    """

    def __init__(self, channels: int, maps: int, start: float, side_px: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, maps, side_px, padding=side_px // 2)
        nn.init.constant_(self.conv.bias, start)  # pyright: ignore[reportArgumentType]

    def forward(self, feature: Tensor) -> Tensor:
        return self.conv(feature)


class DeepSupervisionHeads(nn.Module):
    """UNet++'s deep supervision: a 1x1 convolution a branch, each of which finds every structure.

    widths: of the branches, which come joined: (B, sum of widths, h, w). start: as of `DenseHead`.
    """

    def __init__(self, widths: Sequence[int], maps: int, start: float) -> None:
        super().__init__()
        self.widths = list(widths)
        self.branches = nn.ModuleList(DenseHead(width, maps, start, side_px=1) for width in widths)

    def forward(self, feature: Tensor) -> list[Tensor]:
        """(B, maps, h, w) logits of each branch."""
        parts = feature.split(self.widths, dim=1)
        return [branch(part) for branch, part in zip(self.branches, parts, strict=True)]

    @staticmethod
    def mean(branches: Sequence[Tensor]) -> Tensor:
        """The logits of the branches' mean probability, the paper's accurate mode; exact where both are near 0 or 1."""
        logits = torch.stack([branch.float() for branch in branches])
        return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)


def _layers(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear, ReLU and dropout from each width to the next."""
    steps: list[nn.Module] = []
    for into, out in pairwise(widths):
        steps += [nn.Linear(into, out), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*steps)
