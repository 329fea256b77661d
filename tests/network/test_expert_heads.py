"""Whole heads as experts: their sizes as published, their pooling, and that only chosen ones answer."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch.nn import functional as F

from funduscope.export.onnx_file import write_onnx
from funduscope.inference.card import Card
from funduscope.inference.runtime import OnnxRuntime
from funduscope.network.expert_heads import ExpertClassifiers, ExpertDecoders, SharedAspp, grid_means
from funduscope.network.network import build
from funduscope.network.routing import Gate, Routed, routing_loss_of, routing_sums
from funduscope.recipe import Recipe
from funduscope.settings import Decoder, Experts

HEADS = Experts(kind="heads", count=3, top_p=0.8, top_p_predict=0.75)
LEVELS = (8, 16, 24, 32, 48)


def count(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_the_parts_have_the_published_sizes() -> None:
    """By hand from the layers: with a ResNet-50 of 23,508,032 these are the published 42,372,668 parameters."""
    decoder = Decoder(kind="deeplab", skip_channels=(), channels=(256,), separable=True)
    dense = ExpertDecoders((64, 256, 512, 1024, 2048), dict.fromkeys("abcde", 1), decoder, 16, HEADS)
    grades = ExpertClassifiers(2048, 5, HEADS), ExpertClassifiers(2048, 3, HEADS)
    assert count(dense.context) == 3_015_168
    assert count(dense.experts["a"]) == 3 * 102_721
    assert 23_508_032 + count(dense) + sum(map(count, grades)) == 42_372_668


def test_the_whole_network_has_the_published_number_of_parameters() -> None:
    recipe = Recipe.load("moe_deeplab")
    assert recipe.routers == ("grade", "dme", "MA", "HE", "EX", "SE", "OD")
    assert count(build(recipe)) == 42_372_668


def test_onnx_answers_like_torch_and_keeps_the_conditions(tmp_path: Path) -> None:
    """Of each task the chosen experts alone are in the answer, at sizes that were not traced."""
    torch.manual_seed(0)
    changes = ["encoder.name=test_resnet", "encoder.weights=none", "encoder.output_stride=32"]
    recipe = Recipe.load("moe_deeplab", [*changes, "decoder.channels=[16]", "tasks.structures=['MA', 'OD']"])
    network = build(recipe).eval()
    with torch.no_grad():
        for gate in (module for module in network.modules() if isinstance(module, Gate)):
            gate.linear.bias.copy_(torch.tensor([3.0, -1.0, -2.0]))
    image = torch.randint(0, 255, (1, 128, 160, 3), dtype=torch.uint8)
    path = write_onnx(network, Card.of(recipe), tmp_path / "model.onnx")
    conditions = [node for node in onnx.load(path).graph.node if node.op_type == "If"]
    assert len(conditions) == 4 * 3, "each expert of each task is behind a condition of its own"
    in_branches = [sum(node.op_type in ("Conv", "Gemm") for node in one.attribute[0].g.node) for one in conditions]
    assert min(in_branches) > 0, "with its layers"
    runtime = OnnxRuntime(path)
    found, expected = runtime(image.numpy()), network(image)
    assert (expected.gates[0] != 0).sum(1).tolist() == [1, 1, 1, 1], "one expert of a score above 0.75 is enough"
    torch.testing.assert_close(torch.from_numpy(found.classes["grade"]), expected.classes["grade"], atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(found.structures), expected.structures, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(11, 16), (45, 67), (32, 32), (7, 5)])
def test_the_grid_of_means_is_adaptive_pooling(size: tuple[int, int]) -> None:
    values = torch.randn(2, 3, *size)
    torch.testing.assert_close(grid_means(values, 11, 16), F.adaptive_avg_pool2d(values, (11, 16)))


def test_experts_are_taken_from_the_highest_score_until_the_scores_add_up() -> None:
    gate = Gate(2, HEADS).eval()
    scores = torch.tensor([[0.5, 0.9, 0.2], [0.5, 0.3, 0.1], [0.45, 0.3, 0.35]])
    with torch.no_grad():
        gate.linear.weight.zero_()
        for row, kept in zip(scores, ([1], [0, 1], [0, 2]), strict=True):
            gate.linear.bias.copy_(row.logit())
            gates = gate(torch.zeros(1, 2)).gates[0]
            expected = torch.zeros(3)
            expected[kept] = row[kept] / row[kept].sum()
            torch.testing.assert_close(gates, expected)
        gate.linear.bias.copy_(torch.tensor([0.1, 0.2, 0.1]).logit())
        assert (gate(torch.zeros(1, 2)).gates > 0).all(), "scores that never add up to p keep all"


def test_in_the_first_part_of_the_training_every_expert_answers() -> None:
    gate = Gate(4, HEADS)
    with torch.no_grad():
        gate.linear.bias.copy_(torch.tensor([8.0, -8.0, -8.0]))
    pooled = torch.zeros(2, 4)
    assert (gate(pooled).gates != 0).sum() == 2
    gate.keeps_all_now = True
    assert (gate(pooled).gates != 0).all()
    assert (gate.eval()(pooled).gates != 0).sum() == 2, "not in prediction"


def test_the_mix_is_the_mean_of_the_chosen_experts_logits() -> None:
    torch.manual_seed(0)
    decoder = Decoder(kind="deeplab", skip_channels=(), channels=(16,), separable=True)
    dense = ExpertDecoders(LEVELS, {"MA": 1, "landmarks": 2}, decoder, 16, HEADS).eval()
    pyramid = [torch.randn(2, channels, side, side) for channels, side in zip(LEVELS, (32, 16, 8, 4, 4), strict=True)]
    logits, routed = dense(pyramid)
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        "MA": (2, 1, 16, 16), "landmarks": (2, 2, 16, 16)
    }  # fmt: skip
    both = torch.cat([F.interpolate(dense.context(pyramid[-1]), (16, 16), mode="bilinear"), pyramid[-4]], 1)
    each = torch.stack([expert(both) for expert in dense.experts["MA"].experts])
    torch.testing.assert_close(logits["MA"], torch.einsum("be,ebchw->bchw", routed["MA"].gates, each))
    found, _ = ExpertClassifiers(48, 5, HEADS)(pyramid[-1])
    assert found.shape == (2, 5)


def test_a_single_photo_can_be_trained_on() -> None:
    pyramid = SharedAspp(8, 4, (1, 2, 3)).train()
    assert torch.isfinite(pyramid(torch.randn(1, 8, 4, 4))).all()


def test_the_losses_of_sigmoid_gates_by_hand() -> None:
    logits = torch.tensor([[0.6, 0.2], [0.2, 0.4]]).logit()
    settings = Experts(kind="heads", count=2, balance=2.0, sparsity=0.5, entropy=0.25)
    loss = routing_loss_of(routing_sums({"grade": Routed(torch.ones(2, 2) / 2, logits)}, settings), settings)
    scaled = torch.tensor([[0.75, 0.25], [1 / 3, 2 / 3]])
    load = torch.tensor([0.4, 0.3]) / 0.7
    expected = 0.5 * 0.35 + 2 * (load * (load * 2).log()).sum() + 0.25 * (scaled * scaled.log()).sum() / 2
    torch.testing.assert_close(loss, expected)
