"""Sets of grades: never empty, never with a gap, and right as often as they promise on photos they did not see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funduscope.inference.conformal import COVERAGE, PENALTY, fit_quantile, grade_set, nonconformity

GRADES = 5


def probabilities(rng: np.random.Generator, photos: int, sharpness: float = 2.0) -> np.ndarray:
    """(N, 5): what a model might say, each photo's around a grade of its own."""
    middle = rng.uniform(-0.5, 4.5, (photos, 1))
    logits = -sharpness * np.abs(np.arange(GRADES) - middle) + rng.normal(0, 0.7, (photos, GRADES))
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


tables = st.lists(st.floats(0.0, 1.0), min_size=GRADES, max_size=GRADES).map(
    lambda values: (np.array(values) + 1e-3) / np.sum(np.array(values) + 1e-3)
)


@given(probs=tables, quantile=st.floats(0.0, 1.0), more=st.floats(0.0, 1.0))
def test_a_set_is_an_interval_around_the_most_probable_grade(probs: np.ndarray, quantile: float, more: float) -> None:
    held = grade_set(probs, quantile)
    assert int(probs.argmax()) in held
    assert list(held) == list(range(held[0], held[-1] + 1))
    assert set(held) <= set(grade_set(probs, quantile + more))


@given(probs=tables, quantile=st.floats(0.0, 1.5))
def test_a_set_stops_as_soon_as_it_holds_enough(probs: np.ndarray, quantile: float) -> None:
    held = list(np.flatnonzero(nonconformity(probs) <= quantile))  # before grades likelier than one of them are added
    if len(held) < GRADES:
        assert probs[held].sum() + PENALTY * len(held) > quantile - 1e-9
    # Without the end that was added last it contained too little.
    assert set(held) <= set(grade_set(probs, quantile))
    ends = [probs[held[1:]].sum(), probs[held[:-1]].sum()] if len(held) > 1 else [-1.0]
    assert min(ends) + PENALTY * (len(held) - 1) <= quantile + 1e-9


def test_the_scores_of_an_example() -> None:
    # From grade 2 (0.5) to 3 (0.2), to 1 (0.15), to 0 (0.1), to 4; a tenth more for each grade that is in already.
    assert nonconformity(np.array([0.1, 0.15, 0.5, 0.2, 0.05])) == pytest.approx([1.15, 0.9, 0.0, 0.6, 1.35])
    assert grade_set(np.array([0.1, 0.15, 0.5, 0.2, 0.05]), 0.7) == (2, 3)


@pytest.mark.parametrize("distortion", [0.5, 1.0, 2.0], ids=["too modest", "calibrated", "too sure"])
def test_new_photos_are_covered_as_promised_however_wrong_the_probabilities(distortion: float) -> None:
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(40):
        true = probabilities(rng, 500)
        grades = np.array([rng.choice(GRADES, p=row) for row in true])
        said = true**distortion / (true**distortion).sum(1, keepdims=True)
        quantile = fit_quantile(said[:200], grades[:200])
        covered += [grade in grade_set(row, quantile) for row, grade in zip(said[200:], grades[200:], strict=True)]
    assert np.mean(covered) == pytest.approx(COVERAGE, abs=0.015)


def test_too_few_photos_promise_nothing_but_every_grade() -> None:
    few = probabilities(np.random.default_rng(2), 8)
    quantile = fit_quantile(few, few.argmax(1))
    assert grade_set(few[0], quantile) == (0, 1, 2, 3, 4)
    nine = np.tile(few[:1], (9, 1))
    assert fit_quantile(nine, nine.argmax(1)) == 0.0
