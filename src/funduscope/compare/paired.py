"""Tests whether two runs differ, on the photos that both were scored on.

Intervals and p values come from `metrics.paired_test`. Its permutation test respects how few visits
there are: with four visits p cannot be below 1/8, while that of a bootstrap can be arbitrarily low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np

from funduscope.compare.run_record import PARTS, RunRecord, measures_of
from funduscope.compare.score_kinds import Measure, Row, labels_in, state_of
from funduscope.metrics import Interval, State, by_visit, paired_test
from funduscope.progress import Progress, no_progress

REPEATS: Final = 5000
MIN_VISITS: Final = 6
"""With five visits even the smallest p, 2 / 2**5, is above 0.05, so no test is made."""

LEVEL: Final = 0.05


@dataclass(frozen=True)
class PairedTest:
    """The score of one run minus that of a reference, on the photos that both were scored on."""

    run: str
    reference: str
    score: float
    reference_score: float
    difference: Interval
    p: float
    n_photos: int
    corrected_p: float = float("nan")
    """By Holm's method, for the number of pairs of runs."""

    @property
    def differs(self) -> bool:
        return self.corrected_p < LEVEL

    def swapped(self) -> PairedTest:
        """Return the same test with the other run as the reference."""
        old = self.difference
        return replace(
            self,
            run=self.reference,
            reference=self.run,
            score=self.reference_score,
            reference_score=self.score,
            difference=Interval(-old.high, -old.low, -old.value, old.visits),
        )


Tests = dict[str, dict[Measure, list[PairedTest]]]
"""By part and measure, the tests of every pair of runs that share enough visits."""


def compare_pairs(runs: Sequence[RunRecord], progress: Progress = no_progress) -> Tests:
    """Test every pair of runs in every tested score."""
    tests: Tests = {}
    pairs = [
        (part, measure, *pair)
        for part in PARTS
        for measure in measures_of(runs, [part])
        for pair in combinations(runs, 2)
        if measure.kind.is_tested
    ]
    for part, measure, run, reference in progress(pairs, "Testing pairs of runs", len(pairs)):
        test = compare_pair(measure, part, run, reference)
        if test is not None:
            tests.setdefault(part, {}).setdefault(measure, []).append(test)

    for by_measure in tests.values():
        for measure, of_pairs in by_measure.items():
            corrected = holm([test.p for test in of_pairs])
            both = zip(of_pairs, corrected, strict=True)
            by_measure[measure] = [replace(test, corrected_p=p) for test, p in both]
    return tests


def compare_pair(
    measure: Measure,
    part: str,
    run: RunRecord,
    reference: RunRecord,
) -> PairedTest | None:
    """Test two runs; None if they share too few visits or have no score."""
    rows, reference_rows = run.rows.get(part, {}), reference.rows.get(part, {})
    units, reference_units, n_photos = _shared_visits(measure, rows, reference_rows)
    if len(units) < MIN_VISITS:
        return None
    score = float(measure.score(type(units[0]).total(units)))
    reference_score = float(measure.score(type(units[0]).total(reference_units)))
    if np.isnan(score - reference_score):
        return None

    difference, p = paired_test(units, reference_units, measure.score, REPEATS, batched=True)
    return PairedTest(run.name, reference.name, score, reference_score, difference, p, n_photos)


def _shared_visits(
    measure: Measure, rows_a: dict[str, Row], rows_b: dict[str, Row]
) -> tuple[list[State], list[State], int]:
    """Return each run's states by visit, and the number of photos with equal labels in both."""
    states_a: list[tuple[str, State]] = []
    states_b: list[tuple[str, State]] = []

    for name in sorted(rows_a.keys() & rows_b.keys()):
        row_a, row_b = rows_a[name], rows_b[name]
        if row_a["dataset"] != measure.dataset or not _have_equal_labels(row_a, row_b):
            continue
        state_a = state_of(measure.kind.question, row_a)
        state_b = state_of(measure.kind.question, row_b)
        if state_a is not None and state_b is not None:
            states_a.append((row_a["visit"], state_a))
            states_b.append((row_a["visit"], state_b))

    return by_visit(states_a), by_visit(states_b), len(states_a)


def _have_equal_labels(row_a: Row, row_b: Row) -> bool:
    """Whether two rows have the same labels of a photo, as far as both have them."""
    labels_a, labels_b = labels_in(row_a), labels_in(row_b)
    return all(labels_a[name] == labels_b[name] for name in labels_a.keys() & labels_b.keys())


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number; nan stays nan and is not counted.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
    Statistics 6, 1979.
    """
    corrected = np.array(p_values, np.float64)
    order = np.argsort(corrected)[: np.count_nonzero(~np.isnan(corrected))]  # nan is sorted last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(corrected[order] * factors))
    return corrected.tolist()
