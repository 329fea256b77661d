"""Losses against slow references, one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from funduscope.data.prepare import CHANNELS
from funduscope.recipe import Loss
from funduscope.training.losses import (
    LANDMARK_SIGMA_CELLS,
    class_weights,
    dense_loss,
    grade_loss,
    landmark_loss,
)
from funduscope.vocabulary import EITHER_EXUDATE


def _log_softmax(row: np.ndarray) -> np.ndarray:
    return row - math.log(sum(math.exp(value) for value in row))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_grades_against_a_loop(smoothing: float) -> None:
    rng = np.random.default_rng(5)
    logits, weights = rng.normal(0, 2, (7, 5)), rng.uniform(0.5, 2, 5)
    target = [3, -1, 0, 4, -1, 1, -1]
    among = np.zeros((7, 5), bool)
    among[4, [1, 2]] = True
    among[5, 3] = True  # labelled: the constraint does not count
    expected = []
    for row, label, allowed in zip(logits, target, among, strict=True):
        log_probs = _log_softmax(row)
        if label >= 0:
            wanted = np.full(5, smoothing / 5)
            wanted[label] += 1 - smoothing
            expected.append(-sum(w * t * p for w, t, p in zip(weights, wanted, log_probs, strict=True)))
        elif allowed.any():
            expected.append(-math.log(sum(math.exp(p) for p in log_probs[allowed])))
    loss = grade_loss(
        torch.tensor(logits), torch.tensor(target), torch.tensor(among), torch.tensor(weights).float(), smoothing
    )
    assert loss is not None
    assert len(expected) == 5
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("power", [0.0, 0.25, 1.0])
def test_class_weights_against_a_loop(power: float) -> None:
    labels = [0] * 50 + [1] * 5 + [2] * 20 + [None] * 9 + [4]
    raw = [(1 / labels.count(grade)) ** power if grade in labels else 1.0 for grade in range(5)]
    mean = sum(raw[label] for label in labels if label is not None) / 76
    weights = class_weights(labels, 5, power)
    assert weights.tolist() == pytest.approx([value / mean for value in raw], rel=1e-5)
    per_photo = [weights[label].item() for label in labels if label is not None]
    assert np.mean(per_photo) == pytest.approx(1.0, rel=1e-5)


def test_the_rarer_the_heavier() -> None:
    weights = class_weights([0] * 8 + [1] * 4 + [2], 3, 0.5)
    assert weights[0] < weights[1] < weights[2]


def _slow_dense(logits: np.ndarray, coverage: np.ndarray, positive_weight: float, cross_entropy: float) -> float:
    """Weighted cross-entropy per pixel and Dice over all of them."""
    probs = [1 / (1 + math.exp(-value)) for value in logits]
    shares = [value / 255 for value in coverage]
    cross = 0.0
    for p, t in zip(probs, shares, strict=True):
        weight = 1 + (positive_weight - 1) * t
        cross -= weight * (t * math.log(p) + (1 - t) * math.log(1 - p))
    loss = cross_entropy * cross / len(probs)
    if any(shares):
        overlap = sum(p * t for p, t in zip(probs, shares, strict=True))
        loss += 1 - (2 * overlap + 1) / (sum(probs) + sum(shares) + 1)
    return loss


def test_dense_against_a_loop() -> None:
    """MA everywhere, HE in parts of one photo, EX absent, either exudate known; SE and OD unknown."""
    rng = np.random.default_rng(6)
    structures = ("OD", "SE", "MA", "EX", "HE")  # an order of the recipe's own
    settings = Loss(positive_weight=4.0, cross_entropy=2.0, focus={"HE": 9.0})
    logits = rng.normal(0, 2, (2, 5, 8, 8))
    coverage = rng.integers(0, 256, (2, len(CHANNELS), 8, 8)).astype(np.uint8)
    known = np.zeros(coverage.shape, bool)
    known[:, CHANNELS.index("MA")] = True
    known[0, CHANNELS.index("HE")] = rng.random((8, 8)) < 0.5
    known[1, CHANNELS.index("EX")] = True
    coverage[:, CHANNELS.index("EX")] = 0
    known[0, CHANNELS.index(EITHER_EXUDATE)] = rng.random((8, 8)) < 0.7
    planes = {code: logits[:, structures.index(code)] for code in structures}
    planes[EITHER_EXUDATE] = np.maximum(planes["EX"], planes["SE"])
    expected = []
    for code in ("MA", "HE", "EX", EITHER_EXUDATE):
        mask = known[:, CHANNELS.index(code)]
        truth, weight = coverage[:, CHANNELS.index(code)][mask], 9.0 if code == "HE" else 4.0
        expected.append(_slow_dense(planes[code][mask], truth, weight, 2.0))
    loss = dense_loss(torch.tensor(logits), torch.tensor(coverage), torch.tensor(known), structures, settings)
    assert loss is not None
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_logits_at_half_size_are_resized_with_their_corners_in_place() -> None:
    """A lone hot cell at (2, 5) of half size answers for the pixels around (5, 11), pixel centers at +0.5."""
    logits = torch.full((1, 1, 8, 8), -10.0)
    logits[0, 0, 2, 5] = 10.0
    coverage = torch.zeros(1, len(CHANNELS), 16, 16, dtype=torch.uint8)
    known = torch.zeros(coverage.shape, dtype=torch.bool)
    known[:, 0] = True
    each = []
    for y in range(16):
        for x in range(16):
            here = torch.zeros_like(coverage)
            here[0, 0, y, x] = 255
            loss = dense_loss(logits, here, known, ("MA",), Loss())
            assert loss is not None
            each.append(loss.item())
    best = np.argsort(each)[:4]
    assert {(int(place) // 16, int(place) % 16) for place in best} == {(4, 10), (4, 11), (5, 10), (5, 11)}


def test_landmarks_against_a_loop() -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 1, (2, 2, 6, 8))
    points = rng.uniform(1, 5, (2, 2, 2))
    known = np.array([[True, False], [True, True]])
    expected = []
    for photo, point in zip(*np.nonzero(known), strict=True):
        x0, y0 = points[photo, point]
        log_probs = _log_softmax(logits[photo, point].ravel()).reshape(6, 8)
        heat, cross, x_mean, y_mean = {}, 0.0, 0.0, 0.0
        for y in range(6):
            for x in range(8):
                square = (x + 0.5 - x0) ** 2 + (y + 0.5 - y0) ** 2
                heat[y, x] = math.exp(-square / (2 * LANDMARK_SIGMA_CELLS**2))
                x_mean += math.exp(log_probs[y, x]) * (x + 0.5)
                y_mean += math.exp(log_probs[y, x]) * (y + 0.5)
        for (y, x), value in heat.items():
            cross -= value / sum(heat.values()) * log_probs[y, x]
        expected.append(cross + math.hypot(x_mean - x0, y_mean - y0) / 8)
    loss = landmark_loss(torch.tensor(logits), torch.tensor(points).float(), torch.tensor(known))
    assert loss is not None
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_following_the_landmark_loss_brings_the_mean_point_within_a_tenth_of_a_cell() -> None:
    logits = torch.zeros(1, 1, 16, 16, requires_grad=True)
    point, known = torch.tensor([[[5.3, 9.8]]]), torch.ones(1, 1, dtype=torch.bool)
    optimizer = torch.optim.Adam([logits], 0.3)
    for _ in range(150):
        loss = landmark_loss(logits, point, known)
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    probs = logits.detach().flatten().softmax(0).view(16, 16)
    x = (probs.sum(0) * (torch.arange(16) + 0.5)).sum().item()
    y = (probs.sum(1) * (torch.arange(16) + 0.5)).sum().item()
    assert math.hypot(x - 5.3, y - 9.8) < 0.1
