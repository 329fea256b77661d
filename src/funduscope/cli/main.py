"""The command line. A verb (a file here) reads its options, asks the part that does the work, and says how it went.

Exit codes: 0 done, 1 some photos failed or nothing could be done, 2 wrong use, 130 interrupted. Errors for people are
one line on stderr; a traceback comes only with --debug. What is heavy is imported inside the verb that needs it.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from funduscope.cli import app as serving
from funduscope.cli import compare, demo, doctor, evaluate, export, folds, predict, recipes, train
from funduscope.version import __version__

INTERRUPTED = 130

app = typer.Typer(
    name="funduscope",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def funduscope(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and the terms of the weights.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback with an error.")] = False,
) -> int:
    """Reads photographs of the back of the eye: retinopathy grade, edema risk, lesions, disc and fovea.

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
    train.train: "funduscope train spine --data photos/ --run runs/first --fold 0 --set training.epochs=3",
    evaluate.evaluate: "funduscope evaluate runs/fold0 runs/fold1 --data photos/ --out scores",
    compare.compare: "funduscope compare runs/first runs/second --data photos/ --out compared",
    export.export: "funduscope export runs/first --data photos/",
    recipes.recipes: "funduscope recipes --show spine > mine.toml",
    doctor.doctor: "funduscope doctor photos/ --out examined",
    folds.folds: "funduscope folds photos/ --out photos/folds.csv",
    serving.app: "funduscope app --port 8600",
}
"""Every verb with its example, in the order of `--help`."""

for verb, example in VERBS.items():
    app.command(epilog=f"Example: {example}")(verb)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line (without arguments, the process's) and returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    options, rest = given[:end], given[end:]
    for place in reversed([place for place, one in enumerate(options) if one == "--init"]):
        if place + 1 == len(options) or options[place + 1].startswith("-"):
            options.insert(place + 1, "shipped")  # without a value: the shipped weights
    debug = "--debug" in options  # it may stand after the verb, too, and in both places
    given = [one for one in options if one != "--debug"] + rest
    if debug:
        logging.basicConfig()
        logging.getLogger("funduscope").setLevel(logging.DEBUG)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        _check_none_empty(given)
        code = int(app(given, standalone_mode=False, prog_name="funduscope") or 0)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        from funduscope.cli.exit_codes import explain
        from funduscope.cli.terminal import complain

        says, code = explain(error)
        complain(says)
    if code == INTERRUPTED:  # which typer makes an exit code of, or an exception, by its version
        print("funduscope: interrupted", file=sys.stderr)
    return code


def _check_none_empty(given: list[str]) -> None:
    """Refuses what a variable leaves that is not set: as a path it would mean the folder that one happens to be in."""
    for one in given:
        name, _, value = one.partition("=")
        if not one or (name.startswith("--") and one != name and not value):
            where = f"the value of {name}" if name else "an argument"
            raise typer.BadParameter(f"{where} is empty; expected a path or a value: name it, or leave the option out.")


if __name__ == "__main__":
    sys.exit(main())
