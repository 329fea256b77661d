"""How several losses become one: each kind by hand or by what defines it, and what all of them owe to a training."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from funduscope.data.case import Case
from funduscope.data.prepare import cached
from funduscope.network.network import build
from funduscope.recipe import Recipe
from funduscope.settings import Balance as Settings
from funduscope.training import loop
from funduscope.training.balance import Balance, make_balance
from funduscope.training.loop import Loop

KINDS = ("fixed", "routed")
START = {"grade": 1.0, "dense": 2.0, "landmarks": 0.5}
UNLIKE = {"grade": 1.0, "dense": 30.0, "landmarks": 0.1}
FLOOR = 0.2


class Tasks(nn.Module):
    """Three regressions from one shared layer, of very unlike scales."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Linear(6, 4)
        self.heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in UNLIKE})
        self.seen = torch.randn(32, 6)
        self.wanted = {task: self.seen @ torch.randn(6, 1) for task in UNLIKE}

    def forward(self) -> dict[str, Tensor]:
        features = self.shared(self.seen)
        return {
            task: scale * (self.heads[task](features) - self.wanted[task]).square().mean()
            for task, scale in UNLIKE.items()
        }


def made(kind: str, start: dict[str, float] = START, **settings: float) -> Balance:
    torch.manual_seed(1)
    return make_balance(Settings.model_validate({"kind": kind, "floor": FLOOR, **settings}), start)


def trained(balance: Balance, tasks: Tasks, steps: int) -> list[dict[str, float]]:
    """Steps on tasks and balance together; returns the weights of each."""
    optimizer = torch.optim.Adam([*tasks.parameters(), *balance.parameters()], 0.02)
    weights = []
    for _ in range(steps):
        optimizer.zero_grad()
        assert balance.backward(tasks(), None, Tensor.backward) is not None
        optimizer.step()
        weights.append(balance.applied)
    return weights


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    return {name: None if own.grad is None else own.grad.clone() for name, own in module.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_starts_from_the_weights_of_the_recipe(kind: str) -> None:
    tasks, balance = Tasks(), made(kind)
    losses, extra = tasks(), torch.tensor(0.25, requires_grad=True)
    total = balance.backward(losses, extra, Tensor.backward)
    assert total is not None
    assert not total.requires_grad
    assert balance.applied == pytest.approx(START)
    expected = sum(START[task] * loss.item() for task, loss in losses.items()) + 0.25
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert extra.grad == 1, "what is added beside the tasks is not weighed"
    for task, head in tasks.heads.items():
        bias = 2 * START[task] * UNLIKE[task] * (head(tasks.shared(tasks.seen)) - tasks.wanted[task]).mean()
        assert head.bias.grad is not None
        assert head.bias.grad.item() == pytest.approx(bias.item(), rel=1e-4), (
            "a task's own head learns as it is weighed"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_task_is_left_alone(kind: str) -> None:
    tasks, balance = Tasks(), made(kind)
    losses = tasks()
    del losses["dense"]
    balance.backward(losses, None, Tensor.backward)
    for name, grad in (gradients(tasks) | gradients(balance)).items():
        if "dense" in name:
            assert grad is None, name
    alone = Tasks()
    total = made(kind).backward({"dense": alone()["dense"]}, None, Tensor.backward)
    assert total is not None
    assert total.item() == pytest.approx(START["dense"] * alone()["dense"].item()), "alone it weighs what it weighs"
    assert balance.backward({}, torch.tensor(1.0), Tensor.backward) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_weight_has_no_part_in_anything(kind: str) -> None:
    tasks, balance = Tasks(), made(kind, START | {"dense": 0.0})
    losses = tasks()
    total = balance.backward(losses, None, Tensor.backward)
    assert total is not None
    assert total.item() == pytest.approx(losses["grade"].item() + 0.5 * losses["landmarks"].item(), rel=1e-5)
    assert tasks.heads["dense"].weight.grad is None
    assert set(balance.applied) == {"grade", "landmarks"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_nothing_behind(kind: str, value: float) -> None:
    tasks, balance = Tasks(), made(kind)
    before = copy.deepcopy(balance.state_dict())
    losses = tasks()
    losses["grade"] = losses["grade"] * value
    total = balance.backward(losses, None, Tensor.backward)
    assert total is not None
    assert not torch.isfinite(total)
    assert all(grad is None for grad in (gradients(tasks) | gradients(balance)).values())
    assert all(torch.equal(value, before[name]) for name, value in balance.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_of_zero_and_a_constant_one_are_finite(kind: str) -> None:
    tasks, balance = Tasks(), made(kind)
    for _ in range(2):
        losses = tasks()
        losses["grade"] = losses["grade"] * 0
        balance.backward(losses, None, Tensor.backward)
    every = [grad for grad in (gradients(tasks) | gradients(balance)).values() if grad is not None]
    assert len(every) >= 6
    assert all(torch.isfinite(grad).all() for grad in every)
    assert all(math.isfinite(weight) for weight in balance.applied.values())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_add_up_over_the_parts_of_a_step(kind: str) -> None:
    """As accelerate calls it where a step is made of two batches: each counts half, on top of what is there."""

    def half(loss: Tensor) -> None:
        (loss / 2).backward()

    tasks, balance = Tasks(), made(kind)
    other = copy.deepcopy(tasks)
    for own in other.parameters():
        own.grad = torch.full_like(own, 7.0)
    balance.backward(tasks(), None, Tensor.backward)
    again = made(kind)
    again.backward(other(), None, half)
    for name, grad in gradients(other).items():
        expected = gradients(tasks)[name]
        assert grad is not None
        assert expected is not None
        torch.testing.assert_close(grad, 7 + expected / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_from_its_state_it_makes_the_same_steps(kind: str) -> None:
    tasks, balance = Tasks(), made(kind)
    trained(balance, tasks, 5)
    torch.manual_seed(99)
    resumed, same = made(kind), copy.deepcopy(tasks)
    resumed.load_state_dict(copy.deepcopy(balance.state_dict()))
    assert trained(balance, tasks, 5) == trained(resumed, same, 5)
    for name, value in tasks.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])


def test_batches_that_know_one_task_each_are_weighed_against_each_other() -> None:
    """As where photos with grades and photos with masks are apart and alternate."""
    balance = made("routed", {"grade": 1.0, "dense": 1.0})
    optimizer = torch.optim.Adam(balance.parameters(), 0.02)
    applied: dict[str, float] = {}
    for step in range(200):
        task = ("grade", "dense")[step % 2]
        loss = 1.0 if task == "dense" else 1.0 + step / 20  # worse and worse
        optimizer.zero_grad()
        balance.backward({task: torch.tensor(loss)}, None, Tensor.backward)
        optimizer.step()
        assert list(balance.applied) == [task]
        applied |= balance.applied
    assert applied["grade"] < 0.9 < 1.1 < applied["dense"], "a task that does worse than recently weighs less"
    assert sum(applied.values()) == pytest.approx(2, rel=0.01)


class Naive(Balance):
    """The router as published: any weight between 0 and 1, trained by the loss that it weighs."""

    def __init__(self, start: dict[str, float]) -> None:
        super().__init__(start)
        torch.manual_seed(1)
        count = len(self.tasks)
        self.router = nn.Sequential(nn.Linear(count, 16), nn.Tanh(), nn.Linear(16, count), nn.Sigmoid())

    def combine(self, losses: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        logs = torch.zeros(len(self.tasks))
        logs[self.places(list(losses))] = torch.stack(list(losses.values())).detach().log()
        return self.weighed(losses, self.router(logs)[self.places(list(losses))]), None


def left(tasks: Tasks) -> dict[str, float]:
    """How much of each task's first loss there still is."""
    with torch.no_grad():
        first = Tasks()()
        return {task: (loss / first[task]).item() for task, loss in tasks().items()}


def test_the_router_cannot_collapse_where_the_naive_one_does() -> None:
    """On one problem: weighed with nothing the total falls to nothing, and much of every task is never learned."""
    collapsed, kept = Tasks(), Tasks()
    naive = trained(Naive(START), collapsed, 300)
    assert max(naive[-1].values()) < 0.01
    assert sum(left(collapsed).values()) > 0.5
    for weights in trained(made("routed"), kept, 300):
        assert sum(weights.values()) == pytest.approx(sum(START.values()), rel=1e-5)
        for task, weight in weights.items():
            assert weight >= FLOOR * START[task] * (1 - 1e-6)
    assert max(left(kept).values()) < 0.05


@pytest.mark.parametrize("anchor", [1.0, 0.5])
def test_the_router_comes_to_rest_where_its_loss_is_least(anchor: float) -> None:
    """One task stands still, one falls by a hundredth a step, whatever their scales: its mean over the past is then
    0.02 / (1 - 0.98 / 0.99) = 1.98 times what it is now. Least is the start weight times exp(-relative / anchor)."""
    balance = made("routed", {"still": 1.0, "falling": 2.0}, anchor=anchor, floor=0.0)
    optimizer = torch.optim.Adam(balance.parameters(), 0.01)
    for step in range(900):
        optimizer.zero_grad()
        losses = {"still": torch.tensor(0.01), "falling": torch.tensor(50.0 * 0.99**step)}
        balance.backward(losses, None, Tensor.backward)
        optimizer.step()
    drawn = {"still": math.exp(-1 / anchor), "falling": 2 * math.exp(-(1 - 0.98 / 0.99) / 0.02 / anchor)}
    expected = {task: 3 * weight / sum(drawn.values()) for task, weight in drawn.items()}
    assert balance.applied == pytest.approx(expected, rel=0.03)


def test_without_floor_and_anchor_the_router_gives_up_a_task() -> None:
    balance = made("routed", {"still": 1.0, "falling": 2.0}, anchor=0.0, floor=0.0)
    optimizer = torch.optim.Adam(balance.parameters(), 0.01)
    for step in range(900):
        optimizer.zero_grad()
        losses = {"still": torch.tensor(0.01), "falling": torch.tensor(50.0 * 0.99**step)}
        balance.backward(losses, None, Tensor.backward)
        optimizer.step()
    assert balance.applied["still"] < 0.01


def journal(recipe: Recipe, cases: list[Case], cache: Path, folder: Path) -> dict[str, float]:
    """Trains on drawn eyes and returns the last epoch's line."""
    torch.manual_seed(0)
    files = {case.key: cached(case, recipe.views.close_px, cache) for case in cases}
    folder.mkdir()
    Loop(recipe, build(recipe), cases, files, folder, None).run(lambda _: None)
    return json.loads((folder / "journal.jsonl").read_text().splitlines()[-1])


@pytest.mark.slow
def test_on_drawn_eyes_with_tasks_of_unlike_scale_every_task_keeps_a_say(
    changes: list[str], cases: list[Case], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The masks' loss is some thirty times the grades'. The naive router weighs all with next to nothing."""
    few = ["training.workers=0", "training.epochs=6", "balance.kind=routed", "balance.rate=0.05"]
    recipe = Recipe.load("plain", [*changes, *few, "loss.cross_entropy=1000"])
    start = {"grade": 1.0, "dme": 0.5, "dense": 1.0, "landmarks": 0.2}
    line = journal(recipe, cases, cache, tmp_path / "kept")
    assert line["loss dense"] > 20 * line["loss grade"]
    assert {name for name in line if name.startswith("weight ")} == {f"weight {task}" for task in start}
    shares = {task: line[f"weight {task}"] / weight for task, weight in start.items()}
    assert min(shares.values()) > 2 * recipe.balance.floor
    monkeypatch.setattr(loop, "make_balance", lambda settings, start: Naive(start))
    line = journal(recipe, cases, cache, tmp_path / "collapsed")
    assert max(line[f"weight {task}"] for task in start) < 0.1
