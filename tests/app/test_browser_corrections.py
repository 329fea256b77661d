"""Corrections in a real browser: brush, relabeling, undo and redo, the question, and the draft after a restart."""

from __future__ import annotations

import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

DEMO = (resources.files("funduscope") / "demo" / "hrf_07_dr.jpg").read_bytes()


def _count(page: Any, code: str) -> int:
    text = page.locator(f"li:has([data-show={code}]) label").inner_text()
    return int(re.findall(r"\d+", text)[0])


def _wait_for_count(page: Any, code: str, count: int) -> None:
    pattern = re.compile(rf"\s{count}( · corrected)?\s*$")
    page.locator(f"li:has([data-show={code}]) label").filter(has_text=pattern).wait_for()


def _paint(visitor: Any, tool: str, across: float) -> None:
    """Moves a brush to and fro over the middle of the photo's lower part; across: of the photo's width."""
    page = visitor.page
    page.locator(f"[data-tool={tool}]").click()
    page.locator("[data-kind]").select_option("SE")
    page.locator("[data-size]").fill("60")
    visitor.photo.scroll_into_view_if_needed()
    box = visitor.photo.bounding_box()
    x, y = box["x"] + box["width"] * (0.5 - across / 2), box["y"] + box["height"] * 0.8
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] * across, y, steps=4)
    page.mouse.up()


@pytest.mark.slow
def test_painted_undone_relabeled_and_restored_after_a_restart(serving: Any, visiting: Any, tmp_path: Path) -> None:
    pytest.importorskip("streamlit", reason="the page needs the extra `app`")
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    with serving(home, work, tmp_path / "first.txt") as server:
        visitor = visiting(server)
        visitor.page.on("dialog", lambda dialog: dialog.accept())
        visitor.arrive()
        visitor.drop(("Meier, Anna.jpg", DEMO))
        visitor.photo.wait_for()
        page = visitor.page
        page.locator("details.tools summary").click()
        before = {code: _count(page, code) for code in ("SE", "EX", "MA")}
        _paint(visitor, "brush", 0.1)
        _wait_for_count(page, "SE", before["SE"] + 1)
        assert "60 px, 0." in page.locator(".brush").inner_text(), "its size in pixels and in disc diameters"
        question = page.get_by_text("You corrected: Soft exudates.").first
        question.wait_for()
        _paint(visitor, "erase", 0.02)  # cuts the stroke in two
        _wait_for_count(page, "SE", before["SE"] + 2)
        visitor.photo.focus()
        page.keyboard.press("Control+z")
        _wait_for_count(page, "SE", before["SE"] + 1)
        page.keyboard.press("Control+z")
        _wait_for_count(page, "SE", before["SE"])
        question.wait_for(state="hidden")
        page.keyboard.press("Control+Shift+Z")
        _wait_for_count(page, "SE", before["SE"] + 1)
        page.get_by_role("button", name="Not yet").click()
        question.wait_for(state="hidden")
        page.get_by_text("Corrected but not complete, so no labels: Soft exudates.").first.wait_for()

        page.locator("[data-tool=view]").click()
        page.locator("tr[data-row=EX-0]").click()
        page.locator("[data-relabel]").select_option("MA")
        _wait_for_count(page, "EX", before["EX"] - 1)
        _wait_for_count(page, "MA", before["MA"] + 1)
        visitor.settled()
        (draft,) = (file for file in home.rglob("*") if file.is_file())
        assert "Meier" not in draft.name + draft.read_text()

    own = page.get_by_test_id("stDialog").get_by_role("heading")
    own.wait_for()
    says = "node => getComputedStyle(node, '::after').content"
    page.wait_for_function(f"node => ({says})(node).includes('The page lost its connection')", arg=own.element_handle())
    assert own.evaluate("node => getComputedStyle(node).fontSize") == "0px", "Streamlit's own words are not shown"
    with serving(home, work, tmp_path / "second.txt", int(server.address.rpartition(":")[2])):
        page.reload()
        page.get_by_test_id("stFileUploaderDropzone").first.wait_for()
        page.get_by_text("Drafts of corrections: 1").first.wait_for()
        visitor.drop(("the same.jpg", DEMO))
        visitor.photo.wait_for()
        page.get_by_text("restored from the draft").first.wait_for()
        _wait_for_count(page, "SE", before["SE"] + 1)
        _wait_for_count(page, "EX", before["EX"] - 1)
        visitor.settled()
        visitor.unfold_uploads()
        page.get_by_role("button", name="Forget all photos").click()
        page.get_by_text("Photos with your corrections: 1; not saved: 1").first.wait_for()
        page.get_by_role("button", name="Forget", exact=True).click()
        page.get_by_role("button", name="Forget all photos").wait_for(state="hidden")
        assert not [file for file in home.rglob("*") if file.is_file()]
        assert not visitor.faults
        visitor.context.close()


@pytest.mark.slow
def test_quick_strokes_and_undos_all_arrive(visitors: Any) -> None:
    visitor = visitors()
    visitor.arrive()
    page = visitor.page
    page.get_by_role("button", name="Use the demo photo").click()
    visitor.photo.wait_for()
    visitor.settled()
    page.locator("details.tools summary").click()
    page.locator("[data-tool=brush]").click()
    page.locator("[data-kind]").select_option("SE")
    before = _count(page, "SE")
    visitor.photo.scroll_into_view_if_needed()
    box = visitor.photo.bounding_box()
    count = 8
    for number in range(count):  # faster than the page runs
        x, y = box["x"] + box["width"] * (0.3 + 0.05 * number), box["y"] + box["height"] * 0.85
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 4, y)
        page.mouse.up()
        page.wait_for_timeout(150)
    _wait_for_count(page, "SE", before + count)
    visitor.photo.focus()
    for _ in range(count - 1):
        page.keyboard.press("Control+z")
        page.wait_for_timeout(100)
    _wait_for_count(page, "SE", before + 1)
    region = visitor.photo.get_attribute("viewBox")
    page.mouse.dblclick(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.7)
    _wait_for_count(page, "SE", before + 2)
    assert visitor.photo.get_attribute("viewBox") == region, "two quick dots do not zoom"
    visitor.photo.focus()
    page.keyboard.press("m")
    page.keyboard.press("Escape")
    assert page.locator("[data-tool=view]").get_attribute("aria-pressed") == "true"
    assert page.locator("button[data-ruler]").get_attribute("aria-pressed") == "true", "the key was the tool's alone"


@pytest.mark.slow
def test_a_closed_outline_is_no_dot_and_the_right_button_draws_nothing(visitors: Any) -> None:
    visitor = visitors()
    visitor.arrive()
    page = visitor.page
    page.get_by_role("button", name="Use the demo photo").click()
    visitor.photo.wait_for()
    visitor.settled()
    page.locator("details.tools summary").click()
    page.locator("[data-tool=draw]").click()
    page.locator("[data-kind]").select_option("SE")
    before = _count(page, "SE")
    visitor.photo.scroll_into_view_if_needed()
    box = visitor.photo.bounding_box()
    x, y = box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.85
    page.mouse.click(x - 60, y, button="right")
    page.mouse.click(x + 60, y)
    _wait_for_count(page, "SE", before + 1)
    page.locator("[data-kind]").select_option("OD")
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 41):
        page.mouse.move(x - 20 + 20 * math.cos(step * math.tau / 40), y + 20 * math.sin(step * math.tau / 40))
    page.mouse.up()
    page.get_by_text("Soft exudates (1 drawn), Optic disc (1 drawn)").first.wait_for()
    assert _count(page, "SE") == before + 1
