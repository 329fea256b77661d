"""Heads: hidden layers, exact parameter counts, a grade's own experts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from funduscope.network.encoder import Encoder
from funduscope.network.heads import STRUCTURE_BIAS, ClassifierHead, DenseHead, ExpertClassifierHead
from funduscope.settings import Experts


class _Answers(torch.nn.Module):
    """What an exported network returns of an expert head."""

    def __init__(self, head: ExpertClassifierHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, pyramid: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        logits, routed = self.head(pyramid[-1])
        return logits, routed.gates


def _parameters(*modules: torch.nn.Module) -> int:
    return sum(value.numel() for module in modules for value in module.parameters())


def test_resnet_grader_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        encoder = Encoder("resnet50")
        heads = [ClassifierHead(encoder.channels[-1], classes, 0.5, [512]) for classes in (5, 3)]
    assert _parameters(encoder, *heads) == 25_610_312
    assert round(25_610_312 / 1e6, 2) == 25.61


def test_without_hidden_layers_the_head_is_linear_and_named_as_before() -> None:
    head = ClassifierHead(6, 3, 0.2)
    assert set(head.state_dict()) == {"linear.weight", "linear.bias"}
    deepest = torch.randn(2, 6, 3, 4)
    head.eval()
    torch.testing.assert_close(head(deepest), head.linear(deepest.mean((2, 3))))


def test_hidden_layers_are_relu_and_dropout_in_training_alone() -> None:
    torch.manual_seed(0)
    head = ClassifierHead(6, 3, 0.5, [16, 8])
    deepest = torch.randn(2, 6, 3, 4)
    assert not torch.equal(head(deepest), head(deepest)), "dropout draws"
    head.eval()
    first, second = (module for module in head.before if isinstance(module, torch.nn.Linear))
    hidden = torch.relu(second(torch.relu(first(deepest.mean((2, 3))))))
    torch.testing.assert_close(head(deepest), head.linear(hidden))
    assert (first.out_features, second.out_features) == (16, 8)


def test_an_expert_head_is_the_gated_sum_of_its_experts() -> None:
    torch.manual_seed(0)
    head = ExpertClassifierHead(6, 3, 0.5, [16, 8], Experts(count=4, keep="top_k", top_k=2)).eval()
    deepest = torch.randn(5, 6, 3, 4)
    with torch.inference_mode():
        logits, routed = head(deepest)
        pooled = deepest.mean((2, 3))
        each = torch.stack([expert(pooled) for expert in head.dispatch.experts], 1)
        expected = head.linear(head.before((routed.gates[..., None] * each).sum(1)))
    torch.testing.assert_close(logits, expected)
    assert logits.shape == (5, 3)
    assert ((routed.gates > 0).sum(1) == 2).all()


def test_gradients_reach_gate_and_experts_of_an_expert_head() -> None:
    torch.manual_seed(0)
    head = ExpertClassifierHead(6, 3, 0.0, [16], Experts(count=3, keep="all"))
    logits, _ = head(torch.randn(4, 6, 3, 4))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    assert all(value.grad is not None and bool(value.grad.any()) for value in head.parameters())


def test_an_expert_head_without_a_width_is_said() -> None:
    with pytest.raises(ValueError, match=r"heads\.hidden is empty, expected is the experts' width"):
        ExpertClassifierHead(6, 3, 0.5, [], Experts())


def test_onnx_of_an_expert_head_agrees(onnx_agrees: Callable[..., None]) -> None:
    torch.manual_seed(0)
    encoder = Encoder("test_resnet")
    head = ExpertClassifierHead(encoder.channels[-1], 3, 0.5, [16], Experts(count=3, keep="top_k", top_k=1))
    onnx_agrees(encoder, _Answers(head), ((1, 96, 96), (3, 64, 128)))


@pytest.mark.parametrize("side_px", [1, 3])
def test_a_dense_head_keeps_the_size_and_starts_where_it_is_told(side_px: int) -> None:
    head = DenseHead(4, 2, STRUCTURE_BIAS, side_px)
    assert head(torch.randn(1, 4, 5, 7)).shape == (1, 2, 5, 7)
    torch.testing.assert_close(head(torch.zeros(1, 4, 5, 7)), torch.full((1, 2, 5, 7), -4.0))
