"""The verb `train`: a model trained, or a training that goes on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Optional

import typer

from funduscope.cli.options import Data, Fold


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name (see `funduscope recipes`) or a TOML file.")
    ],
    data: Data,
    run: Annotated[
        Path, typer.Option(help="The run's folder; one that was begun goes on.", file_okay=False, metavar="DIR")
    ],
    fold: Fold = None,
    init: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Start from a run folder or a .safetensors file; no value: the shipped weights. Repeatable: the mean "
            "of their weights.",
            metavar="MODEL",
        ),
    ] = None,
    teacher: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Learn from this run's answers, too; repeatable.", metavar="RUN"),
    ] = None,
    change: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="A setting of the recipe to change; repeatable.", metavar="KEY=VALUE"),
    ] = None,
    like: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Repeat that run on every photo, none kept away, with its epochs and card.", metavar="RUN"),
    ] = None,
) -> int:
    """Train a model, or go on where a training stopped.

    Stopped in any way, the same command goes on from the last finished epoch.
    """
    from funduscope.recipe import load_recipe

    settings = load_recipe(recipe, change)  # before torch, which takes seconds to come
    from funduscope.cli.terminal import tracked
    from funduscope.data.sources import read_data
    from funduscope.inference.loading import weights_of
    from funduscope.training.initialization import Start
    from funduscope.training.run import run as run_training
    from funduscope.training.validation import make_judge

    start = Start(
        tuple(weights_of(model) for model in init or []),
        tuple(weights_of(model) for model in teacher or []),
        weights_of(like) if like else None,
        _command(
            recipe, data, run, fold, {"init": init, "like": [like] if like else None, "teacher": teacher}, change or []
        ),
    )
    best = run_training(settings, read_data(data), run, fold, start, make_judge, tracked)
    print(f"The best epoch's weights: {best}")
    return 0


def _command(
    recipe: str,
    data: list[Path],
    run: Path,
    fold: int | None,
    models: dict[str, list[str] | None],
    changes: list[str],
) -> str:
    """The command as it was given, but names for paths: whose folders they lay in is nobody's concern."""
    words = ["funduscope", "train", Path(recipe).name]
    words += [part for path in data for part in ("--data", path.resolve().name)] + ["--run", run.resolve().name]
    words += [] if fold is None else ["--fold", str(fold)]
    words += [part for name, paths in models.items() for path in paths or () for part in (f"--{name}", Path(path).name)]
    return shlex.join([*words, *(part for change in changes for part in ("--set", change))])
