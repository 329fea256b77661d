"""What lesions say of a grade: never less for more of them, as scikit-learn would fit it, and worth its share."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from funduscope.inference.witnesses import Witness, geometric_mean
from funduscope.training.fit_witnesses import MIN_WEIGHT, fit_ordinal, fit_shares, fit_witness

NAMES = ("HE count", "EX count", "dust")


def _photos(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers (N, 3) of which two raise the grade and one says nothing, grades, and a photo's answer of its own."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (count, 3)) * (1, 5, 2) + (0, 3, 1)
    sight = rng.normal(0, 1, count)
    severity = rows[:, 0] + rows[:, 1] / 5 + sight + rng.normal(0, 0.4, count)
    grades = np.digitize(severity, [-1, 0.3, 1.5, 2.6])
    distance = np.abs(sight[:, None] * 1.5 + 1.5 - np.arange(5))
    of_photo = np.exp(-distance) / np.exp(-distance).sum(1, keepdims=True)
    return rows, grades, of_photo


def _named(rows: np.ndarray) -> list[dict[str, float]]:
    return [dict(zip(NAMES, row, strict=True)) for row in rows.tolist()]


def test_more_of_anything_is_never_a_lower_grade():
    rows, grades, _ = _photos(300)
    witness = fit_ordinal(rows, grades, NAMES, 5)
    assert min(witness.weights) >= 0
    assert sorted(witness.cuts) == list(witness.cuts)
    for row in rows[:20]:
        less = witness.probabilities(dict(zip(NAMES, row, strict=True)))
        more = witness.probabilities(dict(zip(NAMES, row + np.array([0.5, 2.0, 1.0]), strict=True)))
        assert less.sum() == pytest.approx(1)
        assert (np.cumsum(more)[:-1] <= np.cumsum(less)[:-1] + 1e-9).all()


def test_with_two_classes_it_is_a_logistic_regression():
    rows, grades, _ = _photos(400)
    rows, labels = rows[:, :2], (grades >= 2).astype(int)
    witness = fit_ordinal(rows, labels, NAMES[:2], 2)
    scaled = (rows - rows.mean(0)) / rows.std(0)
    theirs = LogisticRegression(C=1.0, tol=1e-8).fit(scaled, labels)
    assert witness.weights == pytest.approx(theirs.coef_[0], abs=2e-3)
    assert witness.cuts[0] == pytest.approx(-theirs.intercept_[0], abs=2e-3)


def test_two_witnesses_are_likelier_than_either():
    rows, grades, of_photo = _photos(400)
    fitted = fit_witness(_named(rows), of_photo, grades, [f"visit {place // 2}" for place in range(400)])
    assert fitted is not None
    fresh, truth, seen = _photos(400, seed=1)
    lesions = np.array([fitted.witness.probabilities(numbers) for numbers in _named(fresh)])
    both = np.array([fitted.witness.joint(*pair) for pair in zip(seen, lesions, strict=True)])
    losses = [log_loss(truth, probs) for probs in (seen, lesions, both)]
    assert losses[2] < min(losses[:2]) - 0.1
    assert log_loss(grades, fitted.joint) == pytest.approx(losses[2], abs=0.1), "out of fold, as on new photos"
    assert min(fitted.witness.weights) >= MIN_WEIGHT


def test_a_photo_does_not_answer_for_itself():
    """Its own label, and those of its visit, change nothing in its joint answer."""
    rows, grades, of_photo = _photos(60)
    visits = [f"visit {place // 3:02d}" for place in range(60)]
    other = grades.copy()
    other[:3] = 4 - other[:3]
    first, second = (fit_witness(_named(rows), of_photo, labels, visits) for labels in (grades, other))
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(first.joint[:3], second.joint[:3])
    assert not np.allclose(first.joint[3:], second.joint[3:])


def test_a_number_that_was_always_the_same_does_not_decide():
    """A lesion that one photo alone shows: the fit without that photo knows no spread of its number."""
    rows, grades, _ = _photos(200, seed=5)
    rows[:, 2] = 0.0
    witness = fit_ordinal(rows, grades, NAMES, 5)
    usual = dict(zip(NAMES, rows[0].tolist(), strict=True))
    ours, new = witness.probabilities(usual), witness.probabilities(usual | {"dust": 0.7})
    np.testing.assert_allclose(new, ours, atol=0.01)


def test_too_few_photos_of_a_class_fit_nothing():
    rows, _, of_photo = _photos(60)
    assert fit_witness(_named(rows), of_photo, np.array([0, 1, 2] * 20), [str(n) for n in range(60)]) is None


def test_a_witness_that_knows_nothing_gets_no_share():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    knows = np.full((600, 3), 0.2)
    knows[np.arange(600), truth] = 0.6
    noise = rng.dirichlet(np.ones(3), 600)
    first, second = fit_shares(knows, noise, truth)
    assert second < 0.2 < 0.8 < first
    assert geometric_mean(knows, noise, (1.0, 0.0)) == pytest.approx(knows)


def test_it_is_stored_in_a_card():
    rows, grades, _ = _photos(100)
    witness = fit_ordinal(rows, grades, NAMES, 5)
    assert Witness.of_tree(json.loads(json.dumps(witness.to_tree()))) == witness
