"""How well a photo can be graded: good ones score high, spoiled ones low, and the words say what was done to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.quality.gradability import FEATURES, GROUPS, Gradability, Quality, features, load_gradability
from funduscope.quality.image_measures import measure, small_frame
from funduscope.quality.mlp import to_json
from funduscope.testing.drawn_eyes import draw_eye


def _judged(pixels: np.ndarray) -> Quality:
    return load_gradability().judge(measure(pixels, small_frame(frame(pixels, 512), pixels)))


def _times(pixels: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(pixels.astype(np.float32) * gain, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def demo() -> np.ndarray:
    folder = Path(__file__).resolve().parents[2] / "src" / "funduscope" / "demo"
    return Photo.open(next(folder.glob("*.jpg"))).pixels


def test_a_good_photo_is_not_blamed(demo: np.ndarray) -> None:
    found = _judged(demo)
    assert found.score > 0.9
    assert found.reasons == ()


def test_drawn_eyes_are_good_photos() -> None:
    assert min(_judged(draw_eye(seed, width_px=500).pixels).score for seed in range(300, 306)) > 0.5


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 30 * pixels.shape[1] / 4288), "OUT_OF_FOCUS"),
        (lambda pixels: _times(pixels, 0.15), "TOO_DARK"),
        (lambda pixels: _times(pixels, 4.0), "TOO_BRIGHT"),
        (lambda pixels: np.ascontiguousarray(pixels[:, : pixels.shape[1] // 2]), "FIELD_CUT"),
    ],
    ids=["blurred", "dark", "bright", "cut"],
)
def test_a_spoiled_photo_is_told_what_to_do(demo: np.ndarray, spoil, code: str) -> None:
    good, spoiled = _judged(demo), _judged(spoil(demo))
    assert spoiled.score < 0.1 < good.score
    assert [reason.code for reason in spoiled.reasons] == [code]
    assert (good.advice, spoiled.advice) in (("grade", "retake"), ("grade", "refuse"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pixels, step: cv2.GaussianBlur(pixels, (0, 0), (10 + 10 * step) * pixels.shape[1] / 4288),
        lambda pixels, step: _times(pixels, 1 / 1.9 ** (step + 1)),
    ],
    ids=["blur", "light"],
)
def test_the_worse_a_photo_the_lower_its_score(demo: np.ndarray, spoil) -> None:
    scores = [_judged(spoil(demo, step)).score for step in range(3)]
    assert scores[0] > scores[1] > scores[2]


def test_between_refused_and_graded_there_is_retake() -> None:
    usual = load_gradability()
    assert usual.refusal < 0.07 < usual.threshold
    measures = {"brightness": 120.0, "detail": 2.0, "seen": 1.0}
    score = usual.judge(measures).score
    above, between, below = (
        replace(usual, threshold=threshold, refusal=refusal).judge(measures)
        for threshold, refusal in ((score / 2, score / 4), (2 * score, score / 2), (4 * score, 2 * score))
    )
    assert [one.advice for one in (above, between, below)] == ["grade", "retake", "refuse"]
    assert [len(one.reasons) for one in (above, between, below)] == [0, 1, 1]


def test_every_feature_is_in_one_group_at_most_and_has_a_name() -> None:
    named = [name for names in GROUPS.values() for name in names]
    assert sorted(named) == sorted(set(named))
    assert set(named) <= set(FEATURES)
    assert features({}).shape == (len(FEATURES),)
    assert np.isfinite(features({})).all()


def test_it_comes_back_from_its_text() -> None:
    again = Gradability.from_json(to_json(load_gradability()))
    measures = {"brightness": 120.0, "detail": 2.0, "seen": 1.0}
    assert again.judge(measures).score == pytest.approx(load_gradability().judge(measures).score, abs=1e-6)
