"""Learned weights in the graph of an exported model: rounded to 8 bits, and scaled by what was folded into them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_DEVIATION = 1 / 20
"""Largest error, as a share of a channel's largest weight: half a step of 7 bits is 1/126, and ONNX Runtime rounds
channels of small weights and a large bias more coarsely, so that the bias fits in 32 bits."""

TRANSPOSED = " transposed"


def arrays_of(graph: Any) -> dict[str, np.ndarray]:
    """The constants of a graph and of its branches by name, in float32; those of quantized layers as they compute.

    A matrix is there once more, transposed: so a linear layer may hold it.
    """
    from onnx import TensorProto, numpy_helper

    # What lies in another file is passed over: no file is opened because one names it.
    initializers = [
        item for part in _graphs(graph) for item in part.initializer if item.data_location != TensorProto.EXTERNAL
    ]
    plain = {item.name: numpy_helper.to_array(item) for item in initializers}
    arrays = {name: value for name, value in plain.items() if value.dtype == np.float32}
    for node in (node for part in _graphs(graph) for node in part.node):
        if node.op_type == "DequantizeLinear" and node.input[0] in plain:
            rounded, scale = (plain[name] for name in node.input[:2])
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            shape = [-1 if place == axis % rounded.ndim else 1 for place in range(rounded.ndim)] if scale.ndim else []
            arrays[node.input[0]] = rounded.astype(np.float32) * scale.reshape(shape)
    return arrays | {name + TRANSPOSED: value.T for name, value in arrays.items() if value.ndim == 2}


def find(weights: dict[str, Tensor], arrays: dict[str, np.ndarray]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """For each weight, the name of the array that equals it up to one factor per channel, and the factors (channels,).

    Vectors, and weights that are in no array to within `MAX_DEVIATION`, are left out.
    """
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, value in arrays.items():
        by_shape.setdefault(value.shape, []).append(name)
    sources, factors = {}, {}
    for name, weight in weights.items():
        near = []  # two networks that began alike may have arrays within the limit: the nearest is the weight's own
        for candidate in by_shape.get(tuple(weight.shape), ()) if weight.ndim > 1 else ():
            factor, off = _factors(weight, torch.tensor(arrays[candidate]))
            near.append((off, candidate, factor))
        off, candidate, factor = min(near, key=lambda one: one[0], default=(1.0, "", None))
        if factor is not None and off <= MAX_DEVIATION:
            sources[name], factors[name] = candidate, factor
    return sources, factors


def rebuilt(sources: dict[str, str], factors: dict[str, Tensor], arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The weights that `find` found. Raises `KeyError` or `RuntimeError` if they do not fit the arrays."""
    return {
        name: torch.tensor(arrays[source]) * _by_channel(factors[name], arrays[source].ndim)
        for name, source in sources.items()
    }


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for one in node.attribute:
            if one.HasField("g"):
                yield from _graphs(one.g)


def _factors(weight: Tensor, array: Tensor) -> tuple[Tensor, float]:
    """Per channel the factor that best scales the array to the weight, and the largest error that remains, relative to
    a channel's largest weight."""
    wanted, found = weight.float().flatten(1), array.flatten(1)
    tiny = torch.finfo(torch.float32).tiny
    factors = (wanted * found).sum(1) / found.square().sum(1).clamp(min=tiny)
    off = (wanted - factors[:, None] * found).abs().amax(1) / wanted.abs().amax(1).clamp(min=tiny)
    return factors, float(off.max())


def _by_channel(factors: Tensor, dims: int) -> Tensor:
    return factors.view(-1, *[1] * (dims - 1))
