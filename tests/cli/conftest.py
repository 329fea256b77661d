"""A model of a few dozen numbers with funduscope's inputs and outputs, and eyes to show it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from funduscope.inference.card import Card

CARD = Card(name="tiny", version="1", whole_px=64, close_px=128, landmark_floor=0.0)


def write_model(path: Path, card: Card = CARD, seed: int = 0) -> Path:
    """Writes the model: grades from the mean color, lesions where it is bright, landmarks anywhere."""
    draw = np.random.default_rng(seed)
    weights = {
        "grade_w": draw.normal(size=(3, 5)).astype(np.float32),
        "dme_w": draw.normal(size=(3, 3)).astype(np.float32),
        "structure_w": np.full((5, 3, 1, 1), 4.0, np.float32),
        "structure_b": np.array([-9.0, -8.5, -8.0, -9.5, -7.0], np.float32),
        "landmark_w": draw.normal(size=(2, 3, 1, 1)).astype(np.float32) * 20,
        "scale": np.array(1 / 255, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("ReduceMean", ["unit"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "grade_w"], ["grade"]),
        helper.make_node("MatMul", ["mean", "dme_w"], ["dme"]),
        *(helper.make_node("MatMul", ["unit", f"{task}_w"], [f"{task}_places"]) for task in ("grade", "dme")),
        *(
            helper.make_node("Transpose", [f"{task}_places"], [f"{task}_cam"], perm=[0, 3, 1, 2])
            for task in ("grade", "dme")
        ),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("AveragePool", ["half"], ["quarter"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["half", "structure_w", "structure_b"], ["structures"]),
        helper.make_node("Conv", ["quarter", "landmark_w"], ["landmarks"]),
    ]
    outputs = {"grade": 2, "dme": 2, "structures": 4, "landmarks": 4, "grade_cam": 4, "dme_cam": 4}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", "H", "W", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"card": card.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def draw_eye(width: int = 360, height: int = 300) -> np.ndarray:
    """A reddish disc with a bright spot and some texture on black: (height, width, 3) uint8 RGB."""
    y, x = np.mgrid[:height, :width]
    pixels = np.zeros((height, width, 3), np.uint8)
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (0.46 * height) ** 2
    shade = (10 * np.sin(x / 9) + 10 * np.cos(y / 7)).astype(int)
    for channel, level in enumerate((150, 70, 40)):
        pixels[..., channel] = np.where(inside, np.clip(level + shade, 0, 255), 0)
    pixels[(x - width * 0.65) ** 2 + (y - height * 0.5) ** 2 < (0.07 * height) ** 2] = (240, 200, 130)
    return pixels


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's file."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(autouse=True)
def _any_eye(takes_anything: None) -> None:
    """The eyes of these tests are painted: what is refused for what it shows is tested elsewhere."""


@pytest.fixture
def make_model() -> Callable[..., Path]:
    """The function that writes such a model: path, card, seed."""
    return write_model


@pytest.fixture
def eye() -> np.ndarray:
    return draw_eye()


@pytest.fixture
def save_eye() -> Callable[..., Path]:
    """Saves an eye, whose width tells it from others; the format is the suffix's, or JPEG."""

    def save(path: Path, width: int = 360, height: int = 300) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            kind = {".png": "PNG", ".tif": "TIFF"}.get(path.suffix, "JPEG")
            Image.fromarray(draw_eye(width, height)).save(file, kind)
        return path

    return save


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `funduscope` with these arguments: (exit code, stdout, stderr)."""
    from funduscope.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
