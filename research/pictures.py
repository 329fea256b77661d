"""Draws the pictures in docs/images that show the shipped model's answers anew: of the page, the reports, the overlay.

    python -m research.pictures [--only NAME ...]

Run it when a new model ships. All are of the demo photo. Needs chromium and playwright, and the extras app and report.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pypdfium2
from benchmarks.page import FLAGS, free_port, wait_for_server
from playwright.sync_api import Page, sync_playwright

import funduscope
from funduscope.explain.inpaint import inpaint

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
DEMO = resources.files("funduscope") / "demo" / "hrf_07_dr.jpg"
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]


def main() -> None:
    """Draws all, or those that are named."""
    draw: dict[str, Callable[[], None]] = {
        "overlay": _overlay,
        "explanation": _explanation,
        "papers": _papers,
        "app-one": _one,
        "app-narrow": _narrow,
        "app-correct": _correct,
        "app-visits": _visits,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=draw, default=list(draw))
    for name in parser.parse_args().only:
        draw[name]()
        print(name)


@contextmanager
def _predicted(*options: str) -> Iterator[Path]:
    """The results of the demo photo."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "funduscope", "predict", str(DEMO), "--out", place, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield Path(place) / "hrf_07_dr"


def _overlay() -> None:
    with _predicted() as folder:
        picture = _read(folder / "overlay.png")
        height = round(880 / picture.shape[1] * picture.shape[0])
        _write("overlay.png", cv2.resize(picture, (880, height), interpolation=cv2.INTER_AREA))


def _explanation() -> None:
    with _predicted("--explain") as folder:
        both = [_read(folder / f"explanation_{name}.png") for name in ("referable", "edema")]
        both = [
            cv2.resize(one, (744, round(744 / one.shape[1] * one.shape[0])), interpolation=cv2.INTER_AREA)
            for one in both
        ]
        tallest = max(one.shape[0] for one in both)
        both = [cv2.copyMakeBorder(one, 0, tallest - one.shape[0], 0, 0, cv2.BORDER_REPLICATE) for one in both]
        _write("explanation.jpg", np.hstack([both[0], np.full((tallest, 12, 3), 255, np.uint8), both[1]]))


def _papers() -> None:
    for image, pdf, options in (
        ("report-page.jpg", "*_report.pdf", ["--pdf"]),
        ("sheet-hindi.jpg", "*_sheet.pdf", ["--pdf", "--sheet", "--language", "hi"]),
    ):
        with _predicted(*options) as folder:
            page = pypdfium2.PdfDocument(next(folder.glob(pdf)))[0].render(scale=1.5)  # pyright: ignore[reportArgumentType] (a float is meant)
            _write(image, cv2.cvtColor(np.asarray(page.to_pil().convert("RGB")), cv2.COLOR_RGB2BGR))


@contextmanager
def _visit(width: int, height: int, scheme: str = "light") -> Iterator[Page]:
    """The page in a browser of its own."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "funduscope", "app", "--headless", "--port", str(port)],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_server(f"http://127.0.0.1:{port}/_stcore/health")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            size: Any = {"width": width, "height": height}
            page = browser.new_page(viewport=size, locale="en-US", color_scheme="dark" if scheme == "dark" else "light")
            page.set_default_timeout(120_000)
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_test_id("stFileUploaderDropzone").wait_for()
            yield page
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


def _drop(page: Page, *photos: tuple[str, bytes]) -> None:
    page.locator("input[type=file]").first.set_input_files(
        [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in photos]
    )


def _settled(page: Page) -> None:
    page.wait_for_timeout(500)
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.wait_for_timeout(500)


def _one() -> None:
    with _visit(1280, 900) as page:
        _drop(page, ("hrf_07_dr.jpg", DEMO.read_bytes()))
        page.locator("svg[data-photo]").wait_for()
        _settled(page)
        _write("app-one.jpg", _seen(page))


def _narrow() -> None:
    with _visit(480, 1240) as page:
        _drop(page, ("hrf_07_dr.jpg", DEMO.read_bytes()))
        page.locator("svg[data-photo]").wait_for()
        _settled(page)
        _write("app-narrow.jpg", _seen(page))


def _correct() -> None:
    """A hard exudate at the photo's own size, and a microaneurysm drawn next to it."""
    with _visit(1280, 900) as page:
        _drop(page, ("hrf_07_dr.jpg", DEMO.read_bytes()))
        photo = page.locator("svg[data-photo]")
        photo.wait_for()
        _settled(page)
        page.locator("details.tools summary").click()
        page.locator("tr[data-row=EX-0]").click()
        page.locator("[data-zoom=own]").click()
        page.locator("[data-tool=draw]").click()
        page.locator("[data-kind]").select_option("MA")
        photo.scroll_into_view_if_needed()
        box = photo.bounding_box()
        assert box is not None
        x, y = box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"]
        page.mouse.move(x - 12, y - 12)
        page.mouse.down()
        for right, down in ((12, -12), (18, 6), (12, 16), (-12, 12)):
            page.mouse.move(x + right, y + down, steps=3)
        page.mouse.up()
        page.locator("li:has([data-show=MA]) label").filter(has_text="corrected").wait_for()
        _settled(page)
        page.get_by_role("heading", name="hrf_07_dr.jpg").evaluate("node => { node.scrollIntoView(); }")
        page.wait_for_timeout(300)
        _write("app-correct.jpg", _seen(page))


def _visits() -> None:
    """The photo with its larger lesions filled in, and itself turned and smaller, as if they had come in two years."""
    findings = funduscope.load()(str(DEMO))
    pixels = findings.photo.pixels
    outlined = np.logical_or.reduce([findings.mask(code) for code in ("HE", "EX")])
    before = _jpeg(inpaint(pixels, outlined, findings.transform))
    turn = cv2.getRotationMatrix2D((pixels.shape[1] / 2, pixels.shape[0] / 2), 4, 0.97)
    later = _jpeg(cv2.warpAffine(pixels, turn, pixels.shape[1::-1]))
    with _visit(1280, 1000, "dark") as page:
        _drop(page, ("visit-2024.jpg", before), ("visit-2026.jpg", later))
        choice = page.get_by_role("radio", name="Two visits").or_(page.get_by_role("button", name="Two visits"))
        choice.click()
        said = page.get_by_text("Found in both:")
        said.wait_for()
        _settled(page)
        choice.evaluate("node => { node.scrollIntoView(); window.scrollBy(0, -160); }")
        page.wait_for_timeout(300)
        _write("app-visits.jpg", _seen(page))


def _jpeg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def _seen(page: Page) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def _read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return picture


def _write(name: str, picture: np.ndarray) -> None:
    cv2.imwrite(str(IMAGES / name), picture, JPEG if name.endswith(".jpg") else [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
