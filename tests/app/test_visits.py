"""Two visits of one eye: what counts as a change and what as noise, and the comparison as CSV and PDF."""

from __future__ import annotations

import csv
import ctypes
import io
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the page needs the extra `app`")

from funduscope.app import visits_view
from funduscope.app.edits import apply_edit
from funduscope.app.export_visits import COLUMNS, visits_csv, visits_pdf
from funduscope.app.reviewed import Corrections, apply_corrections
from funduscope.app.session import Session
from funduscope.app.viewer_component import sources, texts
from funduscope.app.visit_comparison import (
    ABSENT_FRAC,
    MIN_PPM,
    SIDE_PX,
    STEADY_ROOT_PPM,
    Outlined,
    compare_visits,
    state_of,
)
from funduscope.app.visits_view import _row
from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.findings import Findings
from funduscope.inference.objects import LesionObject
from funduscope.report.outline import color_of
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.vocabulary import CODES, LESIONS


def _seen(pixels: np.ndarray, masks: dict[str, np.ndarray], name: str = "photo") -> Findings:
    """Findings that outline these masks."""
    photo = Photo.open(pixels, name=name)
    transform = frame(photo, 1024).transform
    planes = {code: transform.map_to_frame(masks[code]) * np.float32(0.9) for code in CODES}
    return Findings(photo, transform, Card(), "0" * 64, frame_probs=planes)


@pytest.fixture(scope="module")
def visits() -> tuple[Any, Findings, Findings]:
    """An eye and itself turned: a soft exudate is gone, another is new, and one that stays is twice as wide."""
    eye = draw_eye(11, grade=2, width_px=1000)
    height, width = eye.pixels.shape[:2]
    before, after = ({code: eye.masks[code].copy() for code in CODES} for _ in range(2))
    x, y = int(eye.fovea_xy[0]), int(eye.fovea_xy[1])
    for masks, shift, half in ((before, -60, 10), (after, 60, 20)):
        masks["SE"] = np.zeros((height, width), bool)
        masks["SE"][y - 8 : y + 8, x + shift - 8 : x + shift + 8] = True
        masks["SE"][y + 90 - half : y + 90 + half, x - half : x + half] = True
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 5, 1.0)
    later = cv2.warpAffine(eye.pixels, turn, (width, height))
    turned = {code: cv2.warpAffine(mask.view(np.uint8), turn, (width, height)) > 0 for code, mask in after.items()}
    first, second = _seen(eye.pixels, before, "=first.jpg"), _seen(later, turned, "second.jpg")
    return compare_visits(first, second), first, second


def test_new_gone_and_grown_lesions_between_two_visits(visits: tuple[Any, Findings, Findings]) -> None:
    found, first, _ = visits
    assert found.is_one_eye
    for state in ("new", "gone", "bigger"):
        assert [change.code for change in found.of_state(state)] == ["SE"], state
    assert not found.of_state("smaller"), "a turned photo changes nothing"
    assert sum(found.stayed.values()) == len(found.of_state("unchanged")) + 1
    grown = found.of_state("bigger")[0]
    assert grown.later.area_ppm / grown.earlier.area_ppm == pytest.approx(4, rel=0.15)
    other = draw_eye(12, grade=2, width_px=1000)
    apart = compare_visits(first, _seen(other.pixels, other.masks))
    assert not apart.is_one_eye
    assert apart.new == ()


def test_a_copy_of_a_photo_has_no_change(visits: tuple[Any, Findings, Findings]) -> None:
    _, first, _ = visits
    same = compare_visits(first, first)
    assert {change.state for change in same.changes or ()} == {"unchanged"}
    pieces = sum(len(change.later.lesions) for change in same.changes or ())
    assert pieces == sum(first.count(code) for code in LESIONS), "no lesion is lost or counted twice"


@pytest.mark.parametrize(("deleted_in", "state"), [("later", "gone"), ("earlier", "new")])
def test_what_a_person_deleted_from_a_complete_kind_is_gone_or_new(deleted_in: str, state: str) -> None:
    eye = draw_eye(11, grade=2, width_px=1000)
    masks = {code: np.zeros(eye.pixels.shape[:2], bool) for code in CODES}
    x, y = int(eye.fovea_xy[0]), int(eye.fovea_xy[1])
    masks["HE"][y + 50 : y + 75, x - 12 : x + 12] = masks["HE"][y - 90 : y - 70, x - 12 : x + 12] = True
    found = _seen(eye.pixels, masks)
    edit = {"what": "delete", "code": "HE", "points": [[x, y + 60]]}
    stated = apply_edit(found, Corrections(), edit)
    corrected = apply_corrections(found, {}, stated)
    examined, nothing = frozenset({"HE"}), frozenset[str]()
    if deleted_in == "later":
        first, second, complete = found, corrected, (nothing, examined)
    else:
        first, second, complete = corrected, found, (examined, nothing)
    assert _states(compare_visits(first, second, complete)) == sorted([state, "unchanged"])
    assert _states(compare_visits(first, second)) == ["unchanged", "undecided"], "a deletion alone says nothing"


def _states(found: Any) -> list[str]:
    return sorted(change.state for change in found.changes)


def test_the_page_compares_again_once_a_kind_is_called_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    session, asked = Session(), []
    monkeypatch.setattr(visits_view.st, "session_state", {})
    monkeypatch.setattr(visits_view, "compare_visits", lambda *given: asked.append(given[2]))
    drawn = Corrections().with_mask("HE", np.zeros((1, 1), bool), "drawn")
    monkeypatch.setattr(visits_view, "_findings", lambda *_: object())
    for complete in ((), ("HE",), ("HE",)):
        session.history("later").step(replace(drawn, complete=frozenset(complete)))
        visits_view._compare(session, "earlier", "later", Words())
    assert asked == [(frozenset(), frozenset()), (frozenset(), frozenset({"HE"}))]


def _outlined(area_ppm: float, probability: float) -> Outlined:
    return Outlined((LesionObject(0, 0, 9, None, None, probability),) if area_ppm else (), area_ppm, probability)


@pytest.mark.parametrize("code", ["MA", "HE", "EX"])
def test_a_lesion_is_new_only_beyond_the_noise(code: str) -> None:
    limit, large = 0.5, MIN_PPM[code] + 1
    absent, doubtful = _outlined(0, ABSENT_FRAC * limit / 2), _outlined(0, ABSENT_FRAC * limit * 2)
    assert state_of(code, absent, _outlined(large, 0.9), limit) == "new"
    assert state_of(code, _outlined(large, 0.9), absent, limit) == "gone"
    assert state_of(code, doubtful, _outlined(large, 0.9), limit) == "undecided", "it may have been there"
    assert state_of(code, absent, _outlined(MIN_PPM[code] - 1, 0.9), limit) == "undecided", "it is too small"
    root = 30.0
    for change, state in ((STEADY_ROOT_PPM[code] + 1, "bigger"), (STEADY_ROOT_PPM[code] - 1, "unchanged")):
        assert state_of(code, _outlined(root**2, 0.9), _outlined((root + change) ** 2, 0.9), limit) == state
    assert state_of(code, _outlined((root + 20) ** 2, 0.9), _outlined(root**2, 0.9), limit) == "smaller"


@pytest.mark.parametrize("width_px", [600, 2400])
def test_a_ring_is_as_large_as_its_lesion_whatever_the_photo_s_size(width_px: int) -> None:
    eye = draw_eye(11, grade=2, width_px=width_px)
    masks = {code: np.zeros(eye.pixels.shape[:2], bool) for code in CODES}
    before, radius = _seen(eye.pixels, masks), width_px // 30
    center = int(eye.fovea_xy[0]), int(eye.fovea_xy[1])
    cv2.circle(masks["HE"].view(np.uint8), center, radius, 1, -1)
    after = _seen(eye.pixels, masks)
    (new,) = compare_visits(before, after).new
    on_screen = radius / frame(after.photo, SIDE_PX).transform.px_per_frame_px
    assert _row("new", new)["radius"] == pytest.approx(on_screen, rel=0.05)


def test_in_a_browser_rings_are_around_their_lesions(browser: Any) -> None:
    words = Words("en")
    change = {"what": "gone", "code": "HE", "x": 300.0, "y": 400.0, "radius": 50.0, "area": 9, "quadrant": None}
    data = {"side": SIDE_PX, "first": "", "second": "", "colors": {"HE": "#ff0000"}, "changes": [change], "known": True}
    data |= {"language": "en", "words": texts(words, visits_view._TEXTS)}
    script, style = sources("visits")
    page = browser.new_page()
    page.set_content(f"<style>{style}</style><div id='place'><div data-host></div></div>")
    page.add_script_tag(type="module", content=script.replace("export default function", "window.show = function"))
    page.wait_for_function("Boolean(window.show)")
    page.evaluate("data => { show({ data, parentElement: document.getElementById('place') }); }", data)
    ring = page.locator("g[data-layer=changes] circle.gone")
    assert [ring.get_attribute(name) for name in ("cx", "cy")] == ["300", "400"]
    assert 50 < float(ring.get_attribute("r")) < 65
    page.locator("tr[data-row='0']").click()
    assert float(page.locator(".chosen-ring circle.line").get_attribute("r")) > 65
    stands = 0.5
    for width in (1900, 700):  # in a wide window the photo is narrower than its stage
        page.set_viewport_size({"width": width, "height": 1000})
        page.evaluate("() => dispatchEvent(new Event('resize'))")
        for edge in (0.25, 0.8):
            photo = page.locator("svg[data-photo]").bounding_box()
            page.mouse.move(photo["x"] + stands * photo["width"], photo["y"] + photo["height"] / 2)
            page.mouse.down()
            page.mouse.move(photo["x"] + edge * photo["width"], photo["y"] + photo["height"] / 2, steps=3)
            page.mouse.up()
            line = page.locator("[data-slide]").bounding_box()
            middle = (line["x"] + line["width"] / 2 - photo["x"]) / photo["width"]
            assert middle == pytest.approx(edge, abs=0.01), "the divider stands where the photos meet"
            stands = edge
    page.close()


def test_the_comparison_as_csv(visits: tuple[Any, Findings, Findings]) -> None:
    found, first, second = visits
    text = visits_csv(found, first.to_dict(), second.to_dict()).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == len(found.changes)
    (new,) = (row for row in rows if row["change"] == "new")
    assert new["earlier_area_px"] == new["earlier_x_px"] == ""
    assert float(new["later_probability"]) == pytest.approx(0.9, abs=0.1)
    assert new["earlier_photo"].startswith("'="), "a spreadsheet computes no photo's name"


def _fill(drawn: Any) -> tuple[int, ...]:
    """The color that a shape of a PDF is filled with."""
    import pypdfium2.raw as raw

    levels = [ctypes.c_uint() for _ in range(4)]
    raw.FPDFPageObj_GetFillColor(drawn.raw, *map(ctypes.byref, levels))
    return tuple(level.value for level in levels[:3])


def test_the_comparison_as_one_page_of_pdf(visits: tuple[Any, Findings, Findings]) -> None:
    pdfium = pytest.importorskip("pypdfium2", reason="reading PDFs back needs pypdfium2")
    found, first, second = visits
    for language in LANGUAGES:
        words = Words(language)
        pages = pdfium.PdfDocument(visits_pdf(found, first.to_dict(), second.to_dict(), words, "standard"))
        assert len(pages) == 1
        text = " ".join(pages[0].get_textpage().get_text_range().split())
        assert words("visits.paper") in text
        assert "second.jpg" in text
        assert words("visits.not_one_eye") not in text
        drawn = [one for one in pages[0].get_objects() if one.type == pdfium.raw.FPDF_PAGEOBJ_PATH]
        fills = {color_of(code, "standard") for code in LESIONS} & set(map(_fill, drawn))
        assert len(fills) == len(LESIONS), "the table shows the color of each kind's rings"
    eye = draw_eye(12, grade=2, width_px=1000)
    apart = compare_visits(first, _seen(eye.pixels, eye.masks))
    (page,) = pdfium.PdfDocument(visits_pdf(apart, first.to_dict(), second.to_dict(), Words(), "standard"))
    assert Words()("visits.not_one_eye")[:50] in " ".join(page.get_textpage().get_text_range().split())
