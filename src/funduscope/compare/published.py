"""Figures that authors published, beside runs of their designs: never a contest, since the photos are others."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from funduscope.compare.costs import GIGA, MEGA, multiply_adds, parameters
from funduscope.compare.page_parts import Cell, Line, Section, Table, number
from funduscope.compare.run_folder import DASH, CompareError, Run

PARAMETERS, WORK = "parameters", "multiply_adds"
WANTED = (
    "expected `source`, `photos` and a [[figure]] with `run`, `value` and either `data`, `state` and `score` "
    "as in scores.json, or `cost` (parameters or multiply_adds, with `height_px` and `width_px`)"
)


@dataclass(frozen=True)
class Figure:
    """One published number of the design of `run`. data, state, score: as in scores.json; cost: what it is of instead,
    multiply-adds at (height_px, width_px)."""

    run: str
    value: float
    data: str = ""
    state: str = ""
    score: str = ""
    cost: str = ""
    height_px: int = 0
    width_px: int = 0
    note: str = ""

    @property
    def title(self) -> str:
        """What it is of, in words."""
        if self.cost == PARAMETERS:
            return "parameters, million"
        if self.cost == WORK:
            return f"multiply-adds at {self.height_px} × {self.width_px} px, G"
        return f"{self.state.replace('|', ' or ')}: {self.score}, {self.data}"


@dataclass(frozen=True)
class Published:
    """source: who published them. photos: what they were scored on, and how that differs from the runs'."""

    source: str
    photos: str
    figures: tuple[Figure, ...]


def read_published(path: Path) -> Published:
    """Reads a TOML file of figures. Raises `CompareError`."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
        figures = tuple(Figure(**one) for one in tree["figure"])
        for one in figures:
            if one.cost not in ("", PARAMETERS, WORK) or bool(one.cost) == bool(one.data and one.state and one.score):
                raise TypeError(f"the figure {one.value:g} of {one.run} says too little, or too much, of what it is of")
        return Published(str(tree["source"]), str(tree["photos"]), figures)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise CompareError(f"{path} holds no published figures: {error}; {WANTED}.") from error


def published_section(published: Published, runs: Sequence[Run]) -> Section:
    """Each figure beside the run of its design, on both folds. Figures whose run is not there are left out."""
    by_name = {run.name: run for run in runs}
    heads = [("run and figure", ""), ("published", ""), ("here, validation fold", "95 % interval")]
    heads += [("here, test fold", "95 % interval"), ("note", "")]
    lines = [
        Line(f"{one.run}: {one.title}", _cells(one, by_name[one.run]))
        for one in published.figures
        if one.run in by_name
    ]
    says = "Scored on other photos: the two columns say whether a design behaves as its authors saw, not who is better."
    return Section(
        "Beside what was published",
        [f"From {published.source}.", published.photos],
        [Table("Published figures", says, heads, lines)],
    )


def _cells(figure: Figure, run: Run) -> list[Cell]:
    note = Cell(figure.note or DASH)
    if figure.cost:
        unit = MEGA if figure.cost == PARAMETERS else GIGA
        own = parameters(run) if figure.cost == PARAMETERS else _work_at(run, (figure.height_px, figure.width_px))
        here = Cell(DASH) if own is None else Cell(number(own / unit, 2), f"{100 * (own / figure.value - 1):+.1f} %")
        return [Cell(number(figure.value / unit, 2)), here, Cell(DASH), note]
    return [Cell(number(figure.value)), *(_held(run, part, figure) for part in ("validation", "test")), note]


def _work_at(run: Run, px: tuple[int, int]) -> float | None:
    """Multiply-adds of one look at an image of that size, with the experts that were chosen."""
    if run.cost is None:
        return None
    if not px[0]:
        return multiply_adds(run)
    return next((one["scaled"]["total"] for one in run.cost["work"]["stated"] if one["asked_px"] == list(px)), None)


def _held(run: Run, part: str, figure: Figure) -> Cell:
    states = run.trees.get(part, {}).get("scores", {}).get(figure.data, {})
    held = states.get(figure.state, {}).get(figure.score)
    if held is None or held["value"] is None:
        return Cell(DASH)
    return Cell(
        number(held["value"]), "" if held["low"] is None else f"{number(held['low'])} to {number(held['high'])}"
    )
