"""What a training begins with: first weights and teachers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from funduscope import checkpoint
from funduscope.atomic import file_sha256, read_json, write_json
from funduscope.checkpoint import Checkpoint
from funduscope.data.case import Case
from funduscope.inference.card import Card
from funduscope.network.network import Network, build, with_imagenet
from funduscope.recipe import Recipe, differences
from funduscope.training import TrainingError
from funduscope.vocabulary import CODES


@dataclass(frozen=True)
class Start:
    """Where a training starts.

    init: checkpoints to start from instead of ImageNet's weights. Of several, the mean of their weights is taken, which
    works where one was trained from the other (Wortsman et al., "Model soups", ICML 2022). teachers: checkpoints whose
    answers are learned next to the labels. command: the command for run.json; without it the call of `train` in words.
    """

    init: tuple[Path, ...] = ()
    teachers: tuple[Path, ...] = ()
    command: str | None = None

    @property
    def weights(self) -> tuple[Path, ...]:
        """Every checkpoint that the training learns from."""
        return (*self.init, *self.teachers)

    def first_weights(self) -> dict[str, str] | None:
        """Name and SHA-256 of the weights to start from, several joined by " + "; None for the recipe's own."""
        if not self.init:
            return None
        return {"name": " + ".join(map(named, self.init)), "sha256": " + ".join(map(file_sha256, self.init))}

    def in_words(self, recipe: Recipe, fold: int | None) -> str:
        """The call of `train` with names instead of paths."""
        given = [repr(recipe.name), f"fold={fold}"]
        given += [f"init={[named(path) for path in self.init]}"] if self.init else []
        given += [f"teachers={[named(path) for path in self.teachers]}"] if self.teachers else []
        return f"train({', '.join(given)})"

    def keep_card(self, folder: Path) -> None:
        """Writes the card of the first weights into a new run's folder, for a training that continues without naming
        them; if there are none, removes that of an attempt that failed before it had learned anything."""
        if self.init:
            write_json(folder / FIRST_CARD, checkpoint.load(self.init[0], ()).card, indent=None)
        else:
            (folder / FIRST_CARD).unlink(missing_ok=True)


FIRST_CARD = "first_card.json"
FOLDS = "folds.csv"  # of the run itself: those of the data set may change

START = Start()
"""ImageNet's weights or random ones, as the recipe says."""


def _build_of(recipe: Recipe) -> tuple[object, ...]:
    """What of a recipe defines its network."""
    return recipe.encoder, recipe.decoder, recipe.heads, recipe.experts, recipe.tasks.named


@dataclass(frozen=True)
class FirstNetwork:
    """The network to start from, and the recipe with its encoder's variant, mean and std.

    known: the structures and photo tasks that the weights had learned and brought. note: which parts they brought and
    which not; empty if all.
    """

    recipe: Recipe
    network: Network
    known: frozenset[str] = frozenset()
    note: str = ""


def first_network(recipe: Recipe, folder: Path, init: Sequence[Path]) -> FirstNetwork:
    """The recipe's network: of a run in the folder, whose weights the loop loads; or with every tensor of the
    checkpoints that fits; or new.

    Raises `TrainingError` for weights of another encoder, and for several of different networks.
    """
    last = checkpoint.newest(folder)
    if last is not None:
        if (asked := with_variant(last.recipe, recipe)) != last.recipe:
            unlike = differences(last.recipe, asked)
            raise TrainingError(f"{folder} has a run of another recipe ({unlike}): choose another folder.")
        return FirstNetwork(last.recipe, build(last.recipe))
    if not init:
        return FirstNetwork(*with_imagenet(recipe))
    starts = [_nearest(checkpoint.load(path), recipe) for path in init]
    theirs = starts[0].recipe
    for path, start in zip(init, starts, strict=True):
        if _build_of(start.recipe) != _build_of(theirs):
            raise TrainingError(
                f"{named(path)} has another network than {named(init[0])}: weights have a mean only where encoder, "
                "decoder, heads, experts and tasks are the same."
            )
    if recipe.encoder.name != theirs.encoder.name:
        raise TrainingError(
            f"{named(init[0])} has the encoder {theirs.encoder.name}, the recipe {recipe.encoder.name}: none of its "
            f"weights fit. Set it (--set encoder.name={theirs.encoder.name}, of a stage --set stages.NAME.encoder.name"
            f"={theirs.encoder.name}), train the recipe that those weights are of, or leave --init out."
        )
    resolved = with_variant(theirs, recipe)
    network = build(resolved)
    state = network.state_dict()
    given = _mean([start.group("weights") for start in starts])
    taken, fresh = _move(state, resolved, given, theirs)
    checkpoint.fit(network, state)
    parts = _parts(state, resolved)
    known = set[str].intersection(*map(learned, starts)) & _whole_way(taken - fresh, parts, resolved)
    rest = {
        "in part": [part for part in parts if part in taken & fresh],
        "fresh": [part for part in parts if part not in taken],
        "not taken": [part for part in _parts(given, theirs) if part not in parts],
    }
    whole = ", ".join(part for part in parts if part in taken - fresh) or "no part as a whole"
    note = f"note: {' and '.join(map(named, init))} gave {whole}"
    note += "".join(f"; {what}: {', '.join(some)}" for what, some in rest.items() if some)
    return FirstNetwork(resolved, network, frozenset(known), f"{note}." if any(rest.values()) else "")


def _whole_way(moved: set[str], parts: Sequence[str], recipe: Recipe) -> set[str]:
    """The structures, photo tasks and landmarks of whose way through the network every part was moved."""
    fresh = {*parts} - moved
    if fresh & {"encoder", "experts"}:
        return set()
    tasks = recipe.tasks
    own = {name: {name, f"structure {name}", name.replace("_", " ")} for name in tasks.named}
    own |= {name: own[name] | {"landmarks"} for name in tasks.landmarks}  # of decoders with a part for all of them
    names = {name for name in tasks.named if moved & own[name] and not fresh & own[name]}
    return names if "decoder" not in fresh else names & {*tasks.photo_tasks}


def _nearest(start: Checkpoint, recipe: Recipe) -> Checkpoint:
    """The network of a joined model that is most like the recipe's: with a task of it; of these one with its encoder;
    of these one with an encoder as deep; of these the one that shares most tasks."""

    def likeness(part: Checkpoint) -> tuple[bool, bool, bool, int]:
        theirs, shared = part.recipe.encoder, {*recipe.tasks.named} & {*part.recipe.tasks.named}
        own = recipe.encoder
        return bool(shared), theirs.name == own.name, theirs.levels == own.levels, len(shared)

    return max(start.parts(), key=likeness)


def first_card(folder: Path, taken: Collection[str] | None = None) -> Card | None:
    """The card of the weights that the run in the folder began with; None if these were none, or had none.

    taken: what was taken over from them (`FirstNetwork.known`), None if unknown: it names nothing else then, since what
    was fixed for another network says nothing of a part that began anew. Witnesses stay, as what it was fixed with.
    """
    kept = folder / FIRST_CARD
    tree = read_json(kept) if kept.is_file() else {}
    card = Card.from_dict(tree) if tree else None
    if card is None or taken is None:
        return card
    lost = {*card.outlined, *card.located, *card.photo_tasks}.difference(taken)
    return replace(card.without(lost), witnesses=card.witnesses)


def check_free(folder: Path) -> None:
    """Raises `TrainingError` if a run would replace a recipe or folds that no training wrote."""
    for name in () if (folder / "run.json").is_file() else ("recipe.toml", FOLDS):
        if (folder / name).is_file():
            raise TrainingError(
                f"{folder} has a {name} that no training wrote, and that one would replace: name another folder."
            )


def is_research_only(used: list[Case], start: Start) -> bool:
    """Whether any photo that is learned from, or any weights, are for research and education alone."""
    cards = (checkpoint.load(path).card for path in start.weights)
    return any(case.research_only for case in used) or any(card.get("research_only", True) for card in cards)


def learned(one: checkpoint.Checkpoint) -> set[str]:
    """The structures, photo tasks and landmarks that a checkpoint's training had examples of, by its card."""
    whole = one.card if "structures" in one.card else Card.of(one.recipe).to_dict() | one.card
    card = Card.from_dict(whole)
    return {*card.outlined, *card.photo_tasks, *card.located}


def _planes(recipe: Recipe) -> dict[str, list[str]]:
    """By the first part of a tensor's name: the parts of the network that its rows are, in order."""
    return {
        "heads.structures.": [f"structure {code}" for code in recipe.tasks.structures],
        "heads.landmarks.": [name.replace("_", " ") for name in recipe.tasks.landmarks],
    }


def _part(name: str) -> str:
    """The part of the network that a tensor belongs to, as a person calls it."""
    first, second, third = [*name.split("."), "", ""][:3]
    if first == "decoder" and second in ("tasks", "gates", "experts") and third in (*CODES, "landmarks"):
        return third if third == "landmarks" else f"structure {third}"
    return {"heads": second, "shared": "experts"}.get(first, first)


def _parts(state: dict[str, Tensor], recipe: Recipe) -> list[str]:
    """The parts of a network, in the order of its tensors."""
    planes = _planes(recipe)
    rows = [next((parts for head, parts in planes.items() if name.startswith(head)), [_part(name)]) for name in state]
    return list(dict.fromkeys(part for parts in rows for part in parts))


class Moved(NamedTuple):
    """Parts of which a tensor was taken from the first weights, and parts of which one was not. Some are in both."""

    taken: set[str]
    fresh: set[str]


def _move(own: dict[str, Tensor], recipe: Recipe, given: dict[str, Tensor], theirs: Recipe) -> Moved:
    """Copies every tensor of the same name and shape, and of heads the rows of the same meaning."""
    moved, fresh = set[str](), set[str]()
    mine, others = _planes(recipe), _planes(theirs)
    for name, value in own.items():
        found, head = given.get(name), next((head for head in mine if name.startswith(head)), None)
        if head is None:
            # A decoder's own part for landmarks has a plane for each, in the recipe's order.
            is_same = _part(name) != "landmarks" or recipe.tasks.landmarks == theirs.tasks.landmarks
            if found is not None and found.shape == value.shape and is_same:
                value.copy_(found)
                moved.add(_part(name))
            else:
                fresh.add(_part(name))
            continue
        for row, part in enumerate(mine[head]):
            if found is not None and found.shape[1:] == value.shape[1:] and part in others[head]:
                value[row] = found[others[head].index(part)]
                moved.add(part)
            else:
                fresh.add(part)
    return Moved(moved, fresh)


def with_variant(theirs: Recipe, recipe: Recipe) -> Recipe:
    """The recipe with variant, mean and std of their encoder: they are resolved when the weights are loaded."""
    brought = {name: getattr(theirs.encoder, name) for name in ("variant", "mean", "std")}
    return recipe.with_encoder(brought)


def _mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Weight by weight; integers, such as the number of batches, are the first's."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }


def named(weights: Path) -> str:
    """The name of a checkpoint's run; outside a run's folder that of the file."""
    return weights.resolve().parent.name if weights.with_name("run.json").is_file() else weights.name
