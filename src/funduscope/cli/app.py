"""The verb `app`: serves the page in the browser."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from funduscope.cli.options import ModelOption


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
    from funduscope.app.server import serve

    serve(port, headless=headless, model=tuple(model or ()))
    return 0
