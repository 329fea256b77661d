"""From photos' states to scores with intervals: which numbers are taken of which state, and how they are written.

docs/protocol.md defines every number. Data sets are never pooled: each has its own table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from funduscope.atomic import read_json, write_atomically, write_json
from funduscope.data.case import Case
from funduscope.evaluation.score_key import Question, ScoreKey, nested
from funduscope.inference.model_scores import SCHEMA
from funduscope.metrics import (
    BinaryState,
    CalibrationState,
    CoarseDenseState,
    ConformalState,
    DenseState,
    DistanceState,
    ExtraState,
    FalseLesionState,
    FrocState,
    GradingState,
    Interval,
    JointState,
    MaskState,
    MeanState,
    PerPhotoState,
    ProbabilityState,
    State,
    VotesState,
    bootstrap_all,
    by_visit,
    ece_bias,
    to_disc_diameters,
)
from funduscope.metrics.dense import FROC_RATES
from funduscope.vocabulary import LESIONS, PHOTO_TASKS, VOTERS

if TYPE_CHECKING:
    import pandas

Score = Callable[[Any], float]
Intervals = dict[ScoreKey, Interval]

_UNORDERED: Final = frozenset(task.title for task in PHOTO_TASKS if not task.is_ordinal)

GRADABILITY: Final = Question("gradability")
ADVICE: Final = Question("referral advice")
ON_NEGATIVES: Final = Question("exudates on drusen and reflections")
FALSE_VISIBLE: Final = Question("false HE, EX or SE")
FALSE_LESIONS: Final[dict[Question, tuple[str, ...]]] = {
    Question("false lesions"): LESIONS,
    FALSE_VISIBLE: ("HE", "EX", "SE"),
}
"""The structures that each question about false lesions counts, in order."""

_SCORES: Final[dict[type[State], dict[str, Score]]] = {
    GradingState: {
        "accuracy": lambda s: s.accuracy,
        "kappa": lambda s: s.kappa,
        "macro precision": lambda s: s.macro(0),
        "macro recall": lambda s: s.macro(1),
        "macro F1": lambda s: s.macro(0, 1),
    },
    ProbabilityState: {"macro AUROC": lambda s: s.macro_auroc},
    JointState: {"accuracy": lambda s: s.accuracy},
    BinaryState: {"AUROC": lambda s: s.auroc},
    CalibrationState: {"ECE": lambda s: s.ece, "Brier": lambda s: s.brier},
    ConformalState: {"coverage": lambda s: s.coverage, "mean size": lambda s: s.mean_size},
    DistanceState: {
        "mean px": lambda s: s.mean,
        "median px": lambda s: s.median,
        "largest px": lambda s: s.largest,
        "mean dd": lambda s: to_disc_diameters(s.mean),
        "median dd": lambda s: to_disc_diameters(s.median),
        "largest dd": lambda s: to_disc_diameters(s.largest),
    },
    DenseState: {
        "AUPR": lambda s: s.aupr33,
        "average precision": lambda s: s.average_precision,
        "prevalence": lambda s: s.prevalence,
    },
    CoarseDenseState: {"average precision": lambda s: s.average_precision},
    MaskState: {
        "Dice": lambda s: s.dice,
        "IoU": lambda s: s.iou,
        "precision": lambda s: s.precision,
        "recall": lambda s: s.recall,
    },
    PerPhotoState: {"median": lambda s: s.median},
    MeanState: {"mean px": lambda s: s.mean},
    ExtraState: {"mean": lambda s: s.mean},
    FrocState: {
        **{f"sensitivity at {Fraction(x)}": partial(FrocState.sensitivity_at, fp_per_photo=x) for x in FROC_RATES},
        "mean sensitivity": lambda s: s.mean_sensitivity,
    },
    VotesState: {f"share with {n} votes": lambda s, n=n: s.share(n) for n in range(VOTERS + 1)},
}


def _item(attribute: str, index: int) -> Score:
    return lambda state: float(getattr(state, attribute)[index])


_DECISION_SCORES: Final[dict[str, Score]] = {"sensitivity": _item("recalls", 1), "specificity": _item("recalls", 0)}


@dataclass(frozen=True, eq=False)
class PhotoScore:
    """What one photo adds to the scores.

    states: by question. decisions: for yes-or-no questions that also have a state, predicted against true (2 x 2).
    row: plain values for photos.jsonl and the plots. marks: by structure with a mask, the predicted mask, reduced,
    (h, w) bool, for contact sheets.
    """

    case: Case
    refused: bool
    states: dict[Question, State] = field(default_factory=dict)
    decisions: dict[Question, GradingState] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    marks: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Scores:
    """Every score of every data set.

    intervals: each score with its 95 % interval. selective: the same without the refused photos, for data sets that
    have some. details: by data set, what has no interval: counts of photos, confusions, curves. photos: their source;
    none if the scores were read from a file. about: what made them: models, their SHA-256 and folds, the command.
    """

    intervals: Intervals
    selective: Intervals
    details: dict[str, dict[str, Any]]
    photos: list[PhotoScore] = field(default_factory=list, repr=False)
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path | str) -> Scores:
        """The scores in a folder that `write` filled, or in its scores.json, without photos. Raises `DamagedFileError`
        for a file that holds none, `FileNotFoundError` where there is no such file."""
        path = Path(folder)
        path = path / "scores.json" if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there: expected a folder that `funduscope evaluate --out` filled.")
        tree = read_json(path, "scores", "details")
        intervals = _read_intervals(tree["scores"])
        selective = _read_intervals(tree.get("selective", {}))  # bundles of research/ have none
        return cls(intervals, selective, tree["details"], about=tree.get("about", {}))

    @property
    def tables(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """`intervals` nested as in scores.json, by data set, question and score; every data set is there."""
        return nested(self.intervals, self.details)

    def value(self, dataset: str, question: str, score: str) -> float:
        """One number by its names in scores.json: `value("idrid-B", "DR", "kappa")`.

        nan if the score is not defined on these photos. Raises `KeyError` for an unknown name, also of an extra score
        that no photo of the data set has.
        """
        known: Any = self.tables
        for name in (dataset, question, score):
            if name not in known:
                there = ", ".join(known) or "none"
                raise KeyError(
                    f"There is no score {dataset!r}, {question!r}, {score!r}; for {name!r} there are: {there}."
                )
            known = known[name]
        return known.value

    def number(self, key: ScoreKey) -> float:
        """One number; nan if the score is not defined, or if these photos have no such score."""
        interval = self.intervals.get(key)
        return float("nan") if interval is None else interval.value

    def has_one_label(self, dataset: str, question: Question) -> bool:
        """Whether the photos of a data set all have one label: kappa is then nan or 0, however good a model is."""
        states = (photo.states.get(question) for photo in self.photos if photo.case.dataset == dataset)
        labels = {int(one.confusion.any(axis=1).argmax()) for one in states if isinstance(one, GradingState)}
        return len(labels) == 1

    def to_frame(self) -> pandas.DataFrame:
        """A pandas data frame with a row per score: dataset, question, score, value, low, high, visits, photos,
        refused.

        low, high: the 95 % interval. photos: with a label; refused: how many of them. Raises `ModuleNotFoundError`
        if pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            text = "Scores.to_frame needs pandas: pip install pandas. Without it, to_dict() has the same numbers."
            raise ModuleNotFoundError(text, name=error.name) from error
        rows = []
        for key, one in self.intervals.items():
            counts = self.details[key.dataset]["states"][key.question.name]
            names = {"dataset": key.dataset, "question": key.question.name, "score": key.score}
            ends = {"value": one.value, "low": one.low, "high": one.high, "visits": one.visits}
            rows.append(names | ends | {"photos": counts["photos"], "refused": counts["refused"]})
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """As scores.json: what made the scores, where that is known, and every score with its interval, nan as null."""
        partly = [name for name, about in self.details.items() if 0 < about["refused"] < about["photos"]]
        return ({"about": self.about} if self.about else {}) | {
            "schema": SCHEMA,
            "scores": nested({key: one.to_dict() for key, one in self.intervals.items()}, self.details),
            "selective": nested({key: one.to_dict() for key, one in self.selective.items()}, partly),
            "details": self.details,
        }

    def to_markdown(self) -> str:
        """A table a data set: score, value, 95 % interval, photos, refused ones, and the value without those."""
        lines: list[str] = []
        for dataset in self.details:
            lines += [f"## {dataset}", "", "| what | score | value | 95 % | photos | refused | without refused |"]
            lines += ["|---|---|---|---|---|---|---|"]
            lines += ["| " + " | ".join(row) + " |" for row in self._rows(dataset)]
            lines.append("")
        return "\n".join(lines)

    def _rows(self, dataset: str) -> Iterator[tuple[str, ...]]:
        for key, interval in self.intervals.items():
            if key.dataset != dataset:
                continue
            kept = self.selective.get(key)
            counts = self.details[dataset]["states"][key.question.name]
            between = "" if np.isnan(interval.low) else f"{_in_words(interval.low)} to {_in_words(interval.high)}"
            yield (
                key.question.title,
                key.score,
                _in_words(interval.value),
                between,
                str(counts["photos"]),
                str(counts["refused"]),
                "" if kept is None else _in_words(kept.value),
            )

    def write(self, folder: Path | str, about: dict[str, Any] | None = None) -> None:
        """Writes photos.jsonl (one line for each photo), scores.md and, last, scores.json, each atomically.

        An earlier scores.json is removed first, so that none stands next to other photos if the disk refuses.
        Scores that were read from a file have no photos: a photos.jsonl in the folder stays if it is of these scores.
        about: what made the scores, where `self.about` does not say it.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tree = (self if about is None else replace(self, about=about)).to_dict()
        if not self.photos and not _has_scores(folder, tree["scores"]):
            (folder / "photos.jsonl").unlink(missing_ok=True)
        (folder / "scores.json").unlink(missing_ok=True)
        if self.photos:
            rows = "".join(json.dumps(photo.row, allow_nan=False) + "\n" for photo in self.photos)
            write_atomically(folder / "photos.jsonl", rows.encode())
        write_atomically(folder / "scores.md", self.to_markdown().encode())
        write_json(folder / "scores.json", tree, indent=1, allow_nan=False)


def _has_scores(folder: Path, scores: dict[str, Any]) -> bool:
    try:
        return read_json(folder / "scores.json")["scores"] == scores
    except (OSError, ValueError, KeyError):
        return False


def _read_intervals(tree: dict[str, Any]) -> Intervals:
    """From scores.json: data set, question, score."""
    return {
        ScoreKey.parse(dataset, question, score): Interval.from_dict(one)
        for dataset, questions in tree.items()
        for question, scores in questions.items()
        for score, one in scores.items()
    }


def summarize(photos: list[PhotoScore], repeats: int = 1000) -> Scores:
    """Adds up photos by data set and visit, and takes the scores. repeats: draws of the bootstrap."""
    intervals: Intervals = {}
    selective: Intervals = {}
    details: dict[str, dict[str, Any]] = {}
    for dataset in sorted({photo.case.dataset for photo in photos}):
        mine = [photo for photo in photos if photo.case.dataset == dataset]
        answered = [photo for photo in mine if not photo.refused]
        found, states = _score(dataset, mine, repeats)
        intervals |= found
        details[dataset] = {"photos": len(mine), "refused": len(mine) - len(answered), "states": states}
        if answered and len(answered) < len(mine):
            found, _ = _score(dataset, answered, repeats)
            # Gradability asks which photos are refused: without the refused ones there is no question.
            selective |= {key: one for key, one in found.items() if key.question != GRADABILITY}
    return Scores(intervals, selective, details, photos)


def scores_of(question: Question, whole: State) -> dict[str, Score]:
    """The numbers that are taken of a state, which answers that question."""
    if question == ON_NEGATIVES:
        return {"share of what was marked": lambda s: s.precision}
    if isinstance(whole, FalseLesionState):
        return {"photos with any": lambda s: s.rate} | {
            f"{what} {code}": _item(attribute, index)
            for index, code in enumerate(FALSE_LESIONS[question])
            for what, attribute in (("photos with", "rates"), ("components a photo,", "per_photo"))
        }
    if question == ADVICE:
        return _DECISION_SCORES
    found = _SCORES[type(whole)]
    if question.subject in _UNORDERED and isinstance(whole, GradingState):
        found = {name: score for name, score in found.items() if name != "kappa"}  # its weights grow with the distance
    if isinstance(whole, GradingState):
        found = found | {f"recall of {grade}": _item("recalls", grade) for grade in range(len(whole.refusals))}
    if isinstance(whole, ConformalState):
        found = found | {
            f"coverage of {grade}": _item("coverage_by_grade", grade) for grade in range(len(whole.covered))
        }
    return found


def _score(dataset: str, photos: list[PhotoScore], repeats: int) -> tuple[Intervals, dict[str, dict[str, Any]]]:
    """One data set's scores, and by question what has no interval."""
    intervals: Intervals = {}
    details: dict[str, dict[str, Any]] = {}
    for question in dict.fromkeys(question for photo in photos for question in photo.states):
        known = [photo for photo in photos if question in photo.states]
        decided = [(photo.case.visit, photo.decisions[question]) for photo in known if question in photo.decisions]
        units = by_visit((photo.case.visit, photo.states[question]) for photo in known)
        whole = type(units[0]).total(units)
        found = bootstrap_all(units, scores_of(question, whole), repeats)
        counts = {"photos": len(known), "refused": sum(photo.refused for photo in known), "visits": len(units)}
        details[question.name] = counts | _DETAILS.get(type(whole), lambda _: {})(whole)
        if decided:
            found |= bootstrap_all(by_visit(decided), _DECISION_SCORES, repeats)
            details[question.name] |= _DETAILS[GradingState](GradingState.total(state for _, state in decided))
        intervals |= {ScoreKey(dataset, question, score): one for score, one in found.items()}
    return intervals, details


_DETAILS: Final[dict[type[State], Callable[[Any], dict[str, Any]]]] = {
    GradingState: lambda s: {"confusion": s.confusion.tolist()},
    ProbabilityState: lambda s: {"ECE of a calibrated model": _number(ece_bias(s.probabilities[~s.refused]))},
    CalibrationState: lambda s: {
        "ECE": _number(s.ece),
        "bins": [{name: _number(value) for name, value in one.items()} for one in s.reliability()],
    },
    ConformalState: lambda s: {"photos by size": s.sizes.tolist()},
    DenseState: lambda s: {
        "pixels": s.pixels,
        "positives": s.positives,
        "curve": {
            name: [_number(value) for value in values]
            for name, values in zip(("threshold", "precision", "recall"), s.curve33(), strict=True)
        },
    },
    FrocState: lambda s: {"lesions": int(s.lesions)},
    BinaryState: lambda s: {"positives": int(s.positive.sum())},
    DistanceState: lambda s: {"missed": int(s.missed), "distances px": [_number(one) for one in s.distances]},
    PerPhotoState: lambda s: {"not known in": s.undefined},
    VotesState: lambda s: {"marked pixels": s.marked},
}
"""Confusions, curves and counts, from which the plots are drawn."""


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)


def _in_words(value: float) -> str:
    """Three decimals; one from 100 on, five below 0.01."""
    if np.isnan(value):
        return "not known"
    digits = 1 if abs(value) >= 100 else 3 if abs(value) >= 0.01 or value == 0 else 5
    return f"{value:.{digits}f}"
