"""What the card fixes: temperatures that fit, thresholds that keep healthy photos clean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from funduscope.data.case import Case, Labels
from funduscope.training.calibrate import (
    FEWEST_POSITIVE,
    MOST_FALSE,
    Seen,
    dice,
    false_share,
    fit_temperature,
    fit_threshold,
    largest_area,
)


def _photo(probs: np.ndarray, truth: np.ndarray | None, dataset: str = "idrid-A") -> Seen:
    case = Case(f"{dataset}/x", dataset, "x", Path("x"), "x", Labels())
    truths = {} if truth is None else {"EX": truth}
    healthy = frozenset({"EX"}) if truth is None else frozenset()
    return Seen(case, None, None, {"EX": (probs * 255).astype(np.uint8)}, truths, healthy)


def test_a_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in probs])
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.1)
    assert fit_temperature(logits / 2, labels) == pytest.approx(0.5, rel=0.1)


def test_the_threshold_of_the_best_dice_is_found():
    truth = np.zeros((64, 64), bool)
    truth[10:30, 10:30] = True
    probs = np.where(truth, 0.62, 0.42)  # everything between is right
    threshold, area, says = fit_threshold([_photo(probs, truth)] * FEWEST_POSITIVE, "EX")
    assert 0.42 < threshold <= 0.62
    assert dice([_photo(probs, truth)], "EX", threshold, area) == 1
    assert str(FEWEST_POSITIVE) in says


def test_healthy_photos_push_threshold_or_smallest_area_up():
    truth = np.zeros((64, 64), bool)
    truth[10:30, 10:30] = True
    ill = [_photo(np.where(truth, 0.9, 0.05), truth)] * FEWEST_POSITIVE
    specks = np.zeros((64, 64))
    specks[5:7, 5:7] = 0.9  # 4 px: as bright as a lesion, but tiny
    healthy = [_photo(specks, None, "idrid-B")] * 10
    threshold, area, _ = fit_threshold([*ill, *healthy], "EX")
    assert area > 4
    sizes = [largest_area(photo, "EX", threshold) for photo in healthy]
    assert false_share(sizes, ["idrid-B"] * 10, area) <= MOST_FALSE
    assert dice(ill, "EX", threshold, area) == 1


def test_too_few_positive_photos_take_one_half_and_say_so():
    truth = np.zeros((64, 64), bool)
    truth[10:30, 10:30] = True
    seen = [_photo(np.where(truth, 0.3, 0.0), truth)] * (FEWEST_POSITIVE - 1)
    threshold, area, says = fit_threshold(seen, "EX")
    assert (threshold, area) == (0.5, 0.0)
    assert says.startswith(f"{FEWEST_POSITIVE - 1} positive")


def test_the_worst_data_set_counts():
    assert false_share([9, 9, 0, 0], ["a", "a", "b", "b"], 4) == 1.0
    assert false_share([9, 0, 9, 0], ["a", "a", "b", "b"], 4) == 0.5
    assert false_share([], [], 4) == 0.0
