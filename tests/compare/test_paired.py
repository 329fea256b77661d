"""Differences between runs: nothing between equals, found where it is large, never found in a handful of visits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from funduscope.compare.paired import REPEATS, Difference, corrected, difference, gap, overlap
from funduscope.compare.score_kinds import KINDS, Measure, Row
from funduscope.metrics import GradingState, Interval, by_visit, paired_test

KAPPA = Measure("d", next(kind for kind in KINDS if kind.shown == "DR kappa"))


def rows(right: float, photos: int = 60, seed: int = 0, visits: int = 2) -> dict[str, Row]:
    """Graded photos, so many a visit, of which that share is right; the same truth for every seed."""
    truth, rng = np.random.default_rng(99).integers(0, 5, photos), np.random.default_rng(seed)
    said = np.where(rng.random(photos) < right, truth, rng.integers(0, 5, photos))
    return {
        f"{n:03d}": {
            "key": f"{n:03d}",
            "dataset": "d",
            "visit": f"v{n // visits}",
            "grade": int(truth[n]),
            "predicted_grade": int(said[n]),
        }
        for n in range(photos)
    }


def compared(a: dict[str, Row], b: dict[str, Row]) -> Difference:
    found = difference(KAPPA, ("a", a), ("b", b))
    assert found is not None
    return found


def test_a_run_does_not_differ_from_itself() -> None:
    found = compared(rows(0.6), rows(0.6))
    assert (found.interval.value, found.interval.low, found.interval.high, found.p) == (0, 0, 0, 1)


def test_a_large_difference_is_found_and_a_turned_pair_is_its_mirror() -> None:
    found = compared(rows(0.95, seed=1), rows(0.3, seed=2))
    assert found.interval.low > 0
    assert found.p < 0.01
    swapped = found.swapped()
    assert (swapped.a, swapped.interval.high) == ("b", -found.interval.low)
    assert swapped.scores == found.scores[::-1]


def test_it_is_the_test_of_the_metrics() -> None:
    a, b = rows(0.7, seed=3), rows(0.5, seed=4)

    def units(given: dict[str, Row]) -> list[GradingState]:
        states = [(row["visit"], GradingState.of([row["grade"]], [row["predicted_grade"]])) for row in given.values()]
        return by_visit(states)

    found = compared(a, b)
    reference = paired_test(units(a), units(b), lambda state: state.kappa, repeats=REPEATS)
    assert (found.interval, found.p) == reference


def test_few_visits_are_not_tested_however_large_the_difference() -> None:
    found = compared(rows(1.0, photos=10), rows(0.0, photos=10, seed=5))
    assert found.visits == 5
    assert np.isnan(found.p)
    assert not found.differs


def test_photos_whose_labels_differ_are_left_out() -> None:
    a, b = rows(0.6), rows(0.6, seed=1)
    b["000"] = b["000"] | {"grade": (b["000"]["grade"] + 1) % 5}
    assert compared(a, b).photos == len(a) - 1


def test_only_photos_that_both_have_are_compared() -> None:
    a, b = rows(0.6), rows(0.5, seed=1)
    assert compared(a, {key: row for key, row in b.items() if key < "040"}).photos == 40
    assert difference(KAPPA, ("a", a), ("b", {})) is None


def test_holm_corrects_as_he_says() -> None:
    blank = compared(rows(0.6), rows(0.5, seed=1))
    found = corrected([replace(blank, p=p) for p in (0.01, 0.04, 0.03, float("nan"), 0.005)])
    assert [one.corrected for one in found[:3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(found[3].corrected)
    assert found[4].corrected == pytest.approx(0.02)


def test_the_gap_of_two_scores_is_as_sure_as_both() -> None:
    between = gap(Interval(0.6, 0.8, 0.7), Interval(0.3, 0.6, 0.4))
    assert between.value == pytest.approx(0.3)
    assert between.low == pytest.approx(0.3 - np.hypot(0.1, 0.2))
    assert between.high == pytest.approx(0.3 + np.hypot(0.1, 0.1))


def test_intervals_that_are_not_known_may_overlap() -> None:
    nothing = Interval(float("nan"), float("nan"), 0.9)
    assert overlap(nothing, Interval(0.1, 0.2, 0.15))
    assert not overlap(Interval(0.3, 0.4, 0.35), Interval(0.1, 0.2, 0.15))
