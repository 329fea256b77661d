"""DeepLabV3+: context at several reaches from the deepest level, edges from the level at stride 4; and one of experts.

Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV 2018; atrous
spatial pyramid pooling (ASPP) and its image pooling are Chen et al., "Rethinking Atrous Convolution for Semantic Image
Segmentation", 2017. Differs: the pooled branch is normalized over its channels (Ba et al., "Layer Normalization",
2016), because a batch of one photo has a single value a channel to take statistics of; of the paper's two 3x3
convolutions after the fusion the second is the dense head, which makes the logits; separable or not is the recipe's
choice. The convolutions are segmentation-models-pytorch's; its decoder is not taken: it is separable in any case, keeps
its rates at output stride 8 and breaks on a batch of one in training.

`TaskDeepLab` is the multi-task design of the recipe moe_deeplab: each task has atrous branches of its own as experts,
and a gate that chooses among them for each photo. Only the chosen ones are computed; the published system computed all
and masked them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from segmentation_models_pytorch.base.modules import Conv2dReLU
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPPConv, ASPPSeparableConv
from torch import Tensor, nn
from torch.nn import functional as F

from funduscope.network.dilated import use_fast_backward
from funduscope.network.heads import RARE, DenseHead
from funduscope.network.routing import Dispatch, Gate, Routed
from funduscope.settings import Decoder, Experts

LOW_CHANNELS = 48
"""Width of the stride-4 level beside the context: as few as the paper's, or edges drown what was pooled."""

DROPOUT = 0.1
RATES_STRIDE = 16


class DeepLab(nn.Module):
    """ASPP on the deepest level, joined with the level at stride 4.

    levels: channels of the pyramid, shallow to deep, the deepest four at strides 4 to 32 or dilated. settings.channels:
    one width. settings.rates: at output stride 16; see `atrous_rates`. settings.skip_channels says nothing here.
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
        """The fused map (B, width, H/4, W/4), twice: all dense heads read the same one."""
        context = self.project(torch.cat([branch(pyramid[-1]) for branch in self.branches], dim=1))
        fused = self.fuse(beside(context, self.low(pyramid[-4])))
        return [fused, fused]


class TaskDeepLab(nn.Module):
    """DeepLabV3+ with experts and a gate of its own for each task; the 1x1, pooled and stride-4 branches are shared.

    tasks: the number of maps of each task, by its name. decoder, experts: of the recipe; an expert is an atrous
    convolution (depthwise separable where decoder.separable) at one of the decoder's rates, in turn.
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
        """Logits (B, maps, H/4, W/4) of every task, and how each of them was routed."""
        deepest = pyramid[-1]
        point, pooled, low = self.point(deepest), self.pooling(deepest), self.low(pyramid[-4])
        logits: dict[str, Tensor] = {}
        routed: dict[str, Routed] = {}
        for name, path in self.tasks.items():
            logits[name], routed[name] = path(deepest, [point, pooled], low)
        return logits, routed


class TaskPath(nn.Module):
    """One task's way through `TaskDeepLab`: its experts, its gate, and what makes its maps of them."""

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
        self.maps = DenseHead(width, maps, RARE, side_px=1)

    def forward(self, deepest: Tensor, shared: list[Tensor], low: Tensor) -> tuple[Tensor, Routed]:
        """shared: the branches that all tasks have, (B, width, h, w) each. Returns logits and the routing."""
        routed = self.gate(deepest.mean(dim=(2, 3)))
        mixture = self.dispatch(deepest, routed.gates)
        context = self.project(torch.cat([mixture, *shared], dim=1))
        return self.maps(self.fuse(beside(context, low))), routed


class ImagePooling(nn.Module):
    """What the whole map says on average, at each of its pixels: (B, C, h, w) to (B, width, h, w)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, deepest: Tensor) -> Tensor:
        pooled = F.relu(self.norm(self.linear(deepest.mean(dim=(2, 3)))))
        return pooled[:, :, None, None].expand(-1, -1, deepest.shape[2], deepest.shape[3])


def conv3x3(into: int, out: int, separable: bool, rate: int = 1) -> nn.Module:
    """A 3x3 convolution, whole or depthwise separable, its taps `rate` pixels apart; BatchNorm, ReLU."""
    block = (ASPPSeparableConv if separable else ASPPConv)(into, out, rate)
    use_fast_backward(block)
    return block


def beside(context: Tensor, low: Tensor) -> Tensor:
    """The context brought to the size of the low level, and both in one map."""
    raised = F.interpolate(context, size=low.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([raised, low], dim=1)


def atrous_rates(rates: Sequence[int], output_stride: int) -> list[int]:
    """The rates, stated for output stride 16, at another: as far in the photo, so twice as many pixels at 8."""
    return [max(1, rate * RATES_STRIDE // output_stride) for rate in rates]


def check_levels(levels: Sequence[int]) -> None:
    """Raises `ValueError` where the pyramid has no level at stride 4."""
    if len(levels) < 4:
        raise ValueError(
            f"This encoder has {len(levels)} levels; decoder.kind deeplab expects four or more, since it joins the "
            "fourth from the deepest, at stride 4. Choose another encoder."
        )
