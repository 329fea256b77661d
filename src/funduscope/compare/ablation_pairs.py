"""Pairs of runs that differ in one thing alone, so that what it does can be said: sharing, routing, teaching.

Twins have one fold and one budget, began with the same weights, and have recipes that are equal but for the one section
(and what must follow from it). Where the tasks are the same they learned from the very same photos and labels; where
it is not teaching that they differ in, from the same teachers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

from funduscope.compare.paired import Difference, corrected, difference
from funduscope.compare.run_folder import FOLDS, Run, measures_of
from funduscope.recipe import Recipe

SHARING, ROUTING, TEACHING = "sharing", "routing", "teaching"

# What may differ beside the thing itself: which photos teach the tasks that are left, and their losses' weights.
_FOLLOWS: Final[dict[str, frozenset[str]]] = {
    SHARING: frozenset({"tasks", "sampling", "loss", "balance"}),
    ROUTING: frozenset({"experts"}),
    TEACHING: frozenset({"loss"}),
}


@dataclass(frozen=True)
class AblationPair:
    """more: the run that has the thing: more tasks, experts, a teacher. less: the one without. beside: what else
    differs: sections of their recipes, and the numbers and devices that they were trained with.

    found: by fold, more less less in every score that both answer; p values corrected over both folds together.
    """

    about: str
    more: Run
    less: Run
    beside: tuple[str, ...]
    found: dict[str, list[Difference]]


def find_ablation_pairs(runs: Sequence[Run]) -> list[AblationPair]:
    """Every pair of these runs, which are of one fold and budget, that differ in one thing alone."""
    found = []
    for more, less in permutations(runs, 2):
        about = _about(more, less)
        if about is not None:
            sections = differing(more.recipe, less.recipe) - {{SHARING: "tasks", ROUTING: "experts"}.get(about)}
            beside = (*sorted(sections), *_computed_otherwise(more, less))
            found.append(AblationPair(about, more, less, beside, _differences(more, less)))
    return sorted(found, key=lambda twins: list(_FOLLOWS).index(twins.about))


def differing(a: Recipe, b: Recipe) -> set[str]:
    """The sections in which two recipes differ; their names, words and what they select by are no difference."""
    trees = [
        one.model_dump(mode="json", exclude={"name": True, "about": True, "training": {"select"}}) for one in (a, b)
    ]
    return {section for section in trees[0] if trees[0][section] != trees[1][section]}


def _computed_otherwise(more: Run, less: Run) -> list[str]:
    """Precision and kind of device, where both are known and are not the same: `auto` is not the same everywhere."""
    told = []
    for name, of in (
        ("precision", lambda run: run.about.get("precision")),
        ("device", lambda run: str(run.about.get("environment", {}).get("device", "")).split(" ")[0]),
    ):
        first, second = of(more), of(less)
        if first and second and first != second:
            told.append(f"{name} ({first} and {second})")
    return told


def tasks_of(recipe: Recipe) -> set[str]:
    """Everything the recipe answers, by name."""
    tasks = recipe.tasks
    grades = {name for name in ("grade", "dme") if getattr(tasks, name)}
    return grades | set(tasks.structures) | set(tasks.landmarks)


def _about(more: Run, less: Run) -> str | None:
    """What the one has and the other lacks, where all else is equal."""
    sections = differing(more.recipe, less.recipe)
    if _sha256(more) != _sha256(less):
        return None
    same_photos = more.about.get("data_fingerprint") == less.about.get("data_fingerprint")
    taught = [run.about.get("teachers") or [] for run in (more, less)]
    if taught[0] and not taught[1] and same_photos and sections <= _FOLLOWS[TEACHING]:
        return TEACHING
    if taught[0] != taught[1]:
        return None
    if tasks_of(more.recipe) > tasks_of(less.recipe) and sections <= _FOLLOWS[SHARING]:
        return SHARING
    routed = [run.recipe.experts.kind != "none" for run in (more, less)]
    if routed == [True, False] and same_photos and sections <= _FOLLOWS[ROUTING]:
        return ROUTING
    return None


def _sha256(run: Run) -> str | None:
    """Of the weights that it began with; None where those were the recipe's own."""
    return (run.about.get("init") or {}).get("sha256")


def _differences(more: Run, less: Run) -> dict[str, list[Difference]]:
    measures = [one for one in measures_of([more, less]) if one.kind.key]
    found: list[tuple[str, Difference]] = []
    for part in FOLDS:
        for measure in measures:
            if more.interval(part, measure) and less.interval(part, measure):
                one = difference(measure, (more.name, more.rows[part]), (less.name, less.rows[part]))
                found += [(part, one)] if one is not None else []
    adjusted = corrected([one for _, one in found])
    return {part: [one for (held, _), one in zip(found, adjusted, strict=True) if held == part] for part in FOLDS}
