"""The schedule of the rate, the average of the weights, which weights decay."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from funduscope.network.network import build
from funduscope.recipe import Recipe
from funduscope.training.optimise import Average, make_optimizer, rate_at


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


def test_the_average_is_what_a_loop_over_all_steps_gives() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    average = Average(network, 0.9)
    slow = network.weight.detach().clone()
    for step in range(1, 200):
        with torch.no_grad():
            network.weight += torch.randn(2, 3)
        average.update(network)
        keep = min(0.9, (1 + step) / (10 + step))
        slow = keep * slow + (1 - keep) * network.weight.detach()
    torch.testing.assert_close(average.state["weight"], slow, rtol=1e-4, atol=1e-4)


def test_the_average_soon_forgets_the_random_start() -> None:
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(100.0)
        average = Average(network, 0.9999)
        network.weight.fill_(1.0)
    for _ in range(100):
        average.update(network)
    assert average.state["weight"].item() < 1.01


def test_the_average_takes_statistics_along_and_counts_whole() -> None:
    network = nn.BatchNorm2d(2)
    average = Average(network, 0.5)
    network.train()
    for _ in range(3):
        network(torch.randn(4, 2, 3, 3) + 5)
        average.update(network)
    assert average.state["num_batches_tracked"] == 3
    assert (average.state["running_mean"] > 0.3).all()
    assert average.state["running_mean"].data_ptr() != network.running_mean.data_ptr()  # pyright: ignore


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
