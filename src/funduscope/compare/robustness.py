"""Generalization: what a score loses on photos that were not learned from, and under another camera's look."""

from __future__ import annotations

from funduscope.compare.corruptions import IN_WORDS
from funduscope.compare.page_parts import Cell, Section, Table, between, number, signed
from funduscope.compare.paired import Difference, gap, shift
from funduscope.compare.run_folder import DASH, SHIFTS, TRAINING, Run
from funduscope.compare.score_kinds import Measure
from funduscope.compare.sections import Comparison
from funduscope.metrics import Interval


def robustness_section(comparison: Comparison) -> Section:
    """How far scores fall from training photos to validation photos, and on the same photos with another look."""
    says = [
        "Positive losses are worse, for every score; the interval of a loss is of 95 %. Training photos are a sample: "
        "at most 100, and no more than the validation fold has; shifted photos are at most 100 of the validation fold. "
        "Both are drawn by the photos' names, in turn one of each data set, before it is asked what a recipe answers."
    ]
    tables = [table for table in (_fall_table(comparison), *(_shift_table(comparison, one) for one in SHIFTS)) if table]
    return Section(
        "Generalization", says if tables else ["Nothing was scored on training or on shifted photos."], tables
    )


def _fall_table(comparison: Comparison) -> Table | None:
    measures = [
        one
        for one in comparison.measures
        if one.kind.key
        and any(run.interval(TRAINING, one) and run.interval("validation", one) for run in comparison.runs)
    ]
    if not measures:
        return None

    def cell(run: Run, one: Measure) -> Cell:
        learned, new = run.interval(TRAINING, one), run.interval("validation", one)
        if learned is None or new is None:
            return Cell(DASH)
        return _loss(one, learned.value, new.value, gap(new, learned))

    says = (
        "From photos it learned from to photos it did not: a small loss with a good score is what one wants. Different "
        "photos, so the interval is made of the two scores' own."
    )
    heads = [("run", ""), *((one.kind.shown, one.dataset) for one in measures)]
    columns = [[cell(run, one) for run in comparison.runs] for one in measures]
    return Table("From training to validation photos", says, heads, comparison.table_lines(columns))


def _shift_table(comparison: Comparison, part: str) -> Table | None:
    keys = [one for one in comparison.measures if one.kind.key]
    found = {(run.name, one): _shifted(run, one, part) for run in comparison.runs for one in keys}
    measures = [one for one in keys if any(found[run.name, one] for run in comparison.runs)]
    if not measures:
        return None

    def cell(run: Run, one: Measure) -> Cell:
        change = found[run.name, one]
        return Cell(DASH) if change is None else _loss(one, change.scores[1], change.scores[0], change.interval)

    says = f"The same validation photos as they are and with another look: {IN_WORDS[part]}. A small loss is better."
    photos = {one: {change.photos for (_, mine), change in found.items() if mine == one and change} for one in measures}
    heads = [("run", ""), *((one.kind.shown, f"{one.dataset}, {_range(photos[one])} photos") for one in measures)]
    columns = [[cell(run, one) for run in comparison.runs] for one in measures]
    title = {"color": "Under another lamp and sensor: strong color shift", "blur": "Out of focus: strong blur"}[part]
    return Table(title, says, heads, comparison.table_lines(columns))


def _range(counts: set[int]) -> str:
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _loss(measure: Measure, before: float, after: float, change: Interval) -> Cell:
    """Before and after, and how much worse that is."""
    ends = sorted((measure.worse_by(change.low), measure.worse_by(change.high)))
    loss = Interval(ends[0], ends[1], measure.worse_by(change.value))
    digits = measure.kind.digits
    sure = between(loss, digits, sign=True)
    small = f"loses {signed(loss.value, digits)}" + (f" ({sure})" if sure else "")
    return Cell(f"{number(before, digits)} → {number(after, digits)}", small)


def robustness_summary(comparison: Comparison) -> list[str]:
    """For each look and each kappa, the mean loss over the runs, and who loses least and most."""
    words = []
    for part, name in (("color", "a strong color shift"), ("blur", "strong blur")):
        for one in comparison.measures:
            found = [
                (one.worse_by(change.interval.value), run.name)
                for run in comparison.side
                if one.kind.score == "kappa" and (change := _shifted(run, one, part))
            ]
            if len(found) > 1:
                (least, steady), (most, moved) = min(found), max(found)
                mean = sum(loss for loss, _ in found) / len(found)
                words.append(
                    f"Under {name} {one.title} loses {signed(mean)} in the mean of the runs; least {signed(least)} "
                    f"({steady}), most {signed(most)} ({moved})."
                )
    return words


def _shifted(run: Run, measure: Measure, part: str) -> Difference | None:
    if not run.interval(part, measure):
        return None
    return shift(measure, run.rows["validation"], run.rows[part])
