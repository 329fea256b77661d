"""From photos' states to scores: which numbers are taken of what, with their intervals, and how they are written down.

docs/protocol.md says what every number means. Data sets are never pooled: each has its own table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from funduscope.atomic import write_atomically
from funduscope.data.case import Case
from funduscope.metrics import (
    BinaryState,
    CalibrationState,
    ConformalState,
    DenseState,
    DistanceState,
    FalseLesionState,
    FrocState,
    GradingState,
    Interval,
    JointState,
    MaskState,
    PerPhotoState,
    ScoresState,
    State,
    VotesState,
    bootstrap_all,
    by_visit,
    ece_bias,
    in_dd,
)
from funduscope.metrics.calibration import ReliabilityBin
from funduscope.metrics.dense import FROC_RATES
from funduscope.vocabulary import LESIONS

Score = Callable[[Any], float]
Table = dict[str, dict[str, Interval]]

DECISION: Final = " decision"
"""A state of yes or no as predicted and as true (2 x 2); its scores stand with those of the state it is named after."""

GRADABILITY: Final = "gradability"
ON_NEGATIVES: Final = "exudates on drusen and reflections"
FALSE_LESIONS: Final[dict[str, tuple[str, ...]]] = {
    "false lesions": LESIONS,
    "false HE, EX or SE": ("HE", "EX", "SE"),
}
"""Which structures each state of false lesions counts, in order."""

_SCORES: Final[dict[type[State], dict[str, Score]]] = {
    GradingState: {
        "accuracy": lambda s: s.accuracy,
        "kappa": lambda s: s.kappa,
        "macro precision": lambda s: s.macro_precision,
        "macro recall": lambda s: s.macro_recall,
        "macro F1": lambda s: s.macro_f1,
    },
    ScoresState: {"macro AUROC": lambda s: s.macro_auroc},
    JointState: {"accuracy": lambda s: s.accuracy},
    BinaryState: {"AUROC": lambda s: s.auroc},
    CalibrationState: {"ECE": lambda s: s.ece, "Brier": lambda s: s.brier},
    ConformalState: {"coverage": lambda s: s.coverage, "mean size": lambda s: s.mean_size},
    DistanceState: {
        "mean px": lambda s: s.mean,
        "median px": lambda s: s.median,
        "largest px": lambda s: s.largest,
        "mean dd": lambda s: in_dd(s.mean),
        "median dd": lambda s: in_dd(s.median),
        "largest dd": lambda s: in_dd(s.largest),
    },
    DenseState: {
        "AUPR": lambda s: s.aupr33,
        "average precision": lambda s: s.average_precision,
        "prevalence": lambda s: s.prevalence,
    },
    MaskState: {
        "Dice": lambda s: s.dice,
        "IoU": lambda s: s.iou,
        "precision": lambda s: s.precision,
        "recall": lambda s: s.recall,
    },
    PerPhotoState: {"median": lambda s: s.median},
    FrocState: {
        **{f"sensitivity at {Fraction(x)}": partial(FrocState.sensitivity_at, fp_per_photo=x) for x in FROC_RATES},
        "mean sensitivity": lambda s: s.mean_sensitivity,
    },
    VotesState: {f"share with {n} votes": lambda s, n=n: _votes(s, n) for n in range(5)},
}


@dataclass(frozen=True, eq=False)
class PhotoScore:
    """One photo's states by name, and a row of plain facts for tables and pictures.

    marks: per structure with a mask, the predicted mask as a small picture (h, w) bool, for contact sheets.
    """

    case: Case
    refused: bool
    states: dict[str, State] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    marks: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Scores:
    """Every score of every data set.

    tables: data set -> state -> score -> interval. selective: the same without the refused photos, where there are any.
    details: data set -> what has no interval: how many photos, how many refused, confusions, curves. photos: their
    source.
    """

    tables: dict[str, Table]
    selective: dict[str, Table]
    details: dict[str, dict[str, Any]]
    photos: list[PhotoScore] = field(repr=False)

    def value(self, dataset: str, state: str, score: str) -> float:
        """One number; nan where there is none."""
        interval = self.tables.get(dataset, {}).get(state, {}).get(score)
        return float("nan") if interval is None else interval.value

    def to_dict(self) -> dict[str, Any]:
        """As scores.json: every score with its interval, nan as null."""
        return {
            "schema": "funduscope-scores/1",
            "scores": {dataset: _table_dict(table) for dataset, table in self.tables.items()},
            "selective": {dataset: _table_dict(table) for dataset, table in self.selective.items()},
            "details": self.details,
        }

    def to_markdown(self) -> str:
        """A table a data set: score, value, 95 % interval, photos, refused ones, and the value without those."""
        lines: list[str] = []
        for dataset, table in self.tables.items():
            lines += [f"## {dataset}", "", "| what | score | value | 95 % | photos | refused | without refused |"]
            lines += ["|---|---|---|---|---|---|---|"]
            lines += ["| " + " | ".join(row) + " |" for row in self._rows(dataset, table)]
            lines.append("")
        return "\n".join(lines)

    def _rows(self, dataset: str, table: Table) -> Iterator[tuple[str, ...]]:
        counts = self.details[dataset]["states"]
        for state, scores in table.items():
            for score, interval in scores.items():
                kept = self.selective.get(dataset, {}).get(state, {}).get(score)
                beside = "" if kept is None else _words(kept.value)
                photos, refused = counts[state]["photos"], counts[state]["refused"]
                between = "" if np.isnan(interval.low) else f"{_words(interval.low)} to {_words(interval.high)}"
                shown = state.replace("|", " or ")
                yield shown, score, _words(interval.value), between, str(photos), str(refused), beside

    def write(self, folder: Path, about: dict[str, Any] | None = None) -> None:
        """Writes photos.jsonl (a line a photo), scores.md and, last, scores.json, each whole or not at all.

        about: what made the scores, kept in scores.json.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tree = self.to_dict() if about is None else {"about": about, **self.to_dict()}
        rows = "".join(json.dumps(photo.row, allow_nan=False) + "\n" for photo in self.photos)
        write_atomically(folder / "photos.jsonl", rows.encode())
        write_atomically(folder / "scores.md", self.to_markdown().encode())
        write_atomically(folder / "scores.json", (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode())


def summarize(photos: list[PhotoScore], repeats: int = 1000) -> Scores:
    """Adds up photos by data set and visit, and takes the scores. repeats: draws of the bootstrap."""
    tables: dict[str, Table] = {}
    selective: dict[str, Table] = {}
    details: dict[str, dict[str, Any]] = {}
    for dataset in sorted({photo.case.dataset for photo in photos}):
        mine = [photo for photo in photos if photo.case.dataset == dataset]
        answered = [photo for photo in mine if not photo.refused]
        tables[dataset], states = _table(mine, repeats)
        details[dataset] = {"photos": len(mine), "refused": len(mine) - len(answered), "states": states}
        if answered and len(answered) < len(mine):
            selective[dataset] = _table(answered, repeats)[0]
            # Which photos are refused is this state's very question.
            selective[dataset].pop(GRADABILITY, None)
    return Scores(tables, selective, details, photos)


def scores_of(name: str, whole: State) -> dict[str, Score]:
    """Which numbers are taken from a state of that name."""
    if name.endswith(DECISION):
        return {"sensitivity": _item("recalls", 1), "specificity": _item("recalls", 0)}
    if name == ON_NEGATIVES:
        return {"share of what was marked": lambda s: s.precision}
    if isinstance(whole, FalseLesionState):
        return {"photos with any": lambda s: s.rate} | {
            f"{what} {code}": _item(attribute, index)
            for index, code in enumerate(FALSE_LESIONS[name])
            for what, attribute in (("photos with", "rates"), ("components a photo,", "per_photo"))
        }
    found = _SCORES[type(whole)]
    if isinstance(whole, GradingState):
        found = found | {f"recall of {grade}": _item("recalls", grade) for grade in range(len(whole.refusals))}
    if isinstance(whole, ConformalState):
        found = found | {
            f"coverage of {grade}": _item("coverage_by_grade", grade) for grade in range(len(whole.covered))
        }
    return found


def _table(photos: list[PhotoScore], repeats: int) -> tuple[Table, dict[str, dict[str, Any]]]:
    """One data set's scores, and what stands beside them without an interval."""
    table: Table = {}
    beside: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for photo in photos for name in photo.states):
        known = [photo for photo in photos if name in photo.states]
        units = list(by_visit((photo.case.visit, photo.states[name]) for photo in known).values())
        whole = type(units[0]).total(units)
        shown = name.removesuffix(DECISION)
        table.setdefault(shown, {}).update(bootstrap_all(units, scores_of(name, whole), repeats))
        counts = {"photos": len(known), "refused": sum(photo.refused for photo in known), "visits": len(units)}
        beside.setdefault(shown, counts).update(_detail(name, whole))
    return table, beside


def _detail(name: str, whole: State) -> dict[str, Any]:
    """Confusions, curves and counts: what a picture is drawn from."""
    if isinstance(whole, GradingState):
        return {"confusion": whole.confusion.tolist()}
    if isinstance(whole, ScoresState):
        return {"ECE of a calibrated model": _number(ece_bias(whole.probabilities[~whole.refused]))}
    if isinstance(whole, CalibrationState):
        bins = [dict(zip(ReliabilityBin._fields, map(_number, values), strict=True)) for values in whole.reliability()]
        return {"ECE": _number(whole.ece), "bins": bins}
    if isinstance(whole, ConformalState):
        return {"photos by size": whole.sizes.tolist()}
    if isinstance(whole, DenseState):
        curve = dict(zip(("threshold", "precision", "recall"), whole.curve33(), strict=True))
        pixels = {"pixels": whole.pixels, "positives": whole.positives}
        return {**pixels, "curve": {key: [_number(value) for value in values] for key, values in curve.items()}}
    if isinstance(whole, FrocState):
        return {"lesions": int(whole.lesions)}
    if isinstance(whole, BinaryState):
        return {"positives": int(whole.positive.sum())}
    if isinstance(whole, DistanceState):
        return {"missed": int(whole.missed), "distances px": [_number(distance) for distance in whole.distances]}
    if isinstance(whole, PerPhotoState):
        return {"not known in": whole.undefined}
    if isinstance(whole, VotesState):
        return {"marked pixels": whole.marked}
    return {}


def _item(attribute: str, index: int) -> Score:
    return lambda state: float(getattr(state, attribute)[index])


def _votes(state: VotesState, votes: int) -> float:
    return float(state.by_votes[votes] / state.marked) if state.marked else float("nan")


def _table_dict(table: Table) -> dict[str, Any]:
    return {state: {score: one.to_dict() for score, one in scores.items()} for state, scores in table.items()}


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)


def _words(value: float) -> str:
    """A number for people: three digits behind the point; one from a hundred on, five below a hundredth."""
    if np.isnan(value):
        return "not known"
    digits = 1 if abs(value) >= 100 else 3 if abs(value) >= 0.01 or value == 0 else 5
    return f"{value:.{digits}f}"
