"""Edema risk: exudates near the fovea speak for it, those elsewhere less, and none where none is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from funduscope.imaging.framing import CropTransform, Frame, frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.edema import NEAR_FRAC, exudate_evidence, weighed
from funduscope.inference.predictor import Views, interpret
from funduscope.inference.runtime import Outputs

SIDE = 256
HOME = CropTransform(100, 50, 1000, 512, 1200, 1100)
FOVEA = (100 + 400.0, 50 + 500.0)


def _map(*lesions: tuple[float, float], cells: int = SIDE) -> np.ndarray:
    """Logits with an exudate at each share of the frame's side."""
    at = (np.arange(cells) + 0.5) / cells
    plane = np.full((cells, cells), -7.0, np.float32)
    for x, y in lesions:
        plane[(at[None] - x) ** 2 + (at[:, None] - y) ** 2 < 0.015**2] = 6.0
    return plane


@pytest.mark.parametrize("cells", [64, 256, 720])
def test_near_and_far_are_told_apart_at_any_size(cells: int) -> None:
    near = exudate_evidence(_map((0.45, 0.52), cells=cells), FOVEA, HOME)
    far = exudate_evidence(_map((0.8, 0.2), cells=cells), FOVEA, HOME)
    none = exudate_evidence(_map(cells=cells), FOVEA, HOME)
    assert near == pytest.approx((6, 6), abs=0.1)
    assert far == pytest.approx((6, -7), abs=0.1)
    assert none == pytest.approx((-7, -7))


def test_a_disc_diameter_is_the_border() -> None:
    for away, value in ((NEAR_FRAC - 0.03, 6), (NEAR_FRAC + 0.03, -7)):
        evidence = exudate_evidence(_map((0.4, 0.5 + away)), FOVEA, HOME)
        assert evidence is not None
        assert evidence[1] == pytest.approx(value, abs=0.1)


def test_without_a_fovea_there_is_no_evidence() -> None:
    assert exudate_evidence(_map((0.4, 0.5)), None, HOME) is None
    beyond = exudate_evidence(_map((0.4, 0.5)), (9000.0, 9000.0), HOME)
    assert beyond is not None
    assert beyond[1] < -7, "nothing of it is in the frame"


LAYER = {
    "weights": [[1, 0, 0, -0.5, 0], [0, 1, 0, 0.25, -0.5], [0, 0, 1, 0, 0.5]],
    "bias": [0.0, 0.0, 0.0],
}


def test_either_witness_counts() -> None:
    unsure = np.log([0.4, 0.2, 0.4])
    assert weighed(unsure, (6, 6), LAYER).argmax() == 2
    assert weighed(unsure, (6, -7), LAYER).argmax() == 1
    assert weighed(unsure, (-7, -7), LAYER).argmax() == 0
    assert weighed(np.log([0.001, 0.001, 0.998]), (-3, -3), LAYER).argmax() == 2, "a sure answer is not overruled"
    assert weighed(unsure, (6, 6), LAYER).sum() == pytest.approx(1)


def _framed() -> tuple[Photo, Frame]:
    from funduscope.testing.drawn_eyes import draw_eye

    photo = Photo.open(draw_eye(4, width_px=500).pixels)
    return photo, frame(photo, 256)


@pytest.mark.parametrize("layer", [None, LAYER])
def test_findings_weigh_as_the_card_says(layer) -> None:
    photo, framed = _framed()
    card = replace(Card(), whole_px=128, close_px=256, landmark_floor=0.0, dme_evidence=layer)
    heat = np.zeros((1, 2, 32, 32), np.float32)
    heat[0, :, 16, 16] = 30
    planes = np.full((1, 5, 128, 128), -7, np.float32)
    planes[0, 2, 64:70, 64:70] = 6.0
    whole = Outputs(classes={"dme": np.log(np.array([[0.4, 0.2, 0.4]], np.float32))}, landmarks=heat, structures=planes)
    found = interpret(photo, framed, Views(whole, Outputs(structures=planes)), card, "0" * 64)
    assert found.exudates is not None
    assert found.dme_probs is not None
    if layer is None:
        assert found.dme_probs == pytest.approx([0.4, 0.2, 0.4], abs=1e-4)
    else:
        assert found.dme == 2
        assert found.dme_probs[2] > 0.8
