"""A U-Net with learned upsampling: transposed convolutions and double convolutions.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015, which upsamples by
2x2 transposed convolutions. Differs: the encoder is a backbone, convolutions are padded and followed by BatchNorm, and
the last doubling is a bilinear resize.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from segmentation_models_pytorch.base.modules import Conv2dReLU
from torch import Tensor, nn

from funduscope.network.pyramid import Projection, check_blocks, strides


class TransposedBlock(nn.Module):
    """Upsampling by `ratio` (1 between levels of equal stride), concatenation of the skip, two 3x3 convolutions."""

    def __init__(self, into: int, skip: int, out: int, ratio: int) -> None:
        super().__init__()
        # Kernel and stride are equal, so no pixel is written twice, which would cause checkerboard patterns.
        self.up = nn.ConvTranspose2d(into, out, ratio, stride=ratio)
        self.convs = nn.Sequential(Conv2dReLU(out + skip, out, 3, padding=1), Conv2dReLU(out, out, 3, padding=1))

    def forward(self, feature: Tensor, skip: Tensor) -> Tensor:
        return self.convs(torch.cat([self.up(feature), skip], dim=1))


class TransposedDecoder(nn.Module):
    """levels, projected, channels as in `decoders.Decoder`; output_stride: the stride of the deepest level."""

    def __init__(
        self, levels: Sequence[int], projected: Sequence[int], channels: Sequence[int], output_stride: int
    ) -> None:
        super().__init__()
        self.project = Projection(levels, projected)
        check_blocks(levels, channels)
        deepest, *skips = self.project.channels[::-1]
        ratios = [deep // shallow for deep, shallow in pairwise(strides(len(levels), output_stride)[::-1])]
        self.blocks = nn.ModuleList(
            TransposedBlock(into, skip, out, ratio)
            for into, skip, out, ratio in zip([deepest, *channels[:-1]], skips, channels, ratios, strict=True)
        )
        self.channels = list(channels)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """The output of every block, deep to shallow; the last at the shallowest level's size."""
        feature, *skips = self.project(pyramid)[::-1]
        outputs = []
        for block, skip in zip(self.blocks, skips, strict=True):
            feature = block(feature, skip)
            outputs.append(feature)
        return outputs
