"""The encoder's pyramid as decoders take it: widths and strides of its levels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Projection(nn.ModuleList):
    """A 1x1 convolution per level, from the encoder's width to the recipe's; the identity without widths.

    levels: channels of the pyramid, shallow to deep. widths: the same after the projection, or none. channels: of the
    result. Raises `ValueError` unless there are none or as many widths as levels.
    """

    def __init__(self, levels: Sequence[int], widths: Sequence[int]) -> None:
        if widths and len(widths) != len(levels):
            raise ValueError(
                f"The encoder has {len(levels)} levels, decoder.skip_channels {len(widths)} entries: one each. "
                "Give one a level, from the shallowest to the deepest, or none, for levels as the encoder has them."
            )
        super().__init__(
            nn.Conv2d(level, width, 1) for level, width in zip(levels, widths or levels, strict=True) if widths
        )
        self.channels = list(widths or levels)

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """Levels (B, C, h, w), shallow to deep, with `channels`."""
        return [project(level) for project, level in zip(self, pyramid, strict=True)] if len(self) else list(pyramid)


def check_blocks(levels: Sequence[int], channels: Sequence[int], *, fewer: bool = False) -> None:
    """Raises `ValueError` unless there is one block for each level but the deepest; fewer: or for the deepest ones."""
    if len(channels) != len(levels) - 1 and not (fewer and 0 < len(channels) < len(levels)):
        wanted = len(levels) - 1
        raise ValueError(
            f"The encoder has {len(levels)} levels, decoder.channels {len(channels)} entries ({list(channels)}): "
            f"expected are {wanted}, a block for each level but the deepest, from the deepest up. Set decoder.channels "
            f"to {wanted} widths and decoder.skip_channels to {wanted + 1} or none."
        )


def strides(levels: int, output_stride: int) -> list[int]:
    """Strides of the levels, shallow to deep: doubling up to 32, limited to the output stride.

    Five levels at 32: 2, 4, 8, 16, 32. Four: 4, 8, 16, 32. Five at output stride 8: 2, 4, 8, 8, 8.
    """
    return [min(32 >> (levels - 1 - level), output_stride) for level in range(levels)]
