"""Dilated convolutions that learn quickly on a processor: the same values, gradients and weights as plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from funduscope.network.deeplab import conv3x3
from funduscope.network.dilated import Dilated, by_phases, use_fast_backward


def both(channels: int, out: int, rate: int, groups: int, bias: bool = False) -> tuple[nn.Conv2d, nn.Conv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, out, 3, padding=rate, dilation=rate, groups=groups, bias=bias)
    quick = copy.deepcopy(plain)
    use_fast_backward(quick)
    assert type(quick) is Dilated
    assert list(quick.state_dict()) == list(plain.state_dict())
    return plain, quick


def learned(conv: nn.Conv2d, photos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    photos = photos.clone().requires_grad_()
    found = conv(photos)
    (found.float() * torch.linspace(-1, 1, found.numel()).view(found.shape)).sum().backward()
    assert photos.grad is not None
    assert conv.weight.grad is not None
    return found, photos.grad, conv.weight.grad


@pytest.mark.parametrize("rate", [2, 6, 18])
@pytest.mark.parametrize(("channels", "out", "groups"), [(6, 6, 6), (6, 4, 1), (1, 3, 1)])
@pytest.mark.parametrize("size", [(12, 12), (7, 10), (1, 5)])
def test_values_and_gradients_are_those_of_the_plain_convolution(
    rate: int, channels: int, out: int, groups: int, size: tuple[int, int]
) -> None:
    plain, quick = both(channels, out, rate, groups)
    photos = torch.randn(2, channels, *size).to(memory_format=torch.channels_last)
    for expected, found in zip(learned(plain, photos), learned(quick, photos), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if groups > 1:
        torch.testing.assert_close(by_phases(photos, quick.weight, rate), plain(photos), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [6, 1])
def test_a_bias_is_added_and_learned(groups: int) -> None:
    """As the experts of whole heads have it, whose shared pyramid is the slowest part of their training."""
    plain, quick = both(6, 6, 3, groups, bias=True)
    photos = torch.randn(2, 6, 12, 12)
    for expected, found in zip(learned(plain, photos), learned(quick, photos), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert plain.bias is not None
    assert quick.bias is not None
    torch.testing.assert_close(quick.bias.grad, plain.bias.grad, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert learned(quick, photos)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("groups", [6, 1])
def test_in_bfloat16_too_as_near_as_that_is(groups: int) -> None:
    """Both are met at float32, from which neither may be further than bfloat16 rounds."""
    plain, quick = both(6, 6, 3, groups)
    photos = torch.randn(2, 6, 12, 12)
    expected = learned(plain, photos)
    with torch.autocast("cpu", torch.bfloat16):
        found = learned(quick, photos)
    assert found[0].dtype == torch.bfloat16
    assert quick.weight.grad is not None
    assert quick.weight.grad.dtype == torch.float32
    for mine, exact in zip(found, expected, strict=True):
        assert (mine.float() - exact).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize("separable", [True, False])
def test_an_atrous_block_learns_quickly_and_predicts_plainly(separable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the convolution that is dilated is exchanged, and only while something is learned."""
    block = conv3x3(6, 4, separable, rate=3)
    quick = [module for module in block.modules() if isinstance(module, Dilated)]
    assert len(quick) == 1
    assert not any(isinstance(module, Dilated) for module in conv3x3(6, 4, separable).modules())
    called: list[int] = []
    apply = torch.nn.Conv2d._conv_forward
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda self, *given: called.append(1) or apply(self, *given))
    photos = torch.randn(2, 6, 8, 8)
    block.train()(photos)
    learning = len(called)
    with torch.inference_mode():
        block.eval()(photos)
    assert len(called) - learning == learning + 1
