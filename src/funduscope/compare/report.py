"""`funduscope compare`: makes missing scores, tests every pair of runs, writes the page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from funduscope.atomic import must_be_writable
from funduscope.data.sources import Data, PathName, cases_of
from funduscope.progress import Progress, no_progress


def compare_runs(
    runs: PathName | Sequence[PathName],
    out: PathName = "compared",
    data: Data = (),
    *,
    published: Path | None = None,
    command: str = "",
    progress: Progress = no_progress,
) -> Path:
    """Compare runs on one page, and return it: OUT/compare.html.

    Next to it, scores.csv has every score of every run, and pairs.csv every paired test.

    runs: folders of runs, or bundles of them.
    data: cases, or paths as `read_data` takes them, to make missing scores and costs with; without
        any, only what is in the folders is compared.
    published: a TOML file of figures that others published.
    command: the command that the page names.

    Raises `CompareError`, and `DamagedFileError` for a file of a run that cannot be read.
    """
    # These need the extra `train`: without it, it fails here, and not after hours.
    from funduscope.compare.page import write_page
    from funduscope.compare.paired import compare_pairs
    from funduscope.compare.published import read_published
    from funduscope.compare.run_record import CompareError, read_runs
    from funduscope.compare.score_runs import score_run, time_together

    folders = [Path(run) for run in ([runs] if isinstance(runs, str | os.PathLike) else runs)]
    out = Path(out)
    if not folders:
        raise CompareError("No run is given: name run folders to compare.")

    # What is refused is refused before hours are spent.
    read_runs(folders)
    must_be_writable(out)
    figures = None if published is None else read_published(published)

    if data:
        cases = cases_of(data)
        for folder in folders:
            score_run(folder, cases, progress)
        time_together(folders)

    records = read_runs(folders)
    for run in records:
        if not run.scores:
            raise CompareError(
                f"{run.name} has no scores to compare: name photos of its validation or test fold "
                "with --data; its weights must be in its folder."
            )
    return write_page(records, compare_pairs(records, progress), out, figures, command)
