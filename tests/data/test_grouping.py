"""Folds made from photos' content: no eye is in two of them, whatever its visits are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from funduscope.data import grouping, table
from funduscope.data.case import Case, Labels
from funduscope.data.grouping import join_duplicates
from funduscope.data.run_folds import RunFolds
from funduscope.data.splits import SplitPlan, join_sets_without_folds, make_clean_folds
from funduscope.testing.drawn_eyes import draw_eye


def _photo(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=90)


def test_folds_keep_duplicates_together_over_data_sets(tmp_path: Path) -> None:
    """One photo of a set stands, cropped, in another under another visit: both get one visit and one fold."""
    for place, seeds in (("one", range(6)), ("other", range(10, 14))):
        rows = ["path,dr,patient"]
        for seed in seeds:
            _photo(tmp_path / place / f"{seed}.jpg", draw_eye(seed, width_px=400).pixels)
            rows.append(f"{seed}.jpg,{seed % 5},P{seed}")
        (tmp_path / place / f"{place}.csv").write_text("\n".join(rows))
    pixels = draw_eye(3, width_px=400).pixels
    _photo(tmp_path / "other/10.jpg", pixels[4:-4, 12:-12])
    cases = [
        replace(case, key=f"{place}/{case.name}", visit=f"{place}/{case.visit}", dataset=place)
        for place in ("one", "other")
        for case in table.read(tmp_path / place / f"{place}.csv")
    ]
    placed = {case.key: case for case in make_clean_folds(cases, 3, cache=tmp_path / "cache", workers=0)}
    assert len(placed) == 10
    assert placed["one/3.jpg"].visit == placed["other/10.jpg"].visit
    assert placed["one/3.jpg"].fold == placed["other/10.jpg"].fold
    assert len({case.visit for case in placed.values()}) == 9
    assert {case.fold for case in placed.values()} == {0, 1, 2}
    assert make_clean_folds([]) == []


def _placed_and_bare(folder: Path, copies_of: tuple[int, ...]) -> list[Case]:
    """Six placed photos, and a bare set of as many visits as are named: a cropped copy of each of those photos. The
    last bare visit has two photos, of which the other one has no duplicate."""
    cases = []
    for seed in range(6):
        _photo(folder / f"{seed}.jpg", draw_eye(seed, width_px=400).pixels)
        cases.append(Case(f"set/{seed}", "set", str(seed), folder / f"{seed}.jpg", f"set {seed}", Labels(), seed % 3))
    for seed in copies_of:
        _photo(folder / f"own{seed}.jpg", draw_eye(seed, width_px=400).pixels[4:-4, 12:-12])
        cases.append(Case(f"own/{seed}", "own", str(seed), folder / f"own{seed}.jpg", f"own {seed}", Labels()))
    _photo(folder / "own9.jpg", draw_eye(9, width_px=400).pixels)
    cases.append(Case("own/9", "own", "9", folder / "own9.jpg", cases[-1].visit, Labels()))
    return cases


def test_a_bare_photo_goes_where_its_duplicate_is(tmp_path: Path) -> None:
    """A copy of a public photo must not be in a training whose test holds that photo."""
    cases = _placed_and_bare(tmp_path, (1, 2))
    found = {
        case.key: case
        for case in SplitPlan.of(join_sets_without_folds(cases, cache=tmp_path / "cache", workers=0)[0]).cases
    }
    assert [found[key].fold for key in ("own/1", "own/2", "own/9")] == [1, 2, 2]
    assert [found[key].visit for key in ("own/1", "own/2", "own/9")] == ["set 1", "set 2", "set 2"]
    assert all(found[case.key] == case for case in cases if case.dataset == "set")


def test_a_bare_visit_of_two_folds_is_left_out_whole(tmp_path: Path) -> None:
    cases = _placed_and_bare(tmp_path, (0, 1))
    shared = [case.in_fold(None, "own both") if case.dataset == "own" else case for case in cases]
    kept, crossing = join_sets_without_folds(shared, cache=tmp_path / "cache", workers=0)
    assert (kept, list(crossing)) == (cases[:6], shared[6:])
    run = tmp_path / "run"
    run.mkdir()
    begun = SplitPlan.for_new_run(shared, 0)
    RunFolds.write(begun.cases, run / "folds.csv")
    assert SplitPlan.for_resumed_run(shared, 0, run) == begun, "what was left out at first gets no fold later"


def test_where_every_set_brings_folds_no_photo_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [case.in_fold(0) for case in _placed_and_bare(tmp_path, (1,))]
    monkeypatch.setattr(grouping, "_descriptors", None)
    assert join_sets_without_folds(cases) == (cases, ())


def test_a_second_time_opens_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["path,dr,patient"]
    for seed in range(3):
        _photo(tmp_path / f"{seed}.jpg", draw_eye(seed, width_px=400).pixels)
        rows.append(f"{seed}.jpg,{seed},P{seed}")
    (tmp_path / "own.csv").write_text("\n".join([*rows, "0 again.png,0,P9", "broken.jpg,1,P8"]))
    _photo(tmp_path / "0 again.png", draw_eye(0, width_px=400).pixels)
    whole = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    cases = table.read(tmp_path / "own.csv")
    first = join_duplicates(cases, cache=tmp_path / "cache", workers=0)
    visits = {case.name: case.visit for case in first}
    assert visits["0.jpg"] == visits["0 again.png"]
    assert len(set(visits.values())) == 4
    looked: list[Any] = []
    monkeypatch.setattr(grouping, "_describe", looked.append)
    assert join_duplicates(cases, cache=tmp_path / "cache", workers=0) == first
    assert looked == []


def test_a_photo_in_two_rows_of_unlike_visits_joins_them() -> None:
    """As contradicting rows of a table do."""
    rows = [Case("set/0", "set", "0", Path("0.jpg"), visit, Labels()) for visit in ("P1", "P2")]
    found = grouping.grouped([*rows, replace(rows[0], key="set/1", visit="P3")], [("set/0", "set/1")])
    assert len({case.visit for case in found}) == 2


def test_a_photo_whose_process_died_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = _placed_and_bare(tmp_path, (1,))
    died = [None]
    work = grouping.run_jobs

    def dies_once(work_of: Any, jobs: Any, workers: int) -> Any:
        yield from ((job, died.pop() if died else made) for job, made in work(work_of, jobs, workers))

    monkeypatch.setattr(grouping, "run_jobs", dies_once)
    join_duplicates(cases, cache=tmp_path / "cache", workers=0)
    again = {case.key: case.visit for case in join_duplicates(cases, cache=tmp_path / "cache", workers=0)}
    assert again["set/1"] == again["own/1"]
