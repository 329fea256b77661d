"""The verb `folds`: photos put into folds that no eye crosses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from funduscope.cli.options import Workers


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

    from funduscope.cli.terminal import tracked
    from funduscope.data.folds import write_folds
    from funduscope.data.sources import read_data
    from funduscope.data.splits import make_clean_folds

    if out.exists():
        raise typer.BadParameter(f"{out} is there already, and models may have been trained by it", param_hint="--out")
    cases = make_clean_folds(read_data(data), count, seed, workers=workers, progress=tracked)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_folds(cases, out)
    sizes = Counter(case.fold for case in cases)
    apart = f"; {sizes[None]} of an official test split in none" if sizes[None] else ""
    placed = len(cases) - sizes[None]
    print(f"{placed} photos in folds of {', '.join(str(sizes[fold]) for fold in range(count))}{apart}: {out}")
    return 0
