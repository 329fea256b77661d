"""Scores of grades against scikit-learn, and what a refused photo counts as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)

from funduscope.evaluation.score_key import Question
from funduscope.evaluation.scores import scores_of
from funduscope.metrics import BinaryState, GradingState, JointState, ProbabilityState
from funduscope.metrics.grading import furthest_grade

GRADES = range(5)


def graded(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 5, n)
    return truth, np.clip(truth + random.integers(-2, 3, n), 0, 4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 80))
def test_agreement_is_scikit_learns(seed: int, n: int) -> None:
    truth, said = graded(seed, n)
    state = GradingState.of(truth.tolist(), said.tolist())
    assert np.array_equal(state.confusion, confusion_matrix(truth, said, labels=GRADES))
    assert state.accuracy == pytest.approx(accuracy_score(truth, said))
    if len(set(truth) | set(said)) > 1:
        expected = cohen_kappa_score(truth, said, labels=list(GRADES), weights="quadratic")
        assert state.kappa == pytest.approx(expected, abs=1e-12)
    recalls = recall_score(truth, said, labels=list(GRADES), average=None, zero_division=np.nan)
    assert state.recalls == pytest.approx(recalls, nan_ok=True)


def macro(state: GradingState) -> list[float]:
    """Macro precision, recall and F1, as a table of scores takes them."""
    taken = scores_of(Question("DR"), state)
    return [taken[f"macro {name}"](state) for name in ("precision", "recall", "F1")]


@pytest.mark.parametrize("grades", [2, 3, 5])
@pytest.mark.parametrize("n", [1, 4, 60])
@pytest.mark.parametrize("refused", [0.0, 0.3, 1.0])
def test_macro_precision_recall_and_f1_are_scikit_learns(grades: int, n: int, refused: float) -> None:
    random = np.random.default_rng(100 * grades + n)
    for _ in range(20):
        # Of few photos most grades are missing among the labels, among the predictions, or among both.
        truth = random.integers(0, random.integers(1, grades + 1), n)
        said = random.integers(0, random.integers(1, grades + 1), n)
        left = random.random(n) < refused
        answers = [None if gone else int(grade) for grade, gone in zip(said, left, strict=True)]
        state = GradingState.of(truth.tolist(), answers, grades)
        worst = [
            furthest_grade(int(t), grades) if gone else int(p) for t, p, gone in zip(truth, said, left, strict=True)
        ]
        expected = precision_recall_fscore_support(truth, worst, average="macro", zero_division=0)[:3]
        assert macro(state) == pytest.approx(expected, abs=1e-12)


def test_a_grade_that_is_nowhere_is_left_out_of_the_macro_means_and_a_missed_one_counts_as_nothing() -> None:
    assert macro(GradingState.of([0, 0, 4], [0, 0, 4])) == [1, 1, 1]
    assert macro(GradingState.of([0, 4], [0, 0])) == pytest.approx([1 / 4, 1 / 2, 1 / 3])
    assert np.isnan(macro(GradingState.of([], []))).all()


def test_macro_means_of_a_batch_are_those_of_each_of_its_states() -> None:
    states = [GradingState.of([0, 1, 4, 2], [0, 1, None, 3]), GradingState.of([0, 0, 4], [0, 0, 4])]
    batch = GradingState(np.stack([one.answered for one in states]), np.stack([one.refusals for one in states]))
    np.testing.assert_allclose(np.array(macro(batch)).T, [macro(one) for one in states])


def test_the_protocols_example_of_macro_means() -> None:
    protocol = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    precision, recall, f1 = macro(GradingState.of([0, 0, 2, 4, 3], [0, 1, 2, 4, None]))
    assert precision == recall == f1
    assert f"**macro precision, recall and F1 are {f1:g} each**" in protocol


def test_agreement_of_one_grade_alone_is_not_known() -> None:
    assert np.isnan(GradingState.of([2, 2], [2, 2]).kappa)
    assert GradingState.of([2, 2], [3, 3]).kappa == 0


@pytest.mark.parametrize(
    ("grades", "expected"), [(5, [4, 4, 0, 0, 0]), (3, [2, 0, 0]), (2, [1, 0])], ids=["DR", "DME", "yes or no"]
)
def test_refused_photo_counts_as_the_furthest_grade(grades: int, expected: list[int]) -> None:
    assert [furthest_grade(g, grades) for g in range(grades)] == expected
    truths = list(range(grades))
    state = GradingState.of(truths, [None] * grades, grades)
    assert np.array_equal(state.confusion, confusion_matrix(truths, expected, labels=truths))
    assert state.accuracy == 0


def test_no_photos_no_score() -> None:
    state = GradingState.of([], [])
    assert np.isnan([state.accuracy, state.kappa]).all()
    assert np.isnan(state.recalls).all()


@pytest.mark.parametrize(("truth", "said"), [(5, 0), (-1, 0), (0, 5), (0, -1)])
def test_a_grade_off_the_scale_is_refused(truth: int, said: int) -> None:
    with pytest.raises(ValueError, match="0 to 4"):
        GradingState.of([truth], [said])


def test_scales_of_unlike_length_do_not_add() -> None:
    with pytest.raises(ValueError, match="unlike sizes"):
        GradingState.of([0], [0], 5) + GradingState.of([0], [0], 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 60), st.sampled_from([2, 5, 10**9]))
def test_area_under_roc_is_scikit_learns(seed: int, n: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.4
    score = random.integers(0, levels, n) / levels
    if positive.all() or not positive.any():
        assert np.isnan(BinaryState.of(positive, score).auroc)
    else:
        assert BinaryState.of(positive, score).auroc == pytest.approx(roc_auc_score(positive, score))


@pytest.mark.parametrize("present", [[0, 1, 2, 3, 4], [0, 2, 4], [1, 3]])
def test_macro_area_is_the_mean_over_present_grades(present: list[int]) -> None:
    random = np.random.default_rng(4)
    truth = random.choice(present, 80)
    probabilities = random.dirichlet(np.ones(5), 80)
    state = ProbabilityState.of(truth, probabilities)
    expected = np.mean([roc_auc_score(truth == g, probabilities[:, g]) for g in present])
    assert state.macro_auroc == pytest.approx(expected)
    if len(present) == 5:
        assert state.macro_auroc == pytest.approx(roc_auc_score(truth, probabilities, multi_class="ovr"))


def test_macro_area_of_one_grade_is_not_known() -> None:
    assert np.isnan(ProbabilityState.of([2, 2], np.full((2, 5), 0.2)).macro_auroc)


def test_refused_photo_is_the_wrong_extreme_in_an_area() -> None:
    random = np.random.default_rng(6)
    truth = random.integers(0, 5, 50)
    probabilities = random.dirichlet(np.ones(5), 50)
    refused = random.random(50) < 0.2
    worst = np.where(truth >= 2, -1.0, 2.0)
    expected = roc_auc_score(truth >= 2, np.where(refused, worst, probabilities[:, 2:].sum(axis=1)))
    unread = np.where(refused[:, None], np.nan, probabilities)
    state = ProbabilityState.of(truth, unread, refused)
    assert state.referable().auroc == pytest.approx(expected)
    assert not np.isnan(state.macro_auroc)


def test_a_missing_score_must_be_called_a_refusal() -> None:
    with pytest.raises(ValueError, match="refused"):
        _ = BinaryState.of([True, False], [np.nan, 0.5]).auroc


def test_joint_accuracy_wants_both_right() -> None:
    state = JointState.of([(2, 1), (2, 1), (0, 0)], [(2, 1), (2, 2), None])
    assert state.accuracy == pytest.approx(1 / 3)
    assert (state + JointState.of([(4, 2)], [(4, 2)])).accuracy == 0.5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 59))
def test_parts_add_up_to_the_whole(seed: int, cut: int) -> None:
    truth, said = graded(seed)
    answers = [None if i % 7 == 0 else int(p) for i, p in enumerate(said)]
    whole = GradingState.of(truth.tolist(), answers)
    parts = GradingState.of(truth[:cut].tolist(), answers[:cut]) + GradingState.of(truth[cut:].tolist(), answers[cut:])
    assert np.array_equal(parts.confusion, whole.confusion)
    assert parts.kappa == whole.kappa
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(5), len(truth))
    scored = ProbabilityState.of(truth[:cut], probabilities[:cut]) + ProbabilityState.of(
        truth[cut:], probabilities[cut:]
    )
    assert scored.macro_auroc == ProbabilityState.of(truth, probabilities).macro_auroc


def test_unlike_numbers_of_photos_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        ProbabilityState.of([0, 1], np.full((3, 5), 0.2))
    with pytest.raises(ValueError, match="expected"):
        BinaryState.of([True], [0.1, 0.2])


def test_yes_and_no_are_grades_too() -> None:
    """A bool as an index would be a mask, which counts every photo four times."""
    truth, answers = [True, False, True, True], [True, False, False, True]
    for kind in (bool, np.bool_, int, np.int64, np.float64):
        state = GradingState.of([kind(one) for one in truth], [kind(one) for one in answers], 2)
        assert state.answered.tolist() == [[1, 0], [1, 2]]
    with pytest.raises(ValueError, match="Grades run from 0 to 1; came truth nan"):
        GradingState.of([float("nan")], [0], 2)  # pyright: ignore


def test_half_a_grade_is_not_rounded() -> None:
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 4; came \[1\.7, 2\.9\]"):
        ProbabilityState.of(np.array([1.7, 2.9]), np.full((2, 5), 0.2))


@pytest.mark.parametrize("unknown", [float("nan"), None, 2])
def test_a_truth_that_is_not_known_is_neither_yes_nor_no(unknown: float | None) -> None:
    with pytest.raises(ValueError, match="leave out photos of which it is not known"):
        BinaryState.of([0, unknown, 1], [0.1, 0.2, 0.3])  # pyright: ignore
    assert BinaryState.of([0, 1.0, True], [0.1, 0.2, 0.3]).positive.tolist() == [False, True, True]  # pyright: ignore
