"""Thresholds that keep healthy photos clean, and smallest areas that serve single lesions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from funduscope.inference.objects import Components
from funduscope.training.fit_threshold import (
    MAX_FALSE,
    MIN_POSITIVE,
    OutlineThreshold,
    ThresholdPhoto,
    dice_by_area,
    false_share,
    fit_threshold,
    largest_area,
)

TRUTH = np.zeros((64, 64), bool)
TRUTH[10:30, 10:30] = True


def photo(probs: np.ndarray, truth: np.ndarray | None, dataset: str = "idrid-A") -> ThresholdPhoto:
    return ThresholdPhoto(dataset, (probs * 255).astype(np.uint8), truth, truth is None)


def dice(photos: list[ThresholdPhoto], threshold: float, area: float) -> float:
    return dice_by_area(photos, threshold, [area])[area]


def test_the_threshold_of_the_best_dice_is_found():
    probs = np.where(TRUTH, 0.62, 0.42)  # everything between is right
    cut = fit_threshold([photo(probs, TRUTH)] * MIN_POSITIVE, "EX")
    assert 0.42 < cut.threshold <= 0.62
    assert cut.dice == dice([photo(probs, TRUTH)], cut.threshold, cut.smallest_px2) == 1
    assert str(MIN_POSITIVE) in cut.says


def test_healthy_photos_push_threshold_or_smallest_area_up():
    ill = [photo(np.where(TRUTH, 0.9, 0.05), TRUTH)] * MIN_POSITIVE
    specks = np.zeros((64, 64))
    specks[5:7, 5:7] = 0.9  # 4 px: as bright as a lesion, but tiny
    healthy = [photo(specks, None, "idrid-B")] * 10
    cut = fit_threshold([*ill, *healthy], "EX")
    assert cut.smallest_px2 > 4
    sizes = [largest_area(one, cut.threshold) for one in healthy]
    assert false_share(sizes, ["idrid-B"] * 10, cut.smallest_px2) <= MAX_FALSE
    assert dice(ill, cut.threshold, cut.smallest_px2) == 1


def test_the_smallest_area_is_chosen_by_lesions_not_by_pixels():
    truth = TRUTH.copy()
    truth[40:45, 40:45] = True
    clean = np.where(truth, 0.9, 0.05)
    dotted = clean.copy()
    dotted[50:53:2, 3:60:6] = 0.9  # twenty false dots of a pixel: a twentieth of the true pixels
    cut = fit_threshold([photo(dotted, truth)] * MIN_POSITIVE, "EX")
    assert 1 < cut.smallest_px2 <= 25, "the dots are gone, the small true lesion stays"
    without_dots = fit_threshold([photo(clean, truth)] * MIN_POSITIVE, "EX")
    assert without_dots.smallest_px2 == 0, "nothing is taken out for nothing"


def test_with_too_few_positive_photos_healthy_ones_alone_decide_and_it_is_said():
    ill = [photo(np.where(TRUTH, 0.3, 0.0), TRUTH)] * (MIN_POSITIVE - 1)
    alone = fit_threshold(ill, "EX")
    assert (alone.threshold, alone.smallest_px2, alone.dice) == (0.5, 0.0, 0.0)
    assert alone.says.startswith(f"{MIN_POSITIVE - 1} positive")
    healthy = [photo(np.where(TRUTH, 0.72, 0.0), None)] * 10
    assert 0.72 < fit_threshold([*ill, *healthy], "EX").threshold < 0.8


def test_what_is_marked_where_a_mask_is_empty_counts_against_a_threshold():
    """As it does in the scores."""
    ill = [photo(np.where(TRUTH, 0.9, 0.3), TRUTH)] * MIN_POSITIVE
    free = photo(np.full((64, 64), 0.6), np.zeros((64, 64), bool))
    assert fit_threshold(ill, "EX").threshold <= 0.6 < fit_threshold([*ill, free], "EX").threshold


def test_dice_by_area_is_that_of_the_masks_that_findings_have():
    random = np.random.default_rng(3)
    photos = [photo(random.random((64, 64)) ** 2, random.random((64, 64)) < 0.2) for _ in range(3)]
    for largest in (False, True):
        found = dice_by_area(photos, 0.4, (0.0, 3.0, 9.0), largest=largest)
        for area, value in found.items():
            overlap = total = 0
            for one in photos:
                parts = Components.of(one.probs >= 0.4 * 255)
                mask = (parts.largest() if largest else parts).at_least(area).mask
                overlap += np.count_nonzero(mask & one.truth)
                total += np.count_nonzero(mask) + np.count_nonzero(one.truth)
            assert value == 2 * overlap / total


def test_the_worst_data_set_counts():
    assert false_share([9, 9, 0, 0], ["a", "a", "b", "b"], 4) == 1.0
    assert false_share([9, 0, 9, 0], ["a", "a", "b", "b"], 4) == 0.5
    assert false_share([], [], 4) == 0.0


def test_the_cleaner_cut_is_the_better_one_and_then_the_one_of_the_higher_dice() -> None:
    clean, dirty = OutlineThreshold(0.7, 0, 0.06, 0.5, ""), OutlineThreshold(0.5, 0, 0.2, 0.9, "")
    assert clean.is_better(dirty)
    assert not dirty.is_better(clean)
    assert replace(clean, dice=0.6).is_better(clean)
    assert not replace(clean, threshold=0.6).is_better(clean), "a threshold is no merit where Dice is known"
    rare = replace(clean, dice=0)
    assert replace(rare, threshold=0.6).is_better(rare)


def test_specks_that_findings_never_show_do_not_count_against_a_threshold() -> None:
    """64 millionths of a frame of 1000 px are 64 px: a soft exudate is at least that large."""
    truth = np.zeros((1000, 1000), bool)
    truth[100:200, 100:200] = True
    speck = np.zeros((1000, 1000))
    speck[500:507, 500:507] = 0.99
    ill = [photo(np.where(truth, 0.8, 0.0), truth)]
    healthy = [photo(speck, None)] * 10
    assert fit_threshold([*ill, *healthy], "SE").threshold == 0.5
    speck[500:510, 500:510] = 0.99
    assert fit_threshold([*ill, *[photo(speck, None)] * 10], "SE").threshold > 0.98
