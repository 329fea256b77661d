"""UNet++: skips that are themselves small U-Nets, so that the maps joined in a block are semantically alike.

Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018. Node (i, j) stands at
level i, j steps from the encoder; its inputs are all nodes before it at its level, and node (i + 1, j - 1) enlarged to
its size. With deep supervision every node of the finest level is a branch with a head of its own
(`heads.DeepSupervisionHeads`).
Differs: inner nodes are as wide as their level's skip, the last node of a level as the recipe says; the last doubling
is a bilinear resize. Blocks are segmentation-models-pytorch's. Its decoder is not used: it returns one map only,
doubles between any two levels, dilated ones too, and ends at the input's full size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import Tensor, nn

from funduscope.network.pyramid import Projection, check_blocks


class UnetPlusPlus(nn.Module):
    """levels, projected as in `decoders.Decoder`; channels: of each level's last node, from the deepest up.

    deep_supervision: the last map of `forward` joins every node of the finest level, whose widths are `branches`.
    """

    def __init__(
        self, levels: Sequence[int], projected: Sequence[int], channels: Sequence[int], deep_supervision: bool = False
    ) -> None:
        super().__init__()
        self.project = Projection(levels, projected)
        check_blocks(levels, channels)
        self.depth = len(channels)
        widths = {(level, 0): width for level, width in enumerate(self.project.channels)}
        blocks = {}
        for level, step in self._nodes():
            last = level + step == self.depth
            widths[level, step] = channels[step - 1] if last else widths[level, 0]
            before = sum(widths[level, earlier] for earlier in range(step))
            blocks[f"{level}_{step}"] = UnetDecoderBlock(
                widths[level + 1, step - 1], before, widths[level, step],
                use_norm="batchnorm", attention_type=None, interpolation_mode="nearest",
            )  # fmt: skip
        self.blocks = nn.ModuleDict(blocks)
        self.branches = [widths[0, step] for step in range(1, self.depth + 1)] if deep_supervision else []
        self.channels = [*channels[:-1], sum(self.branches) or channels[-1]]

    def _nodes(self) -> Iterator[tuple[int, int]]:
        """Level and step of every node after the encoder's, each after its inputs."""
        for step in range(1, self.depth + 1):
            for level in range(self.depth + 1 - step):
                yield level, step

    def forward(self, pyramid: list[Tensor]) -> list[Tensor]:
        """The last node of every level but the deepest, deep to shallow; the last at the shallowest level's size."""
        nodes = {(level, 0): feature for level, feature in enumerate(self.project(pyramid))}
        for level, step in self._nodes():
            skip = torch.cat([nodes[level, earlier] for earlier in reversed(range(step))], dim=1)
            deeper = nodes[level + 1, step - 1]
            nodes[level, step] = self.blocks[f"{level}_{step}"](deeper, skip.shape[2], skip.shape[3], skip)
        last = [nodes[level, self.depth - level] for level in reversed(range(self.depth))]
        if self.branches:
            last[-1] = torch.cat([nodes[0, step] for step in range(1, self.depth + 1)], dim=1)
        return last
