"""How quickly the page answers, and whether its memory stays flat: photos uploaded one after the other in one session.

    python -m benchmarks.page FOLDER [--count 50]

FOLDER holds photos (JPEG, PNG, TIFF); where there are fewer than asked for, they are taken again with a corner changed,
so that no answer comes from a cache. Needs chromium and playwright. Prints, for every tenth upload, the seconds
from the upload to the first answer (the grade) and to the whole of it, the processor seconds that the server took, and
the server's memory; then how long outlines take to follow a threshold.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright

from funduscope.i18n.languages import Words

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
STILL = Words("en")("first.more")
"""Shown next to the grade until the rest is there."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def main() -> None:
    """Runs the measurement and prints its table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--count", type=int, default=50)
    given = asked.parse_args()
    port = free_port()
    command = [sys.executable, "-m", "funduscope", "app", "--headless", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for_server(f"http://127.0.0.1:{port}/_stcore/health")
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-US")
            page.set_default_timeout(120_000)
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_test_id("stFileUploaderDropzone").wait_for()
            _measure(page, psutil.Process(server.pid), itertools.islice(_photos(given.folder), given.count))
            _move_threshold(page)
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


def _measure(page: Page, server: psutil.Process, photos: Iterator[tuple[str, bytes]]) -> None:
    print(f"{'upload':>6} {'MB':>6} {'grade s':>7} {'whole s':>7} {'cpu s':>6} {'memory MB':>10} {'peak MB':>8}")
    peak, firsts, walls, spent = 0, [], [], []
    for number, (name, data) in enumerate(photos, start=1):
        cpu, begun = _cpu(server), time.perf_counter()
        page.locator("input[type=file]").set_input_files(
            {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        )
        shown = page.get_by_role("heading", name=name)
        # A photo that is refused, or one view of which is all, has its whole answer at once.
        page.get_by_text(STILL).or_(shown).first.wait_for(state="attached")
        firsts.append(time.perf_counter() - begun)
        shown.wait_for(state="attached")
        page.locator("svg[data-photo]").wait_for()
        walls.append(time.perf_counter() - begun)
        spent.append(_cpu(server) - cpu)
        peak = max(peak, server.memory_info().rss)
        if number % 10 == 0 or number == 1:
            held = server.memory_info().rss / 1e6
            print(
                f"{number:6} {len(data) / 1e6:6.1f} {firsts[-1]:7.2f} {walls[-1]:7.2f} "
                f"{spent[-1]:6.2f} {held:10.0f} {peak / 1e6:8.0f}"
            )
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    middle = len(walls) // 2
    grade, whole, processor = (sorted(seconds)[middle] for seconds in (firsts, walls, spent))
    print(f"median: grade after {grade:.2f} s, all after {whole:.2f} s, {processor:.2f} s of processor time")


def _move_threshold(page: Page) -> None:
    """How long the demo photo takes to follow a threshold: while it is moved, and once it is let go."""
    demo = (resources.files("funduscope") / "demo" / "hrf_07_dr.jpg").read_bytes()
    page.locator("input[type=file]").set_input_files({"name": "demo", "mimeType": "image/jpeg", "buffer": demo})
    page.get_by_role("heading", name="demo", exact=True).wait_for(state="attached")
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.locator("details.thresholds summary").click()
    count = page.locator("li:has([data-show=EX]) label")
    slider = page.locator("[data-threshold=EX]")
    painted = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    shown = []
    for value in range(70, 20, -5):
        begun = time.perf_counter()
        slider.evaluate(f"node => {{ node.value = {value}; node.dispatchEvent(new Event('input')); }}")
        page.evaluate(painted)
        shown.append(time.perf_counter() - begun)
    print(f"threshold moved to what lies above it painted: {min(shown):.2f} to {max(shown):.2f} s")
    slider.focus()
    waits = []
    for key in ("PageDown", "PageUp") * 4:
        before, begun = count.inner_text(), time.perf_counter()
        slider.press(key)
        while count.inner_text() == before and time.perf_counter() - begun < 10:
            time.sleep(0.01)
        waits.append(time.perf_counter() - begun)
        page.wait_for_timeout(500)
    print(f"threshold let go to outlines drawn: {min(waits):.2f} to {max(waits):.2f} s")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _photos(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Endless photos, each another: of the folder, then with one pixel changed."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"{folder} holds no photo ({', '.join(SUFFIXES)}).")
    for round_number in itertools.count():
        for index, path in enumerate(paths):
            name = f"photo{round_number * len(paths) + index}.jpg"
            if round_number == 0:
                yield name, path.read_bytes()
                continue
            pixels = cv2.imread(str(path))
            assert pixels is not None
            pixels[:8, :8] = np.array([round_number % 32, round_number // 32 % 32, 0]) * 8
            yield name, cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_server(address: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not answer")


if __name__ == "__main__":
    main()
