"""Logits that are too sure of themselves become probabilities that come true as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from funduscope.training.fit_scale import UNSCALED, fit_scale, scaled, to_bytes


def _photos(rng: np.random.Generator, slope: float, shift: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pixels whose truth has the probability that the scaled logits say; the logits themselves are what is given."""
    photos = []
    for _ in range(3):
        logits = rng.normal(0, 3, (200, 300))
        truth = rng.random(logits.shape) < 1 / (1 + np.exp(-(slope * logits + shift)))
        photos.append((to_bytes(1 / (1 + np.exp(-logits))), truth))
    return photos


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.6, -4.0), (2.0, -1.0), (0.3, 2.0)])
def test_it_is_the_logistic_regression_of_scikit_learn(slope: float, shift: float) -> None:
    photos = _photos(np.random.default_rng(0), slope, shift)
    steps = np.concatenate([one.ravel() for one, _ in photos])
    truths = np.concatenate([one.ravel() for _, one in photos])
    known = LogisticRegression(C=1e9).fit((steps[:, None].astype(float) - 128) / 8, truths)
    found = fit_scale(photos)
    assert found == pytest.approx((known.coef_[0, 0], known.intercept_[0]), abs=2e-3)
    assert found == pytest.approx((slope, shift), rel=0.05, abs=0.05)


def test_scaled_probabilities_come_true() -> None:
    """Weighed up 50 times, as small lesions are in the losses: nearly everything seems sure before."""
    photos = _photos(np.random.default_rng(1), 1.0, -np.log(50))
    scale = fit_scale(photos)
    for steps, truth in photos:
        plain, probs = scaled(steps, UNSCALED) / 255, scaled(steps, scale) / 255
        sure = (probs > 0.2) & (probs < 0.4)
        assert plain[sure].mean() > 0.9
        assert truth[sure].mean() == pytest.approx(probs[sure].mean(), abs=0.04)


def test_where_nothing_can_be_fitted_the_logits_stay_as_they_are() -> None:
    steps = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    for truth in (np.zeros(steps.shape, bool), np.ones(steps.shape, bool), steps < 100):
        assert fit_scale([(steps, truth)]) == UNSCALED
    assert fit_scale([]) == UNSCALED
    assert np.array_equal(scaled(to_bytes(np.array([0.0, 0.5, 1.0])), UNSCALED), [0, 128, 255])
