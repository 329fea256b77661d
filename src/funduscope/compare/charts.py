"""The plots of the page.

Colors are those of Okabe and Ito (2008); no plot relies on color alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from funduscope.compare.run_record import PARTS, RunRecord
from funduscope.compare.score_kinds import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer

    from funduscope.metrics import Interval

MARKERS: Final = "osD^v<>Ph*Xd"
COLORS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#777777",
)  # fmt: skip
_PART_STYLE: Final = {"validation": ("#0072b2", "o", "full"), "test": ("#d55e00", "s", "none")}
_GIGA: Final = 1e9
_COLUMNS: Final = 4


def draw_forest(
    runs: Sequence[RunRecord],
    measures: Sequence[Measure],
    parts: Sequence[str] = PARTS,
) -> Figure | None:
    """Draw a panel for each measure that two runs have, with each run's score and interval.

    Returns None if there is no such measure.
    """
    shared = [measure for measure in measures if len(_runs_with(measure, runs, parts)) > 1]
    if not shared:
        return None
    parts = [part for part in parts if any(_runs_with(m, runs, [part]) for m in shared)]

    n_columns = min(_COLUMNS, len(shared))
    n_rows = math.ceil(len(shared) / n_columns)
    width, height = 3.3 * n_columns + 1.2, (0.42 * len(runs) + 1.15) * n_rows + 0.4
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).flat)

    for axes, measure in zip(panels, shared, strict=False):
        _draw_forest_panel(axes, runs, measure, parts)
    for axes in panels[len(shared) :]:
        axes.set_axis_off()

    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _runs_with(
    measure: Measure,
    runs: Sequence[RunRecord],
    parts: Sequence[str],
) -> list[RunRecord]:
    return [run for run in runs if any(run.interval(part, measure.key) for part in parts)]


def _draw_forest_panel(
    axes: Axes,
    runs: Sequence[RunRecord],
    measure: Measure,
    parts: Sequence[str],
) -> None:
    offsets = (-0.16, 0.16) if len(parts) > 1 else (0.0,)
    for part, offset in zip(parts, offsets, strict=True):
        places: list[float] = []
        intervals: list[Interval] = []
        for place, run in enumerate(runs):
            interval = run.interval(part, measure.key)
            if interval is not None:
                places.append(place + offset)
                intervals.append(interval)

        color, marker, fill = _PART_STYLE[part]
        values = [interval.value for interval in intervals]
        axes.errorbar(
            values, places, xerr=_error_bars(intervals), fmt=marker, fillstyle=fill, color=color,
            markersize=5, linewidth=1.3, label=part,
        )  # fmt: skip

    _style_axes(axes)
    axes.set_yticks(range(len(runs)), [run.name for run in runs], fontsize=9, parse_math=False)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    better = "more" if measure.kind.higher_is_better else "less"
    axes.set_title(f"{measure.title}\n{better} is better", fontsize=9)


def draw_costs(runs: Sequence[RunRecord], measures: Sequence[Measure], part: str) -> Figure | None:
    """Draw each measure over multiply-adds and, where they compare, over seconds of a prediction.

    Returns None if fewer than two runs have a cost, or there is no measure.
    """
    runs = [run for run in runs if run.cost]
    if len(runs) < 2 or not measures:
        return None
    costs = {"multiply-adds a photo, G": [r.cost and r.cost.multiply_adds / _GIGA for r in runs]}
    seconds = [run.cost and run.cost.predict_s for run in runs]
    if were_timed_together(runs) and sum(bool(wall) for wall in seconds) > 1:
        costs["seconds of a whole prediction"] = seconds

    size = (4.6 * len(measures) + 2.2, 3.6 * len(costs))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(costs), len(measures), squeeze=False)
    points: dict[str, ErrorbarContainer] = {}
    for row, (label, values) in zip(grid, costs.items(), strict=True):
        for axes, measure in zip(row, measures, strict=True):
            for place, (run, value) in enumerate(zip(runs, values, strict=True)):
                interval = run.interval(part, measure.key)
                if interval is not None and value:
                    points[run.name] = _draw_point(axes, value, interval, place)
            _style_axes(axes)
            _use_log_scale(axes)
            axes.set(xlabel=label, ylabel=f"{measure.title}, {part} fold")

    names = [run.name for run in runs if run.name in points]
    _add_legend(figure, [points[name] for name in names], names)
    return figure


def were_timed_together(runs: Sequence[RunRecord]) -> bool:
    """Whether the seconds of these runs' predictions can be compared."""
    sittings = {run.cost.sitting for run in runs if run.cost and run.cost.predict_s}
    return len(sittings) == 1 and None not in sittings


def _draw_point(axes: Axes, value: float, interval: Interval, place: int) -> ErrorbarContainer:
    marker, color = MARKERS[place % len(MARKERS)], COLORS[place % len(COLORS)]
    return axes.errorbar(
        [value], [interval.value], yerr=_error_bars([interval]), fmt=marker, color=color,
        markersize=7, linewidth=1.1,
    )  # fmt: skip


def draw_curves(runs: Sequence[RunRecord]) -> Figure | None:
    """Draw the score that selects the epoch, by epoch; a line for each stage of a run.

    Returns None if no journal has that score. A score is the mean over the run's own tasks, so
    heights compare within a line, and between runs only where they have the same tasks.
    """
    curves = _selection_curves(runs)
    if not curves:
        return None

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    lines = []
    for place, (epochs, scores, kept) in enumerate(curves.values()):
        lines += axes.plot(
            epochs, scores, color=COLORS[place % len(COLORS)], marker=MARKERS[place % len(MARKERS)],
            markersize=9, markevery=[epochs.index(epoch) for epoch in kept], linewidth=1.4,
        )  # fmt: skip

    axes.set_xlabel("epoch (the marker is the one that was kept)")
    axes.set_ylabel("mean score of its tasks, validation fold")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _style_axes(axes)
    _add_legend(figure, lines, list(curves))
    return figure


def _selection_curves(
    runs: Sequence[RunRecord],
) -> dict[str, tuple[list[int], list[float], list[int]]]:
    """Return by name the judged epochs, their scores, and the epoch that was kept, if any."""
    curves = {}
    for run in runs:
        for stage, journal in run.journals.items():
            judged = [line for line in journal if "validation selection" in line]
            scores = {line["epoch"]: line["validation selection"] for line in judged}
            best = [line["epoch"] for line in journal if line.get("best")][-1:]
            name = f"{run.name}, {stage}" if stage else run.name
            if scores:
                curves[name] = ([*scores], [*scores.values()], best)
    return curves


def _error_bars(intervals: Sequence[Interval]) -> np.ndarray:
    """Return (2, n) lengths below and above; 0 where an interval is not known.

    A score may lie just outside its percentile interval, and a bar has no negative length.
    """
    lengths = [(i.value - i.low, i.high - i.value) for i in intervals]
    return np.nan_to_num(np.maximum(0.0, np.array(lengths).reshape(-1, 2).T))


def _use_log_scale(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)


def _add_legend(figure: Figure, handles: Sequence, names: Sequence[str]) -> None:
    """Add a legend of names, in which nothing is a formula."""
    place: Any = "outside right upper"
    legend = figure.legend(handles, names, loc=place, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)


def encode_figure(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    """Encode a figure. Equal figures give equal bytes: no date is in them."""
    file = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "funduscope", "svg.fonttype": "path"}):
        figure.savefig(file, format=kind, dpi=110, metadata=metadata)
    return file.getvalue()
