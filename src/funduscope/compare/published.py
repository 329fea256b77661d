"""Figures that authors published next to runs of their designs, found by the recipe's name."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from funduscope.compare.costs import GIGA, MEGA, multiply_adds, parameters
from funduscope.compare.page_parts import Cell, Line, Section, Table, interval_cell, number, signed
from funduscope.compare.run_folder import DASH, FOLDS, CompareError, Run
from funduscope.evaluation.score_key import ScoreKey

PARAMETERS, WORK = "parameters", "multiply_adds"
WANTED = (
    "expected `source`, `photos` and a [[figure]] with `recipe`, `value` and either `data`, `state` and `score` "
    "as in scores.json, or `cost` (parameters or multiply_adds, with `height_px` and `width_px`)"
)


@dataclass(frozen=True)
class Figure:
    """One published number of the design that the recipe of that name has.

    data, state, score: as in scores.json. cost: instead of those, PARAMETERS, or WORK at (height_px, width_px).
    """

    recipe: str
    value: float
    data: str = ""
    state: str = ""
    score: str = ""
    cost: str = ""
    height_px: int = 0
    width_px: int = 0
    note: str = ""

    @property
    def key(self) -> ScoreKey:
        return ScoreKey.parse(self.data, self.state, self.score)

    @property
    def title(self) -> str:
        """The score or cost, for people."""
        if self.cost == PARAMETERS:
            return "parameters, million"
        if self.cost == WORK:
            return f"multiply-adds at {self.height_px} × {self.width_px} px, G"
        return f"{self.key.question.title}: {self.score}, {self.data}"


@dataclass(frozen=True)
class Published:
    """source: who published the figures. photos: which photos they are of, and how those differ from the runs'."""

    source: str
    photos: str
    figures: tuple[Figure, ...]


def read_published(path: Path) -> Published:
    """Reads a TOML file of figures. Raises `CompareError`."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
        figures = tuple(Figure(**one) for one in tree["figure"])
        for one in figures:
            _check(one)
        return Published(str(tree["source"]), str(tree["photos"]), figures)
    except (OSError, ValueError, ArithmeticError, RecursionError, KeyError, TypeError) as error:
        raise CompareError(f"{path} has no published figures: {error}; {WANTED}.") from error


def _check(one: Figure) -> None:
    """Raises `TypeError` if a figure has too little, too much, or a value of another type."""
    if not all(isinstance(text, str) for text in (one.recipe, one.data, one.state, one.score, one.cost, one.note)):
        raise TypeError(f"the figure {one.value!r} of {one.recipe!r} has a name or a note that is no text")
    if one.cost not in ("", PARAMETERS, WORK) or bool(one.cost) == bool(one.data and one.state and one.score):
        raise TypeError(f"the figure {one.value} of {one.recipe} needs either a score or a cost")
    is_number = isinstance(one.value, int | float) and not isinstance(one.value, bool) and math.isfinite(one.value)
    if not is_number or (one.cost and one.value <= 0):
        raise TypeError(f"{one.value!r} of {one.recipe} is no number, or a cost that is not above 0")
    if one.cost == WORK and not (one.height_px > 0 and one.width_px > 0):
        raise TypeError(f"the multiply-adds of {one.recipe} name no height_px and width_px")


def published_section(published: Published, runs: Sequence[Run]) -> Section:
    """Each figure next to the runs of its design, on both folds. Figures without a run are left out."""
    heads = [("run and figure", ""), ("published", ""), ("here, validation fold", "95 % interval")]
    heads += [("here, test", "95 % interval"), ("here, cost", "against the published one"), ("note", "")]
    lines = [
        Line(f"{run.name}: {one.title}", _cells(one, run))
        for run in runs
        for one in published.figures
        if one.recipe == run.recipe.name
    ]
    paragraphs = [f"From {published.source}.", published.photos]
    if not lines:
        designs = ", ".join(sorted({one.recipe for one in published.figures}))
        return Section("Published figures", [*paragraphs, f"None of these runs is of a recipe named there: {designs}."])
    caption = (
        "Runs of a fold were tested on other photos than the authors: their columns show whether a design behaves as "
        "its authors saw, not which is better. Runs of --official-split are tested on the official test photos."
    )
    paragraphs += _without_scores(published, runs)
    return Section("Published figures", paragraphs, [Table("Published figures and these runs", caption, heads, lines)])


def _without_scores(published: Published, runs: Sequence[Run]) -> list[str]:
    """A sentence about the scores that no run of their design has, such as those whose names are misspelled."""
    of = {run.recipe.name: [one for one in runs if one.recipe.name == run.recipe.name] for run in runs}
    missing = [
        f"{one.recipe}: {one.title}"
        for one in published.figures
        if one.recipe in of
        and not one.cost
        and all(run.interval(part, one.key) is None for run in of[one.recipe] for part in FOLDS)
    ]
    names = "No run of the design has a score of that name (`data`, `state` and `score` are those of scores.json): "
    return [f"{names}{'; '.join(missing)}."] if missing else []


def _cells(figure: Figure, run: Run) -> list[Cell]:
    note = Cell(figure.note or DASH)
    if figure.cost:
        unit = MEGA if figure.cost == PARAMETERS else GIGA
        own = parameters(run) if figure.cost == PARAMETERS else _work_at(run, (figure.height_px, figure.width_px))
        more = "" if own is None else f"{signed(100 * (own / figure.value - 1), 1)} %"
        here = Cell(DASH) if own is None else Cell(number(own / unit, 2), more)
        return [Cell(number(figure.value / unit, 2)), Cell(DASH), Cell(DASH), here, note]
    scores = [interval_cell(run.interval(part, figure.key)) for part in FOLDS]
    return [Cell(number(figure.value)), *scores, Cell(DASH), note]


def _work_at(run: Run, px: tuple[int, int]) -> float | None:
    """Multiply-adds of one image of that size, with the experts that were chosen."""
    if run.cost is None:
        return None
    if not px[0]:
        return multiply_adds(run)
    return next((one["scaled"]["total"] for one in run.cost["work"]["stated"] if one["asked_px"] == list(px)), None)
