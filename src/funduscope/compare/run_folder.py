"""What is known of a run: its recipe, its diary, its scores and its cost, from a run folder or a bundle of one.

A bundle has the same files as far as the page needs them: no weights, and no photo's or patient's name, for which a
hash stands. It is small enough to be kept beside the page, so that the page can be made again where the runs are not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from funduscope.atomic import replacing
from funduscope.compare.score_kinds import FALSELY, KINDS, MASK, PIXELS, Measure, Row
from funduscope.metrics import Interval
from funduscope.recipe import Recipe

FOLDS: Final = ("validation", "test")
TRAINING: Final = "training"
SHIFTS: Final = ("color", "blur")
PARTS: Final = (*FOLDS, TRAINING, *SHIFTS)
"""The folders under RUN/scores."""

COST: Final = "cost.json"
_COLUMNS: Final = (
    *("key", "dataset", "visit", "refused", "grade", "predicted_grade", "dme", "predicted_dme", "maculopathy"),
    *("disc center px", "fovea px", "false lesions"),
)
DASH: Final = "–"


class CompareError(RuntimeError):
    """Runs that cannot be compared; the message says which and what to do."""


@dataclass(frozen=True, eq=False)
class Run:
    """about: run.json. journal: a line an epoch. trees: scores.json by part. rows: photos.jsonl by part, hashed key."""

    name: str
    folder: Path
    recipe: Recipe
    about: dict[str, Any]
    journal: list[dict[str, Any]]
    trees: dict[str, dict[str, Any]]
    rows: dict[str, dict[str, Row]]
    cost: dict[str, Any] | None

    @property
    def fold(self) -> int | None:
        return self.about.get("fold")

    @property
    def samples(self) -> int | None:
        """How many samples the recipe may draw in all; None where that depends on how many photos there are."""
        planned = self.recipe.sampling.per_epoch * self.recipe.training.epochs
        return planned or None

    @property
    def drawn(self) -> int | None:
        """How many samples were drawn: fewer than planned where training stopped early."""
        counted = [line["samples"] for line in self.journal if isinstance(line.get("samples"), int)]
        return sum(counted) if counted else self.recipe.sampling.per_epoch * len(self.journal) or None

    @property
    def seconds(self) -> float | None:
        """Training with its validation after every epoch."""
        known = [line["seconds"] for line in self.journal if "seconds" in line]
        return float(sum(known)) if known else None

    @property
    def seconds_an_epoch(self) -> float | None:
        """The median, which one epoch that was paused or had to share the machine does not move."""
        known = [line["seconds"] for line in self.journal if "seconds" in line]
        return median(known) if known else None

    @property
    def epochs(self) -> str:
        """How many there were, in words."""
        return _epochs(len(self.journal))

    @property
    def budget(self) -> str:
        """Samples and epochs planned, and how wide the eye is; runs are comparable where these words are the same."""
        samples = "as many samples as its rates give" if self.samples is None else f"{self.samples:,} samples"
        planned, views = self.recipe.training.epochs, self.recipe.views
        close = f", close {views.close_px} px" if views.close_px != views.whole_px else ""
        return f"{samples} in {_epochs(planned)} at {views.whole_px} px{close}"

    @property
    def unfinished(self) -> str:
        """How far a training came that was neither at its end nor stopped for want of better scores; else nothing."""
        settings, done = self.recipe.training, len(self.journal)
        planned = self.about.get("until", settings.epochs)  # a run that repeats another ends where that one was best
        best = max((place for place, line in enumerate(self.journal, 1) if line.get("best")), default=done)
        if done >= planned or (done and done - best >= settings.patience):
            return ""
        return f"not finished: {done} of {_epochs(planned)}"

    def interval(self, part: str, measure: Measure) -> Interval | None:
        """A score with its interval; None where the run does not answer it or was not scored on it."""
        kind = measure.kind
        if kind.state == FALSELY and not {"HE", "EX", "SE"} <= set(self.recipe.tasks.structures):
            return None  # who seeks fewer lesions marks fewer falsely: no merit
        held = self.trees.get(part, {}).get("scores", {}).get(measure.dataset, {}).get(kind.state, {}).get(kind.score)
        return None if held is None or held["value"] is None else interval_of(held)

    def photos(self, part: str, measure: Measure) -> int:
        """How many photos a score is of."""
        details = self.trees.get(part, {}).get("details", {}).get(measure.dataset, {}).get("states", {})
        return details.get(measure.kind.state, {}).get("photos", 0)


def _epochs(count: int) -> str:
    return f"{count} {'epoch' if count == 1 else 'epochs'}"


def interval_of(held: dict[str, Any]) -> Interval:
    """An interval as scores.json has it, null as nan."""
    value, low, high = (float("nan") if held[name] is None else float(held[name]) for name in ("value", "low", "high"))
    return Interval(low, high, value, held.get("visits", 0))


def gather(folders: Sequence[Path]) -> list[Run]:
    """The runs in the order given, each under a name of its own. Raises `CompareError`."""
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise CompareError("A run was named twice: name each once.")
    shared = Counter(place.name for place in places)
    names = [place.name if shared[place.name] == 1 else f"{place.parent.name}/{place.name}" for place in places]
    return [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def read_run(folder: Path, name: str) -> Run:
    """One run. Raises `CompareError` where the folder is none, or a file of it cannot be read."""
    for needed in ("recipe.toml", "run.json"):
        if not (folder / needed).is_file():
            raise CompareError(f"{folder} has no {needed}: expected the folder of a run, or a bundle of one.")
    try:
        about = json.loads((folder / "run.json").read_text("utf-8"))
        trees = {part: _json(folder / "scores" / part / "scores.json") for part in PARTS}
        rows = {part: _rows(folder / "scores" / part / "photos.jsonl") for part in PARTS}
        journal, cost = _lines(folder / "journal.jsonl"), _json(folder / "scores" / COST)
    except (ValueError, KeyError, TypeError) as error:
        raise CompareError(f"{folder} holds a file that cannot be read as JSON: {error}.") from error
    recipe = Recipe.from_toml((folder / "recipe.toml").read_text("utf-8"))
    trees = {part: tree for part, tree in trees.items() if tree is not None}
    return Run(name, folder, recipe, about, journal, trees, rows, cost)


def measures_of(runs: Sequence[Run], parts: Sequence[str] = FOLDS) -> list[Measure]:
    """What any of the runs has a score in, in the order of the page."""
    datasets = sorted({name for run in runs for part in parts for name in run.trees.get(part, {}).get("scores", {})})
    every = [Measure(dataset, kind) for kind in KINDS for dataset in datasets]
    return [one for one in every if any(run.interval(part, one) for run in runs for part in parts)]


def parted(runs: Sequence[Run]) -> tuple[list[Run], dict[str, str]]:
    """The runs that may stand side by side, and why each of the others may not, in words.

    Alike are finished runs of one test fold and one budget; of several such groups the largest is meant, the first of
    equals. Raises `CompareError` where no run is finished.
    """
    groups = Counter((run.fold, run.budget) for run in runs if not run.unfinished)
    if not groups:
        names = "; ".join(f"{run.name} {run.unfinished}" for run in runs)
        raise CompareError(f"No run is finished ({names}): go on with the commands that began them.")
    fold, budget = groups.most_common(1)[0][0]
    reasons: dict[str, str] = {}
    for run in runs:
        other = [run.unfinished] if run.unfinished else []
        other += [f"test fold {run.fold} instead of {fold}"] if run.fold != fold else []
        other += [f"another budget: {run.budget}"] if run.budget != budget else []
        if other:
            reasons[run.name] = "; ".join(other)
    return [run for run in runs if run.name not in reasons], reasons


def learned_from(runs: Sequence[Run]) -> dict[str, str]:
    """A letter a run: the same letter, the very same training photos and labels."""
    letters: dict[str, str] = {}
    prints = [str(run.about.get("data_fingerprint", run.name)) for run in runs]
    for fingerprint in prints:
        number = len(letters)
        letters.setdefault(fingerprint, chr(ord("A") + number) if number < 26 else str(number + 1))
    return {run.name: letters[fingerprint] for run, fingerprint in zip(runs, prints, strict=True)}


def bundle(run: Path, folder: Path) -> None:
    """Copies what the page needs of a run into `folder`, replacing an older bundle there. Raises `CompareError`."""
    read_run(run, run.name)
    with replacing(folder, one_writer=True) as unfinished:
        scores = unfinished / "scores"
        scores.mkdir(parents=True)
        for name in ("recipe.toml", "run.json"):
            shutil.copyfile(run / name, unfinished / name)
        _write_lines(unfinished / "journal.jsonl", _lines(run / "journal.jsonl"))
        if (run / "scores" / COST).is_file():
            shutil.copyfile(run / "scores" / COST, scores / COST)
        for name in PARTS:
            tree = _json(run / "scores" / name / "scores.json")
            if tree is None:
                continue
            (scores / name).mkdir()
            kept = json.dumps(_trimmed(tree, whole=name in FOLDS), separators=(",", ":")) + "\n"
            (scores / name / "scores.json").write_text(kept, "utf-8")
            if name != TRAINING:  # its scores are compared as they are, never photo by photo
                rows = [_narrowed(row) for row in _lines(run / "scores" / name / "photos.jsonl")]
                _write_lines(scores / name / "photos.jsonl", rows)


def _trimmed(tree: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """Scores and how many photos they are of, without curves; whole: every score, else those with a column."""
    named = {(kind.state, kind.score) for kind in KINDS}
    scores = {
        dataset: {
            state: {
                score: {name: held[name] for name in ("value", "low", "high")}
                for score, held in table.items()
                if whole or (state, score) in named
            }
            for state, table in states.items()
        }
        for dataset, states in tree["scores"].items()
    }
    details = {
        dataset: {
            **{name: about[name] for name in ("photos", "refused")},
            "states": {
                state: {name: beside[name] for name in ("photos", "refused", "visits") if name in beside}
                for state, beside in about["states"].items()
            },
        }
        for dataset, about in tree["details"].items()
    }
    return {"about": tree.get("about", {}), "scores": scores, "details": details}


def _narrowed(row: Row) -> Row:
    kept = {name: value for name, value in row.items() if name in _COLUMNS or name.endswith((MASK, PIXELS))}
    return kept | {name: _hashed(row[name]) for name in ("key", "visit")}


def _hashed(name: str) -> str:
    """What stands for the name of a photo or a visit; of a hash, itself."""
    return name if name.startswith("#") else "#" + hashlib.sha256(name.encode()).hexdigest()[:12]


def _write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), "utf-8")


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _lines(path: Path) -> list[dict[str, Any]]:
    """Lines of JSON; not the half of one that a killed process left at the end."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1] if line]


def _rows(path: Path) -> dict[str, Row]:
    return {_hashed(row["key"]): row | {"visit": _hashed(row["visit"])} for row in _lines(path)}
