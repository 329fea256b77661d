"""Experts that are whole heads, as in the mixture of experts of recipe `moe_deeplab` (docs/recipes.md, S3).

All segmentation tasks share one atrous spatial pyramid (ASPP; Chen et al. 2017). Each task has experts of its own: for
a structure whole decoders, for a grade whole classifiers. The task's gate (network/routing.py) gives each expert a
sigmoid score; the experts with the highest scores answer, and their logits are averaged with the scores as weights.
Layer by layer as read from the authors' code. Differs: an expert that is not chosen is not computed, in ONNX neither;
the first bias of a structure's map is that of a rare structure.

B photos, E experts; the deepest map is at stride 16, the low level at stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funduscope.network.deeplab import atrous_rates, check_levels, joined
from funduscope.network.dilated import use_fast_backward
from funduscope.network.heads import STRUCTURE_BIAS
from funduscope.network.routing import Dispatch, Gate, Routed
from funduscope.settings import Decoder, Experts

LOW_CHANNELS = 64
POOLED_ROWS, POOLED_COLUMNS = 11, 16
"""Rows and columns of the grid that a grading expert averages over: a photo of 712 x 1072 px has 44 x 67 cells at
stride 16; a quarter of that is 11 x 16."""
GRADING_CHANNELS, HIDDEN = 1024, 256
DROPOUT = 0.5


class ExpertDecoders(nn.Module):
    """One ASPP, and for each dense task a gate and whole decoders as experts.

    levels: channels of the encoder's pyramid, shallow to deep. tasks: the number of maps by task. decoder.channels: one
    width; decoder.rates: at output stride 16.
    """

    def __init__(
        self, levels: Sequence[int], tasks: dict[str, int], decoder: Decoder, output_stride: int, experts: Experts
    ) -> None:
        super().__init__()
        check_levels(levels)
        width, low = decoder.channels[0], levels[-4]
        self.context = SharedAspp(levels[-1], width, atrous_rates(decoder.rates, output_stride))
        self.gates = nn.ModuleDict({name: Gate(width, experts) for name in tasks})
        self.experts = nn.ModuleDict(
            {
                name: Dispatch([_DecoderExpert(width, low, maps) for _ in range(experts.count)], experts.keep == "all")
                for name, maps in tasks.items()
            }
        )

    def forward(self, pyramid: list[Tensor]) -> tuple[dict[str, Tensor], dict[str, Routed]]:
        """Logits (B, maps, H/4, W/4) and the routing of every task."""
        context = self.context(pyramid[-1])
        both, pooled = joined(context, pyramid[-4]), context.mean(dim=(2, 3))
        routed = {name: gate(pooled) for name, gate in self.gates.items()}
        return {name: experts(both, routed[name].gates) for name, experts in self.experts.items()}, routed


class SharedAspp(nn.Module):
    """ASPP with biases in every convolution: 1x1, three separable 3x3 and the pooled map, projected to one width."""

    def __init__(self, channels: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        atrous = [_separable(channels, width, rate) for rate in rates]
        self.branches = nn.ModuleList([_point(channels, width), *atrous])
        self.pooled = _point(channels, width)
        self.project = _point(width * (len(self.branches) + 1), width)

    def forward(self, deepest: Tensor) -> Tensor:
        pooled = _normalized(self.pooled, deepest.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *deepest.shape[2:])
        return self.project(torch.cat([*(branch(deepest) for branch in self.branches), pooled], dim=1))


class ExpertClassifiers(nn.Module):
    """A gate on the deepest map, classifiers as experts: (B, C, h, w) to logits (B, classes) and the routing."""

    def __init__(self, channels: int, classes: int, experts: Experts) -> None:
        super().__init__()
        self.gate = Gate(channels, experts)
        self.dispatch = Dispatch(
            [_ClassifierExpert(channels, classes) for _ in range(experts.count)], experts.keep == "all"
        )

    def forward(self, deepest: Tensor) -> tuple[Tensor, Routed]:
        routed = self.gate(deepest.mean(dim=(2, 3)))
        mixed = cast(Tensor, self.dispatch(deepest, routed.gates))
        return mixed.flatten(1), routed


class _DecoderExpert(nn.Module):
    """Low level to 64 channels, joined with the context, one separable convolution, logits."""

    def __init__(self, width: int, low: int, maps: int) -> None:
        super().__init__()
        self.width = width
        self.low = _point(low, LOW_CHANNELS)
        self.fuse = _separable(width + LOW_CHANNELS, width)
        self.dropout = nn.Dropout(DROPOUT)
        self.maps = nn.Conv2d(width, maps, 1)
        nn.init.constant_(cast(Tensor, self.maps.bias), STRUCTURE_BIAS)

    def forward(self, both: Tensor) -> Tensor:
        """(B, width + low, H/4, W/4), the enlarged context before the low level, to logits."""
        context, low = both.split([self.width, both.shape[1] - self.width], dim=1)
        return self.maps(self.dropout(self.fuse(torch.cat([context, self.low(low)], dim=1))))


class _ClassifierExpert(nn.Module):
    """A grid of means, a separable convolution of stride 2, the mean, two linear layers."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.rows, self.columns = POOLED_ROWS, POOLED_COLUMNS  # TorchScript reads no global names
        self.depth = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels)
        self.point = nn.Conv2d(channels, GRADING_CHANNELS, 1)
        self.hidden = nn.Linear(GRADING_CHANNELS, HIDDEN)
        self.dropout = nn.Dropout(DROPOUT)
        self.last = nn.Linear(HIDDEN, classes)

    def forward(self, deepest: Tensor) -> Tensor:
        """(B, C, h, w) to (B, classes, 1, 1): a mix keeps the number of axes."""
        grid = grid_means(deepest, self.rows, self.columns)
        pooled = self.point(self.depth(grid)).mean(dim=(2, 3))
        return self.last(self.dropout(torch.relu(self.hidden(pooled))))[:, :, None, None]


def grid_means(values: Tensor, rows: int, columns: int) -> Tensor:
    """(B, C, h, w) to means over a grid (B, C, rows, columns), as `adaptive_avg_pool2d`.

    As two products of matrices, since ONNX has no such pooling where the sizes do not divide.
    """
    upper, left = _means_matrix(values.shape[2], rows, values), _means_matrix(values.shape[3], columns, values)
    return torch.matmul(torch.matmul(upper, values), left.transpose(0, 1))


def _means_matrix(size: int, cells: int, like: Tensor) -> Tensor:
    """(cells, size): row i has equal weights over the pixels of cell i; cells overlap where the size does not divide.

    size: an int, or, while an ONNX file is traced, a tensor.
    """
    at, cell = torch.arange(size, device=like.device), torch.arange(cells, device=like.device)
    first, end = cell * size // cells, ((cell + 1) * size + cells - 1) // cells
    inside = (at[None] >= first[:, None]) & (at[None] < end[:, None])
    return inside.to(like.dtype) / (end - first)[:, None].to(like.dtype)


def _point(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 1), nn.BatchNorm2d(out), nn.ReLU())


def _separable(into: int, out: int, rate: int = 1) -> nn.Sequential:
    """A depthwise separable 3x3 convolution with biases, BatchNorm, ReLU."""
    block = nn.Sequential(
        nn.Conv2d(into, into, 3, padding=rate, dilation=rate, groups=into),
        nn.Conv2d(into, out, 1),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
    use_fast_backward(block)
    return block


def _normalized(block: nn.Sequential, pooled: Tensor) -> Tensor:
    """A block on one value per channel. Of a single photo its BatchNorm takes the running statistics."""
    norm = cast(nn.BatchNorm2d, block[1])
    if not (norm.training and len(pooled) == 1):
        return block(pooled)
    found = block[0](pooled)
    return torch.relu(F.batch_norm(found, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps))
