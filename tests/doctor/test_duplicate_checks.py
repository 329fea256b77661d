"""Findings about duplicates: severity follows from folds, splits and labels; the pictures prove them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from funduscope.data.case import Case, Labels
from funduscope.doctor import duplicate_checks
from funduscope.doctor.columns import Cell
from funduscope.doctor.finding import Finding
from funduscope.doctor.label_rows import LabelRow, LabelRows
from funduscope.duplicates.cache import PhotoCache, StoredDescriptors
from funduscope.duplicates.descriptor import describe
from funduscope.duplicates.pairs import DuplicatePair, Kind
from funduscope.duplicates.registration import Registration
from funduscope.duplicates.search import compare
from funduscope.testing.drawn_eyes import draw_eye


def _pair(kind: Kind = "same_photo", first: str = "a/one.jpg", second: str = "b/two.jpg") -> DuplicatePair:
    return DuplicatePair(
        first, second, kind, Registration(np.eye(2, 3), False, 0.2, 0.9, 60, 0.95, 0.97), {"score": 0.97}
    )


def _found(pair: DuplicatePair, one: dict[str, Any] | None = None, two: dict[str, Any] | None = None) -> Finding:
    labels = {pair.first: one or {}, pair.second: two or {}}
    (finding,) = duplicate_checks.examine([pair], labels.__getitem__, lambda name: np.zeros((9, 9, 3), np.uint8))
    return finding


@pytest.mark.parametrize(
    ("kind", "one", "two", "severity", "words"),
    [
        ("same_photo", {}, {}, "warning", ""),
        ("same_photo", {"fold": 1}, {"fold": 3}, "error", "fold 1 and 3"),
        ("same_photo", {"grade": 0}, {"grade": 2}, "error", "grade 0 and 2"),
        ("same_photo", {"grade": 0}, {"grade": None}, "warning", ""),
        ("same_eye", {"visit": "v"}, {"visit": "v"}, "info", ""),
        ("same_eye", {"fold": 1}, {"fold": 3}, "error", "fold 1 and 3"),
        ("same_eye", {"DME risk": 0}, {"DME risk": 1}, "warning", "DME risk 0 and 1"),
        ("same_eye", {"visit": "v"}, {"visit": "w"}, "warning", ""),
    ],
)  # fmt: skip
def test_how_bad_a_duplicate_is(kind: Kind, one: Any, two: Any, severity: str, words: str) -> None:
    found = _found(_pair(kind), one, two)
    assert (found.kind, found.severity, found.files) == (kind, severity, ("a/one.jpg", "b/two.jpg"))
    assert words in found.says
    assert found.evidence["score"] == 0.97


def test_labels_come_from_the_case_or_from_the_rows() -> None:
    photo = Path("set/eye.jpg")
    case = Case("set/eye", "set", "eye", photo, "visit 7", Labels(grade=2, dme=1, laterality="left"), 3)
    assert duplicate_checks.labels_of(case, photo, LabelRows(())) == {
        "fold": 3, "visit": "visit 7", "grade": 2, "DME risk": 1, "quality": None, "side": "left"
    }  # fmt: skip
    row = LabelRow(Path("labels.csv"), 2, "eye", photo, {"grade": Cell("dr", "4", 4), "patient": Cell("p", "P1", "P1")})
    labels = duplicate_checks.labels_of(None, photo, LabelRows((), (), {photo: (row,)}))
    assert (labels["grade"], labels["visit"], labels["fold"]) == (4, "P1", None)


def test_folders_tell_the_split_where_no_case_does() -> None:
    found = _found(_pair(first="b. Testing Set/1.jpg", second="a. Training Set/2.jpg"))
    assert found.severity == "error"
    assert "one is of test, the other of train" in found.says
    assert _found(_pair(first="my_train/1.jpg", second="my_test/1.jpg")).severity == "error"
    assert _found(_pair(first="val/1.jpg", second="train/1.jpg")).severity == "error"
    assert _found(_pair(first="valencia/1.jpg", second="testbed/1.jpg")).severity == "warning"
    assert _found(_pair(first="train/latest.jpg", second="train/contest.jpg")).severity == "warning"


def test_the_pictures_lay_one_photo_onto_the_other(tmp_path: Path) -> None:
    """A mirrored, cropped copy: in the picture both coincide, so the overlay is nearly gray."""
    pixels = draw_eye(3, width_px=640).pixels
    copy = np.ascontiguousarray(cv2.resize(pixels[10:-10, 20:-20, :], None, fx=0.7, fy=0.7)[:, ::-1])
    photos = {"a.jpg": pixels, "b.jpg": copy}
    cache = PhotoCache(tmp_path / "descriptors")
    for name, pixels in photos.items():
        cache.write(name, (0, 0), {"descriptor": describe(pixels).to_bytes()})
    pairs = compare(StoredDescriptors(cache, {name: name for name in photos}), workers=0)
    (found,) = duplicate_checks.examine(pairs, lambda name: {}, photos.__getitem__)
    assert found.says == "One photograph under two names, one of them mirrored."
    overlay, board = (picture.draw() for picture in found.pictures)
    assert overlay is not None
    assert board is not None
    both = (overlay > 0).all(axis=2)
    assert both.mean() > 0.5
    apart = np.abs(overlay[..., 0].astype(int) - overlay[..., 1])[both]
    assert apart.mean() < 6
    assert board.shape == overlay.shape


def test_pictures_of_thousands_of_duplicates_cost_nothing_before_they_are_shown() -> None:
    asked: list[str] = []

    def image(name: str) -> np.ndarray:
        asked.append(name)
        return np.zeros((64, 64, 3), np.uint8)

    found = list(duplicate_checks.examine([_pair()] * 2000, lambda name: {}, image))
    assert len(found) == 2000
    assert asked == []
