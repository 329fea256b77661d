"""Start the page's server: on this machine alone, silent towards every other, with its limits set."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import webbrowser
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, Final

from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import LIMITS

ADDRESS: Final = "127.0.0.1"
PORT: Final = 8501
MODEL_VARIABLE: Final = "FUNDUSCOPE_APP_MODEL"
"""Where the page finds which model to load: paths, as a list in JSON; an empty one for the shipped model."""

UPLOAD_MB: Final = LIMITS.max_bytes // 1_000_000
"""The upload limit is what `Photo.open` takes, so that no file is refused twice for two reasons."""

OPTIONS: Final[dict[str, Any]] = {
    "server.address": ADDRESS,
    "server.allowedHosts": ["localhost", ADDRESS],
    "server.headless": True,
    "server.showEmailPrompt": False,
    "server.maxUploadSize": UPLOAD_MB,
    "server.fileWatcherType": "none",
    "server.enableXsrfProtection": True,
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "logger.level": "error",
    "logger.enableRich": False,
    "logger.hideWelcomeMessage": True,
    "global.developmentMode": False,
    "theme.light.primaryColor": "#1f5fbf",
    "theme.dark.primaryColor": "#8ab4f8",
}
"""Streamlit's options, set here so that neither a file in somebody's home nor an older default changes them."""


def serve(port: int | None = None, *, headless: bool = False, model: tuple[Path, ...] = ()) -> None:
    """Serve the page until it is interrupted.

    port: 8501 or, where that is taken, the next free one; a port that is named must be free. headless: open no browser.
    model: what `funduscope.load` takes; the shipped one where empty. Raises `PhotoError` E_CONFIG for a taken port.
    """
    from streamlit import config
    from streamlit.web import bootstrap

    chosen = free_port(port)
    os.environ[MODEL_VARIABLE] = json.dumps([str(path.resolve()) for path in model])
    address = f"http://{ADDRESS}:{chosen}"
    print(f"The page is at {address} (this machine only). Ctrl+C ends it.", flush=True)
    if not headless:
        threading.Thread(target=_open_browser, args=(address, chosen), daemon=True).start()
    options = OPTIONS | {"server.port": chosen}
    # An option that this Streamlit does not have yet would be a complaint on the terminal.
    known = getattr(config, "_config_options_template", options)
    flags = {name.replace(".", "_"): value for name, value in options.items() if name in known}
    with resources.as_file(resources.files("funduscope") / "app" / "streamlit_entry.py") as page:
        bootstrap.load_config_options(flags)
        threading.Thread(target=_get_ready, daemon=True).start()
        bootstrap.run(str(page), False, [], flags)


def free_port(port: int | None) -> int:
    """The port that was named, or the first free one from 8501 on; raises `PhotoError` where there is none."""
    for candidate in range(PORT, PORT + 20) if port is None else (port,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, candidate))
            except OSError:
                continue
            return candidate
    taken = f"{PORT} to {PORT + 19} are" if port is None else f"{port} is"
    raise PhotoError("E_CONFIG", f"port {taken} taken on this machine; expected a free one: name another with --port")


def _get_ready() -> None:
    """Loads the model while the browser starts; a page that comes sooner waits for this rather than beginning anew."""
    from funduscope.app.uploads import model

    with suppress(Exception):  # a model that cannot be loaded is told of on the page, which asks for it again
        model()


def _open_browser(address: str, port: int) -> None:
    """Opens the page once it answers; where it does not within half a minute, the printed address is enough."""
    for _ in range(60):
        time.sleep(0.5)
        with socket.socket() as probe:
            if probe.connect_ex((ADDRESS, port)) == 0:
                webbrowser.open(address)
                return
