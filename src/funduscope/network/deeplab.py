"""DeepLabV3+: context at several distances from the deepest level, edges from the level at stride 4; also with experts.

Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV 2018; atrous
spatial pyramid pooling (ASPP) and its image pooling are Chen et al., "Rethinking Atrous Convolution for Semantic Image
Segmentation", 2017. Differs: the pooled branch is normalized over its channels (Ba et al., "Layer Normalization",
2016), since a batch of one photo has a single value per channel to take statistics of; of the paper's two 3x3
convolutions after the fusion the second is the dense head, which makes the logits; the recipe chooses whether they are
separable. The convolutions are segmentation-models-pytorch's. Its decoder is not used: it is always separable, keeps
its rates at output stride 8 and fails on a batch of one in training.

`TaskDeepLab` is the multi-task design of the recipe moe_aspp: each task has atrous branches of its own as experts, and
a gate that chooses among them for each photo. Only the chosen ones are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from segmentation_models_pytorch.base.modules import Conv2dReLU
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPPConv, ASPPSeparableConv
from torch import Tensor, nn
from torch.nn import functional as F

from funduscope.network.dilated import use_fast_backward
from funduscope.network.heads import STRUCTURE_BIAS, DenseHead
from funduscope.network.routing import Dispatch, Gate, Routed
from funduscope.settings import Decoder, Experts

LOW_CHANNELS = 48
"""Width of the stride-4 level next to the context, as in the paper: with more, edges outweigh the context."""

DROPOUT = 0.1
RATES_STRIDE = 16


class DeepLab(nn.Module):
    """ASPP on the deepest level, joined with the level at stride 4.

    levels: channels of the pyramid, shallow to deep, the deepest four at strides 4 to 32 or dilated. settings.channels:
    one width. settings.rates: at output stride 16, see `atrous_rates`. settings.skip_channels is not used.
    """

    def __init__(self, levels: Sequence[int], settings: Decoder, output_stride: int) -> None:
        super().__init__()
        check_levels(levels)
        width, deepest = settings.channels[0], levels[-1]
        atrous = [
            conv3x3(deepest, width, settings.separable, rate) for rate in atrous_rates(settings.rates, output_stride)
        ]
        self.branches = nn.ModuleList([Conv2dReLU(deepest, width, 1), *atrous, ImagePooling(deepest, width)])
        self.project = nn.Sequential(Conv2dReLU(width * len(self.branches), width, 1), nn.Dropout(DROPOUT))
        self.low = Conv2dReLU(levels[-4], LOW_CHANNELS, 1)
        self.fuse = conv3x3(width + LOW_CHANNELS, width, settings.separable)
        self.channels = [width, width]

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """The fused map (B, width, H/4, W/4), twice, since all dense heads read the same map."""
        context = self.project(torch.cat([branch(pyramid[-1]) for branch in self.branches], dim=1))
        fused = self.fuse(joined(context, self.low(pyramid[-4])))
        return [fused, fused]


class TaskDeepLab(nn.Module):
    """DeepLabV3+ with experts and a gate of its own for each task; the 1x1, pooled and stride-4 branches are shared.

    tasks: the number of maps by task. decoder, experts: of the recipe. An expert is an atrous convolution (depthwise
    separable where decoder.separable is set) at one of the decoder's rates, in turn.
    """

    def __init__(
        self, levels: Sequence[int], tasks: dict[str, int], decoder: Decoder, output_stride: int, experts: Experts
    ) -> None:
        super().__init__()
        check_levels(levels)
        width, deepest = decoder.channels[0], levels[-1]
        self.point = Conv2dReLU(deepest, width, 1)
        self.pooling = ImagePooling(deepest, width)
        self.low = Conv2dReLU(levels[-4], LOW_CHANNELS, 1)
        self.tasks = nn.ModuleDict(
            {name: TaskPath(deepest, maps, decoder, output_stride, experts) for name, maps in tasks.items()}
        )

    def forward(self, pyramid: list[Tensor]) -> tuple[dict[str, Tensor], dict[str, Routed]]:
        """Logits (B, maps, H/4, W/4) and the routing of every task."""
        deepest = pyramid[-1]
        point, pooled, low = self.point(deepest), self.pooling(deepest), self.low(pyramid[-4])
        logits: dict[str, Tensor] = {}
        routed: dict[str, Routed] = {}
        for name, path in self.tasks.items():
            logits[name], routed[name] = path(deepest, [point, pooled], low)
        return logits, routed


class TaskPath(nn.Module):
    """One task of `TaskDeepLab`: its experts, its gate, its layers from them to its maps."""

    def __init__(self, deepest: int, maps: int, decoder: Decoder, output_stride: int, experts: Experts) -> None:
        super().__init__()
        width, separable = decoder.channels[0], decoder.separable
        rates = atrous_rates(decoder.rates, output_stride)
        self.gate = Gate(deepest, experts)
        self.dispatch = Dispatch(
            [conv3x3(deepest, width, separable, rates[index % len(rates)]) for index in range(experts.count)],
            experts.keep == "all",
        )
        self.project = nn.Sequential(Conv2dReLU(width * 3, width, 1), nn.Dropout(DROPOUT))
        self.fuse = nn.Sequential(
            conv3x3(width + LOW_CHANNELS, width, separable),
            conv3x3(width, width, separable),
        )
        self.maps = DenseHead(width, maps, STRUCTURE_BIAS, side_px=1)

    def forward(self, deepest: Tensor, shared: list[Tensor], low: Tensor) -> tuple[Tensor, Routed]:
        """Logits and routing. shared: outputs of the branches that all tasks share, (B, width, h, w) each."""
        routed = self.gate(deepest.mean(dim=(2, 3)))
        mixture = self.dispatch(deepest, routed.gates)
        context = self.project(torch.cat([mixture, *shared], dim=1))
        return self.maps(self.fuse(joined(context, low))), routed


class ImagePooling(nn.Module):
    """The mean over the map, projected and repeated at each pixel: (B, C, h, w) to (B, width, h, w)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, deepest: Tensor) -> Tensor:
        pooled = F.relu(self.norm(self.linear(deepest.mean(dim=(2, 3)))))
        return pooled[:, :, None, None].expand(-1, -1, deepest.shape[2], deepest.shape[3])


def conv3x3(into: int, out: int, separable: bool, rate: int = 1) -> nn.Module:
    """A 3x3 convolution, full or depthwise separable, dilated by `rate`; BatchNorm, ReLU."""
    block = (ASPPSeparableConv if separable else ASPPConv)(into, out, rate)
    use_fast_backward(block)
    return block


def joined(context: Tensor, low: Tensor) -> Tensor:
    """The context enlarged to the size of the low level, concatenated with it."""
    raised = F.interpolate(context, size=low.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([raised, low], dim=1)


def atrous_rates(rates: Sequence[int], output_stride: int) -> list[int]:
    """Rates for output stride 16 at another one: the same distance in the photo, so twice as many pixels at 8."""
    return [max(1, rate * RATES_STRIDE // output_stride) for rate in rates]


def check_levels(levels: Sequence[int]) -> None:
    """Raises `ValueError` if the pyramid has no level at stride 4."""
    if len(levels) < 4:
        raise ValueError(
            f"This encoder has {len(levels)} levels; decoder.kind deeplab expects four or more, since it joins the "
            "fourth from the deepest, at stride 4. Choose another encoder."
        )
