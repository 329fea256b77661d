"""No visit in two folds; grades spread; the same folds for the same seed, whatever the order."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from funduscope.data.case import ABSENT, Case, LabelError, Labels
from funduscope.data.folds import (
    apply_folds,
    find_folds,
    fold_key,
    make_folds,
    read_folds,
    write_folds,
)

GRADES = {0: 120, 1: 12, 2: 60, 3: 20, 4: 10}


def _case(key: str, visit: str = "", grade: int | None = None) -> Case:
    dataset = key.split("/")[0]
    split = "test" if "/test/" in key else None
    return Case(key, dataset, key.rsplit("/", 1)[1], Path(f"{key}.jpg"), visit or key, Labels(grade=grade), split=split)


@pytest.fixture
def cases() -> list[Case]:
    grades = [grade for grade, count in GRADES.items() for _ in range(count)]
    random.Random(3).shuffle(grades)
    return [_case(f"set/{i:03d}", f"visit {i // 2}", grade) for i, grade in enumerate(grades)]


def test_visits_stay_whole_and_grades_are_spread(cases: list[Case]) -> None:
    made = make_folds(cases)
    assert [case.key for case in made] == [case.key for case in cases]
    assert {case.fold for case in made} == set(range(5))
    for visit in {case.visit for case in made}:
        assert len({case.fold for case in made if case.visit == visit}) == 1
    for grade, count in GRADES.items():
        held = Counter(case.fold for case in made if case.labels.grade == grade)
        assert all(abs(held[fold] - count / 5) <= max(2, count / 50) for fold in range(5)), (grade, held)


def test_photos_with_masks_are_spread_too(cases: list[Case]) -> None:
    """A fifth of them in each fold: all may be in one data set, a table of your own."""
    for start in range(5):
        some = [replace(case, labels=replace(case.labels, masks={"MA": ABSENT})) for case in cases[start::9]]
        made = make_folds([*some, *(case for place, case in enumerate(cases) if place % 9 != start)])
        held = Counter(case.fold for case in made if case.labels.masks)
        assert all(abs(held[fold] - len(some) / 5) <= 2 for fold in range(5)), held


def test_folds_depend_on_the_seed_alone(cases: list[Case]) -> None:
    first = {case.key: case.fold for case in make_folds(cases)}
    assert {case.key: case.fold for case in make_folds(cases[::-1])} == first
    assert {case.key: case.fold for case in make_folds(cases, seed=7)} != first
    assert {case.fold for case in make_folds(cases, count=3)} == {0, 1, 2}


def test_written_folds_are_read_back(cases: list[Case], tmp_path: Path) -> None:
    made = make_folds([*cases, _case("idrid-B/train/IDRiD_001")])
    write_folds(made, tmp_path / "folds.csv")
    bare = [case.in_fold(None, case.key) for case in made]
    assert apply_folds(bare, read_folds(tmp_path / "folds.csv")) == made


def test_a_test_photo_never_takes_the_training_photos_fold() -> None:
    train, test = _case("idrid-B/train/IDRiD_001"), _case("idrid-B/test/IDRiD_001")
    assert fold_key(train) == ("B", "IDRiD_001")
    applied = apply_folds([train, test], {("B", "IDRiD_001"): ("51", 2)})
    assert [(case.fold, case.visit) for case in applied] == [(2, "51"), (None, "idrid-B/test/IDRiD_001")]


def test_a_fold_that_is_set_stays(cases: list[Case]) -> None:
    case = cases[0].in_fold(4)
    assert apply_folds([case], {fold_key(case): ("1", 0)}) == [case]


def test_folds_are_found_in_beside_or_above(tmp_path: Path) -> None:
    deep = tmp_path / "data/idrid/a/b"
    deep.mkdir(parents=True)
    file = tmp_path / "data/folds.csv"
    file.write_text("subset,image,visit,fold\n")
    assert [find_folds(place) for place in (deep.parents[2], deep.parents[1], deep.parents[0])] == [file] * 3
    assert find_folds(deep) is None


def test_folds_are_found_next_to_a_link_before_what_it_stands_for(tmp_path: Path) -> None:
    (tmp_path / "store/clinic").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    (tmp_path / "store/folds.csv").write_text("subset,image,visit,fold\n")
    link = tmp_path / "project/clinic"
    link.symlink_to(tmp_path / "store/clinic", target_is_directory=True)
    assert find_folds(link) == tmp_path / "store/folds.csv"
    (tmp_path / "project/folds.csv").write_text("subset,image,visit,fold\n")
    assert find_folds(link) == tmp_path / "project/folds.csv"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("B,IDRiD_001,1,0\nB,IDRiD_001,1,0", "row 3, column image: B/IDRiD_001 is in two rows"),
        ("B,IDRiD_001,1,0\nB,IDRiD_002,1,1", "row 3, column fold: visit 1 is in fold 0 already"),
        ("B,IDRiD_001,1,", "row 2, column fold: is empty"),
        ("B,IDRiD_001,1,x", "row 2, column fold: is 'x'"),
    ],
)
def test_folds_that_leak_or_lack_are_refused(rows: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "folds.csv").write_text("subset,image,visit,fold\n" + rows)
    with pytest.raises(LabelError, match=says):
        read_folds(tmp_path / "folds.csv")
