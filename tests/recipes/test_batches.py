"""Photos of a stream whose whole views go through the network together get the findings of photos one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from funduscope.export.onnx_file import write_onnx
from funduscope.inference.card import Card
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import OnnxRuntime, Outputs, Runtime, TorchRuntime
from funduscope.network.joined import build_model
from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.vocabulary import View


class Counted:
    """A runtime that keeps how many images it got at once."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.card, self.sha256 = runtime, runtime.card, runtime.sha256
        self.counts: list[int] = []

    def __call__(self, images: np.ndarray, view: View = "whole") -> Outputs:
        self.counts.append(len(images))
        return self.runtime(images, view)


@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize("name", ["flagship", "fast", "moe_aspp"])
def test_findings_of_batches_are_those_of_single_photos(
    name: str, kind: str, tiny: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """Also mirrored. Two have a network for each view; the last chooses experts for each photo."""
    torch.manual_seed(0)
    recipe = Recipe.load(name, tiny(name))
    network, card = build_model(recipe).eval(), replace(Card.of(recipe), mirrored=True)
    torch_or_onnx = TorchRuntime(network, card)
    counted = Counted(
        torch_or_onnx if kind == "torch" else OnnxRuntime(write_onnx(network, card, tmp_path / "model.onnx"))
    )
    eyes = [draw_eye(seed, grade=seed % 5, width_px=480).pixels for seed in range(5)]
    photos = [*eyes[:2], np.zeros_like(eyes[0]), tmp_path / "missing.jpg", *eyes[2:]]
    single = list(Predictor(counted).stream(photos))
    assert set(counted.counts) == {1}
    counted.counts.clear()
    together = list(Predictor(counted, batch=4).stream(photos))
    assert {2, 3} <= set(counted.counts), "of four photos two are no eyes; then come three"
    assert [isinstance(one, Failure) for one in together] == [place == 3 for place in range(7)]
    for one, other in zip(single, together, strict=True):
        if isinstance(one, Findings) and isinstance(other, Findings):
            _assert_equal(one, other)


def _assert_equal(one: Findings, other: Findings) -> None:
    assert one.photo.sha256 == other.photo.sha256
    assert (one.reasons, one.quality, one.estimated) == (other.reasons, other.quality, other.estimated)
    for name in ("class_probs", "frame_probs", "cams", "gates"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            np.testing.assert_allclose(theirs[key], value, rtol=1e-4, atol=1e-5, err_msg=f"{name} {key}")
    for mine, theirs in ((one.disc_xy, other.disc_xy), (one.fovea_xy, other.fovea_xy)):
        assert theirs == (mine if mine is None else pytest.approx(mine, abs=1e-2))
