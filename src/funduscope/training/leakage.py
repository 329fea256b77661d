"""Data leakage by weights: whether first weights or teachers have seen photos that a run is tested or chosen on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from funduscope import checkpoint
from funduscope.atomic import read_json
from funduscope.data.case import Case
from funduscope.data.run_folds import RunFolds
from funduscope.evaluation.out_of_fold import EARLIER, may_know
from funduscope.training import TrainingError
from funduscope.training.initialization import FOLDS, Start, named


def check_weights(start: Start, test: Sequence[Case], validation: Sequence[Case]) -> None:
    """Refuses weights that learned from test photos, and warns of those that learned from validation photos."""
    for weights in start.weights:
        check_unseen(weights, test)
        warn_of_earlier(weights, test)
        warn_of_learned(weights, validation)


def _in_words(learned: Mapping[str, Any]) -> str:
    """What a card says of the photos that taught its model."""
    kept, photos = learned.get("test fold left out"), sum((learned.get("photos") or {}).values())
    return f"trained on {photos} photos, " + ("no fold left out" if kept is None else f"fold {kept} left out")


def earlier(weights: Sequence[Path]) -> list[dict[str, Any]]:
    """What each of these weights, and those that they began from, were trained on, as far as their cards say it."""
    abouts = [checkpoint.load(path, ()).card.get("about", {}) for path in weights]
    found = [one for about in abouts for one in (about.get("trained on"), *(about.get(EARLIER) or ())) if one]
    return [one for place, one in enumerate(found) if one not in found[:place]]


def warn_of_earlier(weights: Path, test: Sequence[Case]) -> None:
    """Warns where the first weights or teachers of these weights may have learned from this run's test photos."""
    theirs: list[dict[str, Any]] = checkpoint.load(weights, ()).card.get("about", {}).get(EARLIER) or []
    may = [case for case in test if any(may_know(one, case) for one in theirs)]
    if may:
        print(
            f"warning: what {named(weights)} began with or was taught by was {'; '.join(map(_in_words, theirs))}: "
            f"{len(may)} of the {len(test)} photos that this run is to be tested on may be among them; if so, scores "
            "on that fold are too good.",
            file=sys.stderr,
        )


def check_unseen(weights: Path, test: Sequence[Case]) -> None:
    """Raises `TrainingError` for weights that learned from, or were chosen on, photos of this run's test fold.

    Compares photos and their visits with the folds that the weights' run lists. Other weights cannot be checked: a
    warning.
    """
    if not test:
        return
    about, listed = weights.with_name("run.json"), weights.with_name(FOLDS)
    if not (about.is_file() and listed.is_file()):
        learned = checkpoint.load(weights).card.get("about", {}).get("trained on")
        says = f"its card says: {_in_words(learned)}" if learned else "its card does not say which it learned from"
        print(
            f"warning: {weights.name} has no run.json and {FOLDS} next to it, so it cannot be checked whether it "
            f"learned from photos of this run's test fold ({says}); if so, scores on that fold are too good.",
            file=sys.stderr,
        )
        return
    theirs = read_json(about, "fold")["fold"]
    known = [key for key, place in _folds_there(listed, test, theirs).items() if place != theirs]
    if known:
        raise TrainingError(
            f"{about.parent} learned from, or was chosen on, {len(known)} of the {len(test)} photos that this run is "
            f"to be tested on, or others of their visits, such as {known[0]}: start from a run with the same test fold "
            "and the same folds.csv."
        )


def warn_of_learned(weights: Path, validation: Sequence[Case]) -> None:
    """Warns of weights that learned from this run's validation photos, on which its epoch and card are chosen."""
    about, listed = weights.with_name("run.json"), weights.with_name(FOLDS)
    if not (about.is_file() and listed.is_file()):
        return
    theirs = read_json(about, "fold")
    apart = (theirs["fold"], theirs.get("validation_fold"))
    known = [key for key, place in _folds_there(listed, validation, theirs["fold"]).items() if place not in apart]
    if known:
        print(
            f"warning: {about.parent} learned from {len(known)} of the {len(validation)} photos that this run chooses "
            f"its epoch and its thresholds on, or others of their visits, such as {known[0]}: scores on these are too "
            "good, and temperatures and thresholds fixed on them too sure.",
            file=sys.stderr,
        )


def _folds_there(listed: Path, cases: Sequence[Case], unlisted: int | None) -> dict[str, int | None]:
    """By key the fold in another run's folds.csv; for a photo that is not listed, that of its visit, or `unlisted`."""
    known = RunFolds.read(listed).of(cases)
    return {case.key: unlisted if (fold := known.fold(case)) is None else fold for case in cases}
