"""Experts: what a gate keeps, that nothing else is computed, what teaches it, and that routing does not collapse."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import SeparableConv2d
from torch import Tensor, nn
from torch.nn import functional as F

from funduscope.network.routing import (
    Dispatch,
    Gate,
    Routed,
    SharedExperts,
    balance_loss,
    routing_loss_of,
    routing_sums,
)
from funduscope.settings import Experts
from funduscope.testing.drawn_eyes import STYLES, draw_eye

KEPT = (Experts(keep="all"), Experts(keep="top_k", top_k=1), Experts(keep="top_k", top_k=2), Experts(keep="top_p"))
IDS = ("all", "top 1", "top 2", "top p")


def _separable(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(SeparableConv2d(into, out, 3, padding=2, dilation=2), nn.BatchNorm2d(out), nn.ReLU())


def _gate_of(logits: list[float], settings: Experts) -> Gate:
    """A gate that answers with these logits whatever it sees."""
    gate = Gate(4, settings)
    with torch.no_grad():
        gate.linear.weight.zero_()
        gate.linear.bias.copy_(torch.tensor(logits))
    return gate


def _shared(kind: str, keep: str, count: int = 3) -> SharedExperts:
    """With statistics that are not those of a new BatchNorm."""
    torch.manual_seed(0)
    settings = Experts.model_validate({"kind": kind, "keep": keep, "count": count, "width": 4})
    shared = SharedExperts(8, ("grade", "dense"), settings).train()
    for _ in range(3):
        shared(2 * torch.randn(8, 8, 4, 4) + 1)
    return shared.eval()


@pytest.mark.parametrize("settings", KEPT, ids=IDS)
def test_kept_shares_sum_to_one(settings: Experts) -> None:
    torch.manual_seed(0)
    gate = Gate(4, settings)
    for mode in (True, False):
        routed = gate.train(mode)(3 * torch.randn(16, 4))
        torch.testing.assert_close(routed.gates.sum(1), torch.ones(16))
        assert routed.gates.shape == routed.logits.shape == (16, settings.count)


def test_top_k_keeps_the_largest() -> None:
    shares = torch.tensor([0.1, 0.6, 0.3])
    gates = _gate_of(shares.log().tolist(), Experts(keep="top_k", top_k=2))(torch.zeros(2, 4)).gates
    torch.testing.assert_close(gates, torch.tensor([[0.0, 2 / 3, 1 / 3]] * 2))
    gates = _gate_of(shares.log().tolist(), Experts(keep="all"))(torch.zeros(1, 4)).gates
    torch.testing.assert_close(gates, shares[None])


def test_top_p_keeps_the_fewest_whose_shares_reach_it() -> None:
    """0.5 + 0.27 is enough for the 0.75 of prediction and too little for the 0.8 of training."""
    gate = _gate_of(torch.tensor([0.23, 0.5, 0.27]).log().tolist(), Experts(keep="top_p"))
    assert (gate.train()(torch.zeros(1, 4)).gates > 0).tolist() == [[True, True, True]]
    kept = gate.eval()(torch.zeros(1, 4)).gates
    torch.testing.assert_close(kept, torch.tensor([[0.0, 50 / 77, 27 / 77]]))
    certain = _gate_of([9.0, 0.0, 0.0], Experts(keep="top_p"))
    assert certain(torch.zeros(1, 4)).gates.tolist() == [[1, 0, 0]]
    everything = _gate_of([1.0, 0.0, 2.0], Experts(keep="top_p", top_p=1.0))
    assert (everything(torch.zeros(1, 4)).gates > 0).all()


def test_a_gate_decides_in_full_precision() -> None:
    shared = _shared("mixture", "top_p").train()
    with torch.autocast("cpu", torch.bfloat16):
        maps, routed = shared(torch.randn(4, 8, 4, 4).bfloat16())
    assert routed["all"].logits.dtype == routed["all"].gates.dtype == torch.float32
    assert maps["grade"].isfinite().all()


@pytest.mark.parametrize("kind", ["mixture", "soft"])
@pytest.mark.parametrize("keep", ["all", "top_k", "top_p"])
def test_computing_the_chosen_alone_changes_no_answer(kind: str, keep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, x = _shared(kind, keep), 3 * torch.randn(6, 8, 5, 3)
    maps, routed = shared(x)
    monkeypatch.setattr(Dispatch, "forward", Dispatch.dense)
    expected, _ = shared(x)
    assert list(routed) == (["all"] if kind == "mixture" else ["grade", "dense"])
    for task, value in maps.items():
        assert value.shape == x.shape
        torch.testing.assert_close(value, expected[task], rtol=0, atol=1e-5)
    assert torch.equal(maps["grade"], maps["dense"]) == (kind == "mixture")


@pytest.mark.parametrize("expert", [_separable, nn.Linear], ids=["map", "vector"])
def test_gradients_are_those_of_the_dense_sum(expert: Callable[[int, int], nn.Module]) -> None:
    """For experts of another width than what they see, and for two mixes with gates of their own."""
    torch.manual_seed(0)
    dispatch = Dispatch([expert(4, 6) for _ in range(3)]).eval()
    gates = torch.tensor([[[0.3, 0.7, 0], [0, 1, 0]], [[0, 0.5, 0.5], [1, 0, 0]], [[0, 1, 0], [0, 1, 0]]])
    gates.requires_grad_()
    x = torch.randn(3, 4, *([5, 5] if expert is _separable else []), requires_grad=True)
    inputs = [x, *dispatch.parameters()]
    found, expected = (
        torch.autograd.grad([mix.square().sum() for mix in call(x, gates)], [*inputs, gates])
        for call in (dispatch, dispatch.dense)
    )
    for one, other in zip(found[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(one, other)
    kept = gates.detach() != 0
    torch.testing.assert_close(found[-1][kept], expected[-1][kept])


@pytest.mark.parametrize("settings", KEPT, ids=IDS)
def test_the_tasks_teach_gate_and_experts(settings: Experts) -> None:
    """Also where one expert is kept, whose gate is always 1."""
    torch.manual_seed(0)
    shared = SharedExperts(8, ("grade",), settings.model_copy(update={"kind": "soft", "width": 4}))
    maps, routed = shared(9 * torch.randn(32, 8, 2, 2))
    (maps["grade"] * torch.randn(32, 8, 2, 2)).sum().backward()
    assert (routed["grade"].gates > 0).any(0).all(), "every expert has photos"
    for name, parameter in shared.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_an_expert_sees_the_photos_that_keep_it_and_no_other() -> None:
    seen: list[tuple[int, list[float]]] = []
    dispatch = Dispatch([nn.Identity() for _ in range(3)])
    for index, expert in enumerate(dispatch.experts):
        expert.register_forward_hook(lambda _, inputs, __, index=index: seen.append((index, inputs[0][:, 0].tolist())))
    x = torch.arange(8.0).view(4, 2)
    mixed = dispatch(x, torch.tensor([[1.0, 0, 0], [0.5, 0, 0.5], [0, 0, 1], [1, 0, 0]]))
    assert seen == [(0, [0, 2, 6]), (2, [2, 4])]
    torch.testing.assert_close(mixed, x)


def test_one_photo_of_one_pixel_trains() -> None:
    """It has no variance to normalize by; the statistics stay what they were, and BatchNorm stays in training."""
    shared = _shared("mixture", "all").train()
    before = {name: value.clone() for name, value in shared.named_buffers()}
    maps, _ = shared(torch.randn(1, 8, 1, 1))
    maps["grade"].sum().backward()
    assert maps["grade"].isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in shared.named_buffers())
    assert all(module.training for module in shared.modules())


def test_what_is_not_a_number_stays_so_and_no_gate_at_all_is_said() -> None:
    shared = _shared("soft", "top_p")
    assert shared(torch.full((1, 8, 2, 2), torch.nan))[0]["grade"].isnan().all()
    with pytest.raises(ValueError, match="keeps any expert"):
        Dispatch([nn.Identity()])(torch.ones(2, 3), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="mixture and soft"):
        SharedExperts(8, ("grade",), Experts(kind="per_task"))


def test_balance_is_one_where_even_and_the_number_of_experts_where_one_takes_all() -> None:
    one = torch.tensor([1.0, 0, 0, 0])
    assert balance_loss(torch.full((4,), 0.25), torch.ones(4), kept_all=False).item() == pytest.approx(1)
    assert balance_loss(one, 8 * one, kept_all=False).item() == pytest.approx(4)
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1]])
    importance = shares.mean(0)
    variation = (importance.std(correction=0) / importance.mean()) ** 2
    torch.testing.assert_close(balance_loss(importance, torch.full((3,), 2.0), kept_all=True), 1 + variation)


def test_the_routing_loss_is_the_mean_over_routers() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0]])
    z = ((2.0 - np.log(np.exp(2) / (np.exp(2) + np.exp(-1)))) ** 2 + np.log(np.exp(0.5) + 1) ** 2) / 2
    first, second = Routed(torch.eye(2), logits), Routed(torch.eye(2), torch.zeros(2, 2))
    settings = Experts(count=2, balance=0.5, z=0.1)
    share = logits.softmax(1).mean(0)
    expected = (0.5 * balance_loss(share, torch.ones(2), False) + 0.1 * z + 0.5 + 0.1 * np.log(2) ** 2) / 2
    total = routing_loss_of(routing_sums({"grade": first, "dme": second}, settings), settings)
    torch.testing.assert_close(total, expected)
    assert routing_loss_of(routing_sums({}, settings), settings) is None


@pytest.fixture(scope="module")
def eyes() -> tuple[Tensor, Tensor]:
    """Drawn eyes by two cameras, one dim, one pale: (32, 3, 64, 64) and which camera."""
    cameras = [index % 2 for index in range(32)]
    styles = (STYLES["dim"], STYLES["pale"])
    drawn = [draw_eye(seed, width_px=160, style=styles[camera]).pixels for seed, camera in enumerate(cameras)]
    small = np.stack([cv2.resize(eye, (64, 64), interpolation=cv2.INTER_AREA) for eye in drawn])
    image = torch.from_numpy(small).permute(0, 3, 1, 2).float()
    return (image - image.mean()) / image.std(), torch.tensor(cameras)


def _learn(eyes: tuple[Tensor, Tensor], balance: float, seed: int) -> Tensor:
    """(32,) the expert of two that each eye goes to, after a few steps of learning which camera took it."""
    torch.manual_seed(seed)
    settings = Experts(kind="mixture", count=2, keep="top_k", top_k=1, width=8, balance=balance)
    first = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.BatchNorm2d(8), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    stem, shared, head = nn.Sequential(first, second), SharedExperts(16, ("grade",), settings), nn.Linear(16, 2)
    whole = nn.ModuleList([stem, shared, head])
    optimizer = torch.optim.Adam(whole.parameters(), 3e-3)
    for _ in range(80):
        some = torch.randperm(len(eyes[0]))[:16]
        maps, routed = shared(stem(eyes[0][some]))
        routing = routing_loss_of(routing_sums(routed, settings), settings)
        assert routing is not None
        optimizer.zero_grad()
        (F.cross_entropy(head(maps["grade"].mean((2, 3))), eyes[1][some]) + routing).backward()
        optimizer.step()
    whole.eval()
    with torch.inference_mode():
        return shared(stem(eyes[0]))[1]["all"].gates.argmax(1)


@pytest.mark.parametrize("seed", range(3))
def test_the_balance_loss_keeps_both_experts_at_work(eyes: tuple[Tensor, Tensor], seed: int) -> None:
    """Content distinguishes the eyes: the cameras go to different experts. Without the loss, from the same start, one
    expert soon takes every eye, since it can do this small task alone and the other is never tried again.

    A fair case of collapse, not of what sharing is worth: the gate starts even, but the task needs no second expert.
    """
    alone = _learn(eyes, 0.0, seed)
    assert len(alone.unique()) == 1
    spread = _learn(eyes, 0.1, seed).float()
    assert 0.25 <= spread.mean() <= 0.75
    assert abs(spread[eyes[1] == 0].mean() - spread[eyes[1] == 1].mean()) >= 0.75


@pytest.mark.parametrize("keep", ["top_p", "top_k"])
def test_a_router_that_keeps_every_expert_is_still_balanced(keep: str) -> None:
    """Then every expert is loaded alike, and only the shares tell which one is favored."""
    settings = Experts.model_validate({"kind": "mixture", "count": 2, "keep": keep})
    logits = torch.tensor([[2.0, 0.0]] * 4, requires_grad=True)
    routed = {"all": Routed(logits=logits, gates=logits.detach().softmax(1))}
    loss = routing_loss_of(routing_sums(routed, settings), settings)
    assert loss is not None
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:, 0].min() > 1e-4 > -1e-4 > logits.grad[:, 1].max()
