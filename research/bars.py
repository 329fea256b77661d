"""What a shipped model was asked to reach, and what it reached: the bars were set before it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]
ValueAndInterval = tuple[float | None, float | None, float | None]
"""A score, and the ends of its interval."""

NO_VALUE: ValueAndInterval = (None, None, None)


@dataclass(frozen=True)
class Bar:
    """One line. score: the state and what is scored of it. at_most: less is better. inside: the interval must contain
    the bar."""

    what: str
    data: str
    score: tuple[str, str]
    bar: float
    at_most: bool = False
    inside: bool = False

    def measured(self, tree: Tree) -> ValueAndInterval:
        """The value and its interval; Nones where it was not measured."""
        state, name = self.score
        found = tree["scores"].get(self.data, {}).get(state, {}).get(name)
        return NO_VALUE if found is None else (found["value"], found["low"], found["high"])

    def photos(self, tree: Tree) -> str:
        """The number of photos that were scored; empty if it was not measured."""
        about = tree.get("details", {}).get(self.data, {}).get("states", {}).get(self.score[0])
        return "" if about is None else str(about["photos"])

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
_ROWS: tuple[tuple[str, str, _Score, float, float], ...] = (
    ("DR, quadratic weighted kappa", HOME, ("DR", "kappa"), 0.86, 0.83),
    ("DR, accuracy", HOME, ("DR", "accuracy"), 0.73, 0.70),
    ("referable DR, AUROC", HOME, ("referable DR", "AUROC"), 0.975, 0.965),
    ("referable DR by the lesions alone, AUROC", HOME, ("referable DR by the lesions", "AUROC"), 0.96, 0.94),
    ("macular edema risk, accuracy", HOME, ("DME", "accuracy"), 0.87, 0.85),
    ("DR grade and edema risk both right", HOME, ("DR and DME", "accuracy"), 0.67, 0.63),
    ("DR, quadratic weighted kappa", SRAHIM, ("DR", "kappa"), 0.88, 0.86),
    ("referable DR, AUROC", SRAHIM, ("referable DR", "AUROC"), 0.992, 0.985),
    ("DR, quadratic weighted kappa", EYEPACS, ("DR", "kappa"), 0.70, 0.66),
    ("referable DR, AUROC", EYEPACS, ("referable DR", "AUROC"), 0.93, 0.91),
    ("DR, quadratic weighted kappa", MESSIDOR, ("DR", "kappa"), 0.80, 0.77),
    ("referable DR, AUROC", MESSIDOR, ("referable DR", "AUROC"), 0.965, 0.955),
    ("macular edema by exudates near the fovea, AUROC", MESSIDOR, ("macular edema", "AUROC"), 0.97, 0.96),
    ("microaneurysms, average precision", DOTS, ("MA pixels", PRECISION), 0.40, 0.30),
    ("microaneurysms found at one false mark per photo", DOTS, ("MA lesions", "sensitivity at 1"), 0.40, 0.30),
    ("microaneurysms, average precision", MASKS, ("MA pixels", PRECISION), 0.48, 0.38),
    ("haemorrhages, average precision", MASKS, ("HE pixels", PRECISION), 0.62, 0.52),
    ("hard exudates, average precision", MASKS, ("EX pixels", PRECISION), 0.86, 0.82),
    ("soft exudates, average precision", MASKS, ("SE pixels", PRECISION), 0.70, 0.60),
    ("exudates of either kind, average precision", HEIMED, ("EX|SE pixels", PRECISION), 0.72, 0.66),
    ("microaneurysms, Dice", MASKS, ("MA mask", "Dice"), 0.45, 0.38),
    ("haemorrhages, Dice", MASKS, ("HE mask", "Dice"), 0.55, 0.48),
    ("hard exudates, Dice", MASKS, ("EX mask", "Dice"), 0.70, 0.65),
    ("soft exudates, Dice", MASKS, ("SE mask", "Dice"), 0.60, 0.52),
    ("optic disc, IoU", MASKS, ("OD mask", "IoU"), 0.94, 0.92),
    ("disc, mean distance at 4288 wide, px", HOME, ("disc center", DISTANCE), 16, 18),
    ("fovea, mean distance at 4288 wide, px", HOME, ("fovea", DISTANCE), 36, 40),
    ("grade-0 photos with a false HE, EX or SE", HOME, FALSE, 0.08, 0.10),
    ("grade-0 photos with a false HE, EX or SE", SRAHIM, FALSE, 0.10, 0.12),
)
"""What is scored, and the bars of the default model and of `fast`."""


def _bars(column: int, sets: float) -> tuple[Bar, ...]:
    """The bars of a model. sets: how many grades a set may have on IDRiD."""
    rows = tuple(
        Bar(what, data, score, asked[column], score == FALSE or score[1] == DISTANCE)
        for what, data, score, *asked in _ROWS
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
    """Every bar, what was reached, and whether that is enough."""
    lines = ["| what | data set | photos | target | measured | 95 % interval | |", "|---" * 7 + "|"]
    met, undecided = 0, {"yes": 0, "**no**": 0}  # undecided: the target lies within the interval
    for bar in bars:
        value, low, high = bar.measured(tree)
        verdict = "not measured" if value is None else "yes" if bar.reached(value, low, high) else "**no**"
        met += verdict == "yes"
        if low is not None and high is not None and not bar.inside and low <= bar.bar <= high:
            undecided[verdict] += 1
        asked = f"{'at most' if bar.at_most else 'at least'} {_asked(bar.bar)}"
        asked = f"{_asked(bar.bar)} within the interval" if bar.inside else asked
        cells = (bar.what, bar.data, bar.photos(tree), asked, number(value), interval(low, high), verdict)
        lines.append(f"| {' | '.join(cells)} |")
    says = f"{met} of {len(bars)} targets are met."
    if any(undecided.values()):
        says += (
            " A target within the 95 % interval could go either way on other photos: that is so of "
            f"{undecided['yes']} that are met here and of {undecided['**no**']} that are not."
        )
    return "\n".join(lines) + f"\n\n{says}\n"
