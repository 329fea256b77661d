"""Multiply-adds against counts by hand, what routing saves of them, and whole processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from funduscope.evaluation.cost import AUTHORS_PX, Cost, measure, measure_predictions, watched
from funduscope.export.onnx_file import write_onnx
from funduscope.inference.card import Card
from funduscope.inference.runtime import ModelError
from funduscope.network.encoder import Encoder
from funduscope.network.heads import ClassifierHead, DenseHead
from funduscope.network.joined import build_model
from funduscope.network.network import Network, build
from funduscope.network.routing import Routed, SharedExperts
from funduscope.recipe import Recipe

SMALL = [
    "encoder.name=test_resnet",
    "encoder.weights=none",
    "decoder.skip_channels=[8, 8, 8, 8, 16]",
    "decoder.channels=[16, 16, 8, 8]",
    "views.whole_px=64",
    "views.close_px=64",
    "views.close=[]",
]


PHOTOS = [np.full((80, 100, 3), 90, np.uint8), np.full((90, 90, 3), 150, np.uint8)]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_of(*changes: str) -> Recipe:
    return Recipe.from_toml('name = "small"\n', [*SMALL, *changes])


class OneLayer(Encoder):
    """An encoder of a single convolution: 3 to 4 channels, 3x3, stride 2."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [self.conv(image)]


class SameMap(nn.Module):
    def forward(self, pyramid: list[torch.Tensor]) -> list[torch.Tensor]:
        return pyramid


def one_layer_network() -> Network:
    """One convolution, a linear grade of 5, and a 1x1 map of lesions on the convolution's output."""
    heads = nn.ModuleDict({"grade": ClassifierHead(4, 5, 0.0), "structures": DenseHead(4, 1, start=0.0, side_px=1)})
    return Network(OneLayer(), None, SameMap(), heads)  # pyright: ignore[reportArgumentType]


def by_hand(height: int, width: int) -> int:
    """Multiplications of that network on one picture.

    27 and 4 an output number of the convolutions, 20 for grades, 20 a place for the grades' activation maps.
    """
    places = (height // 2) * (width // 2)
    return places * 4 * 27 + places * 4 + 4 * 5 + places * 4 * 5


def test_a_convolution_and_a_linear_layer_cost_what_a_count_by_hand_says():
    cost = measure(one_layer_network(), recipe_of('tasks.structures=["EX"]', "tasks.dme=false", "tasks.landmarks=[]"))
    assert cost.photo.total == cost.photo.dense == by_hand(64, 64)
    assert cost.parameters == (27 * 4 + 4) + (4 * 5 + 5) + (4 + 1)
    assert (cost.photo.experts, cost.photo.dense_experts, cost.photo.kept) == (0, 0, 1)
    assert (cost.photos, cost.stated) == (0, ())


@pytest.mark.parametrize(("close", "views"), [('["EX"]', (64, 128)), ('["MA"]', (64,))])
def test_a_photo_costs_the_views_that_predict_looks_at(close: str, views: tuple[int, ...]):
    tasks = ['tasks.structures=["EX"]', "tasks.dme=false", "tasks.landmarks=[]"]
    cost = measure(one_layer_network(), recipe_of(*tasks, "views.close_px=128", f"views.close={close}"))
    assert cost.views_px == views
    assert cost.photo.total == sum(by_hand(side, side) for side in views)


def test_a_stated_size_is_counted_at_the_nearest_that_fits_and_scaled_by_area():
    stated = measure(one_layer_network(), recipe_of('tasks.structures=["EX"]'), sizes=[AUTHORS_PX, (96, 64)]).stated
    assert [one.counted_px for one in stated] == [(704, 1088), (96, 64)]
    assert stated[0].counted.total == by_hand(704, 1088)
    assert stated[0].scaled.total == pytest.approx(by_hand(712, 1072), rel=1e-4)
    assert stated[1].counted == stated[1].scaled


def expert_by_hand(network: Network, side: int, width: int) -> int:
    """1x1, 3x3 and 1x1 on the deepest map of a picture of that side."""
    channels = network.encoder.channels[-1]
    return (side // 32) ** 2 * (channels * width + 9 * width**2 + width * channels)


@pytest.mark.parametrize(("kept", "share"), [(1, 0.25), (2, 0.5), (4, 1.0)])
def test_experts_cost_in_proportion_to_those_that_are_kept(kept: int, share: float):
    recipe = recipe_of("experts.kind=mixture", "experts.count=4", "experts.keep=top_k", f"experts.top_k={kept}",
                       "experts.width=8")  # fmt: skip
    network = build(recipe)
    cost = measure(network, recipe, PHOTOS, sizes=[(64, 96)])
    one = expert_by_hand(network, 64, 8)
    assert cost.photo.dense_experts == 4 * one
    assert cost.photo.experts == kept * one
    assert cost.photo.kept == share
    assert cost.photo.in_proportion == cost.photo.experts
    assert cost.photo.dense - cost.photo.total == (4 - kept) * one
    assert cost.stated[0].counted.experts == pytest.approx(kept * one * 1.5)


def test_the_count_is_the_mean_over_the_photos_that_are_given():
    recipe = recipe_of("experts.kind=mixture", "experts.count=4", "experts.width=8")
    network = build(recipe)
    shares = iter([[1.0, 0.0, 0.0, 0.0], [0.5, 0.25, 0.25, 0.0]])

    def route(gate: nn.Module, given: object, routed: Routed) -> Routed:
        return Routed(torch.tensor([next(shares)]), routed.logits)

    assert isinstance(network.shared, SharedExperts)
    network.shared.gates["all"].register_forward_hook(route)
    cost = measure(network, recipe, PHOTOS)
    assert cost.photo.experts == 2 * expert_by_hand(network, 64, 8)  # one for the first photo, three for the second
    assert cost.photo.kept == 0.5
    assert cost.photos == 2


def test_experts_are_counted_on_the_packaged_photo_without_photos():
    recipe = recipe_of("experts.kind=mixture", "experts.width=8")
    cost = measure(build(recipe), recipe)
    assert cost.photos == 1
    assert 0 < cost.photo.experts <= cost.photo.dense_experts


@pytest.mark.parametrize("kind", ["soft", "per_task"])
def test_experts_of_every_kind_are_counted(kind: str):
    own = ["decoder.kind=deeplab", "decoder.skip_channels=[]", "decoder.channels=[8]", "heads.hidden=[8]"]
    changes = [f"experts.kind={kind}", "experts.width=8", "experts.keep=top_k", *(own if kind == "per_task" else [])]
    recipe = recipe_of(*changes)
    work = measure(build(recipe), recipe, PHOTOS).photo
    # A soft expert is computed where any task keeps it; an expert of a task's own only for that task.
    assert 1 / 3 - 1e-9 <= work.kept <= 1
    assert 0 < work.experts < work.dense_experts or work.kept == 1
    assert work.total - work.experts == work.dense - work.dense_experts
    assert work.experts == pytest.approx(work.in_proportion, rel=0.05)
    if kind == "per_task":
        assert work.kept == pytest.approx(1 / 3)
        assert work.experts == pytest.approx(work.dense_experts / 3)


def test_experts_of_a_stage_are_asked_only_in_its_own_view():
    experts = 'kind = "mixture"\nkeep = "all"\nwidth = 8\n'
    text = 'name = "two"\n[stages.lesions.tasks]\ngrade = false\ndme = false\nlandmarks = []\n'
    text += 'structures = ["MA", "HE", "EX", "SE"]\n'
    text += f'[stages.whole.tasks]\nstructures = ["OD"]\n[stages.lesions.experts]\n{experts}'
    text += f"[stages.whole.experts]\n{experts}"
    recipe = Recipe.from_toml(text, [*SMALL, "views.close_px=96", "views.close=['MA', 'HE', 'EX', 'SE']"])
    assert measure(build_model(recipe), recipe, PHOTOS[:1]).photo.kept == 1


def test_measuring_leaves_the_network_as_it_was():
    recipe = recipe_of()
    network = build(recipe).train()
    network.encoder.eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    measure(network, recipe)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_cost_is_plain_json():
    recipe = recipe_of()
    cost: Cost = measure(build(recipe), recipe, sizes=[(64, 64)])
    told = json.loads(json.dumps(cost.to_dict()))
    assert told["photo"]["total"] == cost.photo.total
    assert told["stated"][0]["counted_px"] == [64, 64]


def test_the_memory_of_a_process_is_its_own_and_not_of_the_one_that_started_it():
    pytest.importorskip("resource")
    held = np.ones(300_000_000, np.uint8)
    _, small = watched([sys.executable, "-c", "pass"])
    _, large = watched([sys.executable, "-c", "held = b'x' * 200_000_000"])
    assert small < 100
    assert 200 < large < 300
    assert held[-1] == 1


def test_a_whole_prediction_is_measured_beside_its_baseline(tmp_path: Path):
    recipe = recipe_of()
    model = write_onnx(build(recipe), Card.of(recipe), tmp_path / "model.onnx")
    cost = measure_predictions([model], runs=1)[0]
    assert cost.peak_mb > cost.baseline_mb
    assert (cost.runs, cost.photo) == (1, "hrf_07_dr.jpg")
    assert "cores" in cost.machine
    told = json.loads(json.dumps(cost.to_dict(), allow_nan=False))
    assert told["times_baseline"] == pytest.approx(cost.wall_s / cost.baseline_s)


def test_a_prediction_that_fails_is_an_error_that_says_why(tmp_path: Path):
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match=r"ended with 1: .*text\.onnx is no model"):
        measure_predictions([tmp_path / "text.onnx"], runs=1)
