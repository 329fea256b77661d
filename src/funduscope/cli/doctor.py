"""The verb `doctor`: finds the errors of a data set before a model is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from funduscope.cli.options import AsJson, OutFolder, Workers


def doctor(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="The folder of a data set, of several or of photos, or a table.",
            exists=True,
        ),
    ],
    out: OutFolder = None,
    model: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            help="A run whose predictions are compared with the labels of its test fold; repeatable.",
            exists=True,
            file_okay=False,
            metavar="RUN",
        ),
    ] = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> int:
    """Find errors in a data set before a model is trained on it.

    doctor.html and doctor.json are written to --out. The exit code is 1 if there is an error, which would make a
    training or a score wrong. DATA is only read. Examined photos are kept in a cache, so that a stopped run continues.
    """
    import json

    from funduscope.cli.terminal import complain, doctor_lines, note_system_files, tracked
    from funduscope.doctor.examine import check_data

    note_system_files([data])
    report = check_data(data, models=model or (), workers=workers, progress=tracked)
    if out is not None:
        report.write(out, tracked)
    if as_json:
        print(json.dumps(report.to_dict(), allow_nan=False))
    else:
        for line in doctor_lines(report.to_dict()):
            print(line)
        if out is not None:
            print(f"Every finding with its pictures: {out / 'doctor.html'}")
    if not report.photos:
        complain(f"no photo was found in {data}: expected JPEG, PNG, TIFF or DICOM files")
    return 1 if report.has_errors or not report.photos else 0
