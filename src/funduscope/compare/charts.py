"""The pictures of the page: a forest plot of the most important scores, and accuracy against cost.

Needs matplotlib, which only the extra `train` installs. Colors are those of Okabe and Ito (2008); no picture relies on
color alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from funduscope.compare.costs import GIGA, in_one_sitting, multiply_adds, predict_s
from funduscope.compare.page_parts import Picture
from funduscope.compare.run_folder import FOLDS, Run
from funduscope.compare.score_kinds import AP, GRADING, Measure
from funduscope.compare.sections import Comparison
from funduscope.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure

FOREST: Final = Picture("forest", "Forest plot: each run's most important scores with their 95 % intervals, by fold")
COSTS: Final = Picture("cost", "Accuracy against cost: scores over multiply-adds and over seconds of a prediction")

_FOLD_STYLE: Final = {"validation": ("#0072b2", "o", "full"), "test": ("#d55e00", "s", "none")}
MARKERS: Final = "osD^v<>Ph*Xd"
COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#777777")
COLUMNS: Final = 4


def draw_forest(comparison: Comparison, folds: Sequence[str] = FOLDS) -> Figure | None:
    """A panel for each key measure that two runs answer on those folds; a row for each comparable run."""
    runs = comparison.comparable
    measures = [one for one in comparison.measures if one.kind.is_tested and len(_answering(runs, one, folds)) > 1]
    if not measures:
        return None
    from matplotlib.figure import Figure

    folds = [fold for fold in folds if any(run.interval(fold, one.key) for run in runs for one in measures)]
    columns = min(COLUMNS, len(measures))
    rows = math.ceil(len(measures) / columns)
    figure = Figure(figsize=(3.3 * columns + 1.2, (0.42 * len(runs) + 1.15) * rows + 0.4), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axes, one in zip(panels, measures, strict=False):
        _forest_panel(axes, runs, one, folds)
    for axes in panels[len(measures) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _answering(runs: Sequence[Run], measure: Measure, folds: Sequence[str]) -> list[Run]:
    return [run for run in runs if any(run.interval(fold, measure.key) for fold in folds)]


def _forest_panel(axes: Axes, runs: Sequence[Run], measure: Measure, folds: Sequence[str]) -> None:
    for fold, offset in zip(folds, (-0.16, 0.16) if len(folds) > 1 else (0.0,), strict=True):
        color, marker, fill = _FOLD_STYLE[fold]
        known = [
            (place + offset, one)
            for place, run in enumerate(runs)
            if (one := run.interval(fold, measure.key)) is not None
        ]
        places = [place for place, _ in known]
        values = [one.value for _, one in known]
        arms = np.array([_error_bar_lengths(one) for _, one in known]).reshape(-1, 2).T
        axes.errorbar(
            values, places, xerr=arms, fmt=marker, fillstyle=fill, color=color, markersize=5, linewidth=1.3, label=fold
        )
    _style_axes(axes)
    axes.set_yticks(range(len(runs)), [run.name for run in runs], fontsize=9, parse_math=False)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_title(f"{measure.title}\n{'more' if measure.kind.higher else 'less'} is better", fontsize=9)


def draw_costs(comparison: Comparison, fold: str = "validation") -> Figure | None:
    """Scores on a fold over what a photo costs: a column per score, a row per cost that two runs know."""
    runs = [run for run in comparison.comparable if run.cost]
    measures = [
        one for heading in (GRADING, AP) if (one := _most_answered(comparison, runs, heading, fold)) is not None
    ]
    if len(runs) < 2 or not measures:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    costs: tuple[tuple[str, Callable[[Run], float | None]], ...] = (
        ("multiply-adds a photo, G", lambda run: (multiply_adds(run) or 0) / GIGA),
        ("seconds of a whole prediction", predict_s),
    )
    if not in_one_sitting(runs):  # seconds of other days, machines or runtimes lie on no common axis
        costs = costs[:1]
    axes_of = [(words, cost) for words, cost in costs if sum(bool(cost(run)) for run in runs) > 1]
    if not axes_of:
        return None
    figure = Figure(figsize=(4.6 * len(measures) + 2.2, 3.6 * len(axes_of)), layout="constrained")
    grid = figure.subplots(len(axes_of), len(measures), squeeze=False)
    named: dict[str, ErrorbarContainer] = {}
    for row, (words, cost) in zip(grid, axes_of, strict=True):
        for axes, one in zip(row, measures, strict=True):
            for place, run in enumerate(runs):
                point = _cost_point(axes, run.interval(fold, one.key), cost(run), place)
                named |= {} if point is None else {run.name: point}
            _style_axes(axes)
            axes.set_xscale("log")
            axes.set(xlabel=words, ylabel=f"{one.title}, {fold} fold")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
    ordered = [run.name for run in runs if run.name in named]
    handles = [named[name] for name in ordered]
    legend = figure.legend(handles, ordered, loc="outside right upper", frameon=False, fontsize=9)  # pyright: ignore[reportArgumentType]
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _most_answered(comparison: Comparison, runs: Sequence[Run], heading: str, fold: str) -> Measure | None:
    """The key measure under a heading that most runs answer; of equal ones that with most photos."""
    candidates = [one for one in comparison.measures if one.kind.is_tested and one.kind.table == heading]
    count = {one: [run.photos(fold, one.key) for run in runs if run.interval(fold, one.key)] for one in candidates}
    return max(
        (one for one in candidates if count[one]), key=lambda one: (len(count[one]), max(count[one])), default=None
    )


def _cost_point(axes: Axes, interval: Interval | None, cost: float | None, place: int) -> ErrorbarContainer | None:
    if interval is None or not cost:
        return None
    arms = np.array([_error_bar_lengths(interval)]).T
    marker, color = MARKERS[place % len(MARKERS)], COLORS[place % len(COLORS)]
    return axes.errorbar([cost], [interval.value], yerr=arms, fmt=marker, color=color, markersize=7, linewidth=1.1)


def _error_bar_lengths(interval: Interval) -> tuple[float, float]:
    """Lengths of the error bars. A score may lie just outside its percentile interval; a bar has no negative length."""
    if math.isnan(interval.low):
        return 0.0, 0.0
    return max(0.0, interval.value - interval.low), max(0.0, interval.high - interval.value)


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)


def encode_figure(figure: Figure, kind: str) -> bytes:
    """The picture as "svg" or "png", without a date in it: the same figures give the same bytes."""
    import matplotlib

    file = io.BytesIO()
    about = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "funduscope", "svg.fonttype": "path"}):
        figure.savefig(file, format=kind, dpi=110, metadata=about)
    return file.getvalue()
