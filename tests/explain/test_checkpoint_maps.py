"""What a checkpoint adds to `predict --explain`: Grad-CAM in the exact map's place and unit, what gates let through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from funduscope.explain.attention_maps import attention_maps
from funduscope.explain.class_activation import EXPLAINED_TARGETS, TASK_OF, explanation, log_odds_weights
from funduscope.explain.map_reliability import map_messages
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import TorchRuntime
from funduscope.inference.witnesses import Witness
from funduscope.network.joined import JoinedNetwork, build_model
from funduscope.network.network import Network
from funduscope.recipe import Recipe
from funduscope.report.checkpoint_maps import CheckpointMaps
from funduscope.report.heatmap import map_picture
from funduscope.report.outline import trace_all
from funduscope.testing.drawn_eyes import draw_eye

Built = Callable[..., Network]
CARD = Card(structures=(), landmarks=(), whole_px=128, close_px=128, close=(), temperatures={"grade": 1.3, "dme": 0.8})
EYE = draw_eye(3, grade=3, width_px=480).pixels
GRADER = ("tasks.structures=[]", "tasks.landmarks=[]")


def _found(network: Network, card: Card, pixels: np.ndarray = EYE) -> tuple[Findings, CheckpointMaps]:
    found = Predictor(TorchRuntime(network, card))(pixels)
    assert found.gradable_ok
    return found, CheckpointMaps(network, card)


def test_of_a_linear_head_it_is_the_exact_maps_positive_part(built: Built) -> None:
    """In the same unit and place, so that both are drawn on one scale; there the exact map is what is shown."""
    network = built(*GRADER)
    found, weights = _found(network, CARD)
    for target in EXPLAINED_TARGETS:
        exact = explanation(found, target)
        assert exact is not None
        assert weights.explanation(found, target) is not None
        without = replace(found, cams={})
        assert explanation(without, target) is None
        told = weights.explanation(without, target)
        assert told is not None
        assert (told.exact, told.classes, told.probability) == (False, exact.classes, exact.probability)
        task = TASK_OF[target]
        probs = found.grade_probs if task == "grade" else found.dme_probs
        assert probs is not None
        bias = network.heads[task].linear.bias.detach().numpy() / CARD.temperatures[task]  # pyright: ignore
        constant = float(log_odds_weights(probs, exact.classes) @ bias)
        np.testing.assert_allclose(told.evidence, np.maximum(exact.evidence - constant, 0), rtol=1e-3, atol=1e-4)
        assert "MAP_BY_GRADIENTS" not in [message.code for message in map_messages(exact, found.model_sha256)]


def test_where_lesions_are_a_second_witness_its_scale_is_the_exact_maps(built: Built) -> None:
    network = built("tasks.landmarks=[]", 'tasks.structures=["EX"]')
    witness = Witness(("EX count 0.5",), (0.0,), (1.0,), (1.0,), (-1.0, 0.0, 1.0, 2.0), (0.4, 0.6))
    card = replace(CARD, structures=("EX",), witnesses={"grade": witness.to_tree()})
    found, weights = _found(network, card)
    exact, told = explanation(found, "referable"), weights.explanation(replace(found, cams={}), "referable")
    assert exact is not None
    assert told is not None
    assert found.grade_probs is not None
    bias = network.heads["grade"].linear.bias.detach().numpy() * 0.4  # pyright: ignore
    constant = float(log_odds_weights(found.grade_probs, exact.classes) @ bias)
    np.testing.assert_allclose(told.evidence, np.maximum(exact.evidence - constant, 0), rtol=1e-3, atol=1e-4)
    assert told.also_by_lesions


@pytest.mark.parametrize("changes", [(), ("experts.kind=per_task",)])
def test_hidden_heads_are_explained_and_said_to_be_approximated(
    built: Built, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    card = replace(CARD, routers=("grade", "dme") if changes else ())
    found, weights = _found(built(*GRADER, "heads.hidden=[8]", *changes), card)
    assert not found.cams
    weights(found, trace_all(found), tmp_path, "eye")
    assert {path.name for path in tmp_path.iterdir()} == {"explanation_referable.png", "explanation_edema.png"}
    for target in EXPLAINED_TARGETS:
        told = weights.explanation(found, target)
        assert told is not None
        codes = [message.code for message in map_messages(told, found.model_sha256)]
        assert codes[-2:] == ["MAP_BY_GRADIENTS", "MAP_NOT_MEASURED"]
        with Image.open(tmp_path / f"explanation_{target}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), map_picture(found, told))
        as_if_exact = map_picture(found, replace(told, exact=True))
        assert as_if_exact.shape[0] < map_picture(found, told).shape[0], "a sentence more says what it is"


def test_a_model_that_looks_in_the_mirror_too_is_explained_by_both_looks(built: Built) -> None:
    network, card = built(*GRADER, "heads.hidden=[8]"), replace(CARD, mirrored=True)
    found, weights = _found(network, card)
    turned, _ = _found(network, card, np.ascontiguousarray(EYE[:, ::-1]))
    turned = replace(
        turned, transform=replace(turned.transform, left_px=480 - found.transform.left_px - found.transform.size_px)
    )
    one, other = (weights.explanation(each, "referable") for each in (found, turned))
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.evidence, other.evidence[:, ::-1], rtol=1e-3, atol=1e-5)


def test_what_is_not_answered_is_not_explained(built: Built, tmp_path: Path) -> None:
    network = built(*GRADER, "heads.hidden=[8]", "decoder.kind=attention_unet", "tasks.structures=['EX']")
    weights = CheckpointMaps(network, replace(CARD, structures=("EX",)))
    refused = Predictor(TorchRuntime(network, weights.card))(np.zeros((300, 300, 3), np.uint8))
    assert not refused.gradable_ok
    weights(refused, trace_all(refused), tmp_path, "eye")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def gated(built: Built) -> Network:
    """A network whose gates tell bright from dark: their own start lets everything through alike."""
    network = built("decoder.kind=attention_unet", "tasks.structures=['EX']", "tasks.landmarks=[]")
    with torch.no_grad():
        for gate in network.decoder.gates:  # pyright: ignore
            gate.psi.weight.normal_(0, 3)
    return network


def test_gates_are_drawn_where_the_eye_is(gated: Network, tmp_path: Path) -> None:
    found, weights = _found(gated, replace(CARD, structures=("EX",), close=()))
    maps = weights.attention(found)
    for plane, there in zip(maps, attention_maps(gated, found.transform.image_to_frame(EYE)), strict=True):
        np.testing.assert_allclose(plane, there, atol=1e-6)
    weights(found, trace_all(found), tmp_path, "eye")
    assert [path.name for path in tmp_path.iterdir()] == ["explanation_attention.png"], "grades have exact maps here"
    with Image.open(tmp_path / "explanation_attention.png") as picture:
        drawn = np.asarray(picture).astype(int)
    assert drawn.shape[1] == 480, "two tiles, half as wide as the photo each"
    tile = drawn[: round(EYE.shape[0] / 2), :240]
    colored = tile.max(axis=2) - tile.min(axis=2)
    size = (240, len(tile))
    plane = cv2.resize(found.transform.map_to_photo(maps[0] - maps[0].min()), size, interpolation=cv2.INTER_AREA)
    inside = (
        cv2.resize(found.transform.map_to_photo(np.ones((4, 4), np.float32)), size, interpolation=cv2.INTER_AREA) > 0
    )
    near = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert not near.all()
    assert not colored[~near].any(), "beyond the frame nothing was seen"
    bright, dark = (colored[inside & where].mean() for where in (plane > 0.8 * plane.max(), plane < 0.1 * plane.max()))
    assert bright > dark + 30


def test_gates_of_the_close_view_are_those_that_lesions_are_read_by(gated: Network) -> None:
    card = replace(CARD, structures=("EX",), close=("EX",), close_px=1024)
    found, weights = _found(gated, card)
    maps = weights.attention(found)
    assert [len(plane) for plane in maps] == [64, 128, 256, 512]
    at_once = attention_maps(gated, found.transform.image_to_frame(EYE))
    for plane, there in zip(maps, at_once, strict=True):
        assert np.abs(plane - there)[len(plane) // 8 : len(plane) // 4].mean() < 0.02
        assert 0 <= plane.min() <= plane.max() <= 1


def test_a_network_for_landmarks_alone_shows_its_gates(built: Built) -> None:
    network = built(
        "decoder.kind=attention_unet", "tasks.grade=false", "tasks.dme=false", "tasks.structures=[]",
        "tasks.landmarks=['optic_disc']",
    )  # fmt: skip
    card = replace(CARD, grade=False, dme=False, landmarks=("optic_disc",), temperatures={})
    found, weights = _found(network, card)
    assert weights.attention(found)


STAGED = """
name = "staged"
about = "two networks"

[encoder]
name = "test_resnet"
weights = "none"

[views]
whole_px = 64
close_px = 64
close = ["EX"]

[tasks]
structures = ["EX"]
landmarks = ["optic_disc"]

[stages.lesions.tasks]
grade = false
dme = false
structures = ["EX"]
landmarks = []

[stages.whole.tasks]
structures = []
"""


@pytest.mark.parametrize(("gated_stage", "shows"), [("lesions", True), ("whole", False)])
def test_of_several_networks_the_gates_of_the_lesions_are_shown_or_none(
    gated_stage: str, shows: bool, tmp_path: Path
) -> None:
    recipe = Recipe.from_toml(STAGED, [f"stages.{gated_stage}.decoder.kind=attention_unet"])
    card, network = Card.of(recipe), build_model(recipe).eval()
    found = Predictor(TorchRuntime(network, card))(EYE)
    weights = CheckpointMaps(network, card)
    assert weights.gated == bool(weights.attention(found)) == shows
    weights(found, trace_all(found), tmp_path, "eye")
    assert (tmp_path / "explanation_attention.png").is_file() == shows


def test_of_several_networks_the_one_that_finds_the_disc_is_named() -> None:
    network = build_model(Recipe.from_toml(STAGED))
    assert isinstance(network, JoinedNetwork)
    assert network.part_for("optic_disc") is network.parts["whole"]
