"""Decoders: from the encoder's pyramid to maps for the dense heads. `make_decoder` makes the one that a recipe names.

unet and attention_unet are here; transposed_unet, unetplusplus and deeplab have files of their own. Each turns a
pyramid, shallow to deep, into a list of maps, deep to shallow, whose widths are its `channels`. Structures are read
from the last map, landmarks from the one before. A U-Net's last map is as large as the encoder's shallowest level: half
the input's size, or a quarter with ConvNeXt, which has nothing finer. DeepLab's is a quarter.

An encoder of n levels needs n - 1 entries in `decoder.channels` and n in `decoder.skip_channels`, or none there for
skips as wide as the encoder's levels. unet and attention_unet take fewer: they then read the deepest levels alone, and
their last map is coarser and cheaper. A recipe for ConvNeXt's four levels has

    [decoder]
    skip_channels = [64, 96, 128, 256]
    channels = [128, 64, 32]

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015. Differs: levels may
first be projected by a 1x1 convolution, which makes the decoder three times cheaper; and the last doubling is a
bilinear resize, since the encoder has nothing finer to add. Blocks are segmentation-models-pytorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import Tensor, nn

from funduscope.network.attention import AttentionGate
from funduscope.network.deeplab import DeepLab
from funduscope.network.pyramid import Projection, check_blocks
from funduscope.network.transposed import TransposedDecoder
from funduscope.network.unetplusplus import UnetPlusPlus
from funduscope.settings import Decoder as Settings


class Decoder(nn.Module):
    """The U-Net.

    levels: channels of the pyramid, shallow to deep. projected: the same after the 1x1 convolutions, or none for no
    projection. channels: of the blocks, from the deepest up; shallower levels than the blocks need are neither read nor
    projected. attention: each skip passes an attention gate, which the deeper map controls. Raises `ValueError` if
    widths and levels do not match.
    """

    def __init__(
        self, levels: Sequence[int], projected: Sequence[int], channels: Sequence[int], attention: bool = False
    ) -> None:
        super().__init__()
        self.unused = max(len(levels) - len(channels) - 1, 0)
        self.project = Projection(levels[self.unused :], projected)
        check_blocks(levels, channels, fewer=True)
        deepest, *skips = self.project.channels[::-1]
        deeper = [deepest, *channels[:-1]]
        self.blocks = nn.ModuleList(
            UnetDecoderBlock(into, skip, out, use_norm="batchnorm", attention_type=None, interpolation_mode="nearest")
            for into, skip, out in zip(deeper, skips, channels, strict=True)
        )
        self.gates = nn.ModuleList(
            AttentionGate(skip, into, max(skip // 2, 1)) if attention else nn.Identity()
            for into, skip in zip(deeper, skips, strict=True)
        )
        self.attention = attention
        self.channels = list(channels)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """The output of every block, deep to shallow; the last at the size of the shallowest level that is read."""
        feature, *skips = self.project(pyramid[self.unused :])[::-1]
        outputs = []
        for block, gate, skip in zip(self.blocks, self.gates, skips, strict=True):
            passed = gate(skip, feature) if self.attention else skip
            feature = block(feature, skip.shape[2], skip.shape[3], passed)
            outputs.append(feature)
        return outputs


def make_decoder(levels: Sequence[int], settings: Settings, output_stride: int) -> nn.Module:
    """A recipe's decoder for an encoder of these levels. Raises `ValueError` if its widths do not match."""
    widths = (levels, settings.skip_channels, settings.channels)
    kinds: dict[str, Callable[[], nn.Module]] = {
        "unet": lambda: Decoder(*widths),
        "attention_unet": lambda: Decoder(*widths, attention=True),
        "transposed_unet": lambda: TransposedDecoder(*widths, output_stride),
        "unetplusplus": lambda: UnetPlusPlus(*widths, settings.deep_supervision),
        "deeplab": lambda: DeepLab(levels, settings, output_stride),
    }
    return kinds[settings.kind]()
