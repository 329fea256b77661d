"""Generalization: the loss of a score on photos that were not learned from, and on corrupted photos."""

from __future__ import annotations

import math
from typing import Final

from funduscope.compare.corruptions import DESCRIPTIONS
from funduscope.compare.page_parts import Cell, Section, Table, between, number, photo_count, signed
from funduscope.compare.paired import Difference, difference, gap
from funduscope.compare.run_folder import CORRUPTED, DASH, TRAINING, Run
from funduscope.compare.score_kinds import Measure
from funduscope.compare.sections import Comparison
from funduscope.metrics import Interval

_SAME: Final = "The same validation photos, unchanged and corrupted"
_WORDS: Final = {
    TRAINING: (
        "From training to validation photos",
        "From photos that the run learned from to other photos: best is a small loss with a good score. The photos "
        "differ, so the interval combines those of the two scores.",
    ),
    "color": (
        "Under another lamp and sensor: strong color shift",
        f"{_SAME}: {DESCRIPTIONS['color']}. A small loss is better.",
    ),
    "blur": ("Out of focus: strong blur", f"{_SAME}: {DESCRIPTIONS['blur']}. A small loss is better."),
}
"""By part the title and the caption of its table."""


def robustness_section(comparison: Comparison) -> Section:
    """The loss from training to validation photos, and from photos to the same photos corrupted."""
    method = (
        "Positive losses are worse, for every score; the interval of a loss is of 95 %. Training photos are a sample: "
        "at most 100, and no more than the validation fold has; corrupted photos are at most 100 of the validation "
        "fold. Both samples depend on the photos' names alone, and take one photo of each data set in turn."
    )
    tables = [table for part in (TRAINING, *CORRUPTED) if (table := _loss_table(comparison, part)) is not None]
    return Section(
        "Generalization", [method if tables else "Nothing was scored on training or on corrupted photos."], tables
    )


def _loss_table(comparison: Comparison, part: str) -> Table | None:
    """The loss of every run in every key measure that any of them has; None if there is none."""
    keys = [one for one in comparison.measures if one.kind.is_tested]
    found = {one: {run.name: _change(run, one, part) for run in comparison.runs} for one in keys}
    measures = [one for one, changes in found.items() if any(changes.values())]
    if not measures:
        return None

    def cell(run: Run, one: Measure) -> Cell:
        change = found[one][run.name]
        return Cell(DASH) if change is None else _loss(one, change)

    heads = [("run", "")]
    for one in measures:
        counts = [change.photos for change in found[one].values() if change]
        photos = "" if part == TRAINING else f", {photo_count(counts)}"
        heads.append((one.kind.shown, f"{one.dataset}{photos}"))
    return Table(*_WORDS[part], heads, comparison.table_lines(lambda run: [cell(run, one) for one in measures]))


def _loss(measure: Measure, change: Difference) -> Cell:
    """Before and after, and the loss."""
    low, high = sorted((measure.worse_by(change.interval.low), measure.worse_by(change.interval.high)))
    loss = Interval(low, high, measure.worse_by(change.interval.value))
    after, before = change.scores
    digits = measure.kind.digits
    ends_shown = between(loss, digits, sign=True)
    small = f"loses {signed(loss.value, digits)}" + (f" ({ends_shown})" if ends_shown else "")
    return Cell(f"{number(before, digits)} → {number(after, digits)}", small)


def _change(run: Run, measure: Measure, part: str) -> Difference | None:
    """The score on the other photos minus that on the first ones; None if the run was not scored on both."""
    there, new = run.interval(part, measure.key), run.interval("validation", measure.key)
    if there is None:
        return None
    if part != TRAINING:
        return difference(measure, (part, run.rows[part]), ("plain", run.rows["validation"]), tested=False)
    if new is None:
        return None
    scores = (new.value, there.value)
    return Difference(measure, "validation", part, scores, gap(new, there), math.nan, math.nan, 0, 0)
