"""The chosen lesion is the one that is deleted, for rings around a dot and for arcs whose center is no lesion."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest

from funduscope.app.edits import apply_edit
from funduscope.app.reviewed import Corrections, apply_corrections
from funduscope.app.viewer_data import viewer_data
from funduscope.i18n.languages import Words
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.vocabulary import CODES

SIDE = 600
EMPTY_GIF = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


def _outlined(exudates: np.ndarray) -> Findings:
    """A gray photo in which these pixels are outlined as hard exudates."""
    planes = {code: np.zeros((SIDE, SIDE), np.float32) for code in CODES}
    planes["EX"][exudates] = 0.9
    photo = Photo.open(np.full((SIDE, SIDE, 3), 90, np.uint8))
    card = Card(whole_px=SIDE, close_px=SIDE)
    return Findings(photo, CropTransform(0, 0, SIDE, SIDE, SIDE, SIDE), card, "0" * 64, frame_probs=planes)


def _shape(*circles: tuple[int, int]) -> np.ndarray:
    """Circles around the middle as (radius, thickness); a thickness of -1 fills one."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for radius, thickness in circles:
        cv2.circle(mask, (300, 300), radius, 1, thickness)
    return mask > 0


RING, DOT = _shape((60, 9)), _shape((5, -1))
ARC = RING.copy()
ARC[:, 300:] = False
EVEN_RING, EVEN_DOT = np.zeros((2, SIDE, SIDE), bool)
EVEN_RING[100:110, 100:110] = True
EVEN_RING[101:109, 101:109] = False
EVEN_DOT[102:108, 102:108] = True


def _without(findings: Findings, row: dict[str, Any]) -> np.ndarray:
    """The mask after the lesion of a row was deleted as the browser does it."""
    edit = {"what": "delete", "code": row["code"], "points": [row["pixel"]]}
    return apply_corrections(findings, {}, apply_edit(findings, Corrections(), edit)).mask("EX")


@pytest.mark.parametrize(("around", "inside"), [(RING, DOT), (ARC, DOT), (EVEN_RING, EVEN_DOT)])
def test_the_chosen_lesion_is_deleted_and_the_inner_one_stays(around: np.ndarray, inside: np.ndarray) -> None:
    findings = _outlined(around | inside)
    rows = json.loads(json.dumps(viewer_data(findings, "standard", Corrections())))["lesions"]
    assert len(rows) == 2
    left = [_without(findings, row) for row in rows]
    wanted = [inside, around]  # the larger comes first; a ring and a dot of one area in either order
    if not np.array_equal(left[0], inside):
        assert around.sum() == inside.sum()
        wanted.reverse()
    assert all(np.array_equal(mask, want) for mask, want in zip(left, wanted, strict=True))


@pytest.mark.parametrize("shape", [RING, ARC])
def test_a_bent_lesion_is_deleted_however_far_its_center_lies(shape: np.ndarray) -> None:
    findings = _outlined(shape)
    (row,) = viewer_data(findings, "standard", Corrections())["lesions"]
    assert not shape[int(row["y"]), int(row["x"])]
    assert not _without(findings, row).any()
    outside = {"what": "delete", "code": "EX", "points": [[row["x"], row["y"]]]}
    assert apply_edit(findings, Corrections(), outside) == Corrections(), "a point outside any lesion deletes nothing"


def test_in_a_browser_a_ring_is_deleted_and_its_dot_stays(browser: Any) -> None:
    pytest.importorskip("streamlit", reason="the page needs the extra `app`")
    from funduscope.app.viewer_component import photo_texts, sources

    findings, words = _outlined(RING | DOT), Words("en")

    def drawn(stated: Corrections, stamp: str, handled: int) -> dict[str, Any]:
        more = {
            "picture": EMPTY_GIF,
            "stamp": stamp,
            "language": "en",
            "canUndo": not stated.is_empty,
            "canRedo": False,
            "unsaved": False,
            "handled": handled,
            "position": {"number": 1, "count": 1},
        }
        live = {"words": photo_texts(words), "thresholds": [], "planes": {}, "frame": [0, 0, SIDE]}
        return viewer_data(apply_corrections(findings, {}, stated), "standard", stated) | more | live

    script, style = sources("photo")
    page = browser.new_page()
    page.set_content(f"<style>{style}</style><div id='place'><div data-host></div></div>")
    page.add_script_tag(type="module", content=script.replace("export default function", "window.show = function"))
    page.wait_for_function("Boolean(window.show)")
    page.evaluate("""() => {
        const parentElement = document.getElementById("place");
        window.sent = [];
        window.draw = (data) => { show({ data, parentElement, setTriggerValue: (_, edits) => sent.push(edits) }); };
    }""")
    page.evaluate("data => draw(data)", drawn(Corrections(), "1", 7))
    on_screen = "svg => (({ x, y }) => [x, y])(new DOMPoint(360.5, 300.5).matrixTransform(svg.getScreenCTM()))"
    x, y = page.locator("svg[data-photo]").evaluate(on_screen)  # of a pixel of the ring
    page.mouse.click(x, y)
    assert page.locator("tr[data-row=EX-0]").get_attribute("aria-selected") == "true"
    page.locator("svg[data-photo]").focus()
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    ((edit,),) = page.evaluate("sent")
    assert edit["number"] == 8, "a view that is drawn again continues where the server is"
    stated = apply_edit(findings, Corrections(), edit)
    assert np.array_equal(apply_corrections(findings, {}, stated).mask("EX"), DOT)
    page.evaluate("data => draw(data)", drawn(stated, "2", 8))
    assert page.locator("tr[data-row]").count() == 1
    assert page.locator("tr[aria-selected=true]").count() == 0, "the dot is not chosen"

    # What the server has not handled is sent again with the next edit; until then the buttons count on it.
    undo, redo = page.locator("[data-undo]"), page.locator("[data-redo]")
    page.locator("svg[data-photo]").focus()
    for _ in range(3):
        page.keyboard.press("Control+z")
    page.evaluate("data => draw(data)", drawn(stated, "2", 10))
    assert redo.is_enabled()
    page.keyboard.press("Control+y")
    sent = page.evaluate("sent.slice(1).map(edits => edits.map(({ number }) => number))")
    assert sent == [[9], [9, 10], [9, 10, 11], [11, 12]]
    page.evaluate("data => draw(data)", drawn(stated, "2", 12))
    assert (undo.is_enabled(), redo.is_enabled()) == (True, False)
    page.close()
