"""UNet++ joins what the paper joins: it agrees with segmentation-models-pytorch's decoder, weight by weight."""

from __future__ import annotations

import torch
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder

from funduscope.network.unetplusplus import UnetPlusPlus

LEVELS, CHANNELS = (3, 4, 5, 6, 7), (12, 11, 10, 9)


def _theirs(name: str) -> str:
    """The name of a node's tensor in their decoder: there the column counts from the left, the row from the deepest."""
    _, node, rest = name.split(".", 2)
    level, step = (int(part) for part in node.split("_"))
    row = len(LEVELS) - 2 - level
    return f"blocks.x_{row - step + 1}_{row}.{rest}"


def test_it_agrees_with_the_library_up_to_the_encoders_finest_level() -> None:
    torch.manual_seed(0)
    # Theirs drops a first level and adds a last doubling, to the input's full size.
    theirs = UnetPlusPlusDecoder([3, *LEVELS], [*CHANNELS, 2]).eval()
    ours = UnetPlusPlus(LEVELS, (), CHANNELS).eval()
    state = theirs.state_dict()
    ours.load_state_dict({name: state[_theirs(name)] for name in ours.state_dict()})
    seen: list[torch.Tensor] = []
    for row in range(4):
        theirs.blocks[f"x_0_{row}"].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    pyramid = [torch.randn(2, width, 32 >> level, 48 >> level) for level, width in enumerate(LEVELS)]
    with torch.inference_mode():
        theirs([torch.zeros(2, 3, 64, 96), *pyramid])
        maps = ours(pyramid)
    torch.testing.assert_close(maps, seen)
    assert [one.shape[1] for one in maps] == list(CHANNELS) == ours.channels


def test_every_level_takes_part_in_the_finest_map() -> None:
    decoder = UnetPlusPlus(LEVELS, (), CHANNELS)
    pyramid = [torch.randn(2, w, 32 >> level, 32 >> level, requires_grad=True) for level, w in enumerate(LEVELS)]
    decoder(pyramid)[-1].square().mean().backward()
    assert all(level.grad is not None and bool(level.grad.any()) for level in pyramid)
