"""A stroke of more points than an edit may have keeps its shape: a slow hand on a fast screen makes ten thousand."""

from __future__ import annotations

from importlib import resources
from typing import Any

import cv2
import numpy as np
import pytest

from funduscope.app.edits import MAX_POINTS, apply_edit
from funduscope.app.reviewed import Corrections, apply_corrections
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings

SIDE, RADIUS = 1200, 500

FINISH = """([tool, points]) => {
    const sent = [], node = () => document.createElement("i");
    const tools = Object.create(CorrectionTools.prototype);
    Object.assign(tools, { tool, stroke: points, kind: { value: "HE" }, pen: node(), track: node() });
    tools.photo = { edit: (what) => sent.push(what) };
    tools.up({}, 100);
    return sent;
}"""


@pytest.mark.parametrize(("tool", "thickness"), [("draw", -1), ("brush", 20)])
def test_in_a_browser_a_long_stroke_is_thinned_and_keeps_its_shape(browser: Any, tool: str, thickness: int) -> None:
    photo = Photo.open(np.full((SIDE, SIDE, 3), 90, np.uint8))
    planes = {"HE": np.zeros((SIDE, SIDE), np.float32)}
    transform, card = CropTransform(0, 0, SIDE, SIDE, SIDE, SIDE), Card(whole_px=SIDE, close_px=SIDE)
    findings = Findings(photo, transform, card, "0" * 64, frame_probs=planes)
    turn = np.linspace(0, 2 * np.pi, 4 * MAX_POINTS)
    points = np.stack([SIDE / 2 + RADIUS * np.cos(turn), SIDE / 2 + RADIUS * np.sin(turn)], axis=1).round(1)

    page = browser.new_page()
    page.add_script_tag(content=(resources.files("funduscope") / "app/viewer/tools.js").read_text("utf-8"))
    (edit,) = page.evaluate(FINISH, [tool, points.tolist()])
    page.close()
    assert edit["points"][0] == points[0].tolist()
    assert edit["points"][-1] == points[-1].tolist()
    drawn = apply_corrections(findings, {}, apply_edit(findings, Corrections(), edit)).mask("HE")
    wanted = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(wanted, (SIDE // 2, SIDE // 2), RADIUS, 1, thickness)
    assert (drawn & (wanted > 0)).sum() / (drawn | (wanted > 0)).sum() > 0.9
