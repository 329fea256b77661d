"""Starts the page's server: reachable from this machine only, without connections to any other, with limits set."""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, Final

from funduscope.app import MODEL_VARIABLE
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.limits import LIMITS
from funduscope.inference.loading import absolute, check_models

ADDRESS: Final = "127.0.0.1"
PORT: Final = 8501

UPLOAD_MB: Final = LIMITS.max_bytes // 1_000_000
"""The upload limit, equal to that of `Photo.open`, so that a file is refused in one place only."""

OPTIONS: Final[dict[str, Any]] = {
    "server.address": ADDRESS,
    "server.allowedHosts": ["localhost", ADDRESS],
    "server.showEmailPrompt": False,
    "server.maxUploadSize": UPLOAD_MB,
    "server.fileWatcherType": "none",
    "server.enableXsrfProtection": True,
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    # Otherwise a second thread runs the page while the first one still changes the same session: strokes are lost.
    "runner.fastReruns": False,
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
"""Streamlit's options. All are set here, so that neither a file in the user's home nor another default changes them."""


def serve(port: int | None = None, *, headless: bool = False, model: tuple[str, ...] = ()) -> None:
    """Serves the page until it is interrupted.

    port: None for the first free port from 8501 on; a given port must be free. headless: opens no browser. model: as
    `funduscope.load` takes them, empty for the shipped one. Raises `PhotoError` E_CONFIG for a port in use,
    `ModelError` for a path that leads to no model, `RuntimeError` for a user without a home folder.
    """
    from streamlit import config
    from streamlit.web import bootstrap

    Path.home()  # Streamlit needs one: refused here, before an address is printed
    check_models(model)
    chosen = free_port(port)
    os.environ[MODEL_VARIABLE] = json.dumps([absolute(name) for name in model])
    print(f"The page is at http://{ADDRESS}:{chosen} (this machine only). Ctrl+C ends it.", flush=True)
    options = OPTIONS | {"server.port": chosen, "server.headless": headless}
    # Streamlit prints a warning for an option that its version does not know.
    known = getattr(config, "_config_options_template", options)
    flags = {name.replace(".", "_"): value for name, value in options.items() if name in known}
    with resources.as_file(resources.files("funduscope") / "app" / "streamlit_entry.py") as page:
        bootstrap.load_config_options(flags)
        threading.Thread(target=_preload_model, daemon=True).start()
        bootstrap.run(str(page), False, [], flags)


def free_port(port: int | None) -> int:
    """The given port or the first free one from 8501 on; raises `PhotoError` E_CONFIG if none is free."""
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


def _preload_model() -> None:
    """Loads the model while the browser starts; a page that opens earlier waits for the same load."""
    from funduscope.app.uploads import model

    with suppress(Exception):  # the page asks for the model again and shows the error
        model()
