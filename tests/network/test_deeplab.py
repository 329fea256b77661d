"""DeepLabV3+ and its multi-task form: published sizes, rates, batches of one, experts, ONNX."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from funduscope.network.deeplab import DeepLab, TaskDeepLab, atrous_rates
from funduscope.network.encoder import Encoder
from funduscope.network.heads import STRUCTURE_BIAS, DenseHead, ExpertClassifierHead
from funduscope.settings import Decoder, Experts
from funduscope.vocabulary import CODES

NARROW = Decoder(kind="deeplab", channels=(8,), separable=True)
LEVELS = (4, 5, 6, 7, 8)
FEW = Experts(kind="per_task", count=3, keep="top_k", top_k=1)


class _Flat(torch.nn.Module):
    """The answers of a `TaskDeepLab` in a row, with every task's gates."""

    def __init__(self, decoder: TaskDeepLab) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, pyramid: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        logits, routed = self.decoder(pyramid)
        return (*logits.values(), *(one.gates for one in routed.values()))


def _parameters(*modules: torch.nn.Module) -> float:
    return sum(value.numel() for module in modules for value in module.parameters()) / 1e6


def _pyramid(batch: int = 2, deepest: int = 4) -> list[torch.Tensor]:
    sizes = (8 * deepest, 4 * deepest, 2 * deepest, deepest, deepest)
    return [torch.randn(batch, width, side, side) for width, side in zip(LEVELS, sizes, strict=True)]


def test_deeplab_segmenter_is_as_large_as_published() -> None:
    with torch.device("meta"):
        encoder = Encoder("resnet50", output_stride=8)
        decoder = DeepLab(encoder.channels, Decoder(kind="deeplab", channels=(256,)), 8)
        head = DenseHead(decoder.channels[-1], 5, STRUCTURE_BIAS)
    count = _parameters(encoder, decoder, head)
    assert count == pytest.approx(39.80, rel=0.05)
    assert count == pytest.approx(39.77, abs=0.005)


def test_moe_aspp_is_nearly_as_large_as_what_it_varies() -> None:
    with torch.device("meta"):
        encoder = Encoder("resnet50", output_stride=16)
        wide = Decoder(kind="deeplab", channels=(256,), separable=True)
        experts = Experts(kind="per_task", count=3)
        decoder = TaskDeepLab(encoder.channels, dict.fromkeys(CODES, 1), wide, 16, experts)
        heads = [ExpertClassifierHead(encoder.channels[-1], classes, 0.5, [512], experts) for classes in (5, 3)]
    count = _parameters(encoder, decoder, *heads)
    assert count == pytest.approx(42.37, rel=0.05)
    assert count == pytest.approx(40.79, abs=0.005)


def test_rates_reach_equally_far_in_the_photo_at_every_output_stride() -> None:
    assert atrous_rates((6, 12, 18), 16) == [6, 12, 18]
    assert atrous_rates((6, 12, 18), 8) == [12, 24, 36]
    assert atrous_rates((6, 12, 18), 32) == [3, 6, 9]
    decoder = DeepLab(LEVELS, Decoder(kind="deeplab", channels=(8,), rates=(2, 4)), 8)
    dilated = [
        m.dilation for m in decoder.branches.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size[0] > 1
    ]
    assert dilated == [(4, 4), (8, 8)], "as many branches as there are rates"


@pytest.mark.parametrize("separable", [True, False])
def test_separable_says_what_every_larger_convolution_is(separable: bool) -> None:
    settings = NARROW.model_copy(update={"separable": separable})
    for decoder in (DeepLab(LEVELS, settings, 16), TaskDeepLab(LEVELS, {"MA": 1}, settings, 16, FEW)):
        larger = [m for m in decoder.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size[0] > 1]
        assert {conv.groups == conv.in_channels for conv in larger} == {separable}


def test_a_batch_of_one_photo_trains() -> None:
    """The image pooling has one value a channel there, too few for batch statistics."""
    torch.manual_seed(0)
    decoder = DeepLab(LEVELS, NARROW, 16).train()
    fused, again = decoder(_pyramid(batch=1))
    assert fused is again
    fused.square().mean().backward()
    assert all(value.grad is not None and bool(value.grad.isfinite().all()) for value in decoder.parameters())


def test_what_is_pooled_reaches_every_pixel() -> None:
    """An image pooling, not a reach of the atrous branches: the far corner changes what the other corner says."""
    torch.manual_seed(0)
    decoder = DeepLab(LEVELS, NARROW.model_copy(update={"rates": (1,)}), 16).eval()
    pyramid = _pyramid(batch=1, deepest=16)
    changed = [*pyramid[:-1], pyramid[-1].clone()]
    changed[-1][:, :, 0, 0] += torch.randn(8) * 100
    with torch.inference_mode():
        assert not torch.allclose(decoder(pyramid)[0][:, :, -1, -1], decoder(changed)[0][:, :, -1, -1])


def test_edges_come_from_the_level_at_stride_4() -> None:
    decoder = DeepLab(LEVELS, NARROW, 16)
    pyramid = [level.requires_grad_() for level in _pyramid()]
    decoder(pyramid)[0].square().mean().backward()
    assert [level.grad is not None for level in pyramid] == [False, True, False, False, True]


def test_too_few_levels_are_said() -> None:
    with pytest.raises(ValueError, match=r"has 3 levels; decoder\.kind deeplab expects four or more"):
        DeepLab((4, 5, 6), NARROW, 16)
    with pytest.raises(ValueError, match=r"has 3 levels"):
        TaskDeepLab((4, 5, 6), {"MA": 1}, NARROW, 16, FEW)


def test_tasks_are_added_by_naming_them() -> None:
    decoder = TaskDeepLab(LEVELS, {"MA": 1, "OD": 1, "both": 2}, NARROW, 16, FEW).eval()
    with torch.inference_mode():
        logits, routed = decoder(_pyramid())
    assert {name: value.shape for name, value in logits.items()} == {
        "MA": (2, 1, 16, 16), "OD": (2, 1, 16, 16), "both": (2, 2, 16, 16),
    }  # fmt: skip
    assert {name: one.gates.shape for name, one in routed.items()} == dict.fromkeys(("MA", "OD", "both"), (2, 3))
    assert logits["MA"].sigmoid().mean() < 0.2, "a pixel is rarely a lesion before anything is learned"


def test_experts_are_the_rates_in_turn_and_a_tasks_own() -> None:
    decoder = TaskDeepLab(LEVELS, {"MA": 1, "OD": 1}, NARROW, 8, Experts(kind="per_task", count=4))
    for path in decoder.tasks.values():
        experts = path.dispatch.experts  # pyright: ignore
        assert [expert[0][0].dilation[0] for expert in experts] == [12, 24, 36, 12]  # pyright: ignore
    first, second = (path.dispatch.experts for path in decoder.tasks.values())  # pyright: ignore
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}  # pyright: ignore


def test_only_chosen_experts_are_computed_and_the_map_is_theirs() -> None:
    torch.manual_seed(0)
    decoder = TaskDeepLab(LEVELS, {"MA": 1}, NARROW, 16, FEW).eval()
    path = decoder.tasks["MA"]
    torch.nn.init.zeros_(path.gate.linear.weight)  # pyright: ignore
    path.gate.linear.bias.data = torch.tensor([0.0, 5.0, 0.0])  # pyright: ignore
    calls: list[int] = []
    for index, expert in enumerate(path.dispatch.experts):  # pyright: ignore
        expert.register_forward_hook(lambda _module, inputs, _output, index=index: calls.append(index))
    with torch.inference_mode():
        logits, routed = decoder(pyramid := _pyramid())
        for parameter in path.dispatch.experts[0].parameters():  # pyright: ignore
            parameter.zero_()
        torch.testing.assert_close(decoder(pyramid)[0]["MA"], logits["MA"])
    assert calls == [1, 1]
    torch.testing.assert_close(routed["MA"].gates, torch.tensor([[0.0, 1.0, 0.0]] * 2))


def test_one_step_reaches_every_weight() -> None:
    torch.manual_seed(0)
    experts = Experts(kind="per_task", count=3, keep="all")
    decoder = TaskDeepLab(LEVELS, {"MA": 1, "OD": 1}, NARROW, 16, experts).train()
    logits, _ = decoder(_pyramid())
    torch.cat(list(logits.values()), 1).square().mean().backward()
    for name, value in decoder.named_parameters():
        assert value.grad is not None, name
        assert value.grad.any(), name


@pytest.mark.parametrize("keep", ["all", "top_k", "top_p"])
def test_onnx_agrees_with_experts_at_other_sizes_than_were_traced(keep: str, onnx_agrees: Callable[..., None]) -> None:
    torch.manual_seed(0)
    encoder = Encoder("test_resnet", output_stride=16)
    experts = FEW.model_copy(update={"keep": keep})
    decoder = TaskDeepLab(encoder.channels, {"MA": 1, "OD": 1}, NARROW, 16, experts)
    onnx_agrees(encoder, _Flat(decoder), ((1, 96, 96), (3, 64, 128)))


def test_it_stands_on_four_levels_too() -> None:
    encoder = Encoder("test_convnext", output_stride=16).eval()
    decoder = TaskDeepLab(encoder.channels, {"MA": 1}, NARROW, 16, FEW).eval()
    with torch.inference_mode():
        logits, _ = decoder(encoder(torch.randn(1, 3, 64, 96)))
    assert logits["MA"].shape == (1, 1, 16, 24)
