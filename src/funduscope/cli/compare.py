"""The verb `compare`: runs side by side on one page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    pass


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder for the page.", file_okay=False, metavar="DIR")],
    data: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Photos to make scores with that a run lacks; repeatable.", exists=True, metavar="PATH"),
    ] = None,
    markdown: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Also write the page as Markdown.", dir_okay=False, metavar="FILE"),
    ] = None,
    published: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="Published figures to put beside the runs', as TOML.", exists=True, dir_okay=False, metavar="FILE"
        ),
    ] = None,
    every_set: Annotated[bool, typer.Option("--every-set", help="Also score the data sets that take long.")] = False,
) -> int:
    """Put runs beside each other: scores, costs, differences that are more than chance.

    What is missing is made with --data and kept in each run's folder; one page, compare.html, goes to --out.
    """
    from funduscope.cli.terminal import tracked
    from funduscope.compare.report import compare as make
    from funduscope.data.sources import read_data

    given = [part for path in data or [] for part in ("--data", path)]
    given += [] if published is None else ["--published", published]
    given += [] if markdown is None else ["--markdown", markdown]
    given += ["--every-set"] if every_set else []
    command = shlex.join(map(str, ("funduscope", "compare", *runs, *given, "--out", out)))
    cases = read_data(data) if data else []
    asked = {"published": published, "every_set": every_set, "command": command, "progress": tracked}
    print(make(runs, out, cases, markdown, **asked))
    return 0
