"""Class activation maps are exact: their mean is the logit, in torch, in ONNX and in INT8, for every recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from funduscope.explain.class_activation import explanation
from funduscope.export.onnx_file import write_onnx
from funduscope.export.quantization import quantize
from funduscope.inference.card import Card
from funduscope.inference.loading import load
from funduscope.inference.runtime import OnnxRuntime
from funduscope.network.heads import ClassifierHead
from funduscope.network.network import Network, build
from funduscope.recipe import Recipe, builtin_recipes
from funduscope.testing.drawn_eyes import draw_eye

Tiny = Callable[[str], list[str]]
ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "src" / "funduscope" / "models" / "funduscope.onnx"


def _built(recipe: Recipe) -> Network:
    """As if it had learned something: otherwise half of a ResNet's branches are zero."""
    torch.manual_seed(0)
    network = build(recipe)
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    for name in ("grade", "dme"):
        if name in network.heads and recipe.experts.kind != "heads":
            torch.nn.init.normal_(network.heads[name].linear.bias)  # pyright: ignore
    return network.eval()


def _images(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)


def _linear_tasks(recipe: Recipe) -> set[str]:
    """The tasks whose heads are linear on pooled features, by the recipe's own words."""
    if recipe.heads.hidden or recipe.experts.kind in ("per_task", "heads"):
        return set()
    return {task for task in ("grade", "dme") if getattr(recipe.tasks, task)}


@pytest.mark.parametrize("name", [name for name in builtin_recipes() if "/" not in name])
def test_the_mean_of_a_map_is_the_logit(name: str, tiny: Tiny, tmp_path: Path) -> None:
    recipe = Recipe.load(name, tiny(name))
    network, linear = _built(recipe), _linear_tasks(recipe)
    runtime = OnnxRuntime(write_onnx(network, Card.of(recipe), tmp_path / "model.onnx"))
    for side in (64, 128):
        images = _images(2, side)
        with torch.inference_mode():
            of_torch = network(torch.from_numpy(images)).named()
        of_onnx = runtime(images).named()
        assert of_onnx.keys() == of_torch.keys()
        assert {key.removesuffix("_cam") for key in of_onnx if key.endswith("_cam")} == linear
        for task in linear:
            for outputs in ({key: value.numpy() for key, value in of_torch.items()}, of_onnx):
                cam, logits = outputs[f"{task}_cam"], outputs[task]
                assert cam.shape[2:] == (side // recipe.encoder.output_stride,) * 2
                np.testing.assert_allclose(cam.mean((2, 3)), logits, rtol=1e-4, atol=1e-4)
            scale = max(1.0, float(of_torch[f"{task}_cam"].abs().max()))
            difference = np.abs(of_torch[f"{task}_cam"].numpy() - of_onnx[f"{task}_cam"]).max()
            assert difference / scale < 1e-3


def test_a_training_makes_no_maps(tiny: Tiny) -> None:
    network = _built(Recipe.load("plain", tiny("plain")))
    images = torch.from_numpy(_images(2, 64))
    assert "grade" in network(images).cams
    assert "grade" not in network.train()(images).cams


def test_it_holds_in_int8_too(tiny: Tiny, tmp_path: Path) -> None:
    recipe = Recipe.load("plain", tiny("plain"))
    whole = write_onnx(_built(recipe), Card.of(recipe), tmp_path / "model.onnx")
    images = [_images(1, 64), _images(1, 128)]
    small = OnnxRuntime(quantize(whole, tmp_path / "small.onnx", images))
    for image in images:
        outputs = small(image)
        np.testing.assert_allclose(outputs.cams["grade"].mean((2, 3)), outputs.classes["grade"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(outputs.cams["dme"].mean((2, 3)), outputs.classes["dme"], rtol=1e-4, atol=1e-4)


def test_a_file_without_maps_answers_alike_and_explains_nothing(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.load("plain", tiny("plain"))
    network = _built(recipe)
    new = write_onnx(network, Card.of(recipe), tmp_path / "new.onnx")
    with monkeypatch.context() as patch:
        patch.setattr(ClassifierHead, "activation_map", lambda self, deepest: None)
        old = write_onnx(network, Card.of(recipe), tmp_path / "old.onnx")
    assert "grade" not in OnnxRuntime(old)(_images(1, 64)).cams
    eye = draw_eye(3, width_px=480).pixels
    found = load(old)(eye)
    assert found.grade == load(new)(eye).grade
    assert explanation(found, "referable") is None


def test_the_shipped_model_answers_with_maps_whose_mean_is_its_logits() -> None:
    outputs = OnnxRuntime(SHIPPED, threads=1)(np.zeros((1, 64, 64, 3), np.uint8))
    assert "grade" in outputs.cams
    np.testing.assert_allclose(outputs.cams["grade"].mean((2, 3)), outputs.classes["grade"], rtol=1e-5, atol=1e-5)
