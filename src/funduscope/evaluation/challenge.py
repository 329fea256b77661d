"""The measures of the IDRiD challenge (Porwal et al., Medical Image Analysis 59, 2020) among the scores of a model.

They are meant for the official test photos. The challenge's own answers were scored by the same definitions:
docs/protocol.md.
"""

from __future__ import annotations

import math
from typing import Final

from funduscope.evaluation.score_key import Aspect, Question, ScoreKey
from funduscope.evaluation.scores import Scores
from funduscope.metrics.intervals import Interval

MEASURES: Final[tuple[tuple[str, str, Question, str], ...]] = (
    *(
        (f"1: {code}, area under precision over recall", "idrid-A", Question(code, Aspect.PIXELS), "AUPR")
        for code in ("MA", "HE", "SE", "EX")
    ),
    ("2: grade and edema risk both right, share", "idrid-B", Question("DR and DME"), "accuracy"),
    ("3: optic disc, Jaccard index", "idrid-A", Question("OD", Aspect.MASK), "IoU"),
    ("3: disc center, mean distance in px", "idrid-B", Question("disc center"), "mean px"),
    ("3: fovea, mean distance in px", "idrid-B", Question("fovea"), "mean px"),
)
"""Sub-challenge and measure, data set, question, score."""


def challenge(scores: Scores) -> dict[str, Interval]:
    """By sub-challenge and measure the score with its 95 % interval, as far as the photos answer it."""
    found: dict[str, Interval] = {}
    for title, data, question, score in MEASURES:
        interval = scores.intervals.get(ScoreKey(data, question, score))
        if interval is not None and not math.isnan(interval.value):
            found[title] = interval
    return found
