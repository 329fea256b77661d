"""Thresholds from the browser are checked; the probabilities that it gets are the model's."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

from funduscope.app.reviewed import Corrections, mask_to_png
from funduscope.app.viewer_data import move_threshold, probability_pngs, threshold_sliders
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.vocabulary import CODES


@pytest.fixture
def findings() -> Findings:
    eye = draw_eye(3, grade=2, width_px=500)
    photo = Photo.open(eye.pixels)
    transform = frame(photo, 256).transform
    probs = {code: transform.map_to_frame(eye.masks[code]) * np.float32(0.9) for code in CODES}
    return Findings(photo, transform, Card(thresholds=dict.fromkeys(CODES, 0.4321)), "0" * 64, frame_probs=probs)


@pytest.mark.parametrize(
    "edit",
    [
        {},
        {"code": "MA"},
        {"code": "XX", "value": 0.3},
        {"code": "MA", "value": "0.3"},
        {"code": "MA", "value": float("nan")},
        {"code": "MA", "value": -1},
        {"code": "MA", "value": 7},
        {"code": "EX", "value": 0.3},
        {"code": ["MA"], "value": 0.3},
        {"code": "MA", "value": 10**400},
    ],
)
def test_an_invalid_threshold_changes_nothing(findings: Findings, edit: dict[str, Any]) -> None:
    fixed = Corrections().with_mask("EX", np.zeros((10, 10), bool), "drawn")
    assert move_threshold(findings, {"HE": 0.7}, edit, fixed) == {"HE": 0.7}


def test_the_models_own_value_is_no_change(findings: Findings) -> None:
    assert move_threshold(findings, {}, {"code": "MA", "value": 0.7}, Corrections()) == {"MA": 0.7}
    assert move_threshold(findings, {"MA": 0.7}, {"code": "MA", "value": 0.43}, Corrections()) == {}
    rows = threshold_sliders(findings, {"MA": 0.7}, Corrections(masks={"HE": mask_to_png(np.zeros((4, 4), bool))}))
    assert rows[0] == {"code": "MA", "value": 0.7, "model": 0.43, "fixed": False}
    assert [row["code"] for row in rows if row["fixed"]] == ["HE"]


def test_the_pngs_are_the_probabilities(findings: Findings) -> None:
    for code, data in probability_pngs(findings).items():
        plane = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert plane is not None
        assert np.abs(plane / 255 - findings.frame_probs[code]).max() <= 1 / 255
