"""Pixel and lesion scores against scikit-learn and against slow references written from the protocol's words."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, precision_score, recall_score

from funduscope.metrics import DenseState, FrocState, MaskState, froc_by_area, froc_candidates

SHAPE = (40, 30)


def maps(kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A probability map and a true mask of one kind."""
    random = np.random.default_rng(seed)
    target = random.random(SHAPE) < {"empty": 0, "full": 1, "rare": 0.01}.get(kind, 0.2)
    prob = np.clip(0.4 * target + 0.6 * random.random(SHAPE), 0, 1)
    if kind == "ties":
        prob = np.round(prob * 4) / 4
    if kind == "edges":  # every threshold itself, and the nearest floats
        steps = (random.integers(0, 33, SHAPE) / 32).astype(np.float32)
        prob = np.nextafter(steps, random.choice([-1, 0.5, 2], SHAPE).astype(np.float32)).clip(0, 1)
    if kind == "zero":
        prob = np.zeros(SHAPE)
    if kind == "one":
        prob = np.ones(SHAPE)
    if kind == "perfect":
        prob = target * 0.9
    return prob.astype(np.float32), target


KINDS = ("plain", "rare", "ties", "edges", "zero", "one", "perfect", "full", "empty")


def slow_aupr33(prob: np.ndarray, target: np.ndarray) -> float:
    """The protocol's words, pixel by pixel."""
    points = []
    for k in range(32, -1, -1):
        marked = (prob >= k / 32) if k < 32 else np.zeros(prob.shape, bool)
        tp = (marked & target).sum()
        points.append((tp / target.sum(), tp / marked.sum() if marked.any() else 1.0))
    return sum((r1 - r0) * (p0 + p1) / 2 for (r0, p0), (r1, p1) in pairwise(points))


@pytest.mark.parametrize("kind", KINDS)
def test_area_over_33_thresholds_is_the_words_of_the_protocol(kind: str) -> None:
    prob, target = maps(kind)
    state = DenseState.of(prob, target)
    if kind == "empty":
        assert np.isnan(state.aupr33)
        assert np.isnan(state.average_precision)
        assert state.prevalence == 0
    else:
        assert state.aupr33 == pytest.approx(slow_aupr33(prob, target), abs=1e-12)
    assert state.pixels == prob.size
    assert state.positives == target.sum()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "empty"])
def test_average_precision_is_scikit_learns_on_16_bit_probabilities(kind: str) -> None:
    prob, target = maps(kind)
    quantized = np.minimum(np.floor(prob.astype(np.float64) * 65536), 65535)
    expected = average_precision_score(target.ravel(), quantized.ravel())
    assert DenseState.of(prob, target).average_precision == pytest.approx(expected, abs=1e-12)


def test_probabilities_stored_as_16_bit_numbers_keep_their_bins() -> None:
    stored = np.arange(65536, dtype=np.uint16)
    prob = (stored / 65535)[None]
    state = DenseState.of(prob, np.ones(prob.shape, bool))
    assert np.all(state.positive == 1)


def test_curve_starts_at_everything_and_ends_at_nothing() -> None:
    prob, target = maps("plain")
    thresholds, precision, recall = DenseState.of(prob, target).curve33()
    assert thresholds[0] == 0
    assert thresholds[-1] == 1
    assert (recall[0], precision[0]) == (1, pytest.approx(target.mean()))
    assert (recall[-1], precision[-1]) == (0, 1)
    assert np.all(np.diff(recall) <= 0)


def test_probability_one_is_not_positive_at_threshold_one() -> None:
    _, precision, recall = DenseState.of(np.ones(SHAPE, np.float32), np.ones(SHAPE, bool)).curve33()
    assert (recall[31], recall[32], precision[32]) == (1, 0, 1)


def test_refused_photo_counts_as_an_empty_mask() -> None:
    prob, target = maps("plain")
    together = DenseState.of(prob, target) + DenseState.of(0 * prob, target)
    by_hand = DenseState.of(np.concatenate([prob, 0 * prob]), np.concatenate([target, target]))
    assert together.aupr33 == by_hand.aupr33
    assert together.average_precision < DenseState.of(prob, target).average_precision


def test_no_pixel_is_no_score() -> None:
    state = DenseState.of(np.zeros((0, 4), np.float32), np.zeros((0, 4), bool))
    assert state.pixels == 0
    assert np.isnan(state.aupr33)
    assert np.isnan(state.average_precision)
    assert np.isnan(state.prevalence)


@pytest.mark.parametrize("bad", [np.nan, -0.01, 1.01, 255])
def test_probabilities_out_of_range_are_refused(bad: float) -> None:
    prob, target = maps("plain")
    prob[3, 4] = bad
    with pytest.raises(ValueError, match="Probabilities run from"):
        DenseState.of(prob, target)


def test_another_size_is_refused() -> None:
    prob, target = maps("plain")
    with pytest.raises(ValueError, match="one size"):
        DenseState.of(prob, target.T)
    with pytest.raises(ValueError, match="one size"):
        MaskState.of(prob > 0.5, target[:2])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, SHAPE[0] - 1))
def test_parts_add_up_to_the_whole(seed: int, cut: int) -> None:
    prob, target = maps("rare", seed)
    parts = [slice(0, cut), slice(cut, None)]
    dense = sum(DenseState.of(prob[p], target[p]) for p in parts)
    whole = DenseState.of(prob, target)
    assert np.array_equal(dense.positive, whole.positive)
    assert np.array_equal(dense.negative, whole.negative)
    mask = sum(MaskState.of(prob[p] > 0.5, target[p]) for p in parts)
    expected = MaskState.of(prob > 0.5, target)
    assert (mask.tp, mask.fp, mask.fn, mask.tn) == (expected.tp, expected.fp, expected.fn, expected.tn)


@pytest.mark.parametrize("kind", ["plain", "rare", "zero", "one", "full"])
def test_overlap_is_scikit_learns(kind: str) -> None:
    prob, target = maps(kind)
    mask = prob >= 0.5
    state = MaskState.of(mask, target)
    pair = (target.ravel(), mask.ravel())
    assert state.iou == pytest.approx(jaccard_score(*pair))
    assert state.dice == pytest.approx(f1_score(*pair))
    assert state.recall == pytest.approx(recall_score(*pair))
    if mask.any():
        assert state.precision == pytest.approx(precision_score(*pair))
    assert state.tp + state.fp + state.fn + state.tn == mask.size


def test_overlap_of_two_empty_masks_is_not_known() -> None:
    state = MaskState.of(np.zeros(SHAPE, bool), np.zeros(SHAPE, bool))
    assert np.isnan([state.dice, state.iou, state.precision, state.recall]).all()


def slow_sensitivity(photos: list[tuple[list, int]], rate: float) -> float:
    """Every threshold tried in turn: the best sensitivity with few enough false alarms."""
    scores = [*sorted({score for candidates, _ in photos for score, _ in candidates}), np.inf]
    best = 0.0
    for threshold in scores:
        kept = [[(s, hit) for s, hit in candidates if s >= threshold] for candidates, _ in photos]
        false = sum(hit < 0 for candidates in kept for _, hit in candidates)
        found = sum(len({hit for _, hit in candidates if hit >= 0}) for candidates in kept)
        if false <= rate * len(photos):
            best = max(best, found / sum(lesions for _, lesions in photos))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]))
def test_lesion_sensitivity_is_the_best_of_all_thresholds(seed: int, rate: float) -> None:
    random = np.random.default_rng(seed)
    photos = []
    for _ in range(random.integers(1, 6)):
        lesions = int(random.integers(1, 6))
        count = random.integers(0, 12)
        candidates = [(float(random.integers(0, 6)) / 6, int(random.integers(-1, lesions))) for _ in range(count)]
        photos.append((candidates, lesions))
    state = sum(FrocState.of(candidates, lesions) for candidates, lesions in photos)
    assert state.sensitivity_at(rate) == pytest.approx(slow_sensitivity(photos, rate))
    assert 0 <= state.mean_sensitivity <= 1


def test_lesion_sensitivity_without_lesions_is_not_known() -> None:
    assert np.isnan(FrocState.of([(0.9, -1)], 0).sensitivity_at(1))


def test_refused_photo_finds_no_lesion() -> None:
    assert (FrocState.of([(0.9, 0)], 1) + FrocState.of([], 3)).sensitivity_at(1) == 0.25


def test_candidates_are_components_that_touch_or_miss() -> None:
    target = np.zeros((20, 20), bool)
    target[2:4, 2:4] = target[4, 4] = True  # one lesion: corners touch
    target[10, 10] = target[10, 14] = True  # two lesions under one candidate
    prob = np.zeros((20, 20), np.float32)
    prob[4, 4], prob[5, 5] = 0.5, 0.75  # one candidate: corners touch
    prob[10, 9:16] = 0.25
    prob[0, 18] = 0.875
    prob[19, 19] = 0.05
    candidates, lesions = froc_candidates(prob, target, floor=0.1)
    assert lesions == 3
    assert sorted(candidates) == [(0.25, 1), (0.25, 2), (0.75, 0), (0.875, -1)]


def test_candidates_match_scipys_components() -> None:
    random = np.random.default_rng(3)
    prob = ndimage.gaussian_filter(random.random((80, 90)), 1.5).astype(np.float32)
    prob = (prob - prob.min()) / np.ptp(prob)
    target = ndimage.gaussian_filter(random.random((80, 90)), 1.5) > 0.55
    candidates, lesions = froc_candidates(prob, target, floor=0.6)
    eight = np.ones((3, 3))
    labels, count = ndimage.label(prob >= 0.6, eight)
    truth, expected_lesions = ndimage.label(target, eight)
    expected = []
    for i in range(1, count + 1):
        hits = set(truth[labels == i]) - {0}
        score = float(prob[labels == i].max())
        expected += [(score, True) for _ in hits] or [(score, False)]
    assert lesions == expected_lesions
    assert sorted((score, hit >= 0) for score, hit in candidates) == sorted(expected)
    assert FrocState.of(candidates, lesions).sensitivity_at(1e9) == len({h for _, h in candidates if h >= 0}) / lesions


def test_candidates_of_an_empty_map() -> None:
    assert froc_candidates(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool)) == ([], 0)


def test_a_candidate_of_a_lesion_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="names lesion 2"):
        FrocState.of([(0.5, 2)], 2)


def test_outlines_by_area():
    target, mask = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    target[2:6, 2:6] = target[10:12, 2:4] = True
    mask[3:6, 3:6] = True  # 9 px on the first lesion; the second is missed
    mask[15, 15] = True  # a false dot
    state = froc_by_area(mask, target)
    assert (state.found.tolist(), state.false.tolist(), state.lesions) == ([9.0], [1.0], 2)
    assert state.f1_at(0) == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))
    assert state.f1_at(2) == pytest.approx(2 * 1 / (2 * 1 + 0 + 1))
    assert state.f1_at(10) == 0


@pytest.mark.parametrize("one", [1, 60, 128, 254, 255])
@pytest.mark.parametrize("other", [1, 2, 255])
def test_a_mask_is_marked_where_it_is_not_zero(one: int, other: int) -> None:
    """Files have 255, votes have 60: bitwise they would share nothing."""
    drawn = np.eye(4, dtype=np.uint8)
    state = MaskState.of(drawn * np.uint8(one), drawn * np.uint8(other))
    assert (state.tp, state.fp, state.fn, state.tn) == (4, 0, 0, 12)
