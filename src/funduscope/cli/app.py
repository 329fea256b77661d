"""The verb `app`: the page in the browser."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from funduscope.cli.options import ModelOption


def app(
    port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="The port; else 8501 or the next free one.", min=1, max=65535, metavar="N"),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
    model: ModelOption = None,
) -> int:
    """Open a page in the browser: drop photos, see and correct what was found.

    The page is served to this machine alone, asks no other host for anything, and writes only what is saved in it.
    """
    from funduscope.app.server import serve

    serve(port, headless=headless, model=tuple(model or ()))
    return 0
