"""Cameras are distinguished, and a label that a camera gives away is a finding, within one data set only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from funduscope.data.case import Case, Labels
from funduscope.doctor.cameras import CHANCE, STRONG, association, examine, families_of
from funduscope.doctor.finding import Finding
from funduscope.doctor.record import Record

Shot = tuple[Record, Case]


def _shot(number: int, camera: int, grade: int | None, fold: int = 0, dataset: str = "set") -> Shot:
    """A photo of one of three cameras, which frame the eye a little differently each time."""
    rng = np.random.default_rng(number)
    width, height, share = [(1440, 956, 0.795), (1440, 1440, 0.98), (2048, 1536, 0.7)][camera]
    radius = share * width / 2 * rng.normal(1, 0.004)
    eye = (width / 2 + rng.normal(0, 4), height / 2 + rng.normal(0, 4), radius)
    measures = {"diameter_px": 2 * radius, "seen": 0.92, "outside": 2.0, "rim": 1.0, "red": 150.0}
    measures["blue"] = float(rng.uniform(25, 70))
    name = f"{dataset}/{number}.jpg"
    record = Record(name, width=width, height=height, field_of_view=eye, measures=measures)
    case = Case(
        f"{dataset}/{number}", dataset, str(number), Path(name), f"visit {number // 2}", Labels(grade=grade), fold
    )
    return record, case


def _found(shots: list[Shot]) -> list[Finding]:
    names = {case.key: record.path for record, case in shots}
    return list(examine([record for record, _ in shots], [case for _, case in shots], names))


def test_cameras_are_distinguished_and_counted() -> None:
    (one,) = _found([_shot(number, camera=int(number >= 30), grade=None) for number in range(50)])
    assert one.kind == "camera_families"
    assert [family["photos"] for family in one.evidence["families"]] == [30, 20]
    assert one.evidence["families"][1]["size_px"] == [1440, 1440]


def test_one_camera_is_no_finding() -> None:
    assert _found([_shot(number, camera=0, grade=number % 5) for number in range(60)]) == []


def test_a_camera_that_gives_the_grade_away_is_found() -> None:
    shots = [_shot(number, camera=int((number // 2) % 4 in (2, 3)), grade=(number // 2) % 4) for number in range(200)]
    reported = {one.kind: one for one in _found(shots)}
    assert set(reported) == {"camera_families", "camera_tells_label"}
    evidence = reported["camera_tells_label"].evidence
    assert evidence["cramers_v"] > 0.9
    assert sorted(map(list, (row.values() for row in evidence["counts"].values()))) == [[0, 0, 25, 25], [25, 25, 0, 0]]


def test_cameras_that_are_spread_over_the_grades_are_not_found() -> None:
    rng = np.random.default_rng(2)
    shots = [_shot(number, camera=int(rng.integers(2)), grade=int(rng.integers(5))) for number in range(300)]
    assert {one.kind for one in _found(shots)} == {"camera_families"}


def test_two_data_sets_of_different_cameras_and_grades_are_not_compared() -> None:
    shots = [_shot(number, camera=0, grade=0, dataset="healthy") for number in range(60)]
    shots += [_shot(number, camera=1, grade=4, dataset="ill") for number in range(60)]
    assert _found(shots) == []


def test_a_fold_of_another_camera_is_found() -> None:
    shots = [_shot(number, camera=int(number >= 80), grade=None, fold=int(number >= 80)) for number in range(120)]
    assert {one.kind for one in _found(shots)} == {"camera_families", "camera_fold_skew"}


def test_both_eyes_of_a_visit_count_once() -> None:
    """Twelve visits of two photos cannot show what twenty-four visits could."""
    shots = [_shot(number, camera=int(number >= 12), grade=int(number >= 12)) for number in range(24)]
    visits = [one.evidence["visits"] for one in _found(shots) if one.kind == "camera_tells_label"]
    assert visits in ([], [12])


def test_rare_looks_are_put_together() -> None:
    shots = [_shot(number, camera=0, grade=None) for number in range(30)]
    shots += [_shot(100 + number, camera=1, grade=None) for number in range(8)]
    shots += [_shot(200 + number, camera=2, grade=None) for number in range(2)]
    (one,) = _found(shots)
    assert [family["family"] for family in one.evidence["families"]] == ["camera 1", "camera 2", "others"]


def test_no_photo_is_no_family() -> None:
    assert families_of({}, {}) == []


@pytest.mark.parametrize("seed", range(5))
def test_chance_alone_is_neither_strong_nor_unlikely(seed: int) -> None:
    """Against SciPy's: the same chi-square test, on tables without association."""
    from scipy.stats import chi2_contingency

    table = np.random.default_rng(seed).multinomial(400, np.full(12, 1 / 12)).reshape(3, 4)
    strength, chance = association(table)
    assert chance == pytest.approx(chi2_contingency(table, correction=False).pvalue, abs=0.04)
    assert strength < STRONG
    assert chance > CHANCE


def test_a_perfect_association_is_one() -> None:
    strength, chance = association(np.diag([50, 60, 70]))
    assert strength == pytest.approx(1.0)
    assert chance < CHANCE
    assert association(np.array([[5, 9]])) == (0.0, 1.0)
