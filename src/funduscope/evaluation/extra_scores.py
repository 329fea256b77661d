"""Scores of one's own next to those of the protocol: a number for each photo, whose mean is reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from funduscope.data.case import Case
from funduscope.evaluation.score_key import Question
from funduscope.evaluation.scores import PhotoScore
from funduscope.inference.findings import Findings
from funduscope.metrics import ExtraState
from funduscope.vocabulary import CODES, EITHER_EXUDATE, PHOTO_TASKS

Extra = Mapping[str, Callable[[Findings, Case], float | None]]
"""Custom scores by name: a number for a photo, or None if there is none. See `score_photo`."""

_ROW_NAMES: Final = frozenset(
    {"key", "dataset", "visit", "fold", "refused", "error", "gates", "grade_set", "false lesions", "not scored"}
    | {name for task in PHOTO_TASKS for name in (task.name, f"predicted_{task.name}", f"{task.name}_probs")}
)
"""Columns of photos.jsonl."""

_SUBJECTS: Final = frozenset({*(task.title for task in PHOTO_TASKS), *CODES, EITHER_EXUDATE})
"""What the protocol scores. Which of these a photo has depends on its labels, so no name may begin with one."""


def score_extra(found: Findings | None, scored: PhotoScore, extra: Extra) -> None:
    """Adds the custom scores of a photo; None and what is not finite count as no number.

    Raises `ValueError` if a name is that of another score, or begins like one, or has no character or an invisible one,
    or if a score is no number.
    """
    for name, score in extra.items():
        if not name.strip() or not name.isprintable():
            raise ValueError(f"The extra score {name!r} cannot be written in a table: choose a name of one line.")
        question = Question.parse(name)
        taken = question in scored.states or name in scored.row or name in _ROW_NAMES
        if taken or name.partition(" ")[0] in _SUBJECTS:
            raise ValueError(f"The extra score {name!r} is named like a score of the protocol: choose another name.")
        if found is None:
            scored.states[question] = ExtraState(0.0, 0.0)
            continue
        value = score(found, scored.case)
        try:
            number = math.nan if value is None else float(value)
        except (TypeError, ValueError):
            gave = f"{type(value).__name__} for {scored.case.key}"
            raise ValueError(f"The extra score {name!r} gave {gave}; expected a number or None.") from None
        if math.isfinite(number):
            scored.states[question] = ExtraState(number, 1.0)
            scored.row[name] = round(number, 5)
