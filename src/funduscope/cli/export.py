"""The verb `export`: writes a run's model as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from funduscope.cli.options import DeviceName, DeviceOption


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", exists=True, file_okay=False)],
    data: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Photos to measure the parity of the models on; repeatable.", exists=True, metavar="PATH"),
    ] = None,
    device: DeviceOption = DeviceName.AUTO,
) -> int:
    """Write a run's model as ONNX, in float32 and INT8.

    A model whose outputs differ from the run's is refused.
    """
    from funduscope.cli.terminal import note_system_files
    from funduscope.cli.termination import interrupted_by_sigterm
    from funduscope.export.run import export_run

    note_system_files(data or ())
    with interrupted_by_sigterm():  # so that what is unfinished is removed
        for path in export_run(run, data or None, device=device.value):
            print(path)
    return 0
