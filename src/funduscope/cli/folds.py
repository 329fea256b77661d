"""The verb `folds`: assigns photos to folds; no eye is in two of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from funduscope.cli.options import Workers


def folds(
    data: Annotated[
        list[Path], typer.Argument(metavar="DATA...", help="Data sets, as for --data of train.", exists=True)
    ],
    out: Annotated[Path, typer.Option(help="The file to write.", dir_okay=False, metavar="FILE")],
    count: Annotated[int, typer.Option(help="Number of folds.", min=2, max=100, metavar="N")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the random assignment.", min=0, metavar="N")] = 42,
    workers: Workers = 2,
) -> int:
    """Assign photos to folds and write them as CSV.

    Photos of one visit, and photos that show the same eye under different names, get the same fold. Grades are spread
    evenly. The same data and seed give the same folds. IDRiD's official test split gets no fold.
    """
    from collections import Counter

    from funduscope.cli.terminal import complain, note_system_files, tracked
    from funduscope.data.folds import find_folds, write_folds
    from funduscope.data.sources import read_data
    from funduscope.data.splits import make_clean_folds

    if out.exists():
        says = f"{out} is there already, and models may depend on it: name another file"
        raise typer.BadParameter(says, param_hint="--out")
    note_system_files(data)
    cases = make_clean_folds(read_data(data), count, seed, workers=workers, progress=tracked)
    visits = len({case.visit for case in cases if case.fold is not None})
    if visits < count:
        says = f"{count} folds need as many visits or patients, and the photos are of {visits}: ask for fewer folds"
        raise typer.BadParameter(says, param_hint="--count")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_folds(cases, out)
    sizes = Counter(case.fold for case in cases)
    official_test = f"; {sizes[None]} of an official test split in none" if sizes[None] else ""
    assigned = len(cases) - sizes[None]
    found = [path for path in data if (file := find_folds(path)) and file.samefile(out)]
    again = read_data(found, check_folds=False) if found else []
    own = {case.key: case.fold for case in again if case.fold is not None}
    unlike = [case.key for case in cases if own.get(case.key, case.fold) != case.fold]
    if unlike:
        complain(
            f"note: these folds do not count for {len(unlike)} of the photos, such as {unlike[0]}, which have another "
            "fold in their table's column fold: remove that"
        )
    print(f"{assigned} photos in folds of {', '.join(str(sizes[fold]) for fold in range(count))}{official_test}: {out}")
    return 0
