"""Intervals and paired tests: reproducible, exact sums, and right about as often as they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from funduscope.metrics import (
    CoarseDenseState,
    DenseState,
    FalseLesionState,
    FrocState,
    GradingState,
    MaskState,
    MeanState,
    PerPhotoState,
    ProbabilityState,
    bootstrap,
    bootstrap_all,
    by_visit,
    paired_test,
)
from funduscope.metrics.state import State


def accuracy_units(random: np.random.Generator, n: int, p: float) -> list[GradingState]:
    return [GradingState.of([0], [0 if right else 1]) for right in random.random(n) < p]


def one_of_each(seed: int) -> list[State]:
    random = np.random.default_rng(seed)
    prob, target = random.random((9, 9)).astype(np.float32), random.random((9, 9)) < 0.3
    return [
        DenseState.of(prob, target),
        MaskState.of(prob > 0.5, target),
        FrocState.of([(float(prob[0, 0]), 0), (float(prob[0, 1]), -1)], 2),
        GradingState.of([seed % 5], [2]),
        ProbabilityState.of([seed % 5] * (1 + seed % 3), random.dirichlet(np.ones(5), 1 + seed % 3)),
    ]


@pytest.mark.parametrize("kind", range(5))
def test_a_weighted_sum_is_the_state_added_so_many_times(kind: int) -> None:
    states = [one_of_each(seed)[kind] for seed in range(6)]
    weights = np.random.default_rng(0).integers(0, 4, (5, 6))
    weights[:, 0] = 1
    for row, state in zip(weights, type(states[0]).weighted(states, weights), strict=True):
        repeated = sum(s for s, times in zip(states, row, strict=True) for _ in range(times))
        for name, value in vars(repeated).items():
            ours, theirs = (np.asarray(v) for v in (getattr(state, name), value))
            if name in state.LISTED:  # photos have no order
                ours, theirs = np.sort(ours, axis=0), np.sort(theirs, axis=0)
            assert np.array_equal(ours, theirs), name


BATCHED: list[tuple[list[State], str]] = [
    ([GradingState.of([n % 4], [n % 3 if n % 5 else None]) for n in range(9)], "kappa"),
    ([GradingState.of([n % 2], [n % 3]) for n in range(9)], "accuracy"),
    ([MaskState(n, 2, 1, 0) for n in range(9)], "dice"),
    ([MaskState(n, 2, 1, 0) for n in range(9)], "iou"),
    ([MeanState(n / 3, 1) for n in range(9)], "mean"),
    ([FalseLesionState.of({"EX": n % 2}, ("EX",)) for n in range(9)], "rate"),
    ([CoarseDenseState(np.eye(5)[n % 5], np.full(5, n)) for n in range(9)], "average_precision"),
]


@pytest.mark.parametrize(("states", "score"), BATCHED, ids=[score for _, score in BATCHED])
def test_a_score_of_a_batch_is_that_of_each_of_its_sums(states: list[State], score: str) -> None:
    weights = np.random.default_rng(1).integers(0, 3, (40, 9))
    weights[0] = 0  # a sum of nothing has no score
    batches = np.concatenate([getattr(batch, score) for batch in type(states[0]).batches(states, weights)])
    single = [getattr(state, score) for state in type(states[0]).weighted(states, weights)]
    assert batches == pytest.approx(np.array(single), nan_ok=True)
    assert np.isnan(batches[0])


def test_photos_of_one_visit_become_one_unit() -> None:
    photos = [("v1", GradingState.of([0], [0])), ("v2", GradingState.of([1], [0])), ("v1", GradingState.of([2], [0]))]
    first, second = by_visit(photos)
    assert (first.confusion.sum(), second.confusion.sum()) == (2, 1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = 0
    for i in range(120):
        interval = bootstrap(accuracy_units(random, 60, 0.7), lambda s: s.accuracy, repeats=200, seed=i)
        held += interval.low <= 0.7 <= interval.high
    assert held / 120 > 0.87
    assert held < 120


def test_the_interval_is_scipys_percentile_interval() -> None:
    values = np.random.default_rng(2).exponential(1, 80)
    ours = bootstrap([PerPhotoState.of(v) for v in values], lambda s: s.mean, repeats=4000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=3).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_correlated_photos_of_a_visit_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    photos = [
        (str(v), GradingState.of([0], [0 if right else 1])) for v, right in enumerate(random.random(40) < 0.6)
    ] * 5
    as_visits = bootstrap(by_visit(photos), lambda s: s.accuracy)
    as_photos = bootstrap([state for _, state in photos], lambda s: s.accuracy)
    assert as_visits.high - as_visits.low > 1.5 * (as_photos.high - as_photos.low)


def test_same_seed_same_interval_and_scores_share_their_draws() -> None:
    units = accuracy_units(np.random.default_rng(4), 30, 0.6)
    both = bootstrap_all(units, {"accuracy": lambda s: s.accuracy, "error": lambda s: 1 - s.accuracy}, repeats=200)
    assert bootstrap(units, lambda s: s.accuracy, repeats=200) == both["accuracy"]
    assert both["error"].low == pytest.approx(1 - both["accuracy"].high)
    assert bootstrap(units, lambda s: s.accuracy, repeats=200, seed=1) != both["accuracy"]


def test_repeats_without_a_score_are_dropped_and_counted() -> None:
    prob = np.full((4, 4), 0.5, np.float32)
    units = [DenseState.of(prob, np.zeros((4, 4), bool)) for _ in range(4)] + [
        DenseState.of(prob, np.eye(4, dtype=bool))
    ]
    interval = bootstrap(units, lambda s: s.aupr33, repeats=300)
    assert interval.dropped == pytest.approx(300 * 0.8**5, abs=40)
    assert interval.low <= interval.value <= interval.high


def test_one_visit_or_no_score_has_no_interval() -> None:
    one = bootstrap([GradingState.of([0, 1], [0, 0])], lambda s: s.accuracy, repeats=20)
    assert one.value == 0.5
    assert np.isnan([one.low, one.high]).all()
    assert json.loads(json.dumps(one.to_dict(), allow_nan=False))["low"] is None
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([], lambda s: s.accuracy)


def test_a_better_model_is_told_from_an_equal_one() -> None:
    random = np.random.default_rng(5)
    good, poor = accuracy_units(random, 80, 0.9), accuracy_units(random, 80, 0.6)
    better, p = paired_test(good, poor, lambda s: s.accuracy)
    assert better.low > 0
    assert better.value == pytest.approx(sum(good).accuracy - sum(poor).accuracy)
    assert p < 0.01
    same, p = paired_test(good, good, lambda s: s.accuracy)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert p == 1
    assert np.isnan(paired_test(good, poor, lambda s: s.accuracy, tested=False)[1])


def test_any_score_is_tested_and_one_that_takes_batches_faster() -> None:
    """A score that indexes the counts would read a batch along the wrong axis."""
    random = np.random.default_rng(9)

    def units(right: float) -> list[GradingState]:
        truths = random.integers(0, 2, 30)
        said = np.where(random.random(30) < right, truths, 1 - truths)
        return [GradingState.of([int(t)], [int(s)], 2) for t, s in zip(truths, said, strict=True)]

    def sensitivity(state: GradingState) -> float:
        return state.answered[1, 1] / state.answered[1].sum() if state.answered[1].sum() else float("nan")

    good, poor = units(0.95), units(0.6)
    interval, p = paired_test(good, poor, sensitivity, 300)
    assert interval.value == pytest.approx(sensitivity(sum(good)) - sensitivity(sum(poor)))
    assert interval.low <= interval.value <= interval.high
    assert 0 < p <= 1
    assert paired_test(good, poor, lambda s: s.kappa, 300) == paired_test(
        good, poor, lambda s: s.kappa, 300, batched=True
    )


def test_permutation_agrees_with_scipy() -> None:
    random = np.random.default_rng(6)
    a = random.normal(0.1, 1, 25)
    b = random.normal(-0.2, 1, 25)
    states = [[PerPhotoState.of(v) for v in values] for values in (a, b)]
    _, ours = paired_test(*states, lambda s: s.mean, repeats=4000)
    theirs = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples", n_resamples=4000, rng=1
    )
    assert ours == pytest.approx(theirs.pvalue, abs=0.04)


def test_equal_models_are_called_different_about_one_time_in_twenty() -> None:
    random = np.random.default_rng(7)
    calls = [
        paired_test(accuracy_units(random, 40, 0.7), accuracy_units(random, 40, 0.7), lambda s: s.accuracy, 150, i)
        for i in range(60)
    ]
    assert sum(p < 0.05 for _, p in calls) <= 9


def test_unlike_visits_are_refused() -> None:
    units = accuracy_units(np.random.default_rng(8), 3, 0.5)
    with pytest.raises(ValueError, match="same visits"):
        paired_test(units, units[:2], lambda s: s.accuracy)
