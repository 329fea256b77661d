"""Lesions filled in: only there, without a mark; and what the answer becomes then."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from funduscope.explain.counterfactual import ALL, counterfactual
from funduscope.explain.inpaint import inpaint, margin_px
from funduscope.imaging.framing import frame
from funduscope.inference.card import Card
from funduscope.inference.ensemble import Ensemble
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import Outputs
from funduscope.testing.drawn_eyes import DrawnEye, draw_eye

LESIONS = ("MA", "HE", "EX", "SE")
PAINT = {"HE": (175, 100, 250), "EX": (150, 225, 90)}
"""Violet and green, not so pure that they would be taken for marks that software wrote."""


@pytest.fixture(scope="module")
def eye() -> DrawnEye:
    """An eye with every kind of lesion."""
    return draw_eye(1, grade=3, width_px=900)


def _wide(mask: np.ndarray, by: int) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)


@pytest.mark.parametrize("code", LESIONS)
def test_only_the_lesion_is_touched(code: str, eye: DrawnEye) -> None:
    transform = frame(eye.pixels, 512).transform
    mask = eye.masks[code]
    assert mask.any()
    after = inpaint(eye.pixels, mask, transform)
    changed = (after != eye.pixels).any(axis=2)
    assert changed[mask].mean() > 0.9
    # A frame pixel more than its margin on each side, since the hole is cut in the frame.
    reach = round((margin_px(transform) + 3) * transform.px_per_frame_px) + 1
    assert not changed[~_wide(mask, reach)].any()
    assert after.dtype == np.uint8


def test_a_filled_place_looks_like_its_surroundings() -> None:
    """Bright blots on an eye without lesions: gone, without a step at the edge, and with the grain that is around."""
    clean = draw_eye(3, grade=0, width_px=1200).pixels
    transform = frame(clean, 1024).transform
    marked, mask = clean.copy(), np.zeros(clean.shape[:2], bool)
    for x, y, radius in ((560, 250, 9), (420, 560, 16), (700, 480, 5)):
        spot = np.zeros(mask.shape, np.uint8)
        cv2.circle(spot, (x, y), radius, 1, -1)
        mask |= spot.astype(bool)
    marked[mask] = (250, 240, 90)
    after = inpaint(marked, mask, transform).astype(int)
    inside, ring = mask, _wide(mask, 10) & ~_wide(mask, 5)
    assert np.abs(after[inside].mean(axis=0) - clean[inside].mean(axis=0)).max() < 6
    assert np.abs(after[inside].mean(axis=0) - after[ring].mean(axis=0)).max() < 8

    def grain(pixels: np.ndarray, where: np.ndarray) -> float:
        green = pixels[..., 1].astype(np.float32)
        return float((green - cv2.GaussianBlur(green, (0, 0), 1.5))[where].std())

    assert grain(after, inside) == pytest.approx(grain(clean, inside), rel=0.5)


def test_what_lies_beside_is_not_taken_for_surroundings() -> None:
    clean = draw_eye(3, grade=0, width_px=900).pixels
    transform = frame(clean, 512).transform
    mask, beside = np.zeros(clean.shape[:2], bool), np.zeros(clean.shape[:2], bool)
    mask[300:316, 400:416], beside[300:316, 416:446] = True, True
    marked = clean.copy()
    marked[mask], marked[beside] = (250, 240, 90), (10, 0, 250)
    after = inpaint(marked, mask, transform, avoid=beside)
    assert after[302:314, 402:410, 2].max() < clean[290:326, 380:450, 2].max() + 12
    assert (after[beside] == marked[beside]).mean() > 0.8


def test_a_large_hole_is_not_filled_with_black() -> None:
    """Half of the eye, as of a bleed in front of the retina."""
    pixels = draw_eye(5, grade=0, width_px=480).pixels
    transform = frame(pixels, 256).transform
    mask = np.zeros(pixels.shape[:2], bool)
    mask[: len(mask) // 2] = True
    mask &= pixels.max(axis=2) > 20
    after = inpaint(pixels, mask, transform)
    assert after[mask].mean() > 0.7 * pixels[mask].mean()


def test_nothing_and_everything() -> None:
    pixels = draw_eye(3, grade=0, width_px=480).pixels
    transform = frame(pixels, 256).transform
    none = np.zeros(pixels.shape[:2], bool)
    np.testing.assert_array_equal(inpaint(pixels, none, transform), pixels)
    np.testing.assert_array_equal(inpaint(pixels, ~none, transform), pixels)
    corner = none.copy()
    corner[:4, :4] = True  # outside the eye, at the photo's edge
    assert inpaint(pixels, corner, transform).shape == pixels.shape


class CountsPaint:
    """A runtime that finds violet and green paint, and grades by the violet: referable while there is any."""

    sha256 = "0" * 64
    card = Card(name="paint", structures=("HE", "EX"), landmarks=(), whole_px=128, close_px=256, close=("HE", "EX"))

    def __call__(self, images: np.ndarray, view: str = "whole") -> Outputs:
        picture = images[0].astype(np.float32)
        planes = []
        for plane in (2, 1):
            others = picture[..., [p for p in range(3) if p != plane]].max(axis=2)
            planes.append(np.clip((picture[..., plane] - others) / 60, 0, 1))
        blue, green = (float(plane.mean()) for plane in planes)
        logits = np.stack([16 * plane - 8 for plane in planes])[None].astype(np.float32)
        grade = np.array([[2, 0, 2000 * blue, 0, 0]], np.float32)
        return Outputs(classes={"grade": grade, "dme": np.array([[2, 0, 2000 * green]], np.float32)}, structures=logits)


@pytest.fixture
def painted() -> np.ndarray:
    """Violet and green blots on an eye without lesions."""
    pixels = draw_eye(3, grade=0, width_px=800).pixels
    for x, y, code in ((330, 200, "HE"), (480, 330, "HE"), (300, 380, "EX")):
        cv2.circle(pixels, (x, y), 14, PAINT[code], -1)
    return pixels


@pytest.mark.parametrize("kind", ["one", "ensemble"])
def test_the_answer_changes_with_the_kind_that_makes_it(painted: np.ndarray, kind: str) -> None:
    one = Predictor(CountsPaint())
    grader = one if kind == "one" else Ensemble([one, Predictor(CountsPaint())])
    found = grader(painted)
    assert (found.grade, found.dme) == (2, 2)
    told = {change.code: change for change in counterfactual(grader, found)}
    assert list(told) == ["HE", "EX", ALL]
    assert (told["HE"].after.grade, told["HE"].after.dme) == (0, 2)
    assert (told["EX"].after.grade, told["EX"].after.dme) == (2, 0)
    assert (told[ALL].after.grade, told[ALL].after.dme) == (0, 0)
    assert told["HE"].before.referable == pytest.approx(found.referable_probability)
    assert told["EX"].after.referable == pytest.approx(found.referable_probability, abs=0.05)
    assert told["HE"].left_frac == 0
    assert told[ALL].left_frac is None
    assert np.array_equal(found.photo.pixels, painted), "the photo itself stays as it is"


def test_of_a_photo_that_was_graded_on_request_the_changes_are_known_too(painted: np.ndarray) -> None:
    grader = Predictor(CountsPaint())
    blurred = cv2.GaussianBlur(painted, (0, 0), 20)
    for x, y, code in ((330, 200, "HE"), (300, 380, "EX")):
        cv2.circle(blurred, (x, y), 14, PAINT[code], -1)
    assert not grader(blurred).gradable_ok
    found = grader(blurred, force=True)
    changes = {change.code: change for change in counterfactual(grader, found)}
    assert (changes["HE"].before.grade, changes["HE"].after.grade) == (2, 0)
    assert changes["HE"].left_frac == 0


def test_without_lesions_nothing_is_asked(painted: np.ndarray) -> None:
    grader = Predictor(CountsPaint())
    assert counterfactual(grader, grader(draw_eye(3, grade=0, width_px=800).pixels)) == ()
    assert counterfactual(grader, grader(np.zeros((400, 500, 3), np.uint8))) == ()
    one = replace(grader(painted), frame_probs={})
    assert counterfactual(grader, one) == ()
