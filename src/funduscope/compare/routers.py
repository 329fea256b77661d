"""What routers did and what they save: experts that photos went to, weights that a router gave the tasks, in words no
where the answer is no."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from funduscope.compare.costs import GIGA
from funduscope.compare.page_parts import Cell, Line, Section, Table, number
from funduscope.compare.run_folder import DASH, Run

SAYS = (
    "Of the epoch that was kept. Share of the training photos for which each expert was computed; entropy of the mean "
    "gates, 1 where all experts carry the same and 0 where one carries all; how many experts a photo was given."
)
WEIGHTS = "Mean weight of each task in an epoch; a router, or the method that the recipe names, moves them."
LIKE = 0.005
"""Shares nearer than this are told as the same."""


def routers_section(runs: Sequence[Run]) -> Section | None:
    """A table of experts and one of task weights; None where no run has either in its diary."""
    tables = [table for table in (_experts_table(runs), _weights_table(runs)) if table is not None]
    return Section("What the routers did", [], tables) if tables else None


def _experts_table(runs: Sequence[Run]) -> Table | None:
    told = [(run, router, *_usage(line, router)) for run in runs for line, router in _routers(run)]
    most = max((len(shares) for *_, shares, _, _ in told), default=0)
    if not most:
        return None
    heads = [("run and router", ""), *((f"expert {place + 1}", "") for place in range(most))]
    heads += [("entropy", "0 to 1"), ("chosen", "experts a photo")]
    lines = []
    for run, router, shares, entropy, chosen in told:
        cells = [Cell(f"{100 * share:.0f} %") for share in shares] + [Cell(DASH)] * (most - len(shares))
        lines.append(Line(f"{run.name}: {router}", [*cells, Cell(number(entropy, 2)), Cell(number(chosen, 2))]))
    return Table("Experts", SAYS, heads, lines)


def _routers(run: Run) -> Iterator[tuple[dict[str, Any], str]]:
    """The line of the epoch that was kept, with every router that it knows of."""
    kept = [line for line in run.journal if line.get("best")] or run.journal
    for router in run.recipe.routers:
        if kept and f"experts {router} entropy" in kept[-1]:
            yield kept[-1], router


def _usage(line: dict[str, Any], router: str) -> tuple[list[float], float, float]:
    shares = []
    while f"experts {router} {len(shares)}" in line:
        shares.append(line[f"experts {router} {len(shares)}"])
    return shares, line[f"experts {router} entropy"], line[f"experts {router} chosen"]


def _weights_table(runs: Sequence[Run]) -> Table | None:
    moved = {run.name: run for run in runs if run.recipe.balance.kind != "fixed" and _weights(run)}
    if not moved:
        return None
    tasks = list(dict.fromkeys(task for run in moved.values() for task in _weights(run)))
    heads = [("run", ""), ("balance", ""), *((task, "first epoch to last") for task in tasks)]
    lines = []
    for name, run in moved.items():
        weights = _weights(run)
        cells = [
            Cell(f"{number(weights[task][0], 2)} to {number(weights[task][-1], 2)}" if task in weights else DASH)
            for task in tasks
        ]
        lines.append(Line(name, [Cell(run.recipe.balance.kind), *cells]))
    return Table("Weights of the tasks", WEIGHTS, heads, lines)


def _weights(run: Run) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for line in run.journal:
        for name, value in line.items():
            if name.startswith("weight "):
                found.setdefault(name.removeprefix("weight "), []).append(value)
    return found


def routing_words(runs: Sequence[Run]) -> list[str]:
    """For each run with experts: the share that is computed, and what that saves."""
    said = []
    for run in runs:
        work = None if run.cost is None else run.cost["work"]
        if work is None or not work["photo"]["dense_experts"]:
            continue
        photo = work["photo"]
        if photo["kept"] == 1:
            said.append(f"{run.name} computes every expert for every photo: its routing saves nothing.")
            continue
        words = f"{run.name}'s gates choose {_saved(photo)}"
        for one in work["stated"]:
            height, width = one["asked_px"]
            words += f" At {height} × {width} px they choose {_saved(one['scaled'])}"
        said.append(words + _by_router(photo))
    return said


def _saved(work: dict[str, Any]) -> str:
    """Experts chosen, their multiply-adds, and the whole network's."""
    adds, whole = work["experts"] / work["dense_experts"], work["total"] / work["dense"]
    return (
        f"{_percent(work['kept'])} of the experts, {_percent(adds)} of the experts' multiply-adds; the whole network "
        f"takes {work['total'] / GIGA:.1f} G in place of {work['dense'] / GIGA:.1f} G, {_percent(1 - whole)} less."
    )


def _by_router(work: dict[str, Any]) -> str:
    """Why the two shares differ, where they do: experts of a structure work on a map, those of a grade on a vector."""
    apart = abs(work["kept"] - work["experts"] / work["dense_experts"])
    held = work.get("in_proportion")
    if apart < LIKE or not held:
        return ""
    off = work["experts"] / held - 1
    exactly = "exactly as" if abs(off) < LIKE else f"within {_percent(abs(off))} as"
    return f" Experts of different routers differ in size; router by router multiply-adds fall {exactly} the number."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.095 else f"{100 * share:.1f} %"
