"""Pairs are compared once: by one process or several, whatever was killed, whatever the photos are called now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from funduscope.doctor.inventory import take_inventory
from funduscope.doctor.scan import Scan, take_scan
from funduscope.duplicates import search
from funduscope.duplicates.pairs import DuplicatePair
from funduscope.duplicates.search import compare
from funduscope.testing.drawn_eyes import draw_eye


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    place.mkdir()
    for seed in range(5):
        pixels = draw_eye(seed, width_px=400).pixels
        Image.fromarray(pixels).save(place / f"{seed}.png")
        if seed < 2:
            Image.fromarray(pixels[:, ::-1]).save(place / f"{seed} mirrored.jpg", quality=60)
    Image.fromarray(draw_eye(3, width_px=400).pixels).save(place / "again.png")
    return place


@pytest.fixture(autouse=True)
def _few_pairs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CHUNK", 6)


def _survey(folder: Path) -> Scan:
    return take_scan(take_inventory(folder), folder.parent / "cache", workers=0)


def _told(pairs: list[DuplicatePair]) -> list[tuple[Any, ...]]:
    return [(pair.first, pair.second, pair.kind, pair.mirrored, pair.evidence) for pair in pairs]


class _Watched:
    """Proofs that are counted, and stopped before so many pairs were tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs, self.most = 0, 10_000
        self._prove = search.prove
        monkeypatch.setattr(search, "prove", self)

    def __call__(self, chunk: Any) -> Any:
        if self.pairs + len(chunk[-1]) > self.most:
            raise KeyboardInterrupt
        self.pairs += len(chunk[-1])
        return self._prove(chunk)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> _Watched:
    return _Watched(monkeypatch)


def test_several_processes_find_what_one_finds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = compare(_survey(folder).descriptors(), workers=0)
    (folder.parent / "cache").rename(folder.parent / "other cache")
    monkeypatch.setattr(search, "FEW", 0)
    assert _told(compare(_survey(folder).descriptors(), workers=2)) == _told(alone)
    assert [(pair.first, pair.second) for pair in alone] == [
        ("0 mirrored.jpg", "0.png"), ("1 mirrored.jpg", "1.png"), ("3.png", "again.png")
    ]  # fmt: skip


def test_of_pairs_that_end_their_process_only_the_one_to_blame_is_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk without an answer is tried pair by pair."""
    expected = compare(_survey(folder).descriptors(), workers=0)
    (folder.parent / "cache").rename(folder.parent / "other cache")

    def run_jobs(work: Any, jobs: Any, workers: int) -> Iterator[Any]:
        yield from ((job, work(job) if len(job[2]) == 1 else None) for job in jobs)

    monkeypatch.setattr(search, "run_jobs", run_jobs)
    assert _told(compare(_survey(folder).descriptors(), workers=0)) == _told(expected)


def test_no_pair_is_compared_twice(folder: Path, watched: _Watched) -> None:
    told = _told(compare(_survey(folder).descriptors(), workers=0))
    compared = watched.pairs
    assert compared > 20
    again = compare(_survey(folder).descriptors(), workers=0)
    assert watched.pairs == compared
    assert _told(again) == told
    assert all(isinstance(pair.registration.matrix, np.ndarray) for pair in again)


def test_a_comparison_that_was_stopped_goes_on(folder: Path, watched: _Watched) -> None:
    watched.most = 20
    with pytest.raises(KeyboardInterrupt):
        compare(_survey(folder).descriptors(), workers=0)
    stopped, watched.most = watched.pairs, 10_000
    assert stopped > 0
    told = compare(_survey(folder).descriptors(), workers=0)
    assert len(told) == 3
    whole = watched.pairs
    compare(_survey(folder).descriptors(), workers=0)
    assert watched.pairs == whole
    assert whole <= 56  # every pair once, and no more: half of them a mirror's


def test_only_the_pairs_of_a_changed_photo_are_compared_anew(folder: Path, watched: _Watched) -> None:
    compare(_survey(folder).descriptors(), workers=0)
    before = watched.pairs
    pixels = draw_eye(4, width_px=400).pixels
    Image.fromarray(cv2.flip(pixels, 1)).save(folder / "2.png")  # 2 becomes a mirrored copy of 4
    (folder / "1.png").rename(folder / "one.png")
    told = {(pair.first, pair.second) for pair in compare(_survey(folder).descriptors(), workers=0)}
    assert told == {
        ("0 mirrored.jpg", "0.png"), ("1 mirrored.jpg", "one.png"), ("2.png", "4.png"), ("3.png", "again.png")
    }  # fmt: skip
    # Both ways with each of seven others, and what changed its place in a pair by its new name.
    assert 0 < watched.pairs - before < before


def test_progress_comes_to_its_end(folder: Path) -> None:
    seen: list[tuple[str, int]] = []

    def progress(items: Any, words: str, total: int | None) -> Iterator[Any]:
        for number, item in enumerate(items, start=1):
            yield item
            seen.append((words, number))

    compare(_survey(folder).descriptors(), workers=0, progress=progress)
    assert seen[-1] == ("Comparing photos", 1000)


def test_names_that_are_left_out_are_in_no_pair(folder: Path) -> None:
    told = compare(_survey(folder).descriptors({"0.png", "again.png"}), workers=0)
    assert [(pair.first, pair.second) for pair in told] == [("1 mirrored.jpg", "1.png")]


def test_few_or_no_photos_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert compare(_survey(tmp_path / "photos").descriptors()) == []
    Image.fromarray(draw_eye(1, width_px=400).pixels).save(tmp_path / "photos/one.png")
    assert compare(_survey(tmp_path / "photos").descriptors()) == []
