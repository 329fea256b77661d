"""Looking in bands finds what one pass finds, and does not look where there is no eye."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from funduscope.inference.runtime import Outputs
from funduscope.inference.strips import ABSENT, MARGIN, STEP, TALLEST, run_in_strips, strips


def local(image: np.ndarray) -> Outputs:
    """A network that sees as far as a band's margin, at half size."""
    blurred = cv2.blur(image[:, :, 1].astype(np.float32), (1, MARGIN + 1))
    half = cv2.resize(blurred, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return Outputs(structures=np.stack([half, -half])[None])


def picture(side: int, top: int, bottom: int) -> np.ndarray:
    image = np.zeros((side, side, 3), np.uint8)
    image[top:bottom] = np.random.default_rng(side).integers(60, 200, (bottom - top, side, 3))
    return image


@pytest.mark.parametrize(
    ("side", "top", "bottom"), [(1440, 0, 1440), (1440, 130, 1300), (1024, 96, 928), (512, 0, 512)]
)
def test_bands_answer_as_one_pass_does(side: int, top: int, bottom: int) -> None:
    image = picture(side, top, bottom)
    once, found = local(image).structures, run_in_strips(local, image).structures
    assert once is not None
    assert found is not None
    assert found.shape == once.shape
    reach = MARGIN // 2  # what lies within a row's reach of the black is blurred over an edge that the bands cut at
    lit = slice((top + reach) // 2 if top else 0, (bottom - reach) // 2 if bottom < side else side // 2)
    assert np.allclose(found[:, :, lit], once[:, :, lit], atol=1e-3)


def test_no_lesion_is_where_there_is_no_eye() -> None:
    found = run_in_strips(local, picture(1440, 160, 1280)).structures
    assert found is not None
    assert (found[:, :, :80] == ABSENT).all()
    assert (found[:, :, 640:] == ABSENT).all()
    assert (found[:, :, 80:640] != ABSENT).all()


@pytest.mark.parametrize(
    ("side", "top", "bottom"), [(1440, 0, 1440), (1440, 141, 1299), (2016, 1, 2000), (64, 0, 64), (1440, 0, 0)]
)
def test_every_row_of_the_eye_is_answered_once(side: int, top: int, bottom: int) -> None:
    answered: list[int] = []
    for seen, kept in strips(picture(side, top, bottom)):
        assert seen.start <= kept.start < kept.stop <= seen.stop
        assert (seen.stop - seen.start) % STEP == 0
        assert kept.stop - kept.start <= TALLEST
        answered.extend(range(kept.start, kept.stop))
    assert answered == sorted(set(answered))
    assert set(range(top, bottom)) <= set(answered)


def test_a_model_without_structures_says_nothing_of_them() -> None:
    assert run_in_strips(lambda image: Outputs(), picture(64, 0, 64)).structures is None
