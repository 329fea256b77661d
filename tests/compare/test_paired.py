"""Differences between runs: none between equals, a large one, and never one from a handful of visits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from funduscope.compare.paired import REPEATS, PairedTest, compare_pair, compare_pairs, holm
from funduscope.compare.run_record import RunRecord, read_runs
from funduscope.compare.score_kinds import KINDS, Measure, Row
from funduscope.metrics import GradingState, by_visit, paired_test
from funduscope.recipe import Recipe

KAPPA = Measure("d", next(kind for kind in KINDS if kind.title == "DR kappa"))


def rows(skill: float, photos: int = 60, seed: int = 0, visits: int = 2) -> dict[str, Row]:
    """Graded photos, so many a visit, of which that share is right; the same truth for every seed."""
    truth, rng = np.random.default_rng(99).integers(0, 5, photos), np.random.default_rng(seed)
    answers = np.where(rng.random(photos) < skill, truth, rng.integers(0, 5, photos))
    return {
        f"{n:03d}": {
            "key": f"{n:03d}",
            "dataset": "d",
            "visit": f"v{n // visits}",
            "grade": int(truth[n]),
            "predicted_grade": int(answers[n]),
        }
        for n in range(photos)
    }


def run_test(a: dict[str, Row], b: dict[str, Row]) -> PairedTest | None:
    records = [RunRecord(name, Recipe.load("plain"), {}, [], {}, {"test": of}) for name, of in (("a", a), ("b", b))]
    return compare_pair(KAPPA, "test", *records)


def difference(a: dict[str, Row], b: dict[str, Row]) -> PairedTest:
    test = run_test(a, b)
    assert test is not None
    return test


def test_run_does_not_differ_from_itself() -> None:
    test = difference(rows(0.6), rows(0.6))
    assert (test.difference.value, test.difference.low, test.difference.high, test.p) == (0, 0, 0, 1)


def test_large_difference_is_found_in_both_directions() -> None:
    test = difference(rows(0.95, seed=1), rows(0.3, seed=2))
    assert test.difference.low > 0
    assert test.p < 0.01
    swapped = test.swapped()
    assert (swapped.run, swapped.score, swapped.difference.high) == ("b", test.reference_score, -test.difference.low)


def test_it_is_the_test_of_the_metrics() -> None:
    a, b = rows(0.7, seed=3), rows(0.5, seed=4)

    def units(given: dict[str, Row]) -> list[GradingState]:
        return by_visit(
            (row["visit"], GradingState.of([row["grade"]], [row["predicted_grade"]])) for row in given.values()
        )

    test = difference(a, b)
    assert (test.difference, test.p) == paired_test(units(a), units(b), lambda state: state.kappa, repeats=REPEATS)


def test_few_visits_are_not_tested() -> None:
    assert run_test(rows(1.0, photos=10), rows(0.0, photos=10, seed=5)) is None


def test_photos_that_one_lacks_or_labels_otherwise_are_left_out() -> None:
    a, b = rows(0.6), rows(0.6, seed=1)
    b["000"] = b["000"] | {"grade": (b["000"]["grade"] + 1) % 5}
    assert difference(a, b).n_photos == len(a) - 1
    assert difference(a, {name: row for name, row in b.items() if name < "040"}).n_photos == 39
    assert run_test(a, {}) is None


def test_holm_corrects_for_the_number_of_tests() -> None:
    corrected = holm([0.01, 0.04, 0.03, float("nan"), 0.005])
    assert corrected == pytest.approx([0.03, 0.06, 0.06, float("nan"), 0.02], nan_ok=True)


def test_every_pair_is_tested_and_corrected(three_runs: list[Path]) -> None:
    tests = compare_pairs(read_runs(three_runs))["test"][Measure("idrid-B", KAPPA.kind)]
    pairs = [(test.run, test.reference) for test in tests]
    assert pairs == [("worst", "best"), ("worst", "middle"), ("best", "middle")]
    assert all(test.p <= test.corrected_p <= 1 for test in tests)
    assert tests[0].differs
