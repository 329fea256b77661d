"""What a shipped model was asked to reach, and what it reached: the bars were set before it was trained.

The plain baseline is one ResNet-50 at 512 px, begun from ImageNet, taught grades and edema risk of IDRiD and srahim
alone, for nine epochs (AdamW 1.5e-4, one cycle, batch 8, label smoothing 0.05, averaged weights, mirrored average). Its
figures on this fold came with the bars; no command of this repository made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]
Told = tuple[float | None, float | None, float | None]
"""A value with the ends of its interval."""

NO_VALUE: Told = (None, None, None)


@dataclass(frozen=True)
class Bar:
    """One line. score: the state and what is scored of it. at_most: less is better. inside: the interval must contain
    the bar."""

    what: str
    data: str
    score: tuple[str, str]
    bar: float
    at_most: bool = False
    baseline: float | None = None
    inside: bool = False

    def told(self, tree: Tree) -> Told:
        """The value and its interval; Nones where it was not measured."""
        state, name = self.score
        found = tree["scores"].get(self.data, {}).get(state, {}).get(name)
        return NO_VALUE if found is None else (found["value"], found["low"], found["high"])

    def reached(self, value: float, low: float | None, high: float | None) -> bool:
        """Whether the value, or its interval, is as good as asked."""
        if self.inside:
            return low is not None and high is not None and low <= self.bar <= high
        if self.at_most:
            return value <= self.bar
        return value >= self.bar


COVERAGE, SETS = "grade sets that hold the grade", "DR grade sets"
HOME, SRAHIM, EYEPACS, MASKS, HEIMED = "idrid-B", "srahim", "eyepacs400", "idrid-A", "heimed"
MESSIDOR, DOTS = "messidor2", "eophtha"
PRECISION = "average precision"
DISTANCE, FALSE = "mean px", ("false HE, EX or SE", "photos with any")
_Score = tuple[str, str]
_ROWS: tuple[tuple[str, str, _Score, float, float, float | None], ...] = (
    ("DR, quadratic weighted kappa", HOME, ("DR", "kappa"), 0.86, 0.83, 0.851),
    ("DR, accuracy", HOME, ("DR", "accuracy"), 0.73, 0.70, 0.699),
    ("referable DR, AUROC", HOME, ("referable DR", "AUROC"), 0.975, 0.965, None),
    ("referable DR by the lesions alone, AUROC", HOME, ("referable DR by the lesions", "AUROC"), 0.96, 0.94, None),
    ("macular edema risk, accuracy", HOME, ("DME", "accuracy"), 0.87, 0.85, 0.877),
    ("both right", HOME, ("DR and DME", "accuracy"), 0.67, 0.63, 0.644),
    ("DR, quadratic weighted kappa", SRAHIM, ("DR", "kappa"), 0.88, 0.86, 0.823),
    ("referable DR, AUROC", SRAHIM, ("referable DR", "AUROC"), 0.992, 0.985, 0.973),
    ("DR, quadratic weighted kappa", EYEPACS, ("DR", "kappa"), 0.70, 0.66, None),
    ("referable DR, AUROC", EYEPACS, ("referable DR", "AUROC"), 0.93, 0.91, None),
    ("DR, quadratic weighted kappa", MESSIDOR, ("DR", "kappa"), 0.80, 0.77, None),
    ("referable DR, AUROC", MESSIDOR, ("referable DR", "AUROC"), 0.965, 0.955, None),
    ("macular edema, AUROC", MESSIDOR, ("macular edema", "AUROC"), 0.97, 0.96, None),
    ("microaneurysms, average precision", DOTS, ("MA pixels", PRECISION), 0.40, 0.30, None),
    ("microaneurysms found at one false a photo", DOTS, ("MA lesions", "sensitivity at 1"), 0.40, 0.30, None),
    ("microaneurysms, average precision", MASKS, ("MA pixels", PRECISION), 0.48, 0.38, None),
    ("haemorrhages, average precision", MASKS, ("HE pixels", PRECISION), 0.62, 0.52, None),
    ("hard exudates, average precision", MASKS, ("EX pixels", PRECISION), 0.86, 0.82, None),
    ("soft exudates, average precision", MASKS, ("SE pixels", PRECISION), 0.70, 0.60, None),
    ("exudates of either kind, average precision", HEIMED, ("EX|SE pixels", PRECISION), 0.72, 0.66, None),
    ("microaneurysms, Dice", MASKS, ("MA mask", "Dice"), 0.45, 0.38, None),
    ("haemorrhages, Dice", MASKS, ("HE mask", "Dice"), 0.55, 0.48, None),
    ("hard exudates, Dice", MASKS, ("EX mask", "Dice"), 0.70, 0.65, None),
    ("soft exudates, Dice", MASKS, ("SE mask", "Dice"), 0.60, 0.52, None),
    ("optic disc, IoU", MASKS, ("OD mask", "IoU"), 0.94, 0.92, None),
    ("disc, mean distance at 4288 wide, px", HOME, ("disc center", DISTANCE), 16, 18, None),
    ("fovea, mean distance at 4288 wide, px", HOME, ("fovea", DISTANCE), 36, 40, None),
    ("healthy photos with a false HE, EX or SE", HOME, FALSE, 0.08, 0.10, None),
    ("healthy photos with a false HE, EX or SE", SRAHIM, FALSE, 0.10, 0.12, None),
)
"""What is scored, and the bars of the default model and of `fast`; last the plain baseline."""


def _bars(column: int, sets: float) -> tuple[Bar, ...]:
    """The bars of a model. sets: how many grades a set may have on IDRiD."""
    rows = tuple(
        Bar(
            row[0],
            row[1],
            row[2],
            row[3 + column],
            row[2] == FALSE or row[2][1] == DISTANCE,
            None if column else row[5],
        )
        for row in _ROWS
    )
    held = (Bar(COVERAGE, data, (SETS, "coverage"), 0.9, inside=True) for data in (HOME, SRAHIM, EYEPACS, MESSIDOR))
    return (*rows, *held, Bar("grades in a set, mean", HOME, (SETS, "mean size"), sets, at_most=True))


BARS = _bars(0, 1.8)
"""Of the default model."""

FAST_BARS = _bars(1, 1.9)
"""Of the model `fast`."""


def number(value: float | None) -> str:
    """A score for people: three digits, one from ten on."""
    if value is None:
        return "not known"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """The 95 % interval, where there is one."""
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def _asked(value: float) -> str:
    return f"{value:g}"


def bars_table(tree: Tree, bars: Sequence[Bar] = BARS) -> str:
    """Every bar, what was reached, whether that is enough, and the plain baseline where any bar has its figure."""
    compared = any(bar.baseline is not None for bar in bars)
    lines = [
        "| what | data set | asked | reached | 95 % interval | |" + " plain |" * compared,
        "|---|---|---|---|---|---|" + "---|" * compared,
    ]
    enough = 0
    for bar in bars:
        value, low, high = bar.told(tree)
        verdict = "not measured" if value is None else "yes" if bar.reached(value, low, high) else "**no**"
        enough += verdict == "yes"
        asked = f"{'at most' if bar.at_most else 'at least'} {_asked(bar.bar)}"
        asked = f"{_asked(bar.bar)} within the interval" if bar.inside else asked
        cells = (bar.what, bar.data, asked, number(value), interval(low, high), verdict)
        last = f" {'' if bar.baseline is None else number(bar.baseline)} |" if compared else ""
        lines.append(f"| {' | '.join(cells)} |{last}")
    return "\n".join(lines) + f"\n\n{enough} of {len(bars)} are reached.\n"
