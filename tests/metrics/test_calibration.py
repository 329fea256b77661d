"""Calibration and conformal sets against torchmetrics, scikit-learn and plain counting."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from funduscope.metrics import CalibrationState, ConformalState, ece_bias


def said(seed: int, n: int = 200, sure: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Grades drawn from the very probabilities: a calibrated model."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(5, sure), n)
    return np.array([random.choice(5, p=row) for row in probabilities]), probabilities


@pytest.mark.parametrize("seed", range(4))
def test_calibration_error_is_torchmetrics(seed: int) -> None:
    torch = pytest.importorskip("torch")
    calibration = pytest.importorskip("torchmetrics.classification")
    truth, probabilities = said(seed)
    theirs = calibration.MulticlassCalibrationError(num_classes=5, n_bins=15, norm="l1")
    expected = theirs(torch.tensor(probabilities), torch.tensor(truth)).item()
    assert CalibrationState.of(truth, probabilities).ece == pytest.approx(expected, abs=1e-6)


def test_brier_is_scikit_learns_unhalved() -> None:
    truth, probabilities = said(1)
    expected = brier_score_loss(truth, probabilities, labels=list(range(5)), scale_by_half=False)
    assert CalibrationState.of(truth, probabilities).brier == pytest.approx(expected)
    assert CalibrationState.of([0], np.array([[0.0, 1, 0, 0, 0]])).brier == 2


def test_bins_are_open_below_and_closed_above() -> None:
    third = 5 / 15
    probabilities = np.array([[third, third, third], [1, 0, 0], [third + 1e-6, third, third - 1e-6]])
    counts = CalibrationState.of([0, 0, 0], probabilities).counts
    assert (counts[4], counts[5], counts[14]) == (1, 1, 1)


def test_reliability_bins_hold_every_photo() -> None:
    truth, probabilities = said(2)
    state = CalibrationState.of(truth, probabilities)
    bins = state.reliability()
    assert sum(b["count"] for b in bins) == 200
    apart = [b["count"] * abs(b["confidence"] - b["accuracy"]) for b in bins if b["count"]]
    assert sum(apart) / 200 == pytest.approx(state.ece)
    assert all(b["low"] - 1e-12 < b["confidence"] <= b["high"] + 1e-12 for b in bins if b["count"])
    assert all(np.isnan(b["accuracy"]) for b in bins if not b["count"])


def test_refused_photos_are_left_out() -> None:
    truth, probabilities = said(3)
    refused = np.arange(200) % 5 == 0
    state = CalibrationState.of(truth, np.where(refused[:, None], np.nan, probabilities), refused)
    kept = CalibrationState.of(truth[~refused], probabilities[~refused])
    assert (state.ece, state.brier, state.n) == (kept.ece, kept.brier, 160)
    nobody = CalibrationState.of(truth[:2], probabilities[:2], [True, True])
    assert np.isnan([nobody.ece, nobody.brier]).all()


def test_calibration_adds_up() -> None:
    truth, probabilities = said(4)
    parts = CalibrationState.of(truth[:70], probabilities[:70]) + CalibrationState.of(truth[70:], probabilities[70:])
    whole = CalibrationState.of(truth, probabilities)
    assert parts.ece == pytest.approx(whole.ece, abs=1e-12)
    assert parts.brier == pytest.approx(whole.brier, abs=1e-12)


def test_bias_is_what_calibrated_models_show_and_shrinks_with_photos() -> None:
    random = np.random.default_rng(9)
    _, probabilities = said(5)
    drawn = [
        CalibrationState.of([random.choice(5, p=row) for row in probabilities], probabilities).ece for _ in range(60)
    ]
    assert ece_bias(probabilities) == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(60))
    assert ece_bias(probabilities) == ece_bias(probabilities)
    assert ece_bias(np.repeat(probabilities, 16, axis=0), repeats=100) < ece_bias(probabilities) / 2
    assert np.isnan(ece_bias(np.zeros((0, 5))))


def test_probabilities_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        CalibrationState.of([0], np.array([[0.5, 0.4, 0, 0, 0]]))


def test_sets_cover_and_refused_photos_do_not() -> None:
    sets = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
    state = ConformalState.of([0, 1, 2, 2], sets)
    assert state.coverage == 0.5
    assert state.mean_size == 1.5
    assert state.sizes.tolist() == [1, 1, 1, 1]
    assert state.coverage_by_grade == pytest.approx([1, 0, 0.5])
    refused = ConformalState.of([0, 1, 2, 2], sets, [True, False, False, False])
    assert refused.coverage == 0.25
    assert refused.mean_size == pytest.approx(4 / 3)
    assert (state + refused).coverage == pytest.approx(3 / 8)


def test_a_grade_off_the_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 2"):
        ConformalState.of([-1], np.ones((1, 3), bool))
