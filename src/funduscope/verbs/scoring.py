"""The verbs that score models: evaluate, compare."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from funduscope.options import AsJson, Data, Fold, OutFolder

if TYPE_CHECKING:
    from funduscope.scores import Scores


def evaluate(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL", help="ONNX files or run folders.", exists=True)],
    data: Data,
    fold: Fold = None,
    out: OutFolder = None,
    as_json: AsJson = False,
) -> int:
    """Score a model, or several runs out of fold.

    One model is scored on the photos of --fold, or on every photo given; several runs each on its own test fold.
    Photos that a run's model learned from are scored with a warning. --out takes scores and pictures.
    """
    from funduscope.data.sources import read_data
    from funduscope.out_of_fold import plan, score, seen_before, unplaced
    from funduscope.terminal import complain, score_table, tracked

    if len(models) > 1 and fold is not None:
        raise typer.BadParameter("several runs are scored each on its own test fold: leave it out", param_hint="--fold")
    cases = read_data(data)
    parts = plan(models, cases, fold)
    left = unplaced(models, cases) if len(models) > 1 or fold is not None else []
    if left:
        are = "photo is" if len(left) == 1 else "photos are"
        complain(f"not scored: {len(left)} {are} in none of these folds, such as {left[0].key}")
    for model, mine in parts:
        known = seen_before(model, mine)
        if known is not None and (warning := known.warning(model)):
            complain(warning)
    scores, about = score(parts, tracked)
    chosen = () if fold is None else ("--fold", fold)
    command = ("funduscope", "evaluate", *models, *(part for path in data for part in ("--data", path)), *chosen)
    about["command"] = shlex.join(map(str, command))
    if as_json:
        print(json.dumps({"about": about, **scores.to_dict()}, allow_nan=False))
    else:
        from rich.console import Console

        for dataset, states in scores.tables.items():
            Console().print(score_table(dataset, states, scores.details[dataset]))
    if out is not None:
        scores.write(out, about)
        _draw(scores, out)
    return 0


def _draw(scores: Scores, out: Path) -> None:
    from importlib.util import find_spec

    from funduscope.terminal import complain

    if find_spec("matplotlib") is None:
        complain("the scores were written without pictures, which need matplotlib: pip install 'funduscope[train]'")
        return
    from funduscope.pictures import draw_all

    draw_all(scores, out)


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
    from funduscope.compare.make import compare as make
    from funduscope.data.sources import read_data
    from funduscope.terminal import tracked

    given = [part for path in data or [] for part in ("--data", path)]
    given += [] if published is None else ["--published", published]
    given += [] if markdown is None else ["--markdown", markdown]
    given += ["--every-set"] if every_set else []
    command = shlex.join(map(str, ("funduscope", "compare", *runs, *given, "--out", out)))
    cases = read_data(data) if data else []
    asked = {"published": published, "every_set": every_set, "command": command, "progress": tracked}
    print(make(runs, out, cases, markdown, **asked))
    return 0
