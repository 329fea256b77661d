"""Encoders of real size, by timm name and from scratch: each builds, trains a step, and answers alike in ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from funduscope.evaluation.parity import MAX_DIFFERENCE
from funduscope.export.onnx_file import write_onnx
from funduscope.inference.card import Card
from funduscope.network.network import build
from funduscope.recipe import Recipe

LEVELS = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), 5),
    **dict.fromkeys(("convnext_tiny", "pvt_v2_b0", "test_mambaout"), 4),
}
"""Levels by name. pvt_v2_b0: a transformer; test_mambaout: one whose features have their channels last."""

SLOW = dict.fromkeys(("resnet101", "resnet152"), pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in LEVELS])
def test_an_encoder_builds_trains_a_step_and_is_exported(name: str, tmp_path: Path) -> None:
    levels = LEVELS[name]
    sizes = ["views.whole_px=64", "views.close_px=64", "views.close=[]", "encoder.weights=none"]
    widths = [f"decoder.skip_channels={[8] * levels}", f"decoder.channels={[8] * (levels - 1)}"]
    recipe = Recipe.from_toml('name = "sized"\n', [f"encoder.name={name}", *sizes, *widths])
    torch.manual_seed(0)
    network = build(recipe).train()
    image = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    optimizer = torch.optim.SGD(network.parameters(), 1e-4)
    before = {key: value.clone() for key, value in network.encoder.named_parameters()}
    torch.stack([value.float().square().mean() for value in network(image).named().values()]).sum().backward()
    optimizer.step()
    learned = dict(network.encoder.named_parameters())
    assert all(value.grad is not None and bool(value.grad.isfinite().all()) for value in learned.values())
    assert any(not torch.equal(value, before[key]) for key, value in learned.items())

    path = write_onnx(network, Card.of(recipe), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    other = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8)  # than it was exported with
    found = dict(zip(names, session.run(names, {"image": other.numpy()}), strict=True))
    with torch.inference_mode():
        expected = network.eval()(other).named()
    maps = {"grade_cam", "dme_cam", "features"}
    assert found.keys() == expected.keys() == {"grade", "dme", "structures", "landmarks", *maps}
    for key, value in expected.items():
        exact = value.numpy()
        far = np.abs(np.asarray(found[key]) - exact).max()
        assert far < MAX_DIFFERENCE * max(1.0, float(np.abs(exact).max())), key
