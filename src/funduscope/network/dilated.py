"""Dilated 3x3 convolutions with a fast backward pass on a CPU; numbers, weights and ONNX are those of plain ones.

On a CPU torch is slow at the weight gradient of a dilated convolution in bfloat16: of one layer from 2048 to 256
channels at 48 x 48 and rate 12 it took 9 to 21 s for four photos, while the nine matrix products that it consists of
take 0.6 s. The forward pass of such a layer is faster in float32, so it is computed there. A depthwise one is slow as
well. With taps `rate` pixels apart, pixels interact only if their coordinates agree modulo `rate`: so it is an
undilated convolution of each of rate x rate phases, as in Chen et al., "Rethinking Atrous Convolution for Semantic
Image Segmentation", 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dilated(nn.Conv2d):
    """A dilated 3x3 convolution of stride 1, depthwise or full, that keeps the size; made by `use_fast_backward`."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H, W). A plain convolution except in training on a CPU, so in ONNX too."""
        # Scripted as the branch of an expert in ONNX, where the rest of this method does not compile.
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            return self._conv_forward(input, self.weight, self.bias)
        else:  # noqa: RET505 (how torch.jit knows that this is the other case)
            return self._convolved(input)

    @torch.jit.unused
    def _convolved(self, x: Tensor) -> Tensor:
        if not self.training or not torch.is_grad_enabled() or x.device.type != "cpu" or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return self._conv_forward(x, self.weight, self.bias)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            x, weight = (one.to(torch.get_autocast_dtype("cpu")) for one in (x, weight))
        found: Any = _DilatedConvFunction.apply(x, weight, self.dilation[0])
        return found if self.bias is None else found + self.bias.to(found.dtype)[:, None, None]


def use_fast_backward(network: nn.Module) -> None:
    """Makes every suitable convolution in the network a `Dilated`; weights and their names stay."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = Dilated  # as torch's own parametrizations do; only `forward` changes


def _fits(conv: nn.Conv2d) -> bool:
    rate = conv.dilation[0]
    same = conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.dilation == conv.padding == (rate, rate)
    grouped = conv.groups == 1 or conv.groups == conv.in_channels == conv.out_channels
    return rate > 1 and same and grouped and conv.padding_mode == "zeros"


class _DilatedConvFunction(torch.autograd.Function):
    """The convolution and its gradients. x (B, C, H, W); weight (out, C, 3, 3), or (C, 1, 3, 3) depthwise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, rate: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x, weight)
        ctx.rate = rate
        return _forward(x, weight, rate)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        grad_output = grad_output.contiguous(memory_format=torch.channels_last)
        grad_input = grad_weight = None
        if ctx.needs_input_grad[0] and _depthwise(x, weight):
            grad_input = _forward(grad_output, weight.flip(2, 3), ctx.rate)
        elif ctx.needs_input_grad[0]:
            back = weight.flip(2, 3).transpose(0, 1).contiguous()
            grad_input = F.conv2d(grad_output, back, padding=ctx.rate, dilation=ctx.rate)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(x, grad_output, weight, ctx.rate)
        return grad_input, grad_weight, None


def _depthwise(x: Tensor, weight: Tensor) -> bool:
    return weight.shape[1] == 1 and x.shape[1] > 1


def _forward(x: Tensor, weight: Tensor, rate: int) -> Tensor:
    if x.dtype == torch.float32:  # torch is fast enough
        groups = x.shape[1] if _depthwise(x, weight) else 1
        return F.conv2d(x, weight, padding=rate, dilation=rate, groups=groups)
    if _depthwise(x, weight):
        return by_phases(x, weight, rate)
    with torch.autocast("cpu", enabled=False):
        return F.conv2d(x.float(), weight.float(), padding=rate, dilation=rate).to(x.dtype)


def by_phases(x: Tensor, weight: Tensor, rate: int) -> Tensor:
    """A depthwise 3x3 convolution at that rate, as an undilated one of each of rate x rate phases.

    x, result: (B, C, H, W). weight: (C, 1, 3, 3).
    """
    batch, channels, height, width = x.shape
    rows, columns = -(-height // rate), -(-width // rate)
    last = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, columns * rate - width, 0, rows * rate - height))
    apart = last.reshape(batch, rows, rate, columns, rate, channels).permute(0, 2, 4, 1, 3, 5)
    phases = apart.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
    found = F.conv2d(phases, weight, padding=1, groups=channels).permute(0, 2, 3, 1)
    joined = found.reshape(batch, rate, rate, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
    whole = joined.reshape(batch, rows * rate, columns * rate, channels)
    return whole[:, :height, :width].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _weight_gradient(x: Tensor, grad_output: Tensor, weight: Tensor, rate: int) -> Tensor:
    """The gradient of the weights: for each tap the products of its inputs with the incoming gradient."""
    inputs, gradients = x.permute(0, 2, 3, 1), grad_output.permute(0, 2, 3, 1)
    gradient = torch.zeros_like(weight)
    depthwise = _depthwise(x, weight)
    for row, (rows, from_rows) in _taps(x.shape[2], rate):
        for column, (columns, from_columns) in _taps(x.shape[3], rate):
            source, incoming = inputs[:, from_rows, from_columns], gradients[:, rows, columns]
            if depthwise:
                gradient[:, 0, row, column] = (source * incoming).sum((0, 1, 2), dtype=torch.float32).to(weight.dtype)
            else:
                gradient[:, :, row, column] = incoming.flatten(0, 2).T @ source.flatten(0, 2)
    return gradient


def _taps(side: int, rate: int) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """The taps along one axis that overlap a map of that side: number, slice of the output, slice of the input."""
    for tap, shift in enumerate((-rate, 0, rate)):
        if abs(shift) < side:
            low, high = max(0, -shift), min(side, side - shift)
            yield tap, (slice(low, high), slice(low + shift, high + shift))
