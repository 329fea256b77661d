"""The explanation on the page: the map with its measured reliability, and the counterfactual, in every language."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

from streamlit.testing.v1 import AppTest

import funduscope
from funduscope.explain import map_reliability
from funduscope.explain.class_activation import Explanation
from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.i18n.messages import message


def _script() -> None:
    from funduscope.app.page_view import show

    show()


@pytest.fixture(scope="module")
def page() -> AppTest:
    """The page with the demo photo read."""
    opened = AppTest.from_function(_script, default_timeout=600).run()
    return opened.button(key="demo").click().run()


def _html(page: AppTest) -> str:
    return " ".join(str(one.proto.body) for one in page.get("html"))


def test_the_map_comes_with_its_measured_reliability(page: AppTest) -> None:
    assert not page.exception
    text = _html(page)
    assert "Bright areas are evidence for grade 2 or more" in text
    assert ("was not measured" in text) == (funduscope.load().sha256 not in map_reliability._table()["models"])
    assert page.get("image"), "a picture is shown"


def test_a_model_without_maps_names_the_command_for_one(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("funduscope.app.explain_view.explanation", lambda findings, target: None)
        page.run()
        assert not page.exception
        assert [one for one in page.caption if "There is no map" in one.value and "Grad-CAM" in one.value]
    page.run()


@pytest.mark.slow
def test_the_counterfactual_is_computed_on_demand(page: AppTest) -> None:
    assert "All of them" not in _html(page)
    page.button(key="fill-in").click().run()
    assert not page.exception
    text = _html(page)
    assert "All of them" in text
    assert len(re.findall(r"<td>\d</td><td>\d+ %</td><td>\d</td><td>\d+ %</td>", text)) >= 3
    assert not [one for one in page.button if one.key == "fill-in"], "the result is kept"
    for language in LANGUAGES:
        page.selectbox(key="language").set_value(language).run()
        assert not page.exception
        assert Words(language)("fill.all") in _html(page)
        assert [one for one in page.caption if Words(language)("fill.what") in one.value]


def test_other_outlines_need_a_new_counterfactual(page: AppTest) -> None:
    page.selectbox(key="language").set_value("en").run()
    session = page.session_state.session
    session.thresholds[next(iter(session.entries))] = {"HE": 0.4}  # as after the browser's slider is released
    page.run()
    assert not page.exception
    assert [one for one in page.button if one.key == "fill-in"]


@pytest.mark.slow
def test_in_a_browser_the_map_is_shown_and_the_table_follows(visitors: Callable[..., Any]) -> None:
    visitor = visitors(480, "dark")
    visitor.arrive()
    page = visitor.page
    page.get_by_role("button", name="Use the demo photo").click()
    visitor.photo.wait_for()
    section = page.get_by_test_id("stExpander").filter(has_text="Explanation").last
    visitor.unfold(section)
    picture = section.locator("img").first
    picture.wait_for()
    page.wait_for_function("element => element.complete && element.naturalWidth > 500", arg=picture.element_handle())
    section.get_by_text("Edema risk 1 or more").first.click()
    section.get_by_text("which the model gives").filter(has_text="edema").first.wait_for()
    section.get_by_role("button", name="Fill in and grade again").click()
    section.get_by_role("rowheader", name="All of them").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= 480")


def test_of_a_checkpoint_the_page_draws_what_needs_the_network(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grad-CAM where there is no exact map, and what attention gates let through, as `predict --explain` does."""
    (opened,) = page.session_state.session.opened.values()
    shown, evidence = opened.findings, np.full((8, 8), 3.0, np.float32)
    approximate = Explanation("referable", "grade", (2, 3, 4), 0.4, evidence, shown.transform, exact=False)
    network = Mock(gated=True)
    network.explanation.side_effect = lambda findings, target: approximate if target == "referable" else None
    network.attention_picture.return_value = np.zeros((60, 80, 3), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr("funduscope.app.explain_view.explanation", lambda findings, target: None)
        patch.setattr("funduscope.app.explain_view.checkpoint_maps", lambda model: network)
        page.run()
        assert not network.explanation.called, "they take seconds, and nobody asked"
        before = len(page.get("image"))
        page.button(key="explain-compute").click().run()
        assert not page.exception
        assert network.explanation.call_args_list[0].args[0].photo.sha256 == shown.photo.sha256
        assert len(page.get("image")) == before + 2
        assert Words("en").message(message("MAP_BY_GRADIENTS").to_dict()) in _html(page)
        assert not [one for one in page.button if one.key == "explain-compute"], "the maps are kept"
    page.run()
