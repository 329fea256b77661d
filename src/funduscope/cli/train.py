"""The verb `train`: trains a model, or continues a training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Optional

import typer

from funduscope.cli.options import Data, Fold
from funduscope.cli.termination import ended_by_sigterm
from funduscope.freed_memory import NO_LIMIT, keep_freed_memory

Init = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        help="Start from the weights of default, fast, a run folder, or a .safetensors or exported ONNX file; without "
        "a value, default. Repeated: from their mean.",
        metavar="MODEL",
    ),
]
Teacher = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(help="A run whose predictions are distilled into the model; repeatable.", metavar="RUN"),
]
Change = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", help="Change a setting of the recipe; repeatable.", metavar="KEY=VALUE"),
]
ProcessCount = Annotated[
    str,
    typer.Option(
        help="Processes of this machine that share each batch; auto: the number of GPUs, or what a short timing "
        "finds fastest on the processor. For several machines see docs/recipes.md.",
        metavar="auto|N",
    ),
]
OfficialSplit = Annotated[
    bool,
    typer.Option(
        "--official-split",
        help="Train on IDRiD's official training photos; their first fold is the validation fold.",
    ),
]


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name (see `funduscope recipes`) or a TOML file.")
    ],
    data: Data,
    run: Annotated[
        Path, typer.Option(help="The run's folder; an unfinished run there continues.", file_okay=False, metavar="DIR")
    ],
    fold: Fold = None,
    official_split: OfficialSplit = False,
    init: Init = None,
    teacher: Teacher = None,
    change: Change = None,
    processes: ProcessCount = "auto",
) -> int:
    """Train a model, or continue a training that stopped.

    However a training stopped, the same command continues after the last finished epoch. At SIGTERM it stops as
    soon as the current operation returns, with exit code 143; a second SIGTERM stops it at once.
    """
    from funduscope.recipe import Recipe

    if processes != "auto" and not (processes.isdecimal() and int(processes)):
        raise typer.BadParameter(f"--processes got {processes!r}; expected auto or a number from 1 on.")
    if official_split and fold is not None:
        raise typer.BadParameter("--official-split tests no fold: leave it out", param_hint="--fold")
    settings = Recipe.load(recipe, change or ())
    from funduscope.cli.terminal import note_system_files, tracked
    from funduscope.data.sources import read_data
    from funduscope.data.splits import with_official_split
    from funduscope.training.train import train as train_run

    keep_freed_memory(NO_LIMIT)
    note_system_files(data)
    models = {"init": init, "teacher": teacher}
    ended = "the training was ended ({signal}): the same command continues after the last finished epoch"
    with ended_by_sigterm(ended):
        made = train_run(
            settings,
            with_official_split(read_data(data)) if official_split else data,
            run,
            fold,
            init=init or (),
            teachers=teacher or (),
            processes="auto" if processes == "auto" else int(processes),
            progress=tracked,
            command=_command(recipe, data, run, "--official-split" if official_split else fold, models, change),
        )
    from funduscope.training.processes import state

    if state().is_main_process:
        print(f"Weights of the best epoch: {made.best}")
    return 0


def _command(
    recipe: str,
    data: list[Path],
    run: Path,
    fold: int | str | None,
    models: dict[str, list[str] | None],
    changes: list[str] | None,
) -> str:
    """The command as it was given, for the run's record. Paths are cut to their names, which keeps folders private."""
    words = ["funduscope", "train", recipe if recipe.startswith("published/") else Path(recipe).name]
    words += [part for path in data for part in ("--data", path.resolve().name)] + ["--run", run.resolve().name]
    words += [] if fold is None else [fold] if isinstance(fold, str) else ["--fold", str(fold)]
    given = [(f"--{name}", Path(path).resolve().name) for name, paths in models.items() for path in paths or ()]
    words += [part for option in given for part in option]
    return shlex.join([*words, *(part for change in changes or () for part in ("--set", change))])
