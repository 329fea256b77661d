"""Fixtures for the page: its server in a separate process, and a headless chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from funduscope.app.drafts import VARIABLE

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 180_000


@dataclass
class Served:
    """A running page. home and work started empty; log is the file that the server prints into."""

    address: str
    home: Path
    work: Path
    log: Path
    process: subprocess.Popen[bytes]


@pytest.fixture(autouse=True)
def no_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts of this process go into the test's own folder."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "drafts"))


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("streamlit", reason="the page needs the extra `app`")
    home, work = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    with serve(home, work, tmp_path_factory.mktemp("log") / "log.txt") as server:
        yield server


@contextmanager
def serve(home: Path, work: Path, log: Path, port: int = 0) -> Iterator[Served]:
    """A server with this home, until the block ends. port: 0 for a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "funduscope", "app", "--headless", "--port", str(port)]
    environment = os.environ | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in (VARIABLE, "XDG_STATE_HOME"):
        environment.pop(name, None)
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=file, stderr=file)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/_stcore/health", process)
        yield Served(address, home, work, log, process)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium is on this machine")
    # A separate home, so that chromium leaves its cache and settings out of the user's.
    environment: dict[str, str | float | bool] = dict(os.environ) | {"HOME": str(tmp_path_factory.mktemp("chromium"))}
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=FLAGS, env=environment)
        yield opened
        opened.close()


@pytest.fixture
def serving() -> Callable[..., AbstractContextManager[Served]]:
    """Starts a server of a test's own: see `serve`."""
    return serve


@pytest.fixture
def visiting(browser: Any) -> Callable[[Served], Visitor]:
    """Opens a browser profile for a server."""
    return partial(Visitor, browser)


class Visitor:
    """One browser profile with one page. Records requests to other hosts and errors of the page's scripts.

    While a script runs again Streamlit keeps the old element next to the new one, and Playwright refuses to wait for
    two: tests wait for the `first` text of a kind.
    """

    def __init__(self, browser: Any, served: Served, width: int = 1280, scheme: str = "light") -> None:
        size = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, locale="en-US", accept_downloads=True)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.served, self.address = served, served.address
        self.foreign: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", self._watch)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _watch(self, request: Any) -> None:
        if not request.url.startswith((self.address, self.address.replace("http", "ws"), "data:", "blob:")):
            self.foreign.append(request.url)

    def arrive(self, query: str = "") -> None:
        self.page.goto(f"{self.address}/{query}")
        self.page.get_by_test_id("stFileUploaderDropzone").first.wait_for()

    def drop(self, *files: tuple[str, bytes]) -> None:
        """Uploads files as (name, bytes)."""
        self.unfold_uploads()
        payload = [{"name": name, "mimeType": "application/octet-stream", "buffer": data} for name, data in files]
        self.page.locator("input[type=file]").first.set_input_files(payload)

    def unfold_uploads(self) -> None:
        if not self.page.get_by_test_id("stFileUploaderDropzone").first.is_visible():
            self.unfold(self.page.get_by_test_id("stExpander").first)

    def unfold(self, expander: Any) -> None:
        """Opens a Streamlit expander. While it grows, what it holds moves, and a click on it can miss."""
        expander.locator("summary").click()
        expander.evaluate("""async node => {
            const running = node.getAnimations({subtree: true}).map(animation => animation.finished)
            await Promise.allSettled(running)
        }""")

    @property
    def drafts(self) -> Path:
        """The folder of the server's drafts."""
        return self.served.home / ".local/state/funduscope/drafts"

    @property
    def photo(self) -> Any:
        """The photo, once it is shown."""
        found = self.page.locator("svg[data-photo]")
        found.wait_for()
        return found

    def settled(self) -> None:
        """Waits until the server runs no script for the page."""
        self.page.wait_for_timeout(150)
        self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()

    def leave(self) -> None:
        self.context.close()
        assert not self.foreign, f"requests to other hosts: {self.foreign}"
        assert not self.faults, self.faults


@pytest.fixture
def visitors(browser: Any, served: Served) -> Iterator[Any]:
    """Makes visitors. After the test each one is checked for requests to other hosts and script errors.

    No draft of an earlier test is left.
    """
    shutil.rmtree(served.home / ".local", ignore_errors=True)
    made: list[Visitor] = []

    def make(width: int = 1280, scheme: str = "light") -> Visitor:
        made.append(Visitor(browser, served, width, scheme))
        return made[-1]

    yield make
    for visitor in made:
        visitor.leave()
