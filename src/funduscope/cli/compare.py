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
    markdown: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Also write the page as Markdown.", dir_okay=False, metavar="FILE"),
    ] = None,
    published: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Published scores to show next to the runs', as TOML.", exists=True, dir_okay=False, metavar="FILE"
        ),
    ] = None,
    every_set: Annotated[bool, typer.Option("--every-set", help="Also score data sets that take long.")] = False,
) -> int:
    """Compare runs: scores, costs and significant differences.

    Missing scores are computed from --data and stored in each run's folder, where they replace scores of other photos.
    The page compare.html is written to --out.
    """
    from funduscope.cli.terminal import note_system_files, tracked
    from funduscope.compare.report import compare_runs

    if every_set and not data:
        raise typer.BadParameter("has photos to score only with --data", param_hint="--every-set")
    note_system_files(data or ())
    options = [part for path in data or [] for part in ("--data", path)]
    options += [] if published is None else ["--published", published]
    options += [] if markdown is None else ["--markdown", markdown]
    options += ["--every-set"] if every_set else []
    command = shlex.join(map(str, ("funduscope", "compare", *runs, *options, "--out", out)))
    page = compare_runs(
        runs, out, data or (), markdown, published=published, every_set=every_set, command=command, progress=tracked
    )
    print(page)
    return 0
