"""Attention gates: Oktay's formula, at the skip's own resolution, learnable from the start."""

from __future__ import annotations

import torch

from funduscope.network.attention import AttentionGate


def test_factors_follow_the_formula_where_both_maps_are_of_one_size() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(3, 5, 2)
    skip, gating = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 4, 6)
    with torch.inference_mode():
        compared = torch.einsum("oc,bchw->bohw", gate.skip.weight[:, :, 0, 0], skip)
        compared += torch.einsum("oc,bchw->bohw", gate.gating.weight[:, :, 0, 0], gating)
        compared = torch.relu(compared + gate.gating.bias.view(1, -1, 1, 1))  # pyright: ignore
        logits = torch.einsum("oc,bchw->bohw", gate.psi.weight[:, :, 0, 0], compared) + gate.psi.bias
        torch.testing.assert_close(gate(skip, gating), skip * torch.sigmoid(logits), rtol=1e-4, atol=1e-5)


def test_a_single_pixel_of_the_skip_is_kept_beside_others_that_are_dropped() -> None:
    """Though the gating feature is four times coarser and the same everywhere."""
    gate = AttentionGate(1, 1, 1)
    for conv, weight in ((gate.skip, 1.0), (gate.gating, 0.0), (gate.psi, 40.0)):
        torch.nn.init.constant_(conv.weight, weight)
    torch.nn.init.zeros_(gate.gating.bias)  # pyright: ignore[reportArgumentType]
    torch.nn.init.constant_(gate.psi.bias, -20.0)  # pyright: ignore[reportArgumentType]
    skip = torch.full((1, 1, 8, 8), 0.1)
    skip[0, 0, 3, 5] = 1.0
    with torch.inference_mode():
        factors = gate.factors(skip, torch.ones(1, 1, 2, 2))
    assert factors[0, 0, 3, 5] > 0.99
    assert (factors < 0.01).sum() == 63


def test_the_deeper_feature_decides_too() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(2, 2, 2)
    skip = torch.rand(1, 2, 8, 8)
    with torch.inference_mode():
        one, other = gate(skip, torch.full((1, 2, 4, 4), 5.0)), gate(skip, torch.full((1, 2, 4, 4), -5.0))
    assert one.shape == skip.shape
    assert not torch.allclose(one, other)


def test_gates_begin_nearly_open_and_can_still_learn() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(16, 32, 8)
    skip, gating = torch.randn(1, 16, 8, 8), torch.randn(1, 32, 4, 4)
    factors = gate.factors(skip, gating)
    assert 0.75 < factors.mean() < 0.99
    factors.sum().backward()
    assert gate.psi.bias.grad is not None
    assert gate.psi.bias.grad.abs().item() > 64 * 0.02
