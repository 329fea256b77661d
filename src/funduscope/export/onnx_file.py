"""A network as an ONNX file in float32, with its card in the metadata."""

from __future__ import annotations

import base64
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
from funduscope.inference.runtime import ANSWER, CLOSE, IMAGE
from funduscope.network.answer import Answer
from funduscope.network.joined import JoinedNetwork
from funduscope.network.network import Network, Outputs
from funduscope.network.routing import traced
from funduscope.vocabulary import CLASSES, View

OPSET = 17
SMALL_PX = 64
"""Side of the image by which a network is traced."""
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
        put_card(model, card, trace_answer(card, _blank_logits(network, card)))
        onnx.save(model, str(unfinished))
    return path


class _NamedAnswer(nn.Module):
    """The answer with tensors in and out, as ONNX needs it."""

    def __init__(self, answer: Answer, names: Sequence[str]) -> None:
        super().__init__()
        self.answer, self.names = answer, tuple(names)

    def named(self, *logits: Tensor) -> dict[str, Tensor]:
        return self.answer(dict(zip(self.names, logits, strict=True)))

    def forward(self, *logits: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(*logits).values())


def trace_answer(card: Card, logits: dict[str, Tensor]) -> bytes:
    """The ONNX model that computes the answer (`network.answer.Answer`). logits: examples, each of the size that it
    has in use."""
    heat_px = logits["landmarks"].shape[-1] if "landmarks" in logits else 0
    named = _NamedAnswer(Answer(card, heat_px), list(logits)).eval()
    with torch.no_grad(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.onnx"
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx.*")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        outputs = list(named.named(*logits.values()))
        torch.onnx.export(
            named, tuple(logits.values()), str(path),
            input_names=list(logits), output_names=outputs, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        return path.read_bytes()


def _blank_logits(network: Network | JoinedNetwork, card: Card) -> dict[str, Tensor]:
    """What `Answer` takes, of a black photo: the shapes of both views' outputs, from a small image's."""
    found: dict[str, Tensor] = {}
    for view in VIEWS:
        side = card.close_px if view == "close" else card.whole_px
        with torch.no_grad():
            outputs = _Flat(network, view).outputs(torch.zeros(1, SMALL_PX, SMALL_PX, 3, dtype=torch.uint8)).named()
        maps = {name: outputs[name] for name in ("structures", "landmarks") if name in outputs}
        large = {
            name: value.new_zeros(*value.shape[:2], *(side * value.shape[-1] // SMALL_PX,) * 2)
            for name, value in maps.items()
        }
        if view == "whole":
            found |= {f"{task}_logits": outputs[task] for task in card.photo_tasks} | large
        elif "structures" in large:
            found["close_structures"] = large["structures"]
    return found | {"frame": torch.zeros(1, card.close_px, card.close_px, 3, dtype=torch.uint8)}


def _trace(network: Network | JoinedNetwork, view: View, path: Path) -> Any:
    """The ONNX model of one view, by way of a file."""
    import onnx

    image = torch.zeros(1, SMALL_PX, SMALL_PX, 3, dtype=torch.uint8)
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


def put_card(model: Any, card: Card, answer: bytes) -> None:
    """Puts the card, and the ONNX model that computes the answer, into the model's metadata."""
    import onnx

    onnx.helper.set_model_props(model, {"card": card.to_json(), ANSWER: base64.b64encode(answer).decode()})
