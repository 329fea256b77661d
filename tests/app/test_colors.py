"""The color-blind safe palette applies to outlines and legend; a confirmed kind has a fixed threshold."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

DEMO = (resources.files("funduscope") / "demo" / "hrf_07_dr.jpg").read_bytes()


@pytest.mark.slow
def test_the_legend_follows_the_palette_and_a_confirmed_kind_is_fixed(visitors: Any) -> None:
    visitor = visitors()
    visitor.arrive()
    visitor.drop(("eye.jpg", DEMO))
    visitor.photo.wait_for()
    page = visitor.page
    layer, square = page.locator("g[data-layer=MA]"), page.locator("li:has([data-show=MA]) svg.swatch rect")
    before = layer.get_attribute("fill")
    assert square.get_attribute("fill") == before
    page.get_by_text("Color-blind safe").click()
    page.locator(f"g[data-layer=MA]:not([fill='{before}'])").wait_for()
    assert square.get_attribute("fill") == layer.get_attribute("fill")

    visitor.settled()
    visitor.unfold(page.get_by_test_id("stExpander").filter(has_text="Outlines that are complete"))
    visitor.settled()
    page.get_by_role("button", name="Soft exudates", exact=True).click()
    page.get_by_text("outlines confirmed: Soft exudates").first.wait_for()
    assert page.locator("[data-threshold=SE]").is_disabled()
    assert page.locator("[data-threshold=MA]").is_enabled()
