"""The verb `app`: serves the page in the browser."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Annotated, Optional

import typer

from funduscope.cli.options import ModelOption
from funduscope.cli.termination import interrupted_by_sigterm


def app(
    port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="The port. Default: 8501 or the next free one.", min=1, max=65535, metavar="N"),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Do not open a browser.")] = False,
    model: ModelOption = None,
) -> int:
    """Open the page in the browser: add photos, correct the findings.

    The page is served to this machine only, loads nothing from any other host, and writes only what you save in it,
    and drafts of your corrections.
    """
    with interrupted_by_sigterm(), suppress(KeyboardInterrupt):  # before the page handles both signals itself
        from funduscope.app.server import serve

        serve(port, headless=headless, model=tuple(model or ()))
    if threading.active_count() > 1:
        # A model is loaded, or reads a photo: it would abort a process that ends in the ordinary way.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):
                stream.flush()
        os._exit(0)
    return 0
