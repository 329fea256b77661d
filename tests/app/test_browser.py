"""The page in a real browser: photos are read, viewed, corrected, saved and restored; other files are refused."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter

import funduscope
from funduscope.data import table
from funduscope.data.readers import idrid
from funduscope.i18n.languages import Words
from funduscope.vocabulary import LESIONS

DEMO = (resources.files("funduscope") / "demo" / "hrf_07_dr.jpg").read_bytes()
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def findings() -> Any:
    """The findings of the demo photo, as the command line gives them."""
    return funduscope.load()(DEMO, name="hrf_07_dr.jpg")


def _visible_width(photo: Any) -> float:
    return float(photo.get_attribute("viewBox").split()[2])


def _tool(visitor: Any, name: str) -> None:
    if not visitor.page.locator("[data-tool=view]").is_visible():
        visitor.page.locator("details.tools summary").click()
    visitor.page.locator(f"[data-tool={name}]").click()


def _at(visitor: Any, x: float, y: float) -> tuple[float, float]:
    """Where a point of the photo is on the screen."""
    visitor.page.locator("[data-zoom=all]").scroll_into_view_if_needed()
    visitor.photo.scroll_into_view_if_needed()
    box = visitor.photo.bounding_box()
    left, top, width, height = map(float, visitor.photo.get_attribute("viewBox").split())
    return box["x"] + (x - left) / width * box["width"], box["y"] + (y - top) / height * box["height"]


def test_a_photo_is_read_and_viewed(visitors: Make, findings: Any) -> None:
    visitor = visitors()
    visitor.arrive()
    visitor.drop(("someone's eye.jpg", DEMO))
    photo = visitor.photo
    page = visitor.page
    headline = findings.to_dict()["headline"]
    for part in ("grade", "dme", "referral"):
        page.locator(".st-key-headline").get_by_text(headline[part]["says"]).first.wait_for()
    for code in LESIONS:
        label = page.locator(f"li:has([data-show={code}]) label")
        assert label.inner_text().split()[-1] == str(findings.count(code))
    for note in findings.to_dict()["evidence"]:
        assert page.get_by_text(note["says"]).count()

    page.locator("[data-show=HE]").uncheck()
    assert page.locator("g[data-layer=HE]").is_hidden()
    page.locator("[data-fade=EX]").fill("40")
    assert page.locator("g[data-layer=EX]").get_attribute("opacity") == "0.4"

    # Choosing a row zooms to its lesion; clicking a lesion chooses its row.
    first = page.locator("tr[data-row=MA-3]")
    first.click()
    assert first.get_attribute("aria-selected") == "true"
    one = findings.objects("MA")[3]
    left, top, width, height = map(float, photo.get_attribute("viewBox").split())
    assert width < findings.photo.width / 4
    assert left < one.x_px < left + width
    assert top < one.y_px < top + height
    page.locator("[data-zoom=own]").click()
    assert page.locator("[data-scale]").inner_text().startswith("100 %")
    page.locator("[data-zoom=all]").click()
    assert _visible_width(photo) == findings.photo.width
    other = findings.objects("EX")[0]
    page.mouse.click(*_at(visitor, other.x_px, other.y_px))
    assert page.locator("tr[data-row=EX-0]").get_attribute("aria-selected") == "true"

    photo.focus()
    page.keyboard.press("+")
    assert _visible_width(photo) < findings.photo.width
    page.keyboard.press("h")
    assert page.locator("g[data-layer=EX]").is_hidden()
    _tool(visitor, "fovea")
    photo.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("fovea moved").first.wait_for()


@pytest.mark.slow
def test_photo_and_answer_are_seen_together(visitors: Make, findings: Any) -> None:
    """The photo takes most of the width and stays in sight; details, ruler and filters answer in the photo itself."""
    visitor = visitors()
    visitor.arrive()
    visitor.drop(("eye.jpg", DEMO))
    photo, page = visitor.photo, visitor.page
    visitor.settled()
    answer = page.locator(".st-key-headline")
    assert photo.bounding_box()["width"] >= 0.6 * 1280
    assert abs(answer.bounding_box()["y"] - photo.bounding_box()["y"]) < 80
    assert page.locator(".stage .corner").inner_text() in ("Right eye", "Left eye")
    page.locator("[data-testid=stMain]").evaluate("node => node.scrollTo(0, 900)")
    page.wait_for_timeout(200)
    assert photo.bounding_box()["y"] >= 0, "the photo stays while the controls scroll"

    # A click shows the lesion's details where it is; Escape hides them.
    one = findings.objects("HE")[0]
    page.mouse.click(*_at(visitor, one.x_px, one.y_px))
    tip = page.locator(".tip.is-shown")
    for text in ("Haemorrhages", f"{round(100 * one.probability)} %", f"{one.area_px:,}"):
        assert text in tip.inner_text()
    photo.focus()
    page.keyboard.press("Escape")
    assert tip.count() == 0

    # The table is one tab stop; arrows go through its rows.
    assert page.locator(".panel tr[tabindex='0']").count() == 1
    page.locator("tr[data-row=MA-0]").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("tr[data-row=MA-1]").get_attribute("aria-selected") == "true"
    assert "Microaneurysms" in tip.inner_text()
    assert page.locator(".panel tr[tabindex='0']").get_attribute("data-row") == "MA-1"

    photo.focus()
    for key, name in (("r", "red-free"), ("c", "contrast")):
        page.keyboard.press(key)
        assert page.locator(f"[data-filter={name}]").get_attribute("aria-pressed") == "true"
    red, green, _ = np.array(Image.open(io.BytesIO(photo.screenshot())).convert("RGB"))[300, 60:80].T.astype(int)
    assert red.mean() > 10
    assert (abs(red - green) < 3).all(), "without red, the photo is gray"

    # The main button alone drags the photo.
    page.keyboard.press("0")
    page.keyboard.press("+")
    disc = findings.disc_diameter_px
    (x, y), (to_x, to_y) = (_at(visitor, 1000, 1000), _at(visitor, 1000 + 2 * disc, 1000))
    for button, moves in (("right", False), ("left", True)):
        seen = photo.get_attribute("viewBox")
        page.mouse.move(x, y)
        page.mouse.down(button=button)
        page.mouse.move(x + 40, y, steps=3)
        page.mouse.up(button=button)
        assert (photo.get_attribute("viewBox") != seen) == moves, button

    # The ruler measures in disc diameters: by mouse, and by keyboard from the middle.
    page.keyboard.press("0")
    page.keyboard.press("m")
    (x, y), (to_x, to_y) = (_at(visitor, 1000, 1000), _at(visitor, 1000 + 2 * disc, 1000))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=3)
    page.mouse.up()
    assert re.match(r"(1\.9[89]|2\.0[012]) DD · ", tip.inner_text())
    photo.focus()
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert float(tip.inner_text().split(" DD")[0]) > 0.1
    page.keyboard.press("Escape")
    assert page.locator("[data-ruler]").get_attribute("aria-pressed") == "false"


@pytest.mark.slow
def test_keys_go_from_photo_to_photo(visitors: Make) -> None:
    """Also in a narrow window, where the answer stands directly under the photo and the buttons under the answer."""
    visitor = visitors(480)
    visitor.arrive()
    other = Image.open(io.BytesIO(DEMO))
    visitor.drop(("first.jpg", DEMO))
    visitor.photo.wait_for()
    visitor.settled()
    page = visitor.page
    answer = page.locator(".st-key-headline")

    def end(place: Any) -> float:
        box = place.bounding_box()
        return float(box["y"] + box["height"])

    assert answer.bounding_box()["y"] - end(visitor.photo) < 40
    assert page.locator("[data-zoom=all]").bounding_box()["y"] > end(answer)
    visitor.drop(("second.png", _saved(other.resize((1024, 683)), "PNG")))
    page.get_by_text("2 / 2").first.wait_for()
    visitor.settled()
    for key, position in (("n", "1 / 2"), ("p", "2 / 2"), ("p", "1 / 2")):
        visitor.photo.focus()
        page.keyboard.press(key)
        page.get_by_text(position).first.wait_for()
        visitor.settled()
    page.locator("[data-next]").click()
    page.get_by_text("2 / 2").first.wait_for()


@pytest.mark.slow
def test_one_photos_layers_are_shown_whatever_was_shown_before(visitors: Make) -> None:
    """After another run of the page, another photo, another view and after all photos were forgotten."""
    visitor = visitors()
    visitor.arrive("?lang=de")
    page = visitor.page
    assert page.evaluate("document.documentElement.lang") == "de"
    visitor.drop(("first.jpg", DEMO))
    visitor.photo.wait_for()
    visitor.settled()
    _tool(visitor, "fovea")
    for name in ("ArrowRight", "ArrowDown"):
        visitor.photo.focus()
        page.keyboard.press(name)
        page.keyboard.press("Enter")
        page.locator("[data-undo]:not([disabled])").wait_for()
        visitor.settled()
    blank = np.array(Image.open(io.BytesIO(DEMO)).resize((1024, 683)))
    visitor.drop(("second.png", _saved(Image.fromarray(blank), "PNG")))
    page.get_by_text("2 / 2").first.wait_for()
    visitor.settled()
    assert page.locator(".panel").count() == 1
    words = Words("de")
    page.get_by_role("radio", name=words("views.many")).click()
    page.locator("[data-patient=second] button[data-open]").click()
    visitor.photo.wait_for()
    visitor.settled()
    assert page.locator(".panel").count() == 1
    clear = page.locator(".st-key-clear button")
    visitor.unfold_uploads()
    clear.click()
    page.locator(".st-key-forget-yes button").click()
    page.locator("svg[data-photo]").wait_for(state="detached")
    visitor.settled()
    visitor.drop(("third.png", _saved(Image.fromarray(blank[:, ::-1]), "PNG")))
    visitor.photo.wait_for()
    visitor.settled()
    assert page.locator(".panel").count() == 1


@pytest.mark.slow
def test_a_refused_photo_that_is_graded_anyway_is_drawn_with_its_lesions(visitors: Make) -> None:
    visitor = visitors()
    visitor.arrive()
    page = visitor.page
    blurred = Image.open(io.BytesIO(DEMO)).filter(ImageFilter.GaussianBlur(50))
    visitor.drop(("blurred.jpg", _saved(blurred, "JPEG")))
    visitor.photo.wait_for()
    assert page.locator("[data-layer=EX]").count() == 0
    visitor.settled()
    page.get_by_role("button", name="Grade anyway").click()
    page.locator("g[data-layer=EX]").wait_for(state="attached")
    page.locator("[data-threshold=EX]").wait_for(state="attached")
    page.locator("[data-tool=brush]").wait_for(state="attached")


@pytest.mark.slow
def test_a_threshold_redraws_while_it_is_moved(visitors: Make, findings: Any) -> None:
    visitor = visitors()
    visitor.arrive()
    page = visitor.page
    page.get_by_role("button", name="Use the demo photo").click()
    photo = visitor.photo
    label = page.locator("li:has([data-show=EX]) label")
    before = findings.count("EX")
    label.filter(has_text=f" {before}").wait_for()
    page.locator("details.thresholds summary").click()
    slider = page.locator("[data-threshold=EX]")
    assert slider.input_value() == str(round(100 * findings.card.thresholds["EX"]))

    def yellow() -> int:
        """How much of the photo is shown in the color of hard exudates."""
        pixels = cv2.imdecode(np.frombuffer(photo.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        blue, green, red = (pixels[..., channel].astype(int) for channel in range(3))
        return int(((red > 150) & (green > 140) & (blue < 110)).sum())

    # While it moves, before the server answers, the browser shows what lies above it, without outlines.
    areas = []
    for value in ("3", "60"):
        slider.evaluate(
            f"node => {{ node.value = {value}; node.dispatchEvent(new Event('input', {{ bubbles: true }})); }}"
        )
        assert page.locator("[data-above]").is_visible()
        assert page.locator("g[data-layer=EX]").evaluate("node => getComputedStyle(node).visibility") == "hidden"
        page.wait_for_timeout(200)
        areas.append(yellow())
    assert areas[0] > areas[1]
    assert label.inner_text().split()[-1] == str(before), "the server was not asked"

    # Released where it began it changes nothing, and its outlines are seen again.
    slider.evaluate(
        f"node => {{ node.value = {round(100 * findings.card.thresholds['EX'])};"
        " node.dispatchEvent(new Event('input')); node.dispatchEvent(new Event('pointerup')); }"
    )
    page.locator("[data-above]").wait_for(state="hidden")
    assert page.locator("g[data-layer=EX]").evaluate("node => getComputedStyle(node).visibility") == "visible"

    # After it is released, the server draws outlines and counts.
    slider.focus()
    slider.press("End")
    label.filter(has_not_text=f" {before}").wait_for()
    assert int(label.inner_text().split()[-1]) < before
    assert page.locator("[data-above]").is_hidden()
    page.locator("[data-reset]").click()
    label.filter(has_text=f" {before}").wait_for()
    assert slider.input_value() == str(round(100 * findings.card.thresholds["EX"]))


@pytest.mark.slow
def test_corrections_are_saved_and_restored(visitors: Make, findings: Any, tmp_path: Path) -> None:
    visitor = visitors()
    visitor.arrive()
    visitor.drop(("eye.jpg", DEMO))
    visitor.photo.wait_for()
    page = visitor.page
    count = page.locator("li:has([data-show=MA]) label")

    # Delete a microaneurysm, draw another around a place where there is none, move the fovea, change the grade.
    one = findings.objects("MA")[0]
    page.locator("tr[data-row=MA-0]").click()
    page.locator("details.tools summary").click()
    page.locator("[data-remove]").click()
    count.filter(has_text=f"{findings.count('MA') - 1} · corrected").wait_for()
    page.locator("[data-zoom=all]").click()
    _tool(visitor, "draw")
    page.locator("[data-kind]").select_option("MA")
    middle = findings.photo.width * 0.5, findings.photo.height * 0.8
    x, y = _at(visitor, *middle)
    page.mouse.move(x - 12, y - 12)
    page.mouse.down()
    for right, down in ((12, -12), (12, 12), (-12, 12)):
        page.mouse.move(x + right, y + down, steps=3)
    page.mouse.up()
    count.filter(has_text=f" {findings.count('MA')} · corrected").wait_for()
    page.get_by_role("button", name="Yes, complete").click()
    page.get_by_role("button", name="Yes, complete").wait_for(state="hidden")
    visitor.settled()
    _tool(visitor, "fovea")
    page.mouse.click(*_at(visitor, 1900, 1250))
    page.get_by_text("fovea moved").first.wait_for()
    visitor.settled()
    grade = page.get_by_test_id("stSelectbox").filter(has_text=re.compile("^Grade")).locator("input")
    grade.focus()  # by keyboard: the list folds up when the page scrolls to a click
    grade.press("ArrowDown")
    page.get_by_role("option", name="3 Severe").wait_for()
    grade.press_sequentially("3 Sev")
    page.get_by_role("option", name="2 Moderate").wait_for(state="hidden")
    grade.press("Enter")
    page.get_by_text("who gave no name:").filter(has_text="3 Severe").first.wait_for()
    visitor.settled()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download as zip").click()
    saved = Path(waiting.value.path()).read_bytes()

    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "corrections"
    labels = idrid.read(folder)[0].labels
    assert set(labels.masks) == {"MA"}, "only complete structures become labels"
    mask = labels.masks["MA"].load(findings.photo.height, findings.photo.width)
    assert not mask[int(one.y_px), int(one.x_px)]
    assert mask[int(middle[1]), int(middle[0])]
    row = table.read(folder / "labels.csv")[0].labels
    assert (row.grade, row.dme, set(row.masks)) == (3, None, {"MA"})
    assert row.fovea_xy is not None
    assert np.hypot(row.fovea_xy[0] - 1900, row.fovea_xy[1] - 1250) < 10

    other = visitors()
    other.arrive()
    other.drop(("corrections.zip", saved))
    other.photo.wait_for()
    other.page.get_by_text("who gave no name:").filter(has_text="3 Severe").first.wait_for()
    again = other.page.locator("li:has([data-show=MA]) label").inner_text()
    assert f" {findings.count('MA')} · corrected" in again


def _saved(image: Image.Image, kind: str, more: list[Image.Image] | None = None) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, save_all=bool(more), append_images=more or [])
    return file.getvalue()


def _flipped(data: bytes) -> bytes:
    """The file with one flipped bit in its pixels."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.slow
def test_a_file_that_is_no_photo_is_refused_with_a_reason(visitors: Make, served: Any) -> None:
    visitor = visitors()
    visitor.arrive()
    black = cv2.imencode(".png", np.zeros((400, 500, 3), np.uint8))[1].tobytes()
    visitor.drop(
        ("patient-meier.jpg", b"no picture at all"),
        ("empty.png", b""),
        ("half.jpg", DEMO[: len(DEMO) // 2]),
        ("tiny.png", cv2.imencode(".png", np.zeros((20, 20, 3), np.uint8))[1].tobytes()),
        ("<img src=x onerror=alert(1)> *a*.jpg", DEMO[:-1]),
        ("corrections.zip", b"PK\x03\x04 and nothing else"),
        ("bomb.png", _saved(Image.new("1", (12_000, 12_000)), "PNG")),
        ("stack.tif", _saved(Image.new("L", (300, 300)), "TIFF", [Image.new("L", (300, 300))])),
        ("float.tif", _saved(Image.new("F", (300, 300)), "TIFF")),
        ("flipped.png", _flipped(black)),
        ("scan.pdf", b"%PDF-1.7 and so on"),
        ("black.png", black),
    )
    page = visitor.page
    visitor.photo.wait_for()  # with a photo on the page the list is folded
    visitor.settled()
    visitor.unfold(page.get_by_test_id("stExpander").filter(has_text="Not read: 11"))
    page.get_by_text("(E_").first.wait_for()
    text = page.locator("body").inner_text()
    codes = {one.split("(")[-1].rstrip(")") for one in text.splitlines() if "(E_" in one}
    wanted = {"E_FORMAT", "E_EMPTY", "E_TRUNCATED", "E_TOO_SMALL", "E_LABELS", "E_TOO_MANY_PIXELS", "E_MULTIPAGE"}
    assert codes == wanted | {"E_DEPTH", "E_CORRUPT"}
    sentence = "The TIFF holds several pictures of full size; expected one: save each as a file."
    assert sentence in text, "each with its sentence"
    assert "<img src=x onerror=alert(1)> *a*.jpg" in text, "a name is only text"
    page.locator(".fs-banner").wait_for()  # the black picture is read and gets no grade
    assert page.get_by_text(re.compile(r"Grade \d")).count() == 0
    log = served.log.read_text()
    assert "patient-meier" not in log
    assert "Traceback" not in log


@pytest.mark.slow
def test_two_visitors_and_a_reload(visitors: Make) -> None:
    """Each has their own photos. A reload starts an empty session in the chosen language."""
    first, second = visitors(), visitors(480, "dark")
    first.arrive()
    second.arrive("?lang=de")
    first.drop(("first.jpg", DEMO))  # both at once
    second.page.get_by_role("button", name="Das Demo-Foto nehmen").click()
    first.photo.wait_for()
    second.photo.wait_for()
    second.settled()
    assert second.page.get_by_text("first.jpg").count() == 0
    assert second.page.get_by_text("Diabetische Retinopathie").count()
    assert second.page.evaluate("document.documentElement.scrollWidth <= 480")
    second.drop(("again.jpg", DEMO))
    second.page.reload()
    second.page.get_by_role("button", name="Das Demo-Foto nehmen").wait_for()
    assert second.page.locator("svg[data-photo]").count() == 0
    assert first.page.get_by_text("first.jpg").count(), "the other visitor's photo is still there"


@pytest.mark.slow
def test_a_correction_stays_whatever_languages_are_chosen(visitors: Make) -> None:
    """Twice, because Streamlit notices what it takes for another choice only the second time."""
    visitor = visitors()
    visitor.arrive()
    visitor.drop(("eye.jpg", DEMO))
    visitor.photo.wait_for()
    page = visitor.page
    visitor.settled()
    page.get_by_text("Correct", exact=True).first.click()
    visitor.settled()
    grade = page.get_by_test_id("stSelectbox").filter(has_text=re.compile("^Grade")).locator("input")
    grade.focus()
    grade.press_sequentially("3 Sev")
    page.get_by_role("option", name="2 Moderate").wait_for(state="hidden")
    grade.press("Enter")
    page.get_by_text("who gave no name:").filter(has_text="3 Severe").first.wait_for()
    for language, name in (("de", "Deutsch"), ("es", "Español"), ("en", "English")):
        visitor.settled()
        words, choice = Words(language), page.locator(".st-key-language input")
        choice.focus()
        choice.press_sequentially(name[:3])
        page.get_by_role("option", name=name).wait_for()
        choice.press("Enter")
        says = f"3 {words('grade.3')}"
        record = words.template("correct.record_unnamed").partition("{when}")[2]
        page.get_by_text(record.strip(": ")).filter(has_text=says).first.wait_for()
        visitor.settled()
        assert page.get_by_text("E_INTERNAL").count() == 0
    (draft,) = (file for file in visitor.served.home.rglob("*") if file.is_file() and "drafts" in str(file))
    assert '"grade": 3' in draft.read_text("utf-8")
    view = page.get_by_role("radio", name="All photos").or_(page.get_by_role("button", name="All photos"))
    view.click()
    page.get_by_text("Photos: 1.").first.wait_for()
    visitor.settled()
    view.click()
    visitor.settled()
    assert page.get_by_text("Photos: 1.").count(), "the view that is shown stays"


@pytest.mark.slow
def test_two_visits_are_aligned(visitors: Make) -> None:
    visitor = visitors()
    visitor.arrive()
    pixels = cv2.imdecode(np.frombuffer(DEMO, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    turn = cv2.getRotationMatrix2D((pixels.shape[1] / 2, pixels.shape[0] / 2), 4, 0.97)
    later = cv2.warpAffine(pixels, turn, pixels.shape[1::-1])
    visitor.drop(("2024.jpg", DEMO), ("2026.jpg", cv2.imencode(".jpg", later)[1].tobytes()))
    page = visitor.page
    page.get_by_text("Photos: 2. To refer: 2.").first.wait_for()
    visitor.settled()  # the button is drawn after the sentence
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Table (CSV)").click()
    rows = Path(waiting.value.path()).read_text("utf-8-sig").splitlines()
    assert len(rows) == 3
    assert "2024.jpg" in rows[1] + rows[2]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="One page per photo (PDF)").click()
    assert Path(waiting.value.path()).read_bytes().count(b"/Type /Page\n") == 2
    page.get_by_role("radio", name="Two visits").or_(page.get_by_role("button", name="Two visits")).click()
    page.get_by_text("Found in both:").first.wait_for()
    earlier, later = page.locator("[data-visit=earlier]"), page.locator("[data-visit=later]")
    assert (earlier.inner_text(), later.inner_text()) == ("Earlier visit", "Later visit")
    divider = page.locator("[data-slide]")
    over = page.locator("svg[data-photo] image").nth(1)
    divider.focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    assert divider.get_attribute("aria-valuenow") == "20"
    assert "80%" in over.get_attribute("style")
    box = visitor.photo.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "70"
    page.locator("[data-swap]").click()
    assert earlier.is_hidden()
    assert later.is_visible()
    page.locator("[data-swap]").click()
    assert earlier.is_visible()
    assert later.is_hidden()


@pytest.mark.slow
def test_pdfs_and_leaflets_are_downloaded(visitors: Make, findings: Any) -> None:
    """The page for the medical record and the patient leaflet are in the language of the page."""
    visitor = visitors()
    visitor.arrive("?lang=hi")
    visitor.drop(("someone's eye.jpg", DEMO))
    visitor.photo.wait_for()
    visitor.settled()
    words, page = Words("hi"), visitor.page
    loaded = "[...document.fonts].some(face => face.unicodeRange.startsWith('U+900') && face.status === 'loaded')"
    assert page.evaluate(loaded), "the page brings its own Hindi font"
    page.get_by_text(words("print.title")).click()
    files = {}
    for name in ("page", "leaflet_pdf", "leaflet_html"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=words(f"print.{name}")).click()
        assert "someone" not in waiting.value.suggested_filename
        files[name] = Path(waiting.value.path()).read_bytes()
    assert files["page"].startswith(b"%PDF")
    assert files["leaflet_pdf"].startswith(b"%PDF")
    leaflet = files["leaflet_html"].decode()
    assert words("sheet.next.urgent") in leaflet
    assert "someone" not in leaflet
    pdfium = pytest.importorskip("pypdfium2", reason="reading PDFs back needs pypdfium2")
    (one,) = pdfium.PdfDocument(files["page"])
    text = " ".join(one.get_textpage().get_text_range().split())
    assert "someone's eye.jpg" in text
    for note in findings.to_dict()["evidence"]:
        assert words.message(note) in text


def test_nothing_but_drafts_is_written(visitors: Make, served: Any) -> None:
    """After everything above: in the home of the server there are drafts of corrections alone, without a name."""
    files = [path for place in (served.home, served.work) for path in place.rglob("*") if path.is_file()]
    drafts = visitors().drafts
    assert [path for path in files if path.parent != drafts] == []
    assert not [path for path in files if b"eye.jpg" in path.read_bytes()]
