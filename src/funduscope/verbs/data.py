"""The verbs that look at data sets: doctor, folds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from funduscope.options import AsJson, OutFolder

Workers = Annotated[int, typer.Option(help="Processes; 0 works in this one.", min=0, max=256, metavar="N")]


def doctor(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A data set's folder, a folder of several or of photos, or a table.", exists=True
        ),
    ],
    out: OutFolder = None,
    model: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            help="A run whose answers are held against the labels of its test fold; repeatable.",
            exists=True,
            file_okay=False,
            metavar="RUN",
        ),
    ] = None,
    fix: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="New folder for a repaired copy of labels, masks and folds.", metavar="FOLDER"),
    ] = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> int:
    """Find what is wrong with a data set, before a model learns it.

    --out takes doctor.html and doctor.json. The exit code is 1 where a training or a score would be spoiled. DATA is
    only read. What was seen is kept: a run that was stopped goes on.
    """
    import json

    from funduscope.data.case import LabelError
    from funduscope.doctor.doctor import examine
    from funduscope.doctor.repair import check_place, repair
    from funduscope.terminal import doctor_lines, tracked

    if fix is not None:
        try:
            check_place(data, fix)  # before minutes are spent
        except LabelError as error:
            raise typer.BadParameter(str(error), param_hint="--fix") from None
    report = examine(data, models=model or (), workers=workers, progress=tracked)
    if out is not None:
        report.write(out, tracked)
    if as_json:
        print(json.dumps(report.to_dict(), allow_nan=False))
    else:
        for line in doctor_lines(report.to_dict()):
            print(line)
        if out is not None:
            print(f"Each with its pictures: {out / 'doctor.html'}")
    if fix is not None:
        changes = repair(report.survey, fix, report.findings, report.cases, report.twins)
        if not as_json:
            print(f"{len(changes)} changes, each with its reason: {fix / 'changes.csv'}")
    return 1 if report.has_errors else 0


def folds(
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="As --data of train.", exists=True)],
    out: Annotated[Path, typer.Option(help="The file to write.", dir_okay=False, metavar="FILE")],
    count: Annotated[int, typer.Option(help="How many folds.", min=2, max=100, metavar="N")] = 5,
    seed: Annotated[int, typer.Option(help="Of the draw.", min=0, metavar="N")] = 42,
    workers: Workers = 2,
) -> int:
    """Put photos into folds and write them as a CSV.

    Visits stay whole, photos that show one eye stay together though their names do not tell, and grades are spread
    evenly; the same data and seed give the same folds. IDRiD's official test split stays in none.
    """
    from collections import Counter

    from funduscope.data.folds import write_folds
    from funduscope.data.grouping import clean_folds
    from funduscope.data.sources import read_data
    from funduscope.terminal import tracked

    if out.exists():
        raise typer.BadParameter(f"{out} is there already, and models may have been trained by it", param_hint="--out")
    cases = clean_folds(read_data(data), count, seed, workers=workers, progress=tracked)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_folds(cases, out)
    sizes = Counter(case.fold for case in cases)
    apart = f"; {sizes[None]} of an official test split in none" if sizes[None] else ""
    placed = len(cases) - sizes[None]
    print(f"{placed} photos in folds of {', '.join(str(sizes[fold]) for fold in range(count))}{apart}: {out}")
    return 0
