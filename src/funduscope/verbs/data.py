"""The verbs that look at data sets: folds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def folds(
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="As --data of train.", exists=True)],
    out: Annotated[Path, typer.Option(help="The file to write.", dir_okay=False, metavar="FILE")],
    count: Annotated[int, typer.Option(help="How many folds.", min=2, max=100, metavar="N")] = 5,
    seed: Annotated[int, typer.Option(help="Of the draw.", min=0, metavar="N")] = 42,
) -> int:
    """Put photos into folds and write them as a CSV.

    Visits stay whole and grades are spread evenly; the same data and seed give the same folds.
    """
    from collections import Counter

    from funduscope.data.folds import make_folds, write_folds
    from funduscope.data.sources import read_data

    if out.exists():
        raise typer.BadParameter(f"{out} is there already, and models may have been trained by it", param_hint="--out")
    cases = make_folds(read_data(data), count, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_folds(cases, out)
    sizes = Counter(case.fold for case in cases)
    print(f"{len(cases)} photos in folds of {', '.join(str(sizes[fold]) for fold in range(count))}: {out}")
    return 0
