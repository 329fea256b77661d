"""The page of a comparison: its tables and plots in one HTML file, and two tables as CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pandas as pd

from funduscope.atomic import write_atomically
from funduscope.compare import charts, tables
from funduscope.compare.paired import LEVEL, MIN_VISITS, REPEATS, Tests
from funduscope.compare.published import Published
from funduscope.compare.run_record import PARTS, RunRecord, measures_of
from funduscope.compare.score_kinds import Measure
from funduscope.evaluation.score_key import Aspect
from funduscope.report import html_frame
from funduscope.vocabulary import PHOTO_TASKS

PAGE: Final = "compare.html"
SCORES: Final = "scores.csv"
PAIRS: Final = "pairs.csv"


def write_page(
    runs: Sequence[RunRecord],
    tests: Tests,
    out: Path,
    published: Published | None,
    command: str,
) -> Path:
    """Write the page and its two tables into a folder, and return the page."""
    values = {
        "runs": tables.runs_table(runs),
        "settings": tables.settings_table(runs),
        "commands": tables.commands_table(runs),
        "scores": _each_part(lambda part: tables.score_table(runs, part)),
        "tests": _each_part(lambda part: tables.tests_table(runs, tests.get(part, {}))),
        "published": published,
        "published_figures": tables.published_table(runs, published) if published else {},
        "costs": tables.cost_table(runs),
        "machines": sorted({run.cost.machine for run in runs if run.cost and run.cost.machine}),
        "timed_together": charts.were_timed_together(runs),
        "all_scores": _each_part(lambda part: tables.all_scores_table(runs, part)),
        "plots": _draw_plots(runs),
        "level": LEVEL,
        "min_visits": MIN_VISITS,
        "repeats": REPEATS,
        "command": command,
    }
    page = html_frame.render("compare/page.html.j2", values, style="compare/page.css")

    out.mkdir(parents=True, exist_ok=True)
    _write_csv(out / SCORES, tables.collect_scores(runs))
    _write_csv(out / PAIRS, tables.collect_tests(tests))
    write_atomically(out / PAGE, page.encode())
    return out / PAGE


def _each_part(make_table: Callable[[str], tables.Table]) -> dict[str, tables.Table]:
    """Return the table of each part that has one, of the test fold first."""
    by_part = {part: make_table(part) for part in reversed(PARTS)}
    return {part: table for part, table in by_part.items() if table}


def _draw_plots(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return each plot as the source of an image; empty where there is nothing to draw."""
    tested = [measure for measure in measures_of(runs) if measure.kind.is_tested]
    part = "test" if all("test" in run.scores for run in runs) else "validation"
    figures = {
        "forest": charts.draw_forest(runs, tested),
        "costs": charts.draw_costs(runs, _most_shared(runs, tested, part), part),
        "curves": charts.draw_curves(runs),
    }

    sources = dict.fromkeys(figures, "")
    for name, figure in figures.items():
        if figure is not None:
            svg = charts.encode_figure(figure, "svg")
            sources[name] = html_frame.data_url("image/svg+xml", svg)
    return sources


def _most_shared(
    runs: Sequence[RunRecord],
    measures: Sequence[Measure],
    part: str,
) -> list[Measure]:
    """Choose the score of grades and the one of lesions that most runs have, on most photos."""

    def extent(measure: Measure) -> tuple[int, int]:
        counts = [run.n_photos(part, measure.key) for run in runs]
        return sum(count > 0 for count in counts), max(counts)

    measures = [measure for measure in measures if extent(measure)[0]]
    titles = {task.title for task in PHOTO_TASKS}
    grades = [m for m in measures if m.kind.question.name in titles]
    lesions = [m for m in measures if m.kind.question.aspect == Aspect.PIXELS]
    return [max(group, key=extent) for group in (grades, lesions) if group]


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    write_atomically(path, frame.to_csv(index=False, float_format="%.6g").encode())
