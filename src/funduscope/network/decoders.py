"""The decoder: U-Net blocks (segmentation-models-pytorch's) over a projected pyramid, up to half the input's size.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015. Differs: every level
is first projected by a 1x1 convolution, which makes the decoder three times cheaper, and the last doubling is left to a
bilinear resize, since the encoder has nothing finer than half size to add.
"""

from __future__ import annotations

from collections.abc import Sequence

from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import Tensor, nn


class Decoder(nn.Module):
    """levels: channels of the pyramid, shallow to deep. projected: the same after the 1x1. channels: of the blocks."""

    def __init__(self, levels: Sequence[int], projected: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        if len(levels) != len(projected):
            raise ValueError(
                f"The encoder has {len(levels)} levels, decoder.skip_channels {len(projected)} entries: one each."
            )
        self.project = nn.ModuleList(nn.Conv2d(c, p, 1) for c, p in zip(levels, projected, strict=True))
        deep_first = list(projected)[::-1]
        arriving = [deep_first[0], *channels[:-1]]
        self.blocks = nn.ModuleList(
            UnetDecoderBlock(into, skip, out, use_norm="batchnorm", attention_type=None, interpolation_mode="nearest")
            for into, skip, out in zip(arriving, deep_first[1:], channels, strict=True)
        )
        self.channels = list(channels)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """The output of every block, deep to shallow; the last at the shallowest level's size."""
        levels = [project(level) for project, level in zip(self.project, pyramid, strict=True)][::-1]
        feature, outputs = levels[0], []
        for block, skip in zip(self.blocks, levels[1:], strict=True):
            feature = block(feature, skip.shape[2], skip.shape[3], skip)
            outputs.append(feature)
        return outputs
