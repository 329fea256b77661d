"""Generalization: the loss of a score on photos that were not learned from, and on corrupted photos."""

from __future__ import annotations

from funduscope.compare.corruptions import IN_WORDS
from funduscope.compare.page_parts import Cell, Section, Table, between, number, signed
from funduscope.compare.paired import Difference, gap, shift
from funduscope.compare.run_folder import DASH, SHIFTS, TRAINING, Run
from funduscope.compare.score_kinds import Measure
from funduscope.compare.sections import Comparison
from funduscope.metrics import Interval


def robustness_section(comparison: Comparison) -> Section:
    """The loss from training to validation photos, and from photos to the same photos corrupted."""
    method = (
        "Positive losses are worse, for every score; the interval of a loss is of 95 %. Training photos are a sample: "
        "at most 100, and no more than the validation fold has; corrupted photos are at most 100 of the validation "
        "fold. Both samples depend on the photos' names alone, and take one photo of each data set in turn."
    )
    tables = [table for table in (_fall_table(comparison), *(_shift_table(comparison, one) for one in SHIFTS)) if table]
    return Section(
        "Generalization", [method if tables else "Nothing was scored on training or on corrupted photos."], tables
    )


def _fall_table(comparison: Comparison) -> Table | None:
    measures = [
        one
        for one in comparison.measures
        if one.kind.key
        and any(run.interval(TRAINING, one.key) and run.interval("validation", one.key) for run in comparison.runs)
    ]
    if not measures:
        return None

    def cell(run: Run, one: Measure) -> Cell:
        learned, new = run.interval(TRAINING, one.key), run.interval("validation", one.key)
        if learned is None or new is None:
            return Cell(DASH)
        return _loss(one, learned.value, new.value, gap(new, learned))

    caption = (
        "From photos that the run learned from to other photos: best is a small loss with a good score. The photos "
        "differ, so the interval combines those of the two scores."
    )
    heads = [("run", ""), *((one.kind.shown, one.dataset) for one in measures)]
    columns = [[cell(run, one) for run in comparison.runs] for one in measures]
    return Table("From training to validation photos", caption, heads, comparison.table_lines(columns))


def _shift_table(comparison: Comparison, part: str) -> Table | None:
    keys = [one for one in comparison.measures if one.kind.key]
    found = {(run.name, one): _shifted(run, one, part) for run in comparison.runs for one in keys}
    measures = [one for one in keys if any(found[run.name, one] for run in comparison.runs)]
    if not measures:
        return None

    def cell(run: Run, one: Measure) -> Cell:
        change = found[run.name, one]
        return Cell(DASH) if change is None else _loss(one, change.scores[1], change.scores[0], change.interval)

    caption = f"The same validation photos, unchanged and corrupted: {IN_WORDS[part]}. A small loss is better."
    photos = {one: {change.photos for (_, mine), change in found.items() if mine == one and change} for one in measures}
    heads = [("run", ""), *((one.kind.shown, f"{one.dataset}, {_range(photos[one])} photos") for one in measures)]
    columns = [[cell(run, one) for run in comparison.runs] for one in measures]
    title = {"color": "Under another lamp and sensor: strong color shift", "blur": "Out of focus: strong blur"}[part]
    return Table(title, caption, heads, comparison.table_lines(columns))


def _range(counts: set[int]) -> str:
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _loss(measure: Measure, before: float, after: float, change: Interval) -> Cell:
    """Before and after, and the loss."""
    ends = sorted((measure.worse_by(change.low), measure.worse_by(change.high)))
    loss = Interval(ends[0], ends[1], measure.worse_by(change.value))
    digits = measure.kind.digits
    ends_shown = between(loss, digits, sign=True)
    small = f"loses {signed(loss.value, digits)}" + (f" ({ends_shown})" if ends_shown else "")
    return Cell(f"{number(before, digits)} → {number(after, digits)}", small)


def _shifted(run: Run, measure: Measure, part: str) -> Difference | None:
    if not run.interval(part, measure.key):
        return None
    return shift(measure, run.rows["validation"], run.rows[part])
