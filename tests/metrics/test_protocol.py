"""The worked examples of docs/protocol.md, recomputed: the document and the code say one thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from funduscope.metrics import DenseState, GradingState

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_precision_and_recall_example() -> None:
    prob = np.array([[0.90, 0.60, 0.40, 0.10]], np.float32)
    state = DenseState.of(prob, np.array([[True, False, True, False]]))
    assert f"**AUPR33 = {state.aupr33:.6f}**" in PROTOCOL
    assert f"**{state.average_precision:.6f}**" in PROTOCOL
    _, precision, recall = state.curve33()
    assert (recall[29], recall[28], recall[20], recall[19], recall[12], recall[3]) == (0, 0.5, 0.5, 0.5, 1, 1)
    assert (precision[28], precision[19], precision[12], precision[3]) == pytest.approx((1, 1 / 2, 2 / 3, 1 / 2))


def test_what_it_says_of_a_map_of_zeros() -> None:
    target = np.zeros((10, 10), bool)
    target[0, 0] = True
    state = DenseState.of(np.zeros((10, 10), np.float32), target)
    assert state.aupr33 == pytest.approx((1 + state.prevalence) / 2)
    assert state.average_precision == pytest.approx(state.prevalence)


def test_kappa_example() -> None:
    state = GradingState.of([0, 0, 2, 4, 3], [0, 1, 2, 4, None])
    assert f"= {state.kappa:.6f}**" in PROTOCOL
    assert state.accuracy == 3 / 5
    assert state.confusion.sum(axis=0).tolist() == [2, 1, 1, 0, 1]
