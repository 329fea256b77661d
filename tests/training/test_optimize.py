"""The schedule of the rate, the average of the weights, which weights decay."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from funduscope.network.network import build
from funduscope.recipe import Recipe
from funduscope.training.optimize import load_plateau, make_average, make_optimizer, make_plateau, rate_at


def test_the_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    assert rate_at(0.0, 0.2) == 0.01
    assert rate_at(0.05, 0.2) == pytest.approx(0.25)
    assert rate_at(0.1, 0.2) == pytest.approx(0.5)
    assert rate_at(0.2, 0.2) == pytest.approx(1.0)
    assert rate_at(0.6, 0.2) == pytest.approx(0.5)
    assert rate_at(0.4, 0.2) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert rate_at(1.0, 0.2) == pytest.approx(0.0, abs=1e-12)
    assert rate_at(1.1, 0.2) == pytest.approx(0.0, abs=1e-12), "a step too many does not start again"


def test_without_warm_up_it_starts_full_and_with_nothing_else_it_only_rises() -> None:
    assert rate_at(0.0, 0.0) == 1.0
    assert rate_at(0.5, 1.0) == pytest.approx(0.5)


def test_the_rate_is_smooth_and_within_its_bounds() -> None:
    rates = [rate_at(step / 1000, 0.15) for step in range(1001)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert max(abs(a - b) for a, b in pairwise(rates)) < 0.01


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_without_a_cosine_the_rate_rises_and_stays(schedule: str) -> None:
    assert rate_at(0.0, 0.2, schedule) == 0.01
    assert rate_at(0.1, 0.2, schedule) == pytest.approx(0.5)
    assert [rate_at(progress, 0.2, schedule) for progress in (0.2, 0.6, 1.0, 1.1)] == [1.0] * 4


def test_a_plateau_lowers_the_rate_each_time_its_patience_ends() -> None:
    plateau = make_plateau(0.5, 2)
    scales = []
    for score in (0.1, 0.3, 0.3, 0.2, 0.2, 0.31, 0.3, math.nan, 0.0, 0.0):
        plateau.step(score)
        scales.append(plateau.get_last_lr()[0])
    assert scales == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_a_plateau_goes_on_from_json() -> None:
    scores = [0.3, 0.1, 0.2, 0.5, 0.4, 0.4, 0.4]
    for cut in range(len(scores)):
        plateau, resumed = make_plateau(0.3, 2), make_plateau(0.3, 2)
        for score in scores[:cut]:
            plateau.step(score)
        load_plateau(resumed, json.loads(json.dumps(plateau.state_dict())))
        for score in scores[cut:]:
            plateau.step(score)
            resumed.step(score)
        assert plateau.get_last_lr()[0] == resumed.get_last_lr()[0] == pytest.approx(0.09)


def test_adam_adds_the_decay_to_the_gradient_and_adamw_takes_it_off_the_weight(tiny: Recipe) -> None:
    """With no gradient but the decay's, Adam makes a full step towards zero; AdamW only shrinks the weight."""
    moved = {}
    for kind in ("adam", "adamw"):
        settings = tiny.training.model_copy(
            update={"optimizer": kind, "learning_rate": 0.01, "weight_decay": 0.1, "encoder_rate_frac": 1.0}
        )
        layer = nn.Linear(1, 1)
        nn.init.ones_(layer.weight)
        nn.init.ones_(layer.bias)
        optimizer = make_optimizer(layer, settings)
        (layer(torch.ones(1, 1)) * 0).sum().backward()
        optimizer.step()
        moved[kind] = 1 - layer.weight.item()
        assert layer.bias.item() == 1, "vectors are not decayed"
    assert moved == {"adam": pytest.approx(0.01, rel=1e-3), "adamw": pytest.approx(0.001, rel=1e-3)}


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_what_is_learned_beside_the_network_has_its_own_rate_and_comes_last(kind: str, tiny: Recipe) -> None:
    settings = tiny.training.model_copy(update={"optimizer": kind, "weight_decay": 0.1})
    beside = nn.Parameter(torch.ones(2, 2))
    plain = make_optimizer(nn.Linear(2, 2), settings)
    optimizer = make_optimizer(nn.Linear(2, 2), settings, [beside], 0.5)
    assert len(optimizer.param_groups) == len(plain.param_groups) + 1
    last = optimizer.param_groups[-1]
    assert last["params"][0] is beside
    assert (last["lr"], last["weight_decay"]) == (0.5, 0.0)


def test_the_average_is_what_a_loop_over_all_steps_gives() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    average = make_average(network, 0.9)
    slow = network.weight.detach().clone()
    for step in range(1, 200):
        with torch.no_grad():
            network.weight += torch.randn(2, 3)
        average.update_parameters(network)
        keep = min(0.9, (1 + step) / (10 + step))
        slow = keep * slow + (1 - keep) * network.weight.detach()
    torch.testing.assert_close(average.module.state_dict()["weight"], slow, rtol=1e-4, atol=1e-4)


def test_the_average_soon_forgets_the_random_start() -> None:
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(100.0)
        average = make_average(network, 0.9999)
        network.weight.fill_(1.0)
    for _ in range(100):
        average.update_parameters(network)
    assert average.module.state_dict()["weight"].item() < 1.01


def test_the_average_takes_statistics_along_and_counts_whole() -> None:
    network = nn.BatchNorm2d(2)
    average = make_average(network, 0.5)
    network.train()
    for _ in range(3):
        network(torch.randn(4, 2, 3, 3) + 5)
        average.update_parameters(network)
    assert average.module.state_dict()["num_batches_tracked"] == 3
    assert (average.module.state_dict()["running_mean"] > 0.3).all()
    assert average.module.state_dict()["running_mean"].data_ptr() != network.running_mean.data_ptr()  # pyright: ignore


def test_vectors_do_not_decay_and_the_encoder_has_a_rate_of_its_own(tiny: Recipe) -> None:
    network = build(tiny)
    settings = tiny.training.model_copy(update={"learning_rate": 1e-3, "encoder_rate_frac": 0.1, "weight_decay": 0.05})
    groups = make_optimizer(network, settings).param_groups
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    named = dict(network.named_parameters())
    assert len(of) == len(named) == sum(len(group["params"]) for group in groups), "each is in one group"
    for name, parameter in named.items():
        group = of[id(parameter)]
        assert group["lr"] == pytest.approx(1e-4 if name.startswith("encoder.") else 1e-3)
        assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0.0)
