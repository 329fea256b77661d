"""Weights are found in the graph of a model, however a layer holds them, and nothing is taken for them that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from funduscope.graph_weights import MAX_DEVIATION, arrays_of, find, rebuilt

RNG = np.random.default_rng(0)
CONV, LINEAR = (RNG.normal(size=shape).astype(np.float32) for shape in ((8, 4, 3, 3), (6, 5)))


def graph_of(**arrays: np.ndarray) -> Any:
    held = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    return helper.make_graph([], "g", [], [], held)


def quantized(value: np.ndarray, bits: int) -> onnx.GraphProto:
    """A graph with the value rounded, with a scale a channel."""
    scale = np.abs(value).reshape(len(value), -1).max(1) / (2 ** (bits - 1) - 1)
    rounded = np.round(value / scale.reshape(-1, *[1] * (value.ndim - 1))).astype(np.int8)
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"], axis=0)
    graph = graph_of(q=rounded, s=scale, z=np.zeros(len(value), np.int8))
    graph.node.append(node)
    return graph


def test_a_folded_and_rounded_weight_is_found_and_unfolded() -> None:
    folded = CONV * np.linspace(-3.2, 4, 8, dtype=np.float32).reshape(8, 1, 1, 1)
    for bits in (7, 8):
        arrays = arrays_of(quantized(folded, bits))
        sources, factors = find({"conv": torch.from_numpy(CONV)}, arrays)
        assert sources == {"conv": "q"}
        wrong = np.abs(rebuilt(sources, factors, arrays)["conv"].numpy() - CONV).reshape(8, -1).max(1)
        assert (wrong <= 0.6 * np.abs(CONV).reshape(8, -1).max(1) / (2 ** (bits - 1) - 1)).all()


def test_a_matrix_that_lies_the_other_way_is_found() -> None:
    arrays = arrays_of(graph_of(m=np.ascontiguousarray(LINEAR.T)))
    sources, factors = find({"linear": torch.from_numpy(LINEAR)}, arrays)
    torch.testing.assert_close(rebuilt(sources, factors, arrays)["linear"], torch.from_numpy(LINEAR))


def test_what_stands_in_a_branch_is_found() -> None:
    branch = graph_of(inner=CONV)
    chosen = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=graph_of())
    graph = helper.make_graph([node], "g", [chosen], [])
    assert find({"conv": torch.from_numpy(CONV)}, arrays_of(graph))[0] == {"conv": "inner"}


def test_vectors_and_other_weights_are_left_out() -> None:
    other = CONV.copy()
    other[3, 0, 0, 0] += 2 * MAX_DEVIATION * np.abs(CONV[3]).max()
    weights = {"other": torch.from_numpy(other), "bias": torch.ones(8), "dead": torch.from_numpy(CONV)}
    dead = CONV.copy()
    dead[2] = 0
    assert find(weights, arrays_of(graph_of(conv=dead, bias=np.ones(8, np.float32))))[0] == {}


def test_of_two_arrays_that_are_alike_the_nearest_is_taken() -> None:
    """Two networks that began from the same weights and were hardly trained."""
    near = CONV * (1 + 0.02 * RNG.normal(size=CONV.shape).astype(np.float32))
    weights = {"a": torch.from_numpy(CONV), "b": torch.from_numpy(near)}
    assert find(weights, arrays_of(graph_of(first=CONV, second=near)))[0] == {"a": "first", "b": "second"}


def test_no_other_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret.bin").write_bytes(CONV.tobytes())
    graph = graph_of(conv=CONV)
    (held,) = graph.initializer
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "secret.bin"), ("offset", "0"), ("length", str(CONV.nbytes))):
        held.external_data.add(key=key, value=value)
    assert arrays_of(graph) == {}
