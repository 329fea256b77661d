"""The command line. A verb reads its options, asks the part that does the work, and says how it went.

Exit codes: 0 done, 1 some photos failed or nothing could be done, 2 wrong use, 130 interrupted. Errors for people are
one line on stderr; a traceback comes only with --debug. What is heavy is imported inside the verb that needs it.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from funduscope.options import AsJson, Data, Fold, ModelOption, OutFolder, PaletteName, Threads
from funduscope.version import __version__

if TYPE_CHECKING:
    from funduscope.scores import Scores

DEMO_PHOTO = "hrf_07_dr.jpg"
DEMO_FOLDER = "funduscope-demo"
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
        terms = Path(__file__).parent / "models" / "LICENSE"
        print(f"funduscope {__version__}")
        print(f"The code is under Apache-2.0. The weights have their own terms, for research and education: {terms}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)
    return 0


@app.command(epilog="Example: funduscope demo --out first-look")
def demo(
    out: OutFolder = None,
    model: ModelOption = None,
) -> int:
    """Read a photo that is packaged: what predict writes.

    Without --out the results go to funduscope-demo/.
    """
    from importlib import resources

    from funduscope.loading import load
    from funduscope.predict.folder import Drawn, answers, open_results
    from funduscope.terminal import complain, sentence

    predictor = load(model or None)
    with (
        resources.as_file(resources.files("funduscope") / "demo" / DEMO_PHOTO) as photo,
        open_results(out or Path(DEMO_FOLDER), many=False, drawn=Drawn()) as put,
    ):
        found, place = next(put(path, answer) for path, answer in answers(predictor, [photo]))
    if place is None:
        complain(f"{DEMO_PHOTO}: {found['error']['code']}: {found['error']['says']}")
        return 1
    print(sentence(found))
    print(f"Open {place / 'report.html'}")
    return 0


@app.command(epilog="Example: funduscope predict eye.jpg clinic/ --out results")
def predict(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="JPEG, PNG or TIFF files, or folders.")],
    model: ModelOption = None,
    out: OutFolder = None,
    palette: Annotated[PaletteName, typer.Option(help="Colors; safe is for color-blind eyes.")] = PaletteName.STANDARD,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write 8-bit probability maps.")] = False,
    full_size: Annotated[bool, typer.Option("--full-size", help="Draw the overlay as wide as the photo.")] = False,
    as_json: AsJson = False,
    threads: Threads = 0,
) -> int:
    """Read photos: findings, masks and a report for each.

    Each photo gets a folder of its own in --out, by default a new one named after the time (with --json: none); more
    than one also gets summary.csv. What cannot be read costs one line on stderr and exit code 1; the others are read.
    """
    from funduscope.loading import load
    from funduscope.predict.folder import Drawn
    from funduscope.predict.gather import gather
    from funduscope.reading import predict_all
    from funduscope.terminal import complain

    paths = gather(photos)
    if not paths:
        complain(f"no photo was found in {', '.join(map(str, photos))}: expected JPEG, PNG or TIFF files")
        return 1
    if threads:
        import cv2

        cv2.setNumThreads(threads)
    predictor = load(model or None, threads=threads)
    return predict_all(predictor, paths, out, Drawn(palette.value, probabilities, full_size), as_json=as_json)


@app.command(epilog="Example: funduscope train spine --data photos/ --run runs/first --fold 0 --set training.epochs=3")
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
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Start from a run folder or a .safetensors file; no value: the shipped weights.", metavar="MODEL"
        ),
    ] = None,
    change: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", help="A setting of the recipe to change; repeatable.", metavar="KEY=VALUE"),
    ] = None,
) -> int:
    """Train a model, or go on where a training stopped.

    Stopped in any way, the same command goes on from the last finished epoch.
    """
    from funduscope.recipe import load_recipe

    settings = load_recipe(recipe, change)  # before torch, which takes seconds to come
    from funduscope.data.sources import read_data
    from funduscope.loading import weights_of
    from funduscope.terminal import tracked
    from funduscope.training.judge import make_judge
    from funduscope.training.run import run as run_training

    start = weights_of(init) if init else None
    best = run_training(settings, read_data(data), run, fold, start, make_judge, tracked)
    print(f"The best epoch's weights: {best}")
    return 0


@app.command(epilog="Example: funduscope evaluate runs/fold0 runs/fold1 --data photos/ --out scores")
def evaluate(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL", help="ONNX files or run folders.", exists=True)],
    data: Data,
    fold: Fold = None,
    out: OutFolder = None,
    as_json: AsJson = False,
) -> int:
    """Score a model, or several runs out of fold.

    One model is scored on the photos of --fold, or on every photo given; several runs each on its own test fold.
    --out takes scores and pictures.
    """
    from funduscope.data.sources import read_data
    from funduscope.out_of_fold import plan, score
    from funduscope.terminal import score_table, tracked

    if len(models) > 1 and fold is not None:
        raise typer.BadParameter("several runs are scored each on its own test fold: leave it out", param_hint="--fold")
    scores, about = score(plan(models, read_data(data), fold), tracked)
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


@app.command(epilog="Example: funduscope export runs/first --data photos/")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", exists=True, file_okay=False)],
    data: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Photos on which parity is measured; repeatable.", exists=True, metavar="PATH"),
    ] = None,
) -> int:
    """Write a run's model as ONNX, in float32 and INT8.

    It is refused where its answers differ from the run's.
    """
    from funduscope.data.sources import read_data
    from funduscope.export import export_run

    for path in export_run(run, read_data(data) if data else None):
        print(path)
    return 0


@app.command(epilog="Example: funduscope recipes --show spine > mine.toml")
def recipes(
    show: Annotated[Optional[str], typer.Option(help="Print this recipe's TOML.", metavar="NAME")] = None,  # noqa: UP045
) -> int:
    """List the recipes that travel with the package."""
    import tomllib

    from funduscope.recipe import builtin_recipes

    known = builtin_recipes()
    if show is None:
        for name, text in known.items():
            print(f"{name:12} {tomllib.loads(text).get('about', '')}".rstrip())
    elif show in known:
        print(known[show], end="")
    else:
        raise typer.BadParameter(f"no recipe {show!r}; there are {', '.join(known)}", param_hint="--show")
    return 0


@app.command(epilog="Example: funduscope folds photos/ --out photos/folds.csv")
def folds(
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="As --data of train.", exists=True)],
    out: Annotated[Path, typer.Option(help="The file to write.", dir_okay=False, metavar="FILE")],
    count: Annotated[int, typer.Option(help="How many folds.", min=2, max=100, metavar="N")] = 5,
    seed: Annotated[int, typer.Option(help="Of the draw.", min=0, metavar="N")] = 42,
) -> int:
    """Put photos into folds and write them as a CSV.

    Visits stay whole and grades are spread evenly; the same data and seed give the same folds.
    """
    from collections import Counter

    from funduscope.data.folds import make_folds, write_folds
    from funduscope.data.sources import read_data

    if out.exists():
        raise typer.BadParameter(f"{out} is there already, and models may have been trained by it", param_hint="--out")
    cases = make_folds(read_data(data), count, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_folds(cases, out)
    sizes = Counter(case.fold for case in cases)
    print(f"{len(cases)} photos in folds of {', '.join(str(sizes[fold]) for fold in range(count))}: {out}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line (without arguments, the process's) and returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    if "--init" in options and (options[-1] == "--init" or options[options.index("--init") + 1].startswith("-")):
        given.insert(options.index("--init") + 1, "shipped")  # without a value: the shipped weights
    debug = "--debug" in options
    if debug:
        given.remove("--debug")  # it may stand after the verb, too
        logging.basicConfig()
        logging.getLogger("funduscope").setLevel(logging.DEBUG)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        code = int(app(given, standalone_mode=False, prog_name="funduscope") or 0)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        from funduscope.complaint import explain
        from funduscope.terminal import complain

        says, code = explain(error)
        complain(says)
    if code == INTERRUPTED:  # which typer makes an exit code of, or an exception, by its version
        print("funduscope: interrupted", file=sys.stderr)
    return code
