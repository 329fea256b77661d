"""Measured scores of a model, with intervals: added to its card where the scores lie next to the model.

`MODEL.scores.json` next to `MODEL.onnx` (the name without its ending) is the scores.json that `funduscope evaluate
MODEL.onnx` wrote, or a part of it. It counts only if the SHA-256 in it is that of the model, and only if the
model is not known to have learned from any of the photos. A model that learned from every photo has none left to be
scored on. Its figures are those of the same procedure on fewer photos, whose scores name the model under `about["stands
for"]`; each row then has `"procedure": true`. The rows are `card.about["figures"]`, one per score:

    {"dataset": "idrid-B", "state": "DR", "score": "kappa", "photos": 73, "value": 0.833, "low": 0.742, "high": 0.905}

value, low, high: the score and its 95 % interval, null if there is none. docs/protocol.md defines the scores.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from funduscope.i18n.languages import Words
from funduscope.inference.card import Card
from funduscope.vocabulary import DATASETS, FURTHER_TASKS

MEASURES: Final[Mapping[str, tuple[str, str]]] = {
    "figure.grade_kappa": ("DR", "kappa"),
    "figure.grade_accuracy": ("DR", "accuracy"),
    "figure.referable_sensitivity": ("referable DR", "sensitivity"),
    "figure.referable_specificity": ("referable DR", "specificity"),
    "figure.dme_accuracy": ("DME", "accuracy"),
}
"""The scores that a report shows: its text key to state and score of docs/protocol.md."""

MAX_SETS: Final = 3
"""Columns of the table at most: the data sets that answer most measures, then those with most photos."""

UNKNOWN: Final = "–"
SCHEMA: Final = "funduscope-scores/1"
ENDING: Final = ".scores.json"

_log = logging.getLogger(__name__)


def measured(card: Card, model: Path, sha256: str) -> Card:
    """The card with the figures next to the model; unchanged if there are none of this model."""
    path = model.with_suffix(ENDING)
    if not path.is_file():
        return card
    try:
        rows = list(figures_of(json.loads(path.read_text("utf-8")), sha256))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _log.warning("the scores next to the model cannot be read (%s) and are left out", type(error).__name__)
        return card
    return replace(card, about={**card.about, "figures": rows}) if rows else card


def figures_of(tree: Mapping[str, Any], sha256: str) -> Iterator[dict[str, Any]]:
    """The rows of a scores.json's content; none if it is of another model, or of photos that it learned from."""
    models = tree["about"]["models"]
    procedure = tree["about"].get("stands for") == sha256
    if tree["schema"] != SCHEMA or not (procedure or [one["sha256"] for one in models] == [sha256]):
        return
    extra = {"procedure": True} if procedure else {}
    if any(one.get("learned from") for one in models):
        _log.warning("the scores next to the model are of photos that it learned from, and are left out")
        return
    for dataset, states in tree["scores"].items():
        for state, scores in states.items():
            photos = int(tree["details"][dataset]["states"][state]["photos"])
            for score, found in scores.items():
                values = {key: None if found[key] is None else float(found[key]) for key in ("value", "low", "high")}
                yield {"dataset": dataset, "state": state, "score": score, "photos": photos, **values, **extra}


def figures_note(figures: Sequence[Mapping[str, Any]], words: Words) -> str:
    """The sentence below the table: figures of the model itself, or of the same training on fewer photos."""
    return words("paper.figures_procedure" if any(row.get("procedure") for row in figures) else "paper.figures_note")


def figures_table(figures: Sequence[Mapping[str, Any]], words: Words) -> list[list[str]]:
    """A header row, then a row per measure, a column per data set. Empty if the card has none of `MEASURES`
    and of the further photo tasks' headlines.

    figures: the rows of `card.about["figures"]`.
    """
    shown: dict[str, tuple[str, str]] = {words(key): measure for key, measure in MEASURES.items()}
    for task in FURTHER_TASKS:
        shown[f"{words.task(task)}: {task.headline}"] = task.headline_question, task.headline
    known = {(row["state"], row["score"], row["dataset"]): row for row in figures if row["value"] is not None}
    photos: dict[str, int] = {}
    for (state, score, dataset), row in known.items():
        if (state, score) in shown.values():
            photos[dataset] = max(photos.get(dataset, 0), row["photos"])
    answers = {name: sum((*measure, name) in known for measure in shown.values()) for name in photos}
    sets = sorted(photos, key=lambda name: (-answers[name], -photos[name]))[:MAX_SETS]
    if not sets:
        return []
    rows = [["", *(f"{DATASETS.get(name, name)} (n = {photos[name]})" for name in sets)]]
    for label, (state, score) in shown.items():
        cells = [_figure(known.get((state, score, name)), words) for name in sets]
        if any(cell != UNKNOWN for cell in cells):
            rows.append([label, *cells])
    return rows


def _figure(row: Mapping[str, Any] | None, words: Words) -> str:
    if row is None:
        return UNKNOWN
    value = words.number(row["value"], ".2f")
    if row["low"] is None or row["high"] is None:
        return value
    return f"{value} ({words.number(row['low'], '.2f')} – {words.number(row['high'], '.2f')})"
