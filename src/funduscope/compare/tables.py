"""The tables of the page: a column for each run, or a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from funduscope.compare.format_numbers import (
    DASH,
    format_number,
    format_p,
    format_photo_count,
    format_range,
    format_signed,
)
from funduscope.compare.paired import PairedTest, Tests
from funduscope.compare.published import Published, PublishedFigure
from funduscope.compare.run_record import RunRecord, measures_of
from funduscope.compare.score_kinds import Measure, ScoreKind
from funduscope.evaluation.score_key import ScoreKey
from funduscope.metrics import Interval

GIGA, MEGA = 1e9, 1e6


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    small: str = ""
    """A second line."""

    is_bold: bool = False


Rows = dict[str, dict[str, Cell]]
"""By the name of a row, its cells by column; all rows have the same columns."""

Table = dict[str, Rows]
"""By a heading, rows that belong together."""


def collect_scores(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Collect every score of every run: run, part, and the columns of `Scores.to_frame`."""
    frames: list[pd.DataFrame] = []
    for run in runs:
        for part, scores in run.scores.items():
            frame = scores.to_frame()
            frame.insert(0, "run", run.name)
            frame.insert(1, "part", part)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _score_cell(interval: Interval | None, digits: int = 3, *, is_bold: bool = False) -> Cell:
    if interval is None:
        return Cell(DASH)
    ends = format_range(interval.low, interval.high, digits)
    return Cell(format_number(interval.value, digits), ends, is_bold)


# ---- the runs ----


def runs_table(runs: Sequence[RunRecord]) -> Table:
    """Make a row for each run: design, photos, epochs, and what one has to know of it."""
    return {"": {run.name: _describe_run(run) for run in runs}}


def _describe_run(run: RunRecord) -> dict[str, Cell]:
    recipe, about = run.recipe, run.about
    encoders = dict.fromkeys(network.encoder.name for network in recipe.networks)
    weights = {"imagenet": "ImageNet", "none": "from scratch"}[recipe.encoder.weights]
    first_weights = (about.get("init") or {}).get("name", weights)
    sizes = [recipe.views.whole_px, *([recipe.views.close_px] if recipe.views.close else [])]

    photos = run.training_photos
    by_dataset = ", ".join(f"{name} {count}" for name, count in sorted(photos.items()))
    lengths = [len(journal) for journal in run.journals.values()]
    planned = [network.training.epochs for network in recipe.networks]
    epochs = " + ".join(f"{n} of {m}" for n, m in zip(lengths, planned, strict=True))

    notes = [run.unfinished] if run.unfinished else []
    notes += [f"taught by {name}" for name in about.get("teachers") or []]
    without_fold = "official test" if "test" in run.scores else DASH
    return {
        "recipe": Cell(recipe.name),
        "encoder": Cell(" and ".join(encoders), first_weights),
        "pixels": Cell(" and ".join(str(px) for px in dict.fromkeys(sizes))),
        "learned from": Cell(f"{sum(photos.values())} photos", by_dataset),
        "data": Cell(about.get("data_fingerprint", DASH)[:8]),
        "epochs": Cell(epochs),
        "test": Cell(without_fold if run.fold is None else f"fold {run.fold}"),
        "note": Cell("; ".join(notes)),
    }


def settings_table(runs: Sequence[RunRecord]) -> Table:
    """Make a row for each setting in which the recipes differ, under its section."""
    names = [run.name for run in runs]
    recipes = [run.recipe.model_dump(mode="json", exclude={"name", "about"}) for run in runs]
    settings = pd.json_normalize(recipes).T
    settings = settings.where(settings.notna(), DASH).map(str)
    settings = settings[settings.nunique(axis=1) > 1]

    table: Table = {}
    for setting, values in settings.iterrows():
        section, _, key = str(setting).partition(".")
        cells = [Cell(value) for value in values]
        table.setdefault(section, {})[key] = dict(zip(names, cells, strict=True))
    return table


def commands_table(runs: Sequence[RunRecord]) -> Table:
    """Make a row for each run with the command that trained it."""
    return {"": {run.name: {"command": Cell(run.about.get("command") or DASH)} for run in runs}}


# ---- scores ----


def score_table(runs: Sequence[RunRecord], part: str) -> Table:
    """Make a row for each of the page's scores, by data set, with the best value in bold."""
    table: Table = {}
    for measure in measures_of(runs, [part]):
        table.setdefault(measure.dataset, {})[measure.kind.title] = _score_row(runs, part, measure)
    return dict(sorted(table.items()))


def _score_row(runs: Sequence[RunRecord], part: str, measure: Measure) -> dict[str, Cell]:
    kind = measure.kind
    intervals = {run.name: run.interval(part, measure.key) for run in runs}
    values = [interval.value for interval in intervals.values() if interval is not None]
    best = max(values) if kind.higher_is_better else min(values)
    has_winner = len(values) > 1 and _have_same_photos(runs, part, measure.key)

    counts = [run.n_photos(part, measure.key) for run in runs if intervals[run.name]]
    row = {"": Cell(format_photo_count(counts))}
    for name, interval in intervals.items():
        is_best = has_winner and interval is not None and interval.value == best
        row[name] = _score_cell(interval, kind.digits, is_bold=is_best)
    return row


def _have_same_photos(runs: Sequence[RunRecord], part: str, key: ScoreKey) -> bool:
    """Whether a score of several runs is of the same photos.

    A run is not asked for photos that its recipe has no answer for, so the data set's photos may
    differ. If they are a part of the other run's and as many have the score, those are the same.
    """
    answering = [run for run in runs if run.interval(part, key)]
    counts = {run.n_photos(part, key) for run in answering}
    photos = [run.photo_names(part, key.dataset) for run in answering]
    most_photos = max(photos, key=len)
    return len(counts) == 1 and all(names <= most_photos for names in photos)


def all_scores_table(runs: Sequence[RunRecord], part: str) -> Table:
    """Make a row for each score that any run has, by data set."""
    scores = [run.scores[part] for run in runs if part in run.scores]
    table: Table = {}
    for key in dict.fromkeys(key for of_run in scores for key in of_run.intervals):
        cells = {run.name: _score_cell(run.interval(part, key)) for run in runs}
        table.setdefault(key.dataset, {})[f"{key.question.title}: {key.score}"] = cells
    return dict(sorted(table.items()))


# ---- tests ----


def tests_table(runs: Sequence[RunRecord], tests: dict[Measure, list[PairedTest]]) -> Table:
    """Make a row for each tested score, by data set: each run minus the run with the best value."""
    table: Table = {}
    for measure, of_pairs in tests.items():
        row = _tests_row(runs, measure.kind, of_pairs)
        table.setdefault(measure.dataset, {})[measure.kind.title] = row
    return dict(sorted(table.items()))


def _tests_row(
    runs: Sequence[RunRecord],
    kind: ScoreKind,
    tests: Sequence[PairedTest],
) -> dict[str, Cell]:
    both_ways = [*tests, *(test.swapped() for test in tests)]
    n_wins = dict.fromkeys((test.run for test in both_ways), 0)
    for test in both_ways:
        change = test.difference.value
        n_wins[test.run] += change > 0 if kind.higher_is_better else change < 0
    best = max(n_wins, key=lambda name: n_wins[name])

    row = {"": Cell(format_photo_count([test.n_photos for test in tests]))}
    against_best = {test.run: test for test in both_ways if test.reference == best}
    for run in runs:
        test = against_best.get(run.name)
        row[run.name] = Cell("best") if run.name == best else _test_cell(test, kind.digits)
    return row


def _test_cell(test: PairedTest | None, digits: int) -> Cell:
    if test is None:
        return Cell(DASH)
    difference = test.difference
    ends = format_range(difference.low, difference.high, digits, is_signed=True)
    small = f"{ends}; {format_p(test.corrected_p)}"
    return Cell(format_signed(difference.value, digits), small, test.differs)


def collect_tests(tests: Tests) -> pd.DataFrame:
    """Collect the test of every pair of runs, a row each."""
    columns = [
        "part", "dataset", "question", "score", "run", "reference", "value", "reference_value",
        "difference", "low", "high", "p", "corrected_p", "visits", "photos",
    ]  # fmt: skip
    rows: list[tuple[str | float, ...]] = []
    for part, by_measure in tests.items():
        for measure, of_pairs in by_measure.items():
            key = measure.key
            names = (part, key.dataset, key.question.name, key.score)
            for test in of_pairs:
                gap = test.difference
                scores = (test.run, test.reference, test.score, test.reference_score)
                numbers = (gap.value, gap.low, gap.high, test.p, test.corrected_p, gap.visits)
                rows.append((*names, *scores, *numbers, test.n_photos))
    return pd.DataFrame(rows, columns=columns)


# ---- published figures ----


def published_table(runs: Sequence[RunRecord], published: Published) -> Table:
    """Make a row for each published figure of a run's recipe, by run."""
    table: Table = {}
    for run in runs:
        figures = [figure for figure in published.figure if figure.recipe == run.recipe.name]
        rows = {figure.title: _published_row(run, figure) for figure in figures}
        if rows:
            table[run.name] = rows
    return table


def _published_row(run: RunRecord, figure: PublishedFigure) -> dict[str, Cell]:
    value, note = figure.value, Cell(figure.note)
    if figure.cost:
        unit = MEGA if figure.cost == "parameters" else GIGA
        cost = _cost_of(run, figure)
        here = Cell(DASH)
        if cost is not None:
            change = format_signed(100 * (cost / value - 1), 1)
            here = Cell(format_number(cost / unit, 2), f"{change} %")
        return {"published": Cell(format_number(value / unit, 2)), "here": here, "note": note}

    part = "test" if run.interval("test", figure.key) else "validation"
    here = _score_cell(run.interval(part, figure.key))
    return {"published": Cell(format_number(value)), "here": here, "note": note}


def _cost_of(run: RunRecord, figure: PublishedFigure) -> float | None:
    if run.cost is None:
        return None
    if figure.cost == "parameters":
        return run.cost.parameters
    return run.cost.multiply_adds_at.get((figure.height_px, figure.width_px))


# ---- cost ----


def cost_table(runs: Sequence[RunRecord]) -> Table:
    """Make a row for each run: work, time and memory of a prediction, and of an epoch."""
    return {"": {run.name: _predict_cells(run) | _training_cells(run) for run in runs}}


def _predict_cells(run: RunRecord) -> dict[str, Cell]:
    columns = ("parameters, million", "multiply-adds, G", "prediction, s", "its memory, MB")
    cost = run.cost
    if cost is None:
        return dict.fromkeys(columns, Cell(DASH))

    cells = [
        Cell(format_number(cost.parameters / MEGA, 2)),
        Cell(format_number(cost.multiply_adds / GIGA)),
        Cell(DASH) if cost.predict_s is None else Cell(f"{cost.predict_s:.1f}", cost.runtime),
        Cell(DASH) if cost.peak_mb is None else Cell(f"{cost.peak_mb:,.0f}"),
    ]
    return dict(zip(columns, cells, strict=True))


def _training_cells(run: RunRecord) -> dict[str, Cell]:
    minutes = " + ".join(f"{seconds / 60:.1f}" for seconds in run.seconds_an_epoch)
    peak_mb = run.about.get("training_peak_mb")
    return {
        "an epoch, minutes": Cell(minutes or DASH, run.about.get("precision", "")),
        "training memory, MB": Cell(DASH if peak_mb is None else f"{peak_mb:,.0f}", run.device),
    }
