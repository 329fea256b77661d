"""Which photos a run learns from, selects on and tests, and which are in no fold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from funduscope.data import splits
from funduscope.data.case import Case, LabelError, Labels
from funduscope.data.folds import make_folds, read_folds, write_folds
from funduscope.data.splits import SplitPlan, make_clean_folds


def _case(key: str, visit: str = "", fold: int | None = None) -> Case:
    dataset = key.split("/")[0]
    split = "test" if "/test/" in key else None
    name = key.rsplit("/", 1)[1]
    return Case(key, dataset, name, Path(f"{key}.jpg"), visit or key, Labels(), fold=fold, split=split)


@pytest.fixture
def cases() -> list[Case]:
    return [_case(f"set/{i:03d}", f"visit {i // 2}") for i in range(60)]


@pytest.mark.parametrize(("fold", "selecting"), [(0, 1), (2, 3), (4, 0), (None, 0)])
def test_the_next_fold_selects_and_the_others_train(cases: list[Case], fold: int | None, selecting: int) -> None:
    plan = SplitPlan.of(make_folds(cases), fold)
    assert {case.fold for case in plan.test} == ({fold} if fold is not None else set())
    assert {case.fold for case in plan.validation} == {selecting}
    assert {case.fold for case in plan.train} == set(range(5)) - {fold, selecting}
    assert len(plan.train) + len(plan.validation) + len(plan.test) == len(cases)


def test_the_only_fold_there_is_does_not_select_where_it_tests(cases: list[Case]) -> None:
    plan = SplitPlan.of([case.in_fold(0) for case in cases], 0)
    assert (plan.validation, plan.validation_fold, len(plan.test)) == ([], None, len(cases))


def test_a_run_says_which_fold_selected(cases: list[Case], tmp_path: Path) -> None:
    """Otherwise the fold that training chooses."""
    made = make_folds(cases)
    for about, selecting in (
        ({"fold": 0, "validation_fold": 3}, 3),
        ({"fold": 0}, 1),
    ):
        (tmp_path / "run.json").write_text(json.dumps(about))
        plan = SplitPlan.of_run(tmp_path, made)
        assert plan.validation_fold == selecting
        assert {case.fold for case in plan.train} == set(range(5)) - {about["fold"], selecting}
    write_folds(make_folds(cases, count=3), tmp_path / "folds.csv")
    (tmp_path / "run.json").write_text('{"fold": 2}')
    assert SplitPlan.of_run(tmp_path, cases[:1]).validation_fold == 0, "by the run's folds, whichever photos are given"


def test_a_runs_own_folds_hold_whatever_its_data_set_says_by_now(cases: list[Case], tmp_path: Path) -> None:
    """Folds that were made anew, or repaired, must not make test photos of those that a run learned from."""
    then, now = make_folds(cases), make_folds(cases, seed=7)
    assert then != now
    write_folds(then, tmp_path / "folds.csv")
    assert SplitPlan.of(now, run=tmp_path).cases == then
    renamed = [case.in_fold(case.fold, f"joined {case.visit}") for case in now]
    assert SplitPlan.of(renamed, run=tmp_path).cases == then


def test_a_photo_that_a_run_does_not_list_goes_with_its_visit(cases: list[Case], tmp_path: Path) -> None:
    then, now = make_folds(cases), make_folds(cases, seed=7)
    write_folds(then[1:], tmp_path / "folds.csv")
    other = _case("set/other", "another visit").in_fold(9)
    found = SplitPlan.of([*now, other], run=tmp_path).cases
    assert then[0].visit == then[1].visit
    assert found == [*then, other]


def test_a_visit_with_a_fold_in_another_data_set_keeps_it(cases: list[Case]) -> None:
    """An own table may hold photos that are in a published set too, under their visits' names."""
    there = make_folds(cases)
    own = [_case(f"own/{i}", f"visit {i}") for i in range(20)] + [_case("own/alone")]
    found = SplitPlan.of([*there, *own]).cases
    assert found[: len(there)] == there
    folds = {case.visit: case.fold for case in there}
    assert [case.fold for case in found[len(there) : -1]] == [folds[f"visit {i}"] for i in range(20)]
    assert found[-1].fold is not None
    assert SplitPlan.of(found).cases == found


def test_a_visit_in_two_folds_of_others_gets_no_fold() -> None:
    in_two = [_case("set/0", "both", 0), _case("set/1", "both", 1)]
    found = SplitPlan.of([*in_two, _case("own/0", "both"), _case("own/1")]).cases
    assert [case.fold for case in found[:3]] == [0, 1, None]
    assert found[3].fold is not None


def test_photos_without_a_fold_are_known() -> None:
    """A second table without folds next to one with them, both `table`; the official test split has none by design."""
    cases = [_case("table/a").in_fold(0), _case("table/b"), _case("idrid-B/test/IDRiD_001")]
    assert SplitPlan.of(cases).unassigned == [cases[1]]


def test_the_official_test_split_is_in_no_fold_that_is_made() -> None:
    """Neither for a training without a folds.csv nor by `funduscope folds`; nor is another photo of such an eye."""
    train = [_case(f"idrid-B/train/IDRiD_{i:03d}") for i in range(20)]
    test = [_case(f"idrid-B/test/IDRiD_{i:03d}") for i in range(5)]
    assert [case.fold is None for case in SplitPlan.of([*train, *test]).cases] == [False] * 20 + [True] * 5
    copy = _case("own/copy", visit=test[0].visit)
    made = make_clean_folds([*train, *test, copy], workers=0)
    assert [case.fold is None for case in made] == [False] * 20 + [True] * 6


def test_a_fold_does_not_make_an_official_test_photo_learnable(tmp_path: Path) -> None:
    """Neither one that a case brings along nor one in a folds.csv, which is refused with its row."""
    train = [_case(f"idrid-B/train/IDRiD_{i:03d}").in_fold(i % 3) for i in range(6)]
    test = [_case(f"idrid-B/test/IDRiD_{i:03d}").in_fold(i % 3) for i in range(6)]
    plan = SplitPlan.of([*train, *test], 0)
    assert all(case.split is None for case in (*plan.train, *plan.validation, *plan.test))
    listed = tmp_path / "folds.csv"
    listed.write_text("subset,image,visit,fold\nB/test,IDRiD_001,v1,0\n", "utf-8")
    with pytest.raises(LabelError, match="official test, whose photos are in no fold"):
        read_folds(listed)


def test_another_photo_of_an_official_test_eye_is_in_no_fold_either() -> None:
    """Its copy in the training split, or in a table, under the visit that it was joined to."""
    test = _case("idrid-B/test/IDRiD_001", "eye")
    copy, other = _case("idrid-B/train/IDRiD_002", "eye"), _case("idrid-B/train/IDRiD_003")
    found = SplitPlan.of([test, copy, other]).cases
    assert [case.fold is None for case in found] == [True, True, False]
    assert SplitPlan.of(found).unassigned == []


COPIES = {
    "in no fold": _case("ddr/train/8"),
    "in a fold": _case("ddr/train/8", fold=0),
    "in a set without folds": _case("own/8"),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_no_eye_of_an_official_test_is_learned_where_its_set_has_folds(
    copy: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = _case("ddr/test/1")
    placed = [_case(f"ddr/train/{i}", fold=i % 3) for i in range(2, 8)]
    other = [_case("own/9")] if copy.dataset == "own" else []

    def joined(cases: list[Case], **_: object) -> list[Case]:
        return [one.in_fold(one.fold, "one eye") if one.key in (test.key, copy.key) else one for one in cases]

    monkeypatch.setattr(splits, "join_duplicates", joined)
    cases = [test, copy, *placed, *other]
    for fold in (0, 1, 2):
        plan = SplitPlan.for_new_run(cases, fold)
        assert not {test.key, copy.key} & {one.key for one in (*plan.train, *plan.validation, *plan.test)}
