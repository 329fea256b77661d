"""What lesions say of a grade: never less for more of them, as scikit-learn would fit it, and worth its share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from funduscope.network.answer import LesionNumbers, regression_of
from funduscope.training.fit_witnesses import WitnessPhotos, fit_regression, fit_shares, fit_witness, geometric_mean

NAMES = ("HE count 0.5", "EX count 0.5", "SE count 0.5")


def _photos(count: int, seed: int = 0) -> WitnessPhotos:
    """Photos of one clinic and one detail: two numbers raise the grade, one says nothing; the photo has its own say."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(0, 1, (count, 3)) * (1, 5, 2) + (0, 3, 1)
    sight = rng.normal(0, 1, count)
    severity = numbers[:, 0] + numbers[:, 1] / 5 + sight + rng.normal(0, 0.4, count)
    distance = np.abs(sight[:, None] * 1.5 + 1.5 - np.arange(5))
    return WitnessPhotos(
        NAMES,
        numbers,
        detail=np.zeros((count, 3)),
        of_photo=np.exp(-distance) / np.exp(-distance).sum(1, keepdims=True),
        labels=np.digitize(severity, [-1, 0.3, 1.5, 2.6]),
        datasets=np.full(count, "clinic"),
        visits=[f"visit {place // 2:03d}" for place in range(count)],
    )


def test_more_of_anything_is_never_a_lower_grade() -> None:
    photos = _photos(300)
    witness = fit_regression(photos)
    assert min(witness.weights) >= 0
    assert sorted(witness.cuts) == list(witness.cuts)
    more = replace(photos, numbers=np.add(photos.numbers, (0.5, 2.0, 1.0)))
    before, after = witness.probabilities(photos), witness.probabilities(more)
    np.testing.assert_allclose(before.sum(1), 1)
    assert (np.cumsum(after, 1)[:, :-1] <= np.cumsum(before, 1)[:, :-1] + 1e-9).all()


def test_with_two_classes_it_is_a_logistic_regression() -> None:
    photos = _photos(400)
    numbers, labels = photos.numbers[:, :2], (photos.labels >= 2).astype(int)
    witness = fit_regression(replace(photos, numbers=numbers, labels=labels, of_photo=photos.of_photo[:, :2]))
    scaled = (numbers - numbers.mean(0)) / numbers.std(0)
    theirs = LogisticRegression(C=1.0, tol=1e-8).fit(scaled, labels)
    assert witness.weights * numbers.std(0) == pytest.approx(theirs.coef_[0], abs=2e-3)


def test_two_witnesses_are_likelier_than_either() -> None:
    fitted = fit_witness(_photos(400))
    assert fitted is not None
    fresh = _photos(400, seed=1)
    lesions = fit_regression(_photos(400)).probabilities(fresh)
    both = geometric_mean(fresh.of_photo, lesions, tuple(fitted.tree["shares"]))
    losses = [log_loss(fresh.labels, probs) for probs in (fresh.of_photo, lesions, both)]
    assert losses[2] < min(losses[:2]) - 0.1
    assert log_loss(_photos(400).labels, fitted.joint) == pytest.approx(losses[2], abs=0.1), "out of fold"


def test_a_photo_does_not_answer_for_itself() -> None:
    """Its own label, and those of its visit, change nothing in its joint answer."""
    photos = replace(_photos(60), visits=[f"visit {place // 3:02d}" for place in range(60)])
    other = photos.labels.copy()
    other[:3] = 4 - other[:3]
    first, second = fit_witness(photos), fit_witness(replace(photos, labels=other))
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(first.joint[:3], second.joint[:3])
    assert not np.allclose(first.joint[3:], second.joint[3:])


def test_dots_that_every_sharp_photo_shows_are_no_lesions() -> None:
    """Half of the photos are sharp, and show a dot more of everything, be the eye healthy or not."""
    photos = _photos(600)
    sharp = np.arange(600) % 2
    detail = np.stack([sharp, np.zeros(600), np.zeros(600)], axis=1)
    dotted = replace(photos, numbers=photos.numbers + 1.5 * sharp[:, None], detail=detail)
    wrong = {}
    for name, one in (("known", dotted), ("unknown", replace(dotted, detail=np.zeros((600, 3))))):
        answer = fit_regression(one).probabilities(one).argmax(1)
        wrong[name] = np.mean(answer[(sharp == 1) & (photos.labels == 0)] >= 2)
    assert wrong["known"] < wrong["unknown"]


def test_every_clinic_weighs_the_same() -> None:
    photos = replace(_photos(100), datasets=np.array(["large"] * 90 + ["small"] * 10))
    assert photos.weights[:90].sum() == pytest.approx(photos.weights[90:].sum())


def test_a_number_that_was_always_the_same_does_not_decide() -> None:
    """A lesion that one photo alone shows: the fit without that photo knows no spread of its number."""
    photos = _photos(200, seed=5)
    flat = replace(photos, numbers=photos.numbers * (1, 1, 0))
    witness = fit_regression(flat)
    new = replace(flat, numbers=np.add(flat.numbers, (0, 0, 0.7)))
    np.testing.assert_allclose(witness.probabilities(new), witness.probabilities(flat), atol=0.02)


def test_too_few_photos_of_a_class_fit_nothing() -> None:
    assert fit_witness(replace(_photos(60), labels=np.array([0, 1, 2] * 20))) is None


def test_a_witness_that_knows_nothing_gets_no_share() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    knows = np.full((600, 3), 0.2)
    knows[np.arange(600), truth] = 0.6
    noise = rng.dirichlet(np.ones(3), 600)
    photos = replace(_photos(600), labels=truth, of_photo=knows)
    first, second = fit_shares(photos, noise)
    assert second < 0.2 < 0.8 < first
    assert geometric_mean(knows, noise, (1.0, 0.0)) == pytest.approx(knows)


def test_a_model_computes_what_was_fitted() -> None:
    photos = _photos(200)
    fitted = fit_witness(photos)
    assert fitted is not None
    lesions = ("MA", "HE", "EX", "SE")
    names = LesionNumbers(lesions).names
    regression = regression_of(fitted.tree, lesions)
    numbers = torch.zeros(len(names))
    for name, value in zip(NAMES, photos.numbers[0], strict=True):
        numbers[names.index(name)] = value
    of_photo = torch.tensor(photos.of_photo[0]).log().float()
    of_lesions, joint = regression(of_photo, numbers, torch.zeros(3))
    expected = fit_regression(photos).probabilities(photos.only(np.arange(200) == 0))
    np.testing.assert_allclose(of_lesions.numpy()[None], expected, atol=1e-3)
    both = geometric_mean(photos.of_photo[:1], expected, tuple(fitted.tree["shares"]))
    np.testing.assert_allclose(joint.numpy()[None], both, atol=1e-3)
