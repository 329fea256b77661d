"""Tables of routing: the share of photos for each expert, and the weights of the tasks over the epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from funduscope.compare.page_parts import Cell, Line, Section, Table, number
from funduscope.compare.run_folder import DASH, Run
from funduscope.recipe import Recipe

EXPERTS = (
    "Of the epoch that was kept: the share of the training photos for which each expert was computed; the entropy of "
    "the mean gates, 1 where all experts have equal weight and 0 where one has all; the number of experts per photo."
)
WEIGHTS = "Mean weight of each task in an epoch, as the router of losses sets it."


def routers_section(runs: Sequence[Run]) -> Section | None:
    """A table of experts and one of task weights; None if no run has either in its journal."""
    tables = [table for table in (_experts_table(runs), _weights_table(runs)) if table is not None]
    return Section("Routing", [], tables) if tables else None


def _networks(runs: Sequence[Run]) -> Iterator[tuple[str, Recipe, list[dict[str, Any]]]]:
    """Every network that a run trained, one for each stage: what the page calls it, its recipe, its journal."""
    for run in runs:
        for stage, lines in run.journals.items():
            yield (f"{run.name}, {stage}", run.recipe.stage(stage), lines) if stage else (run.name, run.recipe, lines)


def _experts_table(runs: Sequence[Run]) -> Table | None:
    used = [
        (name, router, *_usage(line, router))
        for name, recipe, journal in _networks(runs)
        for line, router in _routers(recipe, journal)
    ]
    most = max((len(shares) for *_, shares, _, _ in used), default=0)
    if not most:
        return None
    heads = [("run and router", ""), *((f"expert {place}", "") for place in range(most))]
    heads += [("entropy", "0 to 1"), ("chosen", "experts per photo")]
    lines = []
    for name, router, shares, entropy, chosen in used:
        cells = [Cell(f"{100 * share:.0f} %") for share in shares] + [Cell(DASH)] * (most - len(shares))
        lines.append(Line(f"{name}: {router}", [*cells, Cell(number(entropy, 2)), Cell(number(chosen, 2))]))
    return Table("Experts", EXPERTS, heads, lines)


def _routers(recipe: Recipe, journal: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """The journal's line of the epoch that was kept, with each router in it."""
    kept = [line for line in journal if line.get("best")] or journal
    for router in recipe.routers:
        if kept and f"experts {router} entropy" in kept[-1]:
            yield kept[-1], router


def _usage(line: dict[str, Any], router: str) -> tuple[list[float], float, float]:
    shares = []
    while f"experts {router} {len(shares)}" in line:
        shares.append(line[f"experts {router} {len(shares)}"])
    return shares, line[f"experts {router} entropy"], line.get(f"experts {router} chosen", math.nan)


def _weights_table(runs: Sequence[Run]) -> Table | None:
    moved = [
        (name, recipe.balance.kind, weights)
        for name, recipe, journal in _networks(runs)
        if recipe.balance.kind != "fixed" and (weights := _weights(journal))
    ]
    if not moved:
        return None
    tasks = list(dict.fromkeys(task for *_, weights in moved for task in weights))
    heads = [("run", ""), ("balance", ""), *((task, "first epoch to last") for task in tasks)]
    lines = []
    for name, kind, weights in moved:
        cells = [
            Cell(f"{number(weights[task][0], 2)} to {number(weights[task][-1], 2)}" if task in weights else DASH)
            for task in tasks
        ]
        lines.append(Line(name, [Cell(kind), *cells]))
    return Table("Weights of the tasks", WEIGHTS, heads, lines)


def _weights(journal: list[dict[str, Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for line in journal:
        for name, value in line.items():
            if name.startswith("weight "):
                found.setdefault(name.removeprefix("weight "), []).append(value)
    return found
