"""Folds made from photos' content: no eye is in two of them, whatever its visits are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from funduscope.data import grouping, table
from funduscope.data.drawn import draw_eye
from funduscope.data.grouping import clean_folds, join_twins


def _photo(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=90)


def test_folds_keep_twins_together_over_data_sets(tmp_path: Path) -> None:
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
    placed = {case.key: case for case in clean_folds(cases, 3, cache=tmp_path / "cache", workers=0)}
    assert len(placed) == 10
    assert placed["one/3.jpg"].visit == placed["other/10.jpg"].visit
    assert placed["one/3.jpg"].fold == placed["other/10.jpg"].fold
    assert len({case.visit for case in placed.values()}) == 9
    assert {case.fold for case in placed.values()} == {0, 1, 2}
    assert clean_folds([]) == []


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
    first = join_twins(cases, cache=tmp_path / "cache", workers=0)
    visits = {case.name: case.visit for case in first}
    assert visits["0.jpg"] == visits["0 again.png"]
    assert len(set(visits.values())) == 4
    looked: list[Any] = []
    monkeypatch.setattr(grouping, "_sketch", lambda photo: looked.append(photo) or ("", None))
    assert join_twins(cases, cache=tmp_path / "cache", workers=0) == first
    assert looked == []
