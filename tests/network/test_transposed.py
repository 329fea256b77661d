"""The steps up of the transposed U-Net: learned, without overlap, none between levels of one stride."""

from __future__ import annotations

import torch

from funduscope.network.transposed import TransposedBlock, TransposedDecoder


def test_a_pixel_becomes_a_square_of_its_own_by_learned_weights() -> None:
    block = TransposedBlock(1, 1, 1, ratio=2)
    feature = torch.zeros(1, 1, 4, 4)
    feature[0, 0, 1, 2] = 1.0
    with torch.inference_mode():
        raised = block.up(feature) - block.up(torch.zeros_like(feature))
    assert raised.shape == (1, 1, 8, 8)
    torch.testing.assert_close(raised[0, 0, 2:4, 4:6], block.up.weight[0, 0].detach())
    assert raised.count_nonzero() <= 4


def test_the_sizes_follow_the_levels_where_the_deepest_are_dilated() -> None:
    levels, sizes = (4, 5, 6, 7, 8), (32, 16, 8, 8, 8)
    decoder = TransposedDecoder(levels, (), (8, 7, 6, 5), output_stride=8)
    maps = decoder([torch.randn(2, width, size, size) for width, size in zip(levels, sizes, strict=True)])
    assert [one.shape[2] for one in maps] == [8, 8, 16, 32]
    assert [block.up.stride for block in decoder.blocks] == [(1, 1), (1, 1), (2, 2), (2, 2)]  # pyright: ignore
