"""The verb `compare`: several runs on one page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Optional

import typer


def _run_folder(given: str) -> Path:
    from funduscope.inference.loading import is_shipped

    if Path(given).is_dir():
        return Path(given)
    if is_shipped(given):
        raise typer.BadParameter(f"{given!r} is a shipped model, not a run's folder: `funduscope evaluate` scores it.")
    raise typer.BadParameter(f"{given!r} is no folder: expected a run's.")


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", parser=_run_folder)],
    out: Annotated[Path, typer.Option(help="Folder for the page.", file_okay=False, metavar="DIR")],
    data: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Photos to compute missing scores from; repeatable.", exists=True, metavar="PATH"),
    ] = None,
    published: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Published scores to show next to the runs', as TOML.", exists=True, dir_okay=False, metavar="FILE"
        ),
    ] = None,
) -> int:
    """Compare runs: scores, costs and significant differences.

    Missing scores are computed from --data and stored in each run's folder, where they replace
    scores of other photos. The page compare.html is written to --out, next to scores.csv and
    pairs.csv.
    """
    from funduscope.cli.terminal import note_system_files, tracked
    from funduscope.compare.report import compare_runs

    note_system_files(data or ())
    options = [part for path in data or [] for part in ("--data", path)]
    options += [] if published is None else ["--published", published]
    command = shlex.join(map(str, ("funduscope", "compare", *runs, *options, "--out", out)))
    page = compare_runs(runs, out, data or (), published=published, command=command, progress=tracked)
    print(page)
    return 0
