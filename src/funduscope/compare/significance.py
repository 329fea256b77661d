"""Significance of differences: tests of every pair of runs, and of the pairs that differ in one thing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funduscope.compare.ablation_pairs import ROUTING, SHARING, TEACHING, AblationPair
from funduscope.compare.page_parts import (
    Cell,
    Line,
    Section,
    Table,
    between,
    chance,
    listed,
    number,
    photo_count,
    signed,
)
from funduscope.compare.paired import LEVEL, MIN_VISITS, REPEATS, Difference, every_pair
from funduscope.compare.run_folder import DASH, FOLDS
from funduscope.compare.score_kinds import Measure
from funduscope.compare.sections import Comparison, alike

Tests = dict[str, dict[Measure, list[Difference]]]
"""By fold and measure, every pair that has enough visits."""

_WHAT = {SHARING: "more tasks in one network", ROUTING: "experts behind a router", TEACHING: "a teacher"}
_TITLE = {
    SHARING: "Single-task and multi-task",
    ROUTING: "With and without routing",
    TEACHING: "With and without a teacher",
}


def run_tests(comparison: Comparison) -> Tests:
    """Every pair of the comparable runs, in every key measure."""
    tested = [one for one in comparison.measures if one.kind.is_tested]
    return {
        part: {one: pairs for one in tested if (pairs := every_pair(one, comparison.comparable, part))}
        for part in FOLDS
    }


def tests_section(comparison: Comparison, tests: Tests) -> Section:
    """A table for each fold: each run against the one with the best value, and how many pairs differ at all."""
    tables = [_against_best(comparison, part, found) for part, found in tests.items() if found]
    if not tables:
        return Section("Paired tests", ["No two runs here share enough visits to be tested."])
    paragraphs = [
        "Two runs are compared on the same photos. Below each difference stand its 95 % interval (the same visits "
        f"drawn again for both runs, {REPEATS:,} times) and a two-sided p (the runs' answers exchanged by visit, "
        f"{REPEATS:,} times), corrected by Holm's method for the number of pairs in its column. Columns are not "
        "corrected for one another. “No difference shown” is not “no difference”: few photos show large ones only.",
        f"Scores of fewer than {MIN_VISITS} visits are not tested: no difference could become significant.",
    ]
    return Section("Paired tests", paragraphs, tables)


def _against_best(comparison: Comparison, part: str, found: dict[Measure, list[Difference]]) -> Table:
    columns = [_column(comparison, part, one, pairs) for one, pairs in found.items()]
    heads = [("run minus the best", ""), *((one.kind.shown, _photos(one, pairs)) for one, pairs in found.items())]
    lines = [
        Line(run.name, cells) for run, cells in zip(comparison.comparable, zip(*columns, strict=True), strict=True)
    ]
    tally = [Cell(f"{sum(pair.differs for pair in pairs)} of {len(pairs)}") for pairs in found.values()]
    lines.append(Line("pairs that differ, of all", tally))
    caption = (
        f"Each run minus the one with the best value of the column, by the photos that they share; bold: differs "
        f"(corrected p under {LEVEL})."
    )
    return Table(f"Against the best, {part} fold", caption, heads, lines)


def _photos(measure: Measure, pairs: Sequence[Difference]) -> str:
    """The data set of a column and the number of photos that its pairs share."""
    return f"{measure.dataset}, {photo_count([pair.photos for pair in pairs])}"


def _column(comparison: Comparison, part: str, measure: Measure, pairs: Sequence[Difference]) -> list[Cell]:
    runs = comparison.comparable
    by_names = {(one.a, one.b): one for one in pairs} | {(one.b, one.a): one.swapped() for one in pairs}
    there = [run for run in runs if any(run.name in names for names in by_names)]
    sign, digits = 1 if measure.kind.higher else -1, measure.kind.digits
    values = {run.name: interval.value for run in there if (interval := run.interval(part, measure.key))}
    same = {run.name for run, so in zip(comparison.runs, alike(comparison, part, measure), strict=True) if so}
    values = {name: value for name, value in values.items() if name in same} or values  # of the same photos, if any are
    best = max(values, key=lambda name: sign * values[name])
    cells = []
    for run in runs:
        one = by_names.get((run.name, best))
        if run.name == best:
            cells.append(Cell(number(values[best], digits), "the best value"))
        elif one is None:
            cells.append(Cell(DASH))
        else:
            small = f"{between(one.interval, digits, sign=True)}; {chance(one.corrected)}"
            cells.append(Cell(signed(one.interval.value, digits), small, "best" if one.differs else ""))
    return cells


def ablation_section(pairs: Sequence[AblationPair]) -> Section:
    """A table for each pair of runs that differ in one thing."""
    if not pairs:
        return Section("Effect of one thing", ["No two of these runs differ in sharing, routing or teaching alone."])
    method = (
        "Pairs of runs with the same fold, budget and recipe but for one thing. p values are corrected by Holm's "
        "method over all scores of a pair, on both folds."
    )
    return Section("Effect of one thing", [method], [_pair_table(one) for one in pairs])


def _pair_table(pair: AblationPair) -> Table:
    more, less = pair.more.name, pair.less.name
    parts = [part for part, found in pair.found.items() if found]
    rows: dict[Measure, dict[str, Difference]] = {}
    for part in parts:
        for one in pair.found[part]:
            rows.setdefault(one.measure, {})[part] = one
    lines = []
    for measure, by_part in rows.items():
        cells = [cell for part in parts for cell in _difference_cells(by_part.get(part))]
        lines.append(Line(measure.kind.shown, [Cell(measure.dataset), *cells]))
    also = f" They also differ in: {listed(pair.also)}." if pair.also else ""
    caption = f"{more} has {_WHAT[pair.about]}, {less} has not.{also} The last column of a fold is the effect."
    heads = [("score", ""), ("data set", "")]
    for part in parts:
        heads += [(more, part), (less, part), ("difference", part), ("effect", part)]
    return Table(f"{_TITLE[pair.about]}: {more} and {less}", caption, heads, lines)


def _difference_cells(one: Difference | None) -> list[Cell]:
    if one is None:
        return [Cell(DASH)] * 4
    digits = one.measure.kind.digits
    values = [Cell(number(score, digits)) for score in one.scores]
    apart = Cell(signed(one.interval.value, digits), between(one.interval, digits, sign=True))
    return [*values, apart, Cell(verdict(one), "" if np.isnan(one.p) else chance(one.corrected))]


def verdict(one: Difference) -> str:
    """The effect of the thing that run a has and run b lacks."""
    if np.isnan(one.p):
        return "too few visits to test"
    if not one.differs:
        return "no difference shown"
    return "harms" if one.measure.worse_by(one.interval.value) > 0 else "helps"
