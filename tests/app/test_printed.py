"""Report and leaflet in a real browser: no requests, no errors, one printed page each, names shown as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import funduscope
from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.i18n.messages import message
from funduscope.report.html import report
from funduscope.report.patient_leaflet import compose
from funduscope.report.patient_leaflet_html import patient_leaflet_html
from funduscope.report.photo_jpegs import unmarked_jpeg

DEMO = (resources.files("funduscope") / "demo" / "hrf_07_dr.jpg").read_bytes()
NASTY = '"><img src=http://example.org/x onerror=document.title=1><script>document.title=1</script>.jpg'


@pytest.fixture(scope="module")
def findings() -> Any:
    """The demo photo under a name that is markup."""
    return funduscope.load()(DEMO, name=NASTY)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page from a file. After the test it is checked for requests and errors."""
    requests: list[str] = []
    faults: list[str] = []
    contexts = []

    def open_page(text: str, width: int = 1280, scheme: str = "light") -> Any:
        path = tmp_path / f"page-{len(contexts)}.html"
        path.write_text(text, "utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [url for url in requests if not url.startswith(("file:", "data:"))]
    assert not faults


def pages_of(page: Any) -> int:
    """The number of A4 pages that it prints on."""
    data: bytes = page.pdf(prefer_css_page_size=True)
    return data.count(b"/Type /Page\n") or data.count(b"/Type/Page\n")


@pytest.mark.slow
def test_the_report_works_and_prints_on_one_page(opened: Callable[..., Any], findings: Any) -> None:
    page = opened(report(findings))
    assert page.title().startswith("Findings:"), "a name runs no script"
    assert page.locator("h1").inner_text() == NASTY
    assert page.locator("img").count() == 0
    photo = page.locator("svg[data-photo]")
    page.locator("[data-show=HE]").uncheck()
    assert page.locator("g[data-layer=HE]").is_hidden()
    photo.focus()
    page.keyboard.press("+")
    assert float(photo.get_attribute("viewBox").split()[2]) < findings.photo.width
    assert pages_of(page) == 1
    for language in LANGUAGES:
        narrow = opened(report(findings, language=language), 480)
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 480
        assert pages_of(narrow) == 1, language
        faces = narrow.evaluate("[...document.fonts].map(face => face.status)")
        assert faces == (["loaded"] if language == "hi" else [])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_report_with_every_doubt_prints_on_one_page(opened: Callable[..., Any], findings: Any, language: str) -> None:
    poor = tuple(message(code) for code in ("NOT_FUNDUS", "OUT_OF_FOCUS", "LOW_CONTRAST", "FIELD_CUT"))
    photo = replace(findings.photo, notes=(message("LOW_JPEG_QUALITY", {"quality": 9}),))
    doubted = replace(findings, photo=photo, reasons=poor, forced=True, estimated=("optic_disc", "fovea"))
    assert len(doubted.warnings) >= 5
    assert pages_of(opened(report(doubted, language=language))) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_leaflet_prints_on_one_page_in_its_own_font(
    opened: Callable[..., Any], findings: Any, language: str
) -> None:
    words = Words(language)
    page = opened(patient_leaflet_html(compose(findings.to_dict(), words), unmarked_jpeg(findings.photo)), 480)
    text = page.locator("body").inner_text()
    assert words("sheet.next.urgent") in text
    assert NASTY not in text, "a file's name may be a person's, and is not on the leaflet"
    assert page.evaluate("document.documentElement.scrollWidth") <= 480
    assert pages_of(page) == 1
    if language == "hi":
        faces = page.evaluate("[...document.fonts].map(face => face.status)")
        assert faces == ["loaded"], "the file brings its font, and its policy allows it"


def test_the_longest_leaflet_is_one_page(opened: Callable[..., Any], findings: Any) -> None:
    found = json.loads(json.dumps(findings.to_dict()))
    found["rules"] |= {"agrees": False}
    found["warnings"] += [{"code": "OUT_OF_FOCUS", "values": {}, "says": ""}]
    for lesion in found["lesions"].values():
        lesion["present"] = True
    for language in LANGUAGES:
        page = opened(patient_leaflet_html(compose(found, Words(language)), unmarked_jpeg(findings.photo)))
        assert pages_of(page) == 1, language
