"""Gives an ONNX model that was exported without class activation maps its exact ones, and takes them out again.

A grade that is one linear layer on pooled features is `Gemm(ReduceMean(features))`. The map is the same weights and
bias on the features themselves, a 1x1 convolution: no weight is added, and no other output changes by a bit. Models
are exported with maps by now (`export.py`); this is for files that are older, the shipped one among them:

    python -c "from pathlib import Path; from funduscope.explain.onnx_maps import add_maps;
    add_maps(Path('model.onnx'))"
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from funduscope.atomic import replacing

TASKS: Final = ("grade", "dme")
_SUFFIX: Final = "_cam"
_AXES: Final = "cam.axes"


def add_maps(path: Path) -> tuple[str, ...]:
    """Writes the outputs `grade_cam` and `dme_cam` into a model's file; the names of those that were added.

    None for a head with hidden layers or experts, nor for a map that is there already. An export.json beside the file
    that names it gets its new SHA-256, without which it would count as damaged.
    """
    model = onnx.load(str(path))
    graph = model.graph
    there = {output.name for output in graph.output}
    added = tuple(task + _SUFFIX for task in TASKS if task + _SUFFIX not in there and _add(graph, task))
    if added:
        onnx.checker.check_model(model)
        with replacing(path) as unfinished:
            onnx.save(model, str(unfinished))
        _name_anew(path)
    return added


def _name_anew(path: Path) -> None:
    report = path.with_name("export.json")
    told = json.loads(report.read_text("utf-8")) if report.is_file() else {}
    if path.name in told.get("files", {}):
        data = path.read_bytes()
        told["files"][path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        report.write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def without_maps(path: Path) -> bytes:
    """The file as it was before `add_maps`, to the byte."""
    model = onnx.load(str(path))
    graph: Any = model.graph
    for task in TASKS:
        for items in (graph.node, graph.output):
            for item in [item for item in items if item.name in _names(task)]:
                items.remove(item)
    for item in [item for item in graph.initializer if item.name == _AXES]:
        graph.initializer.remove(item)
    return model.SerializeToString()


def _add(graph: Any, task: str) -> bool:
    """Whether the head of a task is linear on pooled features; then its map is in the graph."""
    makers = {name: node for node in graph.node for name in node.output}
    gemm = makers.get(task)
    pool = makers.get(gemm.input[0]) if gemm is not None and gemm.op_type == "Gemm" else None
    weights = {item.name: item for item in graph.initializer}
    if gemm is None or pool is None or pool.op_type != "ReduceMean" or not _plain(gemm, pool):
        return False
    if _AXES not in weights:
        graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), _AXES))
    output, weight, unsqueezing, convolution = _names(task)
    graph.node.extend([
        helper.make_node("Unsqueeze", [gemm.input[1], _AXES], [weight], name=unsqueezing),
        helper.make_node(
            "Conv", [pool.input[0], weight, gemm.input[2]], [output], name=convolution, kernel_shape=[1, 1]
        ),
    ])  # fmt: skip
    shape = ["batch", weights[gemm.input[1]].dims[0], f"{output}_height", f"{output}_width"]
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
    return True


def _plain(gemm: Any, pool: Any) -> bool:
    """Whether the layer is weights (classes, channels) times features plus bias, the features the map's mean."""
    told = {item.name: helper.get_attribute_value(item) for item in (*gemm.attribute, *pool.attribute)}
    return (
        len(gemm.input) == 3
        and (told.get("alpha", 1.0), told.get("beta", 1.0)) == (1.0, 1.0)
        and (told.get("transA", 0), told.get("transB", 0)) == (0, 1)
        and list(told.get("axes", ())) == [2, 3]
    )


def _names(task: str) -> tuple[str, str, str, str]:
    """Of the output, of the weights as a convolution's, and of the two nodes."""
    output = task + _SUFFIX
    return output, f"{output}.weight", f"/{output}/Unsqueeze", f"/{output}/Conv"
