"""What a training begins with beside its photos: weights, teachers; and whether they have seen what it is tested on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from funduscope import checkpoint
from funduscope.data.case import Case
from funduscope.data.folds import fold_key, read_folds
from funduscope.network.network import Network, build, with_imagenet
from funduscope.recipe import Recipe
from funduscope.training.checkpoints import newest
from funduscope.training.loop import TrainingError


@dataclass(frozen=True)
class Start:
    """init: checkpoints to start from instead of ImageNet's weights; of several, the mean of their weights, which is
    worth something where one came out of the other's training (Wortsman et al., "Model soups", ICML 2022). teachers:
    checkpoints whose answers are learned beside the labels. like: the best checkpoint of a finished run, whose
    procedure is repeated on every photo, none kept away: as many epochs, and its card's thresholds and temperatures,
    which these photos could no longer tell. command: what run.json says was asked for; without it the call, in words.
    """

    init: tuple[Path, ...] = ()
    teachers: tuple[Path, ...] = ()
    like: Path | None = None
    command: str | None = None

    @property
    def weights(self) -> tuple[Path, ...]:
        """Every checkpoint that something is learned from."""
        return (*self.init, *self.teachers)

    def first_weights(self) -> dict[str, str] | None:
        """The name and the SHA-256 of the weights to start from, of several joined by a plus; None where they are those
        of the recipe."""
        if not self.init:
            return None
        digests: list[str] = []
        for path in self.init:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        return {"name": " + ".join(map(named, self.init)), "sha256": " + ".join(digests)}

    def in_words(self, recipe: Recipe, fold: int | None) -> str:
        """The call of `run` with names instead of paths."""
        given = [repr(recipe.name), f"fold={fold}"]
        given += [f"init={[named(path) for path in self.init]}"] if self.init else []
        given += [f"teachers={[named(path) for path in self.teachers]}"] if self.teachers else []
        given += [f"like={named(self.like)!r}"] if self.like is not None else []
        return f"run({', '.join(given)})"


START = Start()
"""ImageNet's weights, or none, as the recipe says."""

BUILD = ("encoder", "decoder", "heads", "experts", "tasks")
"""The parts of a recipe that its network is built from."""


def check_like(start: Start, recipe: Recipe, fold: int | None) -> int:
    """How many epochs the run that is repeated kept; raises `TrainingError` where it is another procedure.

    A run without thresholds is one of several stages, repeated so that a next one can be begun from it.
    """
    like = start.like
    assert like is not None
    held = checkpoint.load(like)
    asked = recipe.model_copy(
        update={"encoder": recipe.encoder.model_copy(update={"variant": held.recipe.encoder.variant})}
    )
    if start.init:  # the network is that of the weights in both
        asked = _of_build(held.recipe, asked)
    if fold is not None:
        raise TrainingError("A run that repeats another on every photo keeps no fold away: leave the fold out.")
    if asked != held.recipe:
        raise TrainingError(f"{named(like)} was made by another recipe or other settings: repeat it with the same.")
    if not held.card.get("about", {}).get("calibration"):
        print(
            f"warning: {named(like)} has no thresholds yet, so this run gets none: it can be begun from (--init), but "
            "not be used. If it is to be used, let that training end first.",
            file=sys.stderr,
        )
    return int(held.progress["best_epoch"])


def check_weights(start: Start, test: Sequence[Case], validation: Sequence[Case], fold: int | None) -> None:
    """Refuses weights that know the photos to be tested on, and warns of those that know the validation photos."""
    for weights in start.weights:
        check_unseen(weights, test, fold)
        warn_of_learned(weights, validation)


def check_unseen(weights: Path, test: Sequence[Case], fold: int | None) -> None:
    """Weights that learned from, or were chosen on, a photo of this run's test fold would flatter its scores.

    By photo, or its visit, where the weights' run lists its folds, which may differ from these; by number where it does
    not. Weights of no run cannot be judged, which is said.
    """
    if not test:
        return
    about, listed = weights.with_name("run.json"), weights.with_name("folds.csv")
    if not about.is_file():
        learned = checkpoint.load(weights).card.get("about", {}).get("trained on")
        says = f"its card says: trained on {json.dumps(learned)}" if learned else "its card does not say which"
        print(
            f"warning: {weights.name} is not in a run's folder, so nobody can tell whether it learned from photos of "
            f"this run's test fold ({says}); if so, scores on that fold are too good.",
            file=sys.stderr,
        )
        return
    theirs = json.loads(about.read_text("utf-8"))["fold"]
    if not listed.is_file():
        if theirs != fold:
            raise TrainingError(f"{about.parent} has test fold {theirs}, not {fold}: start from a run of that fold.")
        return
    seen = [key for key, place in _folds_there(listed, test, theirs).items() if place != theirs]
    if seen:
        raise TrainingError(
            f"{about.parent} learned from, or was chosen on, {len(seen)} of the {len(test)} photos that this run is to "
            f"be tested on, or others of their visits, such as {seen[0]}: start from a run with the same test fold and "
            "the same folds.csv."
        )


def warn_of_learned(weights: Path, validation: Sequence[Case]) -> None:
    """Weights that learned from a photo of this run's validation fold flatter what is chosen and fixed there."""
    about, listed = weights.with_name("run.json"), weights.with_name("folds.csv")
    if not (about.is_file() and listed.is_file()):
        return
    told = json.loads(about.read_text("utf-8"))
    apart = (told["fold"], told.get("validation_fold"))
    seen = [key for key, place in _folds_there(listed, validation, told["fold"]).items() if place not in apart]
    if seen:
        print(
            f"warning: {about.parent} learned from {len(seen)} of the {len(validation)} photos that this run chooses "
            f"its epoch and its thresholds on, or others of their visits, such as {seen[0]}: scores on these are too "
            "good, and temperatures and thresholds fixed on them too sure.",
            file=sys.stderr,
        )


def _folds_there(listed: Path, cases: Sequence[Case], unlisted: int | None) -> dict[str, int | None]:
    """Key to fold in another run's folds.csv; of a photo that is not listed another one of the same visit may be."""
    places = read_folds(listed)
    visits = dict(places.values())
    return {case.key: places.get(fold_key(case), ("", visits.get(case.visit, unlisted)))[1] for case in cases}


def first_network(recipe: Recipe, folder: Path, init: Sequence[Path]) -> tuple[Recipe, Network]:
    """The network to start from. A folder that already holds a run knows which variant its encoder is."""
    starts = [checkpoint.load(path) for path in init]
    if starts:
        asked, recipe = recipe, _of_build(starts[0].recipe, recipe)
        other = [name for name in BUILD if getattr(asked, name) != getattr(recipe, name)]
        if [name for name in other if name != "encoder"] or asked.encoder.name != recipe.encoder.name:
            print(
                f"note: the network is that of {named(init[0])}; of the recipe {', '.join(other)} "
                f"{'is' if len(other) == 1 else 'are'} not used.",
                file=sys.stderr,
            )
        for path, start in zip(init, starts, strict=True):
            if _of_build(start.recipe, recipe) != recipe:
                raise TrainingError(
                    f"{named(path)} is built otherwise than {named(init[0])}: weights have a mean only where encoder, "
                    "decoder, heads, experts and tasks are the same."
                )
    held = newest(folder)
    if held is not None:
        asked = recipe.model_copy(
            update={"encoder": recipe.encoder.model_copy(update={"variant": held.recipe.encoder.variant})}
        )
        if asked != held.recipe:
            raise TrainingError(f"{folder} holds a run of another recipe: choose another folder, or the same settings.")
        return held.recipe, build(held.recipe)
    if not starts:
        return with_imagenet(recipe)
    network = build(recipe)
    checkpoint.fit(network, _mean([start.group("weights") for start in starts]))
    return recipe, network


def _of_build(theirs: Recipe, recipe: Recipe) -> Recipe:
    """The recipe, with the network of theirs."""
    return recipe.model_copy(update={name: getattr(theirs, name) for name in BUILD})


def _mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Weight by weight; what counts, such as batches seen, is the first's."""
    first = states[0]
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def named(weights: Path) -> str:
    """The run of a checkpoint, or the file where it lies in none."""
    return weights.parent.name if weights.with_name("run.json").is_file() else weights.name
