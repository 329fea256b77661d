"""Experts in ONNX: the same answers, and an expert that no photo keeps is not run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import SeparableConv2d
from torch import Tensor, nn
from torch.nn import functional as F

from funduscope.network.routing import Dispatch, Gate, SharedExperts, traced
from funduscope.settings import Experts


def _separable(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(SeparableConv2d(into, out, 3, padding=2, dilation=2), nn.BatchNorm2d(out), nn.ReLU())


CENTERS = torch.tensor([-0.75, -0.25, 0.25, 0.75])
"""The brightness, -1 to 1, at which each of four experts is chosen."""


class _Net(nn.Module):
    """Every use of experts in one: on the shared map, as separable branches, on vectors; by brightness, one of four."""

    def __init__(self) -> None:
        super().__init__()
        one = Experts(kind="soft", count=4, keep="top_k", top_k=1, width=4)
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.shared = SharedExperts(8, ("grade", "dense"), one)
        self.branches = Dispatch([_separable(8, 6) for _ in CENTERS])
        self.hidden = Dispatch([nn.Sequential(nn.Linear(8, 5), nn.ReLU()) for _ in CENTERS])
        self.head = nn.Conv2d(6, 2, 3, padding=1)
        nn.init.constant_(self.stem.weight, 1 / 27)
        nn.init.zeros_(self.stem.bias)  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Gate):
                    module.linear.weight.copy_((40 / 8 * CENTERS)[:, None].expand(4, 8))
                    module.linear.bias.copy_(-20 * CENTERS**2)
                elif isinstance(module, nn.BatchNorm2d):
                    nn.init.normal_(module.bias)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps, routed = self.shared(self.stem(image.permute(0, 3, 1, 2).float() / 127.5 - 1))
        gates = routed["grade"].gates
        vector = self.hidden(maps["grade"].mean((2, 3)), gates)
        maps = self.head(self.branches(maps["dense"], gates))
        return F.interpolate(maps, size=image.shape[1:3], mode="bilinear"), vector, gates


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[_Net, Path]:
    """That network and its ONNX file."""
    torch.manual_seed(0)
    network, path = _Net().eval(), tmp_path_factory.mktemp("onnx") / "experts.onnx"
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    axes = {"image": {0: "batch", 1: "height", 2: "width"}, "maps": {0: "batch", 2: "h", 3: "w"}}
    axes |= {"vector": {0: "batch"}, "gates": {0: "batch"}}
    torch.onnx.export(
        traced(network, image), (image,), str(path), input_names=["image"], output_names=["maps", "vector", "gates"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    return network, path


def _photos(*levels: int, height: int = 64, width: int = 96) -> Tensor:
    """A photo of noise around each level."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(-20, 21, (len(levels), height, width, 3), generator=generator)
    return (torch.tensor(levels).view(-1, 1, 1, 1) + noise).to(torch.uint8)


@pytest.mark.parametrize("levels", [(30,), (100,), (150,), (220,), (30, 220, 40), (100, 30, 150)])
def test_onnx_answers_like_torch(exported: tuple[_Net, Path], levels: tuple[int, ...]) -> None:
    """For one photo and for three, whichever experts they keep, whatever the one photo kept that was traced."""
    network, path = exported
    image = _photos(*levels, height=64 * len(levels))
    found = onnxruntime.InferenceSession(str(path)).run(None, {"image": image.numpy()})
    with torch.inference_mode():
        expected = network(image)
    assert expected[2].argmax(1).tolist() == [{30: 0, 40: 0, 100: 1, 150: 2, 220: 3}[level] for level in levels]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), other.numpy(), rtol=0, atol=1e-4)


def test_onnx_runtime_does_not_run_an_expert_that_no_photo_keeps(exported: tuple[_Net, Path], tmp_path: Path) -> None:
    """Counted in its own profile: stem and head, and for each chosen expert the three convolutions of a bottleneck, the
    two of a separable branch and one matrix product."""
    graph = onnx.load(str(exported[1])).graph
    assert sum(node.op_type == "If" for node in graph.node) == 3 * len(CENTERS)

    def ran(*levels: int) -> tuple[int, int]:
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
        session = onnxruntime.InferenceSession(str(exported[1]), options)
        session.run(None, {"image": _photos(*levels).numpy()})
        events = json.loads(Path(session.end_profiling()).read_text())
        names = [event["args"].get("op_name", "") for event in events if event["cat"] == "Node"]
        return sum("Conv" in name for name in names), sum("Gemm" in name for name in names)

    gates = 1  # the two gates are alike: ONNX Runtime computes one
    assert ran(30) == (2 + 5, gates + 1)
    assert ran(30, 40) == (2 + 5, gates + 1)
    assert ran(30, 220) == (2 + 2 * 5, gates + 2)
    assert ran(30, 100, 150, 220) == (2 + 4 * 5, gates + 4)


def test_tracing_leaves_the_network_as_it_was(exported: tuple[_Net, Path]) -> None:
    network, image = exported[0], _photos(30)
    names = list(network.state_dict())
    assert traced(network, image) is not network
    assert list(network.state_dict()) == names
    plain = nn.Conv2d(3, 1, 1)
    assert traced(plain, torch.zeros(1, 3, 2, 2)) is plain
    with pytest.raises(ValueError, match="eval"):
        traced(_Net(), image)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_a_plain_trace_computes_every_expert_and_stays_right() -> None:
    """What the traced photo kept is not cast in stone for others."""
    torch.manual_seed(0)
    dispatch, x = Dispatch([nn.Linear(3, 2) for _ in range(3)]).eval(), torch.randn(4, 3)
    plain = torch.jit.trace(dispatch, (x[:1], torch.tensor([[1.0, 0, 0]])), check_trace=False)
    gates = torch.tensor([[0, 1.0, 0], [0.5, 0, 0.5], [0, 0, 1], [1, 0, 0]])
    torch.testing.assert_close(plain(x, gates), dispatch(x, gates))  # pyright: ignore[reportCallIssue]


def test_experts_that_are_always_computed_stand_behind_no_condition(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = Experts(kind="soft", count=3, keep="all", width=4)

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = SharedExperts(8, ("grade", "dense"), settings)

        def forward(self, deepest: Tensor) -> tuple[Tensor, Tensor]:
            maps, _ = self.shared(deepest)
            return maps["grade"], maps["dense"]

    network, path, maps = Mixed().eval(), tmp_path / "all.onnx", torch.randn(2, 8, 6, 4)
    axes = {"maps": {0: "batch", 2: "height", 3: "width"}}
    torch.onnx.export(
        traced(network, maps[:1]), (maps[:1, :, :3],), str(path), input_names=["maps"], dynamic_axes=axes,
        opset_version=17, dynamo=False,
    )  # fmt: skip
    assert not [node for node in onnx.load(str(path)).graph.node if node.op_type == "If"]
    found = onnxruntime.InferenceSession(str(path)).run(None, {"maps": maps.numpy()})
    with torch.inference_mode():
        expected = network(maps)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), other.numpy(), rtol=0, atol=1e-5)
