"""The verb `evaluate`: scores a model, or several runs out of fold."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from funduscope.atomic import must_be_writable, write_json
from funduscope.cli.options import AsJson, Data, DeviceName, DeviceOption, Fold, OutFolder, model_name

if TYPE_CHECKING:
    from funduscope.evaluation.scores import Scores

UNFINISHED = ".unfinished"
"""In --out: the scores of the photos until all are scored."""


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="default, fast, ONNX files or run folders.", parser=model_name),
    ],
    data: Data,
    fold: Fold = None,
    official: Annotated[
        bool,
        typer.Option(
            "--official-test",
            help="Score the photos that IDRiD's authors kept for the test, by the challenge's measures.",
        ),
    ] = False,
    out: OutFolder = None,
    as_json: AsJson = False,
    device: DeviceOption = DeviceName.AUTO,
) -> int:
    """Score a model, or several runs out of fold.

    One model is scored on the photos of --fold, or on all photos. Several runs are scored each on its own test fold.
    With --official-test one model is scored on the official test photos, which no training learns from.
    Photos that a model was trained on are scored with a warning. Scores and plots are written to --out;
    the same command goes on where it was stopped.
    """
    from funduscope.cli.terminal import complain, note_system_files, tracked
    from funduscope.data.sources import read_data
    from funduscope.data.splits import official_test
    from funduscope.evaluation.challenge import challenge
    from funduscope.evaluation.evaluate import evaluate as score
    from funduscope.evaluation.kept_scores import KeptScores

    if len(models) > 1 and fold is not None:
        raise typer.BadParameter("several runs are scored each on its own test fold: leave it out", param_hint="--fold")
    if official and (len(models) > 1 or fold is not None):
        raise typer.BadParameter("it takes one model and no --fold", param_hint="--official-test")
    if out is not None:
        must_be_writable(out)
    note_system_files(data)
    photos = official_test(read_data(data)) if official else data
    keep = KeptScores(out / UNFINISHED) if out is not None else None
    scores = score(models, photos, fold, keep=keep, device=device.value, progress=tracked, warn=complain)
    chosen = ("--official-test",) if official else () if fold is None else ("--fold", fold)
    measures = challenge(scores) if official else {}
    own = {"challenge": {name: one.to_dict() for name, one in measures.items()}} if official else {}
    command = ("funduscope", "evaluate", *models, *(part for path in data for part in ("--data", path)), *chosen)
    scores.about["command"] = shlex.join(map(str, command))
    try:  # before anything is printed, which a closed pipe would end
        if out is not None:
            _write(scores, out, own)
        if keep is not None:
            keep.remove()
    finally:  # what took hours is printed all the same if the disk refuses
        _print(scores, measures, own if as_json else None)
    return 0


def _print(scores: Scores, measures: Mapping[str, Any], as_json: Mapping[str, Any] | None) -> None:
    """The scores as tables, or as one line of JSON with what is added to it."""
    if as_json is not None:
        print(json.dumps(scores.to_dict() | dict(as_json), allow_nan=False))
        return
    from rich.console import Console

    from funduscope.cli.terminal import challenge_table, score_table

    for dataset, states in scores.tables.items():
        Console().print(score_table(dataset, states, scores.details[dataset]))
    if measures:
        Console().print(challenge_table(measures))


def _remove_earlier(out: Path) -> None:
    """Removes what an earlier evaluation wrote into the folder and this one may not replace."""
    from funduscope.evaluation.plots import drawn_names

    try:
        datasets = json.loads((out / "scores.json").read_bytes())["details"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    for name in ("challenge.json", *drawn_names(datasets, out)):
        (out / name).unlink(missing_ok=True)


def _write(scores: Scores, out: Path, challenge: Mapping[str, Any]) -> None:
    """The scores' files, the challenge's measures, if any, and plots where matplotlib is installed."""
    from importlib.util import find_spec

    from funduscope.cli.terminal import complain

    _remove_earlier(out)
    scores.write(out)
    if challenge:
        write_json(out / "challenge.json", {"about": scores.about, **challenge}, indent=1, allow_nan=False)
    if find_spec("matplotlib") is None:
        complain(
            "the scores were written without plots, which need matplotlib: pip install '.[train]' in the clone of "
            "funduscope"
        )
        return
    from funduscope.evaluation.plots import draw_all

    draw_all(scores, out)
