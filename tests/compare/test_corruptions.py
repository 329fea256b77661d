"""Corruptions are strong, the same for every model, and keep the photo's size and its black border."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from funduscope.compare.corruptions import CORRUPTIONS, corrupt_blur, corrupt_color
from funduscope.compare.score_runs import SAMPLE, sample
from funduscope.data.case import Case, Labels
from funduscope.testing.drawn_eyes import draw_eye


@pytest.fixture(scope="module")
def eye() -> np.ndarray:
    return draw_eye(3, grade=3, width_px=400).pixels


def detail(pixels: np.ndarray) -> float:
    return float(cv2.Laplacian(pixels[..., 1].astype(np.float32), cv2.CV_32F).std())


@pytest.mark.parametrize("shift", CORRUPTIONS)
def test_a_photo_is_shifted_alike_every_time(eye: np.ndarray, shift: str) -> None:
    before = eye.copy()
    first, second = CORRUPTIONS[shift](eye, "idrid-B/1"), CORRUPTIONS[shift](eye, "idrid-B/1")
    assert (first == second).all()
    assert (eye == before).all()
    assert (first.shape, first.dtype) == (eye.shape, eye.dtype)


def test_every_color_moves_far_and_black_stays_black(eye: np.ndarray) -> None:
    lit, dark = eye.min(axis=2) > 30, eye.max(axis=2) == 0
    assert dark.any()
    for name in ("a", "b", "c", "d"):
        shifted = corrupt_color(eye, name)
        change = np.abs(shifted[lit].mean(axis=0) / eye[lit].mean(axis=0) - 1)
        assert change.max() > 0.15
        assert (shifted[dark] == 0).all()
    assert (corrupt_color(eye, "a") != corrupt_color(eye, "b")).any()


def test_blur_takes_detail_and_leaves_color(eye: np.ndarray) -> None:
    shifted = corrupt_blur(eye, "a")
    assert detail(shifted) < 0.5 * detail(eye)
    assert shifted.mean() == pytest.approx(eye.mean(), rel=0.02)


def cases_of(**counts: int) -> list[Case]:
    return [
        Case(f"{dataset}/{n}", dataset, str(n), Path(str(n)), f"v{n}", Labels())
        for dataset, count in counts.items()
        for n in range(count)
    ]


def test_a_sample_is_the_same_whatever_order_photos_come_in_and_holds_small_sets_whole() -> None:
    cases = cases_of(small=4, large=300, middle=60)
    taken = sample(cases)
    assert len(taken) == SAMPLE
    assert [case.key for case in taken] == [case.key for case in sample(cases[::-1])]
    assert [sum(case.dataset == name for case in taken) for name in ("small", "large", "middle")] == [4, 48, 48]


def test_fewer_photos_than_a_sample_are_all_of_it() -> None:
    cases = cases_of(one=3, two=5)
    assert {case.key for case in sample(cases)} == {case.key for case in cases}
    assert sample([]) == []
