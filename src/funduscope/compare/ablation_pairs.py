"""Pairs of runs that differ in one thing alone, so that its effect can be measured: sharing, routing, teaching.

The two runs of a pair have one fold and one budget, started from the same weights, and have recipes that are equal but
for one section (and what follows from it). With the same tasks they learned from the same photos and labels; unless
they differ in teaching, from the same teachers.
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

# Sections that may differ: also which photos teach the remaining tasks, and the weights of their losses.
_FOLLOWS: Final[dict[str, frozenset[str]]] = {
    SHARING: frozenset({"tasks", "sampling", "loss", "balance"}),
    ROUTING: frozenset({"experts"}),
    TEACHING: frozenset({"loss"}),
}


@dataclass(frozen=True)
class AblationPair:
    """more: the run that has the thing: more tasks, experts, a teacher. less: the one without it.

    also: what else differs: sections of the recipes, precision, device. found: per fold, score of `more` minus score
    of `less`, for every metric that both have; p values corrected over both folds together.
    """

    about: str
    more: Run
    less: Run
    also: tuple[str, ...]
    found: dict[str, list[Difference]]


def find_ablation_pairs(runs: Sequence[Run]) -> list[AblationPair]:
    """Every pair of these runs, which have one fold and budget, that differ in one thing alone."""
    found = []
    for more, less in permutations(runs, 2):
        about = _about(more, less)
        if about is not None:
            sections = differing(more.recipe, less.recipe) - {{SHARING: "tasks", ROUTING: "experts"}.get(about)}
            also = (*sorted(sections), *_environment_differs(more, less))
            found.append(AblationPair(about, more, less, also, _differences(more, less)))
    return sorted(found, key=lambda pair: list(_FOLLOWS).index(pair.about))


def differing(a: Recipe, b: Recipe) -> set[str]:
    """The sections in which two recipes differ, apart from names, descriptions and the metric that selects epochs."""
    trees = [
        one.model_dump(mode="json", exclude={"name": True, "about": True, "training": {"select"}}) for one in (a, b)
    ]
    return {section for section in trees[0] if trees[0][section] != trees[1][section]}


def _environment_differs(more: Run, less: Run) -> list[str]:
    """Precision and kind of device, where both are known and differ: `auto` gives different ones on other machines."""
    values = {
        "precision": [run.about.get("precision") for run in (more, less)],
        "device": [run.device for run in (more, less)],
    }
    return [f"{name} ({a} and {b})" for name, (a, b) in values.items() if a and b and a != b]


def _about(more: Run, less: Run) -> str | None:
    """What the one has and the other lacks, where everything else is equal; None otherwise."""
    sections = differing(more.recipe, less.recipe)
    if _sha256(more) != _sha256(less):
        return None
    same_photos = more.about.get("data_fingerprint") == less.about.get("data_fingerprint")
    taught = [run.about.get("teachers") or [] for run in (more, less)]
    if taught[0] and not taught[1] and same_photos and sections <= _FOLLOWS[TEACHING]:
        return TEACHING
    if taught[0] != taught[1]:
        return None
    if {*more.recipe.tasks.named} > {*less.recipe.tasks.named} and sections <= _FOLLOWS[SHARING]:
        return SHARING
    routed = [run.recipe.experts.kind != "none" for run in (more, less)]
    if routed == [True, False] and same_photos and sections <= _FOLLOWS[ROUTING]:
        return ROUTING
    return None


def _sha256(run: Run) -> str | None:
    """Hash of the weights that the run started from; None if the recipe names them."""
    return (run.about.get("init") or {}).get("sha256")


def _differences(more: Run, less: Run) -> dict[str, list[Difference]]:
    measures = [one for one in measures_of([more, less]) if one.kind.is_tested]
    found: list[tuple[str, Difference]] = []
    for part in FOLDS:
        for measure in measures:
            if more.interval(part, measure.key) and less.interval(part, measure.key):
                one = difference(measure, (more.name, more.rows[part]), (less.name, less.rows[part]))
                found += [(part, one)] if one is not None else []
    adjusted = corrected([one for _, one in found])
    return {fold: [one for (part, _), one in zip(found, adjusted, strict=True) if part == fold] for fold in FOLDS}
