"""The real photographs: every count that the data's own description states."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from funduscope.data.case import Case
from funduscope.data.derived_labels import derive_labels
from funduscope.data.folds import make_folds
from funduscope.data.masks import read_votes, size_of
from funduscope.data.shared_labels import share_labels
from funduscope.data.sources import read_data
from funduscope.vocabulary import CODES


@pytest.fixture(scope="module")
def sets(shared: Path) -> dict[str, list[Case]]:
    by_set = defaultdict(list)
    for case in read_data([shared]):
        by_set[case.dataset].append(case)
    return by_set


def _grades(cases: list[Case]) -> list[int]:
    counts = Counter(case.labels.grade for case in cases)
    return [counts[grade] for grade in range(5)]


def test_every_photo_is_there_and_in_one_fold(sets: dict[str, list[Case]]) -> None:
    counts = {name: len(cases) for name, cases in sets.items()}
    assert counts == {
        "idrid-A": 51, "idrid-B": 366, "srahim": 446, "heimed": 118, "diaretdb1": 61, "eyepacs400": 968,
        "messidor2": 1304, "eophtha": 109, "aptos": 2019, "eyepacs1024": 460, "odir400": 386, "drimdb": 108,
    }  # fmt: skip
    folds_of = defaultdict(set)
    for cases in sets.values():
        for case in cases:
            folds_of[case.visit].add(case.fold)
    assert len(folds_of) == 4040
    assert all(len(folds) == 1 and folds <= set(range(5)) for folds in folds_of.values())


def test_idrid(sets: dict[str, list[Case]]) -> None:
    segmented, graded = sets["idrid-A"], sets["idrid-B"]
    present = {code: sum(not case.labels.masks[code].is_absent for case in segmented) for code in CODES}
    assert present == {"MA": 51, "HE": 50, "EX": 51, "SE": 24, "OD": 51}
    assert _grades(graded)[0] == 132
    assert sum(case.labels.disc_xy is not None and case.labels.fovea_xy is not None for case in graded) == 366
    assert sum(bool(case.labels.boxes) for case in graded) == 364
    assert sum(len(boxes) for case in graded for boxes in case.labels.boxes.values()) == 2531
    healthy = [case for case in graded if case.labels.grade == 0]
    assert sum(not {"HE", "EX"} & set(case.labels.boxes) for case in healthy) == 122
    assert sum(set(derive_labels(case.labels).masks) >= {"MA", "HE", "EX", "SE"} for case in healthy) == 122


def test_a_mask_of_idrid_covers_what_an_independent_count_says(sets: dict[str, list[Case]]) -> None:
    case = sets["idrid-A"][0]
    height, width = size_of(case.path)
    assert (width, height) == (4288, 2848)
    share = {code: mask.load(height, width).mean() for code, mask in case.labels.masks.items()}
    assert 0.01 < share["OD"] < 0.03
    assert 0 < share["MA"] < 0.01
    assert 0 < share["EX"] < 0.1
    assert share["SE"] == 0


def test_srahim(sets: dict[str, list[Case]]) -> None:
    cases = sets["srahim"]
    assert _grades(cases) == [205, 72, 127, 26, 16]
    assert sum(case.labels.classes.get("dme") is None for case in cases) == 5
    assert len({case.visit for case in cases}) <= 223


def test_idrid_photos_of_both_subsets_are_one_eye_with_all_labels(sets: dict[str, list[Case]]) -> None:
    """Fact 13: of the 37 photos of A that occur in B, one has exudates and no edema risk; folds bind each pair."""
    graded = {case.key: case for case in sets["idrid-B"]}
    pairs = [(case, graded[case.same_photo]) for case in sets["idrid-A"] if case.same_photo]
    assert len(pairs) == 37
    assert all((one.fold, one.visit) == (other.fold, other.visit) for one, other in pairs)
    shared = [case for case in share_labels([*sets["idrid-A"], *sets["idrid-B"]]) if case.dataset == "idrid-A"]
    assert Counter(case.labels.grade for case in shared) == {None: 14, 2: 26, 3: 6, 4: 5}
    without_risk = [case for case in shared if case.labels.dme == 0]
    assert [case.name for case in without_risk] == ["IDRiD_52"]
    assert not without_risk[0].labels.masks["EX"].is_absent


def test_messidor2(sets: dict[str, list[Case]]) -> None:
    cases = sets["messidor2"]
    assert _grades(cases) == [769, 192, 267, 52, 24]
    assert Counter(case.labels.classes.get("dme") for case in cases) == {frozenset({0, 1}): 1193, frozenset({2}): 111}
    assert all(case.labels.dme is None and not case.labels.masks for case in cases)


def test_eophtha_has_every_microaneurysm_and_nothing_more(sets: dict[str, list[Case]]) -> None:
    """1,017 microaneurysms are counted; discs that touch are one outline, so two photos have one fewer."""
    cases = sets["eophtha"]
    assert all(set(case.labels.masks) == {"MA"} and case.labels.grade is None for case in cases)
    count = 0
    for case in cases:
        mask = case.labels.masks["MA"].load(*size_of(case.path))
        count += cv2.connectedComponents(mask.astype(np.uint8))[0] - 1
    assert count == 1015


def test_heimed(sets: dict[str, list[Case]]) -> None:
    cases = sets["heimed"]
    assert sum(not case.labels.masks["EX|SE"].is_absent for case in cases) == 38
    assert sum(case.labels.negatives is not None and not case.labels.negatives.is_absent for case in cases) == 49
    assert sum(case.labels.disc_xy is not None for case in cases) == 118


def test_diaretdb1(sets: dict[str, list[Case]]) -> None:
    cases = sets["diaretdb1"]
    assert sum(case.labels.experts["MA"] >= 1 for case in cases) == 54
    assert sum(case.labels.experts["MA"] == 4 for case in cases) == 28
    votes = read_votes(cases[0].labels.votes["MA"], *size_of(cases[0].path))
    assert 1 <= votes.max() <= 4


def test_eyepacs(sets: dict[str, list[Case]]) -> None:
    cases = sets["eyepacs400"]
    qualities = Counter(case.labels.quality for case in cases)
    assert qualities == {"good": 203, "usable": 40, "reject": 51, None: 674}
    assert sum(case.labels.grade is None for case in cases) == 51


def test_sharper_eyepacs_shares_no_patient_with_the_other(sets: dict[str, list[Case]]) -> None:
    cases = sets["eyepacs1024"]
    rejected = [case for case in cases if case.labels.quality == "reject"]
    assert len(rejected) == 37
    assert _grades(cases) == [268, 38, 88, 14, 15], "without the grades of rejected photos"
    assert len({case.visit for case in cases}) == 230
    assert not {case.name for case in cases} & {case.name for case in sets["eyepacs400"]}
    assert all(case.labels.grade is None for case in rejected)


def test_aptos(sets: dict[str, list[Case]]) -> None:
    assert _grades(sets["aptos"]) == [580, 283, 784, 143, 229]


def test_odir_has_no_retinopathy(sets: dict[str, list[Case]]) -> None:
    cases = sets["odir400"]
    assert Counter(case.labels.finding for case in cases) == {"normal": 150, "glaucoma": 128, "cataract": 108}
    assert {case.labels.grade for case in cases} == {0}


def test_drimdb(sets: dict[str, list[Case]]) -> None:
    qualities = Counter(case.labels.quality for case in sets["drimdb"])
    assert qualities == {"good": 63, "reject": 34, "not_fundus": 11}


def test_folds_can_be_made_anew(sets: dict[str, list[Case]]) -> None:
    placed = make_folds(sets["srahim"])
    held = Counter((case.fold, case.labels.grade) for case in placed)
    assert all(held[fold, grade] > 0 for fold in range(5) for grade in range(5))
    assert all(abs(held[fold, 0] - 41) <= 4 for fold in range(5))
