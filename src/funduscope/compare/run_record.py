"""A run as its folder records it: settings, epochs, scores, a row for each photo, and cost.

`research/bundles.py` writes folders with these files alone, and hashes in place of photos' names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from funduscope.atomic import read_json, read_lines
from funduscope.compare.score_kinds import KINDS, Measure, Row
from funduscope.evaluation.score_key import ScoreKey
from funduscope.evaluation.scores import Scores
from funduscope.i18n.errors import RecipeError
from funduscope.metrics import Interval
from funduscope.recipe import Recipe

PARTS: Final = ("validation", "test")
"""The folds that runs are scored on; each has a folder under RUN/scores."""

COST: Final = "cost.json"


class CompareError(RuntimeError):
    """Runs that cannot be compared; the message says which and what to do."""


@dataclass(frozen=True)
class RunCost:
    """What a prediction costs: scores/cost.json."""

    parameters: int
    multiply_adds: float
    """Of one photo with all of its views; where gates choose experts, the mean over photos."""

    multiply_adds_at: dict[tuple[int, int], float]
    """Of one image, by its (height, width)."""

    predict_s: float | None
    """Seconds of a whole process `funduscope predict`; None if it was not timed."""

    runtime: str = ""
    """What computed that prediction: "ONNX Runtime" or "torch"."""

    peak_mb: float | None = None
    machine: str = ""
    sitting: str | None = None
    """Equal for all runs that were timed in turn, so that their seconds can be compared."""

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> RunCost:
        work = tree["work"]
        sizes = {tuple(size["asked_px"]): size["scaled"]["total"] for size in work["stated"]}
        prediction = tree.get("prediction") or {}
        return cls(
            parameters=work["parameters"],
            multiply_adds=work["photo"]["total"],
            multiply_adds_at=sizes,
            predict_s=prediction.get("wall_s"),
            runtime=tree.get("runtime", ""),
            peak_mb=prediction.get("peak_mb"),
            machine=prediction.get("machine", ""),
            sitting=tree.get("sitting"),
        )


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What the files of one run say."""

    name: str
    """Unique among the runs that are compared."""

    recipe: Recipe
    about: dict[str, Any]
    """run.json."""

    journal: list[dict[str, Any]]
    """One line for each epoch."""

    scores: dict[str, Scores]
    """By part, one of `PARTS`."""

    rows: dict[str, dict[str, Row]]
    """By part and by the hash of the photo's name, its line in photos.jsonl."""

    cost: RunCost | None = None

    @property
    def fold(self) -> int | None:
        return self.about.get("fold")

    @property
    def device(self) -> str:
        """The kind of device that it was trained on; empty if that is not known."""
        return self.about.get("environment", {}).get("device", "").split(" ")[0]

    @property
    def training_photos(self) -> dict[str, int]:
        """The number of photos that it learned from, by data set."""
        return self.about.get("photos", {}).get("train", {})

    @property
    def journals(self) -> dict[str, list[dict[str, Any]]]:
        """The journal of each stage; of a run without stages one, under an empty name."""
        if not self.recipe.stages:
            return {"": self.journal}
        journals: dict[str, list[dict[str, Any]]] = {stage: [] for stage in self.recipe.stages}
        for line in self.journal:
            journals[line["stage"]].append(line)
        return journals

    @property
    def seconds_an_epoch(self) -> list[float]:
        """The median over each stage's epochs; empty if it is not known.

        An epoch that was paused, or that shared the machine, does not move a median.
        """
        medians: list[float] = []
        for journal in self.journals.values():
            seconds = [line["seconds"] for line in journal if "seconds" in line]
            if not seconds:
                return []
            medians.append(median(seconds))
        return medians

    @property
    def unfinished(self) -> str:
        """The progress of a training that neither ended nor stopped early; empty otherwise."""
        training = self.recipe.training
        n_planned = self.about.get("until", training.epochs)  # of joined stages
        n_epochs = max((line["epoch"] for line in self.journal), default=0)
        best_epochs = [line["epoch"] for line in self.journal if line.get("best")]
        best_epoch = max(best_epochs, default=n_epochs)

        was_judged = n_epochs > 0 and n_epochs % training.judge_every == 0
        stopped_early = was_judged and n_epochs - best_epoch >= training.patience
        if n_epochs >= n_planned or stopped_early:
            return ""
        return f"not finished: {n_epochs} of {n_planned} epochs"

    def interval(self, part: str, key: ScoreKey) -> Interval | None:
        """Return a score with its interval; None if the run does not have it."""
        interval = self.scores[part].intervals.get(key) if part in self.scores else None
        return None if interval is None or np.isnan(interval.value) else interval

    def n_photos(self, part: str, key: ScoreKey) -> int:
        """Return the number of photos that a score is of."""
        details = self.scores[part].details.get(key.dataset, {}) if part in self.scores else {}
        return details.get("states", {}).get(key.question.name, {}).get("photos", 0)

    def photo_names(self, part: str, dataset: str) -> set[str]:
        """Return the hashed names of a data set's photos that were scored."""
        rows = self.rows.get(part, {})
        return {name for name, row in rows.items() if row["dataset"] == dataset}


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Read runs, each with a unique name. Raises `CompareError`, `DamagedFileError`."""
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise CompareError("A run was named twice: name each once.")

    names = [place.name for place in places]
    if len(set(names)) < len(names):
        parent = os.path.commonpath(places)
        names = [place.relative_to(parent).as_posix() for place in places]
    return [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def read_run(folder: Path, name: str) -> RunRecord:
    """Read one run. Raises `CompareError` for another folder, `DamagedFileError` for a bad file."""
    for needed in ("recipe.toml", "run.json"):
        if not (folder / needed).is_file():
            expected = "expected the folder of a run whose training has ended"
            raise CompareError(f"{folder} has no {needed}: {expected}.")
    try:
        recipe = Recipe.load(folder / "recipe.toml")
    except RecipeError as error:
        raise CompareError(f"{folder} has a recipe that cannot be used. {error}") from error

    journal, cost = folder / "journal.jsonl", folder / "scores" / COST
    scored = {part: folder / "scores" / part for part in PARTS}
    scored = {part: path for part, path in scored.items() if (path / "scores.json").is_file()}
    return RunRecord(
        name=name,
        recipe=recipe,
        about=read_json(folder / "run.json"),
        journal=read_lines(journal) if journal.is_file() else [],
        scores={part: Scores.read(path) for part, path in scored.items()},
        rows={part: _read_rows(path / "photos.jsonl") for part, path in scored.items()},
        cost=RunCost.from_json(read_json(cost)) if cost.is_file() else None,
    )


def _read_rows(path: Path) -> dict[str, Row]:
    return {hashed(row["key"]): row | {"visit": hashed(row["visit"])} for row in read_lines(path)}


def hashed(name: str) -> str:
    """Return a hash in place of the name of a photo or a visit; a hash stays as it is."""
    if name.startswith("#"):
        return name
    return "#" + hashlib.sha256(name.encode()).hexdigest()[:12]


def measures_of(runs: Sequence[RunRecord], parts: Sequence[str] = PARTS) -> list[Measure]:
    """List the measures that any of the runs has a score in, in the order of `KINDS`."""
    scores = [run.scores[part] for run in runs for part in parts if part in run.scores]
    datasets = sorted({dataset for of_part in scores for dataset in of_part.details})
    measures = [Measure(dataset, kind) for kind in KINDS for dataset in datasets]
    keys: set[ScoreKey] = set()
    for of_part in scores:
        keys |= {key for key, score in of_part.intervals.items() if not np.isnan(score.value)}
    return [measure for measure in measures if measure.key in keys]
