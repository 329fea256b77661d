"""What `predict --explain` draws of a recipe's checkpoint: Grad-CAM of hidden heads, and attention gates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from funduscope import checkpoint
from funduscope.cli.main import main
from funduscope.inference.card import Card
from funduscope.network.network import build
from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import draw_eye

Tiny = Callable[[str], list[str]]
BOTH = {"explanation_referable.png", "explanation_edema.png"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet_grader", BOTH),
        ("unet34", BOTH),
        ("moe_aspp", BOTH),
        ("attention_moe", {"explanation_referable.png", "explanation_attention.png"}),
    ],
)
def test_a_run_without_onnx_explains_its_answers(
    name: str, expected: set[str], tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    recipe = Recipe.load(name, tiny(name))
    run, photo, out = tmp_path / "run", tmp_path / "eye.png", tmp_path / "out"
    run.mkdir()
    weights = build(recipe).eval().state_dict()
    checkpoint.save(run / "best.safetensors", recipe, {"weights": weights}, Card.of(recipe).to_dict(), {})
    Image.fromarray(draw_eye(5, width_px=480).pixels).save(photo)
    for _ in range(2):  # the second run takes the place of the first
        assert main(["predict", str(photo), "--model", str(run), "--out", str(out), "--explain"]) == 0
    assert "Grad-CAM" not in capsys.readouterr().err, "nothing is left to wish for"
    drawn = {path.name: Image.open(path).size for path in (out / "eye").glob("explanation_*")}
    assert set(drawn) == expected
    assert all(width == 480 for width, _ in drawn.values())
