"""UNet++ joins what the paper joins: it agrees with segmentation-models-pytorch's decoder, weight by weight."""

from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder

from funduscope.data.prepare import CHANNELS
from funduscope.network.network import build
from funduscope.network.unetplusplus import UnetPlusPlus
from funduscope.recipe import Recipe, RecipeError
from funduscope.settings import Loss
from funduscope.training.batch import Batch
from funduscope.training.losses import dense_loss, task_losses

LEVELS, WIDTHS = (3, 4, 5, 6, 7), (12, 11, 10, 9)


def _theirs(name: str) -> str:
    """The name of a node's tensor in their decoder: there the column counts from the left, the row from the deepest."""
    _, node, rest = name.split(".", 2)
    level, step = (int(part) for part in node.split("_"))
    row = len(LEVELS) - 2 - level
    return f"blocks.x_{row - step + 1}_{row}.{rest}"


def test_it_agrees_with_the_library_up_to_the_encoders_finest_level() -> None:
    torch.manual_seed(0)
    # Theirs drops a first level and adds a last doubling, to the input's full size.
    theirs = UnetPlusPlusDecoder([3, *LEVELS], [*WIDTHS, 2]).eval()
    ours = UnetPlusPlus(LEVELS, (), WIDTHS).eval()
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
    assert [one.shape[1] for one in maps] == list(WIDTHS) == ours.channels


def test_every_level_takes_part_in_the_finest_map() -> None:
    decoder = UnetPlusPlus(LEVELS, (), WIDTHS)
    pyramid = [torch.randn(2, w, 32 >> level, 32 >> level, requires_grad=True) for level, w in enumerate(LEVELS)]
    decoder(pyramid)[-1].square().mean().backward()
    assert all(level.grad is not None and bool(level.grad.any()) for level in pyramid)


SUPERVISED = ["decoder.kind=unetplusplus", "decoder.deep_supervision=true", "encoder.name=resnet18",
    "encoder.weights=none", "decoder.skip_channels=[4,4,4,4,4]", "decoder.channels=[6,6,6,6]"]  # fmt: skip


def test_with_deep_supervision_the_answer_is_the_mean_probability_of_all_branches() -> None:
    torch.manual_seed(0)
    network = build(Recipe.load("unetplusplus_lesions", SUPERVISED)).eval()
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    network.heads["structures"].register_forward_hook(lambda _module, _inputs, output: seen.extend(output))
    with torch.inference_mode():
        found = network(image)
    assert len(seen) == 4
    assert found.structures is not None
    torch.testing.assert_close(found.structures.sigmoid(), torch.stack(seen).sigmoid().mean(0))
    assert not found.branches, "they are for the loss alone"


def test_with_deep_supervision_every_branch_is_learned_from() -> None:
    network = build(Recipe.load("unetplusplus_lesions", SUPERVISED)).train()
    known = torch.zeros(2, len(CHANNELS), 64, 64, dtype=torch.bool)
    known[0, CHANNELS.index("EX")] = True
    batch = Batch(
        image=torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8),
        whole=torch.ones(2, dtype=torch.bool),
        allowed={},
        coverage=torch.randint(0, 256, known.shape, dtype=torch.uint8),
        known=known,
        landmarks=torch.zeros(2, 2, 2),
        landmarks_known=torch.zeros(2, 2, dtype=torch.bool),
    )
    outputs = network(batch.image)
    codes = Recipe.load("unetplusplus_lesions").tasks.structures
    settings = Loss(dice=0)
    loss = task_losses(outputs, batch, settings, codes, {})["dense"]
    each = [dense_loss(logits, batch.coverage, batch.known, codes, settings) for logits in outputs.branches]
    torch.testing.assert_close(loss, torch.stack([one for one in each if one is not None]).mean())
    loss.backward()
    for branch in network.heads["structures"].branches:
        assert branch.conv.weight.grad is not None
        assert bool(branch.conv.weight.grad.any())


def test_deep_supervision_of_another_decoder_is_refused() -> None:
    with pytest.raises(RecipeError, match="unetplusplus"):
        Recipe.load("unet34", ["decoder.deep_supervision=true"])
