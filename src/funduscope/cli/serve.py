"""The verb `serve`: the HTTP service."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Annotated, Optional

import typer

from funduscope.cli.options import DeviceName, DeviceOption, ModelOption, Threads


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.", metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for a free one.", min=0, max=65535, metavar="N")] = 8000,
    tokens: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A file of bearer tokens, one per line; read at every request.", metavar="FILE"),
    ] = None,
    model: ModelOption = None,
    queue: Annotated[
        int, typer.Option(help="Photos that wait or are read at once; any other is refused.", min=1, metavar="N")
    ] = 16,
    parallel: Annotated[
        int,
        typer.Option(
            help="Photos that are read at once, each by a process with the model.", min=1, max=64, metavar="N"
        ),
    ] = 2,
    deadline: Annotated[float, typer.Option(help="Seconds that a photo may take.", min=1, max=3600, metavar="S")] = 60,
    max_body: Annotated[
        int, typer.Option("--max-body", help="Largest request body, in MB.", min=1, max=200, metavar="MB")
    ] = 64,
    threads: Threads = 0,
    device: DeviceOption = DeviceName.AUTO,
) -> int:
    """Serve the model over HTTP: POST /v1/findings.

    Reachable from this machine alone unless --host says otherwise, which needs --tokens. The log is one JSON object a
    line. SIGTERM and Ctrl+C end it once what runs is finished; SIGHUP loads the model anew.
    """
    if hasattr(signal, "SIGHUP") and not os.isatty(0):  # of a terminal that is closed it ends what starts
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the service loads the model anew at it
    from funduscope.inference.loading import absolute, check_models
    from funduscope.serve.auth import Tokens
    from funduscope.serve.json_logs import JsonLog
    from funduscope.serve.limits import ServiceLimits
    from funduscope.serve.service import run_service
    from funduscope.serve.worker import WorkerSettings

    if queue < parallel:
        raise typer.BadParameter("--queue counts the photos that are read, too: it must be at least --parallel.")
    if math.isnan(deadline):
        raise typer.BadParameter("--deadline is not a number: expected seconds, 1 to 3600.")
    check_models(model or ())
    most = max_body * 1_000_000
    limits = ServiceLimits(most, queue, parallel, deadline, max(256_000_000, 2 * most))
    settings = WorkerSettings(tuple(map(absolute, model or ())), threads, device.value)
    run_service(host, port, settings, limits, None if tokens is None else Tokens(tokens), JsonLog())
    return 0
