"""Losses against slow references, one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from funduscope.data.prepare import CHANNELS
from funduscope.settings import Loss
from funduscope.training import losses
from funduscope.training.losses import (
    LANDMARK_SIGMA_CELLS,
    class_loss,
    class_sums,
    class_weights,
    dense_loss,
    landmark_loss,
)
from funduscope.vocabulary import EITHER_EXUDATE


def _log_softmax(row: np.ndarray) -> np.ndarray:
    return row - math.log(sum(math.exp(value) for value in row))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_grades_against_a_loop(smoothing: float) -> None:
    rng = np.random.default_rng(5)
    logits, weights = rng.normal(0, 2, (7, 5)), rng.uniform(0.5, 2, 5)
    possible = ([3], range(5), [0], [4], [1, 2], [1], range(5))
    expected = []
    for row, classes in zip(logits, possible, strict=True):
        log_probs = _log_softmax(row)
        if len(classes) == 1:
            wanted = np.full(5, smoothing / 5)
            wanted[classes[0]] += 1 - smoothing
            expected.append(-sum(w * t * p for w, t, p in zip(weights, wanted, log_probs, strict=True)))
        elif len(classes) < 5:
            expected.append(-math.log(sum(math.exp(log_probs[index]) for index in classes)))
    allowed = torch.tensor([[index in classes for index in range(5)] for classes in possible])
    settings = Loss(label_smoothing=smoothing)
    loss = class_loss(torch.tensor(logits), allowed, torch.tensor(weights).float(), settings)
    assert loss is not None
    assert len(expected) == 5
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_further_off_the_dearer() -> None:
    """With an ordinal term a grade that is missed by three costs more than one missed by one, as surely answered."""
    allowed, weights = torch.arange(5)[None] == 1, torch.ones(5)

    def cost(answer: int, ordinal: float) -> float:
        logits = torch.full((1, 5), -4.0)
        logits[0, answer] = 4
        loss = class_loss(logits, allowed, weights, Loss(label_smoothing=0, ordinal=ordinal))
        assert loss is not None
        return loss.item()

    assert cost(4, 0.0) == pytest.approx(cost(2, 0.0))
    gains = [cost(answer, 1.0) - cost(answer, 0.0) for answer in (1, 0, 2, 3, 4)]
    assert gains == pytest.approx([0, 1, 1, 2, 3], abs=0.01)


def test_classes_without_an_order_have_no_distance() -> None:
    allowed, weights, logits = torch.arange(3)[None] == 0, torch.ones(3), torch.tensor([[0.0, 1.0, 2.0]])
    plain, ordinal = Loss(label_smoothing=0), Loss(label_smoothing=0, ordinal=1.0)
    unordered = class_sums(logits, allowed, weights, ordinal, is_ordinal=False)
    assert torch.equal(unordered, class_sums(logits, allowed, weights, plain))
    assert unordered[0] < class_sums(logits, allowed, weights, ordinal)[0]


def test_sums_of_two_classes_add_up_whatever_each_part_knows() -> None:
    """A process that knows nothing gives sums of the same length, and the loss is that of the whole batch."""
    rng = np.random.default_rng(2)
    logits = torch.tensor(rng.normal(0, 2, (6, 2)))
    allowed = torch.tensor([[True, True], [True, True], [False, True], [True, False], [False, True], [True, True]])
    whole = class_sums(logits, allowed, torch.ones(2), Loss())
    parts = [class_sums(logits[part], allowed[part], torch.ones(2), Loss()) for part in (slice(2), slice(2, 6))]
    assert parts[0].tolist() == [0, 0]
    torch.testing.assert_close(parts[0] + parts[1], whole)
    assert whole[1] == 3


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


def _slow_dense(logits: np.ndarray, coverage: np.ndarray, positive_weight: float, settings: Loss) -> float:
    """Cross-entropy and focal per pixel, Dice and Tversky over all of them."""
    probs = [1 / (1 + math.exp(-value)) for value in logits]
    shares = [value / 255 for value in coverage]
    cross = focal = 0.0
    for p, t in zip(probs, shares, strict=True):
        weight = 1 + (positive_weight - 1) * t
        cross -= weight * (t * math.log(p) + (1 - t) * math.log(1 - p))
        of_lesion = settings.focal_alpha or 1.0
        of_none = 1 - settings.focal_alpha if settings.focal_alpha else 1.0
        focal -= of_lesion * t * (1 - p) ** settings.focal_gamma * math.log(p)
        focal -= of_none * (1 - t) * p**settings.focal_gamma * math.log(1 - p)
    loss = (settings.cross_entropy * cross + settings.focal * focal) / len(probs)
    if any(shares):
        smooth = settings.smooth_px
        overlap = sum(p * t for p, t in zip(probs, shares, strict=True))
        false = sum(p * (1 - t) for p, t in zip(probs, shares, strict=True))
        missed = sum((1 - p) * t for p, t in zip(probs, shares, strict=True))
        loss += settings.dice * (1 - (2 * overlap + smooth) / (2 * overlap + false + missed + smooth))
        wrong = settings.tversky_false * false + (1 - settings.tversky_false) * missed
        loss += settings.tversky * (1 - (overlap + smooth) / (overlap + wrong + smooth))
    return loss


TERMS = {
    "cross-entropy and Dice": Loss(positive_weight=4.0, cross_entropy=2.0, focus={"HE": 9.0}),
    "BCE + Dice": Loss(positive_weight=1.0, cross_entropy=0.5, dice=0.5, smooth_px=1e-6),
    "Dice": Loss(cross_entropy=0, dice=2.0),
    "focal": Loss(cross_entropy=0, dice=0, focal=3.0, focal_gamma=1.5),
    "focal with alpha": Loss(cross_entropy=0, dice=0, focal=3.0, focal_gamma=4.0, focal_alpha=0.75),
    "Tversky": Loss(cross_entropy=0, dice=0, tversky=1.0, tversky_false=0.2, smooth_px=7.0),
    "all": Loss(cross_entropy=1.0, dice=0.3, focal=0.7, tversky=1.4),
}


@pytest.mark.parametrize("settings", TERMS.values(), ids=TERMS.keys())
def test_dense_against_a_loop(settings: Loss) -> None:
    """MA everywhere, HE in parts of one photo, EX absent, either exudate known; SE and OD unknown."""
    rng = np.random.default_rng(6)
    structures = ("OD", "SE", "MA", "EX", "HE")  # an order of the recipe's own
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
        truth = coverage[:, CHANNELS.index(code)][mask]
        if code != "EX" or settings.cross_entropy or settings.focal:  # the others need something to find
            weight = settings.focus.get(code, settings.positive_weight)
            expected.append(_slow_dense(planes[code][mask], truth, weight, settings))
    loss = dense_loss(torch.tensor(logits), torch.tensor(coverage), torch.tensor(known), structures, settings)
    assert loss is not None
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4)


def _one_structure(logits: torch.Tensor, truth: torch.Tensor, settings: Loss) -> torch.Tensor | None:
    """The loss of a photo of 4 x 4 pixels in which the microaneurysms alone are known."""
    coverage = torch.zeros(1, len(CHANNELS), 4, 4, dtype=torch.uint8)
    coverage[0, 0] = truth * 255
    known = torch.zeros(coverage.shape, dtype=torch.bool)
    known[:, 0] = True
    return dense_loss(logits.view(1, 1, 4, 4), coverage, known, ("MA",), settings)


def test_dice_and_tversky_learn_nothing_where_there_is_nothing_to_find() -> None:
    nothing, logits = torch.zeros(4, 4), torch.randn(16)
    assert _one_structure(logits, nothing, Loss(cross_entropy=0, tversky=1.0)) is None
    for teaches in (Loss(dice=0), Loss(cross_entropy=0, focal=1.0)):
        logits = torch.zeros(16, requires_grad=True)
        loss = _one_structure(logits, nothing, teaches)
        assert loss is not None
        loss.backward()
        assert logits.grad is not None
        assert (logits.grad > 0).all(), "it learns that there is none"


def test_a_term_of_weight_zero_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> torch.Tensor:
        raise AssertionError("computed")

    truth, logits = torch.eye(4), torch.randn(16)
    with monkeypatch.context() as patch:
        patch.setattr(losses, "_focal", never)
        assert _one_structure(logits, truth, Loss()) is not None
        with pytest.raises(AssertionError):
            _one_structure(logits, truth, Loss(focal=1.0))
    monkeypatch.setattr(losses.F, "binary_cross_entropy_with_logits", never)
    assert _one_structure(logits, truth, Loss(cross_entropy=0, focal=1.0)) is not None
    with pytest.raises(AssertionError):
        _one_structure(logits, truth, Loss())


def test_what_tversky_counts_less_is_the_false_pixel() -> None:
    truth, settings = torch.eye(4), Loss(cross_entropy=0, dice=0, tversky=1.0, tversky_false=0.3)
    missed, false = truth.clone(), truth.clone()
    missed[0, 0], false[0, 1] = 0, 1
    of_missed = _one_structure((missed.flatten() - 0.5) * 40, truth, settings)
    of_false = _one_structure((false.flatten() - 0.5) * 40, truth, settings)
    assert of_missed is not None
    assert of_false is not None
    assert of_missed.item() == pytest.approx(1 - (3 + 1) / (3 + 0.7 + 1), rel=1e-4)
    assert of_false.item() == pytest.approx(1 - (4 + 1) / (4 + 0.3 + 1), rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_stays_finite_where_the_network_is_sure(gamma: float) -> None:
    """Right or wrong beyond what a float can tell from certainty."""
    logits = torch.tensor([-500.0, -30.0, 30.0, 500.0] * 4, requires_grad=True)
    loss = _one_structure(logits, torch.eye(4), Loss(cross_entropy=0, dice=0, focal=1.0, focal_gamma=gamma))
    assert loss is not None
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() > 0


def test_the_harder_the_pixel_the_more_of_the_focal_loss_is_its_own() -> None:
    logits = torch.tensor([3.0, -1.0] * 8)
    easy_and_hard = []
    for gamma in (0.0, 2.0):
        focal = losses._focal(logits[:2], torch.ones(2), Loss(focal_gamma=gamma))
        easy_and_hard.append((focal[1] / focal[0]).item())
    assert easy_and_hard[1] > 100 * easy_and_hard[0]


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


def test_the_focal_loss_of_a_grade_by_hand() -> None:
    logits, allowed = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[True, False, False]])
    plain = Loss(label_smoothing=0)
    focal = Loss(label_smoothing=0, class_focal=0.5, focal_gamma=2.0, focal_alpha=0.75)
    probs = logits.sigmoid()[0].tolist()
    expected = -0.75 * (1 - probs[0]) ** 2 * math.log(probs[0])
    expected -= sum(0.25 * p**2 * math.log(1 - p) for p in probs[1:])
    losses = [class_loss(logits, allowed, torch.ones(3), settings) for settings in (plain, focal)]
    assert losses[0] is not None
    assert losses[1] is not None
    assert (losses[1] - losses[0]).item() == pytest.approx(0.5 * expected, rel=1e-5)


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
