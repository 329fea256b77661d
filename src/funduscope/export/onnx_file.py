"""A network as an ONNX file in float32, with its card in the metadata."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from funduscope.atomic import replacing
from funduscope.inference.card import Card
from funduscope.inference.runtime import CLOSE, IMAGE
from funduscope.network.joined import JoinedNetwork
from funduscope.network.network import Network, Outputs
from funduscope.network.routing import traced
from funduscope.vocabulary import CLASSES, View

OPSET = 17
VIEWS: tuple[View, ...] = ("whole", "close")


class _Flat(nn.Module):
    """The network with a tuple as its output, as ONNX needs it; of joined ones, those of one view."""

    def __init__(self, network: Network | JoinedNetwork, view: View) -> None:
        super().__init__()
        self.network, self.view = network, view

    def outputs(self, image: Tensor) -> Outputs:
        return self.network(image, self.view) if isinstance(self.network, JoinedNetwork) else self.network(image)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.outputs(image).named().values())


def write_onnx(network: Network | JoinedNetwork, card: Card, path: Path) -> Path:
    """The network as ONNX: image (B, H, W, 3) uint8, H and W multiples of 32; the card is in the metadata.

    Where the close view has a network of its own, the names of its input, `close_image`, and of its outputs begin so.
    ONNX Runtime computes both networks whatever outputs are asked for: one whose view is not needed is given 32x32 px.
    """
    import onnx

    network = network.eval().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    with replacing(path) as unfinished, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        if card.own_close:
            model = side_by_side([_trace(network, view, Path(folder) / f"{view}.onnx") for view in VIEWS])
        else:
            model = _trace(network, "whole", Path(folder) / "whole.onnx")
        put_card(model, card)
        onnx.save(model, str(unfinished))
    return path


def _trace(network: Network | JoinedNetwork, view: View, path: Path) -> Any:
    """The ONNX model of one view, by way of a file."""
    import onnx

    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    flat = _Flat(network, view).eval()
    prefix = CLOSE if view == "close" else ""
    taken, names = prefix + IMAGE, [prefix + name for name in flat.outputs(image).named()]
    axes = {name: {0: f"{prefix}batch"} for name in (taken, *names)}
    axes[taken] |= {1: f"{prefix}height", 2: f"{prefix}width"}
    for name in ("structures", f"{CLOSE}structures", "landmarks", *(f"{task}_cam" for task in CLASSES)):
        if name in axes:
            axes[name] |= {2: f"{name}_height", 3: f"{name}_width"}
    with warnings.catch_warnings():
        # About the conditions around experts, sizes read while tracing, and the exporter in general.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx.*")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        # The TorchScript exporter: it keeps every size dynamic through the decoder's resizes.
        torch.onnx.export(
            traced(flat, image), (image,), str(path),
            input_names=[taken], output_names=names, dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    return onnx.load(str(path))


def side_by_side(models: Sequence[Any]) -> Any:
    """One model of several. All names but those of inputs and outputs get a prefix."""
    prefixed = []
    for place, plain in enumerate(models):
        model = copy.deepcopy(plain)
        ends = {end.name for end in (*model.graph.input, *model.graph.output)}
        _add_prefix(model.graph, f"{place}/", ends)
        prefixed.append(model)
    first, *rest = prefixed
    del first.graph.value_info[:]  # in it, equal names of sizes would say that all views are as large
    for model in rest:
        for name in ("node", "initializer", "input", "output"):
            getattr(first.graph, name).extend(getattr(model.graph, name))
        known = {one.domain for one in first.opset_import}
        first.opset_import.extend(one for one in model.opset_import if one.domain not in known)
    return first


def one_of(model: Any, place: int) -> Any:
    """The model that came at this place in `side_by_side`, with the prefix of its names.

    (`onnx.utils.extract_model` loses what only branches read.)
    """
    one, prefix = copy.deepcopy(model), f"{place}/"
    del one.graph.value_info[:]
    for part in (one.graph.node, one.graph.initializer):
        mine = [each for each in part if each.name.startswith(prefix)]
        del part[:]
        part.extend(mine)
    used = {name for node in one.graph.node for name in (*node.input, *node.output)}
    for ends in (one.graph.input, one.graph.output):
        mine = [end for end in ends if end.name in used]
        del ends[:]
        ends.extend(mine)
    return one


def _add_prefix(graph: Any, prefix: str, kept: Collection[str]) -> None:
    """Renames nodes and tensors, also in the branches of nodes, which read tensors of the graph around them.

    (`onnx.compose.add_prefix` leaves those as they were.) kept: names that stay, and the empty one of a missing input.
    """

    def renamed(name: str) -> str:
        return name if not name or name in kept else prefix + name

    for node in graph.node:
        node.name = prefix + node.name
        for names in (node.input, node.output):
            names[:] = map(renamed, names)
        for attribute in node.attribute:
            for branch in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _add_prefix(branch, prefix, kept)
    for one in (*graph.initializer, *graph.value_info, *graph.input, *graph.output):
        one.name = renamed(one.name)


def put_card(model: Any, card: Card) -> None:
    """Puts the card into the model's metadata."""
    import onnx

    onnx.helper.set_model_props(model, {"card": card.to_json()})
