"""The command line. Each verb has a file here: it reads the options, calls the package that does the work, and prints.

Exit codes: 0 done, 1 some photos failed or nothing could be done, 2 wrong use, 130 interrupted, 143 a training or
batch ended by SIGTERM. An error is one line on stderr; a traceback is printed only with --debug. Heavy packages are
imported inside the verb that needs them.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from funduscope.cli import app, batch, compare, demo, doctor, evaluate, export, folds, predict, recipes, serve, train
from funduscope.cli.exit_codes import explain  # here, as there may be no memory left where it is needed
from funduscope.cli.terminal import complain
from funduscope.cli.termination import TERMINATED, TerminatedError
from funduscope.freed_memory import keep_freed_memory
from funduscope.version import __version__

INTERRUPTED = 130
_CONTINUING = {"batch": "", "doctor": "", "train": "", "evaluate": "--out", "compare": "--data"}
"""Verbs whose same command continues what was interrupted, with the option that they need for it."""

command_line = typer.Typer(
    name="funduscope",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@command_line.callback()
def funduscope(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and the terms of the weights.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> int:
    """Read photos of the back of the eye: retinopathy grade, edema risk, lesions, disc and fovea.

    For research and education; not a medical device.
    """
    if version:
        terms = Path(__file__).parents[1] / "models" / "LICENSE"
        print(f"funduscope {__version__}")
        print(f"The code is under Apache-2.0. The weights have their own terms, for research and education: {terms}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)
    return 0


VERBS = {
    demo.demo: "funduscope demo --out first-look",
    predict.predict: "funduscope predict eye.jpg clinic/ --out results",
    batch.batch: "funduscope batch year.csv --out results",
    train.train: "funduscope train plain --data photos/ --run runs/first --fold 0 --set training.epochs=3",
    evaluate.evaluate: "funduscope evaluate runs/fold0 runs/fold1 --data photos/ --out scores",
    compare.compare: "funduscope compare runs/first runs/second --data photos/ --out compared",
    export.export: "funduscope export runs/first --data photos/",
    recipes.recipes: "funduscope recipes --show plain > mine.toml",
    doctor.doctor: "funduscope doctor photos/ --out examined",
    folds.folds: "funduscope folds photos/ --out photos/folds.csv",
    app.app: "funduscope app --port 8600",
    serve.serve: "funduscope serve --port 8000",
}
"""Every verb with its example, in the order of `--help`."""

for verb, example in VERBS.items():
    command_line.command(epilog=f"Example: {example}")(verb)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code. arguments: by default those of the process."""
    keep_freed_memory()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, rest = arguments[:end], arguments[end:]
    for index in reversed([index for index, option in enumerate(options) if option == "--init"]):
        if index + 1 == len(options) or options[index + 1].startswith("-"):
            options.insert(index + 1, "default")  # --init without a value: the default model's weights
    debug = "--debug" in options  # allowed before and after the verb
    options = [option for option in options if option != "--debug"]
    if debug:
        logging.basicConfig()
        logging.getLogger("funduscope").setLevel(logging.DEBUG)
    if sys.stderr is None:  # closed by the caller: print(file=None) would take stdout
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- for the whole run
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        _check_none_empty(options + rest)
        code = int(command_line(options + rest, standalone_mode=False, prog_name="funduscope") or 0)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk is a sentence; at Python's own end it is a traceback
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except TerminatedError as end:
        print(f"funduscope: {end.says}", file=sys.stderr)
        code = TERMINATED
    except Exception as error:
        if debug:
            traceback.print_exc()
        sentence, code = explain(error)
        complain(sentence)
    if code == INTERRUPTED:  # depending on its version, typer returns this code or raises
        given = {"", *(option.partition("=")[0] for option in options)}
        continues = ": the same command continues" if _CONTINUING.get(options[0]) in given else ""
        print(f"funduscope: interrupted{continues}", file=sys.stderr)
    _drop_refused_output()
    return code


def _drop_refused_output() -> None:
    """Empties the buffer of stdout. Python would try once more to write it, and end with a traceback and code 120."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _check_none_empty(arguments: list[str]) -> None:
    """Refuses an empty argument, as an unset shell variable gives: as a path it would be the current folder."""
    for argument in arguments:
        name, _, value = argument.partition("=")
        if not argument or (name.startswith("--") and argument != name and not value):
            where = f"the value of {name}" if name else "an argument"
            raise typer.BadParameter(f"{where} is empty; expected a path or a value: name it, or leave the option out.")
