"""First weights go where they mean the same, also in decoders with a part of its own for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from funduscope import checkpoint
from funduscope.inference.card import Card
from funduscope.network.joined import build_model
from funduscope.network.network import build
from funduscope.recipe import Recipe
from funduscope.training import TrainingError
from funduscope.training.initialization import FirstNetwork, Start, first_card, first_network

SMALL = (
    *("encoder.name=resnet18", "encoder.weights=none", "decoder.kind=deeplab", "decoder.channels=[8]"),
    *("views.close=[]", "views.whole_px=64", "views.close_px=64", "tasks.structures=['EX']"),
)
DECODERS = {
    "per_task": ("experts.kind=per_task", "heads.hidden=[8]"),
    "heads": ("experts.kind=heads", "experts.count=2"),
    "none": ("experts.kind=none",),
}


def _recipe(kind: str, landmarks: Sequence[str]) -> Recipe:
    return Recipe.load("plain", [*SMALL, *DECODERS[kind], f"tasks.landmarks={list(landmarks)}"])


def _first(theirs: Recipe, own: Recipe, folder: Path) -> FirstNetwork:
    """The first network of a recipe from weights of another one, which had examples of everything."""
    torch.manual_seed(0)
    path = folder / "theirs.safetensors"
    checkpoint.save(path, theirs, {"weights": build(theirs).state_dict()}, {}, {"epoch": 1})
    return first_network(own, folder / "new", [path])


@pytest.mark.parametrize("kind", DECODERS)
def test_landmarks_are_known_from_weights_that_learned_them(kind: str, tmp_path: Path) -> None:
    recipe = _recipe(kind, ("optic_disc", "fovea"))
    assert {"optic_disc", "fovea", "EX", "grade"} <= _first(recipe, recipe, tmp_path).known


@pytest.mark.parametrize("kind", ["per_task", "heads"])
@pytest.mark.parametrize("landmarks", [("fovea", "optic_disc"), ("fovea",)])
def test_planes_of_other_landmarks_are_not_taken(kind: str, landmarks: tuple[str, ...], tmp_path: Path) -> None:
    """A decoder's own part for landmarks has a plane for each, in the recipe's order."""
    given = landmarks[::-1] if len(landmarks) > 1 else ("optic_disc",)
    first = _first(_recipe(kind, given), _recipe(kind, landmarks), tmp_path)
    assert not first.known & {"optic_disc", "fovea"}
    assert "EX" in first.known
    assert "fresh: landmarks" in first.note


DEEP = (*SMALL, "decoder.kind=unet", "decoder.skip_channels=[]", "decoder.channels=[8,8,8,8]")
SHALLOW = {"encoder": {"levels": 4}, "decoder": {"channels": [8, 8, 8]}}


def test_of_a_joined_model_the_network_with_the_recipes_encoder_gives_its_weights(tmp_path: Path) -> None:
    """Although the other one, whose encoder is shallower, has more of its tasks."""
    seen = ("tasks.structures=['OD', 'MA', 'HE', 'EX']", "tasks.dme=false", "tasks.landmarks=[]")
    own = Recipe.load("plain", [*DEEP, *seen, "views.close=['MA', 'HE', 'EX']"])
    lesions = {**SHALLOW, "tasks": {"structures": ["MA", "HE", "EX"], "grade": False}}
    joined = own.model_copy(update={"stages": {"lesions": lesions, "eye": {"tasks": {"structures": ["OD"]}}}})
    path = tmp_path / "joined.safetensors"
    checkpoint.save(path, joined, {"weights": build_model(joined).state_dict()}, {}, {"epoch": 1})
    first = first_network(own, tmp_path / "new", [path])
    assert first.note.startswith("note: joined.safetensors gave encoder, ")
    assert {"OD", "grade"} <= first.known


def test_a_joined_model_gives_no_network_that_shares_nothing_with_the_recipe(tmp_path: Path) -> None:
    """Although it has the recipe's encoder, which the network that has the recipe's task lacks."""
    shared = (*DEEP, "tasks.dme=false", "tasks.landmarks=[]")
    own = Recipe.load("plain", [*shared, "tasks.structures=[]"])
    both = Recipe.load("plain", [*shared, "tasks.structures=['EX']", "views.close=['EX']"])
    lesions = {"tasks": {"grade": False}}
    graded = {"tasks": {"structures": []}, "encoder": {"name": "test_efficientnet"}}
    joined = both.model_copy(update={"stages": {"lesions": lesions, "whole": graded}})
    path = tmp_path / "joined.safetensors"
    checkpoint.save(path, joined, {"weights": build_model(joined).state_dict()}, {}, {"epoch": 1})
    with pytest.raises(TrainingError, match=r"--set stages\.NAME\.encoder\.name=test_efficientnet"):
        first_network(own, tmp_path / "new", [path])


def test_what_of_a_part_was_not_taken_is_said(tmp_path: Path) -> None:
    own = Recipe.load("plain", DEEP)
    shallow = own.model_copy(update={"stages": {"all": SHALLOW}}).stage("all")
    note = _first(shallow, own, tmp_path).note
    assert "in part: encoder, decoder, grade, dme" in note, "a head of fewer features shares its last shift alone"


def test_lesions_alone_come_from_the_network_that_knows_them(tmp_path: Path) -> None:
    """Although its encoder is shallower than the recipe's."""
    lesions = {"structures": ["MA", "HE", "EX"], "grade": False}
    whole = Recipe.load("plain", [
        *DEEP, "tasks.structures=['OD', 'MA', 'HE', 'EX']", "tasks.dme=false", "tasks.landmarks=[]",
        "views.close=['MA', 'HE', 'EX']",
    ])  # fmt: skip
    joined = whole.model_copy(
        update={"stages": {"lesions": {**SHALLOW, "tasks": lesions}, "eye": {"tasks": {"structures": ["OD"]}}}}
    )
    path = tmp_path / "joined.safetensors"
    checkpoint.save(path, joined, {"weights": build_model(joined).state_dict()}, {}, {"epoch": 1})
    own = Recipe.load("plain", [*DEEP, "tasks.structures=['MA', 'HE', 'EX']", "tasks.grade=false", "tasks.dme=false"])
    assert "structure EX" in first_network(own, tmp_path / "new", [path]).note.partition(";")[0]


def test_weights_without_a_card_begin_a_training_as_they_did(tmp_path: Path) -> None:
    """A run's last weights have none, nor has a run that was stopped."""
    recipe = _recipe("none", ())
    path, run = tmp_path / "last.safetensors", tmp_path / "run"
    run.mkdir()
    checkpoint.save(path, recipe, {"weights": build(recipe).state_dict()}, {}, {"epoch": 1})
    start = Start(init=(path,))
    start.keep_card(run)
    assert first_card(run) is None


def test_the_card_of_the_first_weights_names_what_was_taken_over_alone(tmp_path: Path) -> None:
    card = replace(Card(), temperatures={"grade": 1.6, "dme": 2.0})
    (tmp_path / "first_card.json").write_text(card.to_json())
    assert first_card(tmp_path) == card
    first = first_card(tmp_path, ["dme", "EX", "fovea"])
    assert first is not None
    assert (first.photo_tasks, first.outlined, first.located) == (("dme",), ("EX",), ("fovea",))
