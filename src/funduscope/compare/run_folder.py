"""A run as it is read from its folder or from a bundle: recipe, journal, scores and cost.

A bundle has the files that the page needs: no weights, and hashes in place of the names of photos and patients. It is
small enough to be kept with the page, so that the page can be made again without the runs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from pydantic import BaseModel

from funduscope.atomic import read_lines, replacing, write_atomically
from funduscope.compare.run_schema import CostFile, JournalLine, PhotoLine, RunFile, ScoresFile, check
from funduscope.compare.score_kinds import KINDS, PACKED, Measure, Row
from funduscope.evaluation.score_key import ScoreKey
from funduscope.metrics import Interval
from funduscope.recipe import Recipe
from funduscope.vocabulary import FURTHER_TASKS, PHOTO_TASKS

FOLDS: Final = ("validation", "test")
TRAINING: Final = "training"
CORRUPTED: Final = ("color", "blur")
PARTS: Final = (*FOLDS, TRAINING, *CORRUPTED)
"""The folders under RUN/scores."""

COST: Final = "cost.json"
_COLUMNS: Final = (
    *("key", "dataset", "visit", "refused", "grade", "predicted_grade", "dme", "predicted_dme", "maculopathy"),
    *(name for task in FURTHER_TASKS for name in (task.name, f"predicted_{task.name}")),
    *("disc center px", "fovea px", "false lesions"),
)
DASH: Final = "–"


class CompareError(RuntimeError):
    """Runs that cannot be compared; the message says which and what to do."""


@dataclass(frozen=True, eq=False)
class Run:
    """about: run.json. journal: a line per epoch. trees: scores.json by part. rows: photos.jsonl by part, hashed
    key. has_card: whether temperatures and thresholds are fixed."""

    name: str
    recipe: Recipe
    about: dict[str, Any]
    journal: list[dict[str, Any]]
    trees: dict[str, dict[str, Any]]
    rows: dict[str, dict[str, Row]]
    cost: dict[str, Any] | None
    has_card: bool = True

    @property
    def fold(self) -> int | None:
        return self.about.get("fold")

    @property
    def tested_on(self) -> str:
        """The photos that were kept apart, in words. Only runs without a test fold are scored on an official test."""
        if self.fold is not None:
            return f"test fold {self.fold}"
        return "the official test" if self.trees.get("test") else "no test fold"

    @property
    def device(self) -> str:
        """The kind of device that it was trained on; empty if that is not known."""
        return str(self.about.get("environment", {}).get("device", "")).split(" ")[0]

    @property
    def answers(self) -> list[str]:
        """The names of everything that it predicts, for people: without what no photo of its training showed."""
        tasks, left_out = self.recipe.tasks, {*self.about.get("not_learned", ())}
        named = [task.title for task in PHOTO_TASKS if task.name in {*tasks.photo_tasks} - left_out]
        structures = [code for code in tasks.structures if code not in left_out]
        return [*named, *structures, *(name.replace("_", " ") for name in tasks.landmarks if name not in left_out)]

    @property
    def drawn(self) -> int | None:
        """The number of samples that were drawn: fewer than planned where training stopped early."""
        counted = [line["samples"] for line in self.journal if isinstance(line.get("samples"), int)]
        return sum(counted) if counted else self.recipe.sampling.per_epoch * len(self.journal) or None

    @property
    def journals(self) -> dict[str, list[dict[str, Any]]]:
        """The journal of each network that was trained, by its stage; of a run without stages one, by an empty name."""
        by_stage = {name: [line for line in self.journal if line.get("stage") == name] for name in self.recipe.stages}
        return by_stage or {"": self.journal}

    @property
    def seconds_an_epoch(self) -> list[float]:
        """The median of each network's epochs, which one that was paused or shared the machine does not move; empty if
        any is unknown."""
        known = [[line["seconds"] for line in lines if "seconds" in line] for lines in self.journals.values()]
        return [median(seconds) for seconds in known] if all(known) else []

    @property
    def epochs(self) -> str:
        """The number of epochs of each network, in words."""
        *first, last = map(len, self.journals.values())
        return " + ".join([*map(str, first), _epochs(last)])

    @property
    def budget(self) -> str:
        """Samples and epochs planned, and the width of the eye; runs with equal budgets are comparable."""
        views = self.recipe.views
        stages = self.recipe.networks
        there = self.about.get("photos", {}).get("train") or {}
        epochs = sum(stage.training.epochs for stage in stages)
        each = [stage.sampling.per_epoch * stage.training.epochs for stage in stages]
        planned = sum(each) if all(each) else 0
        rates = "; ".join(_rates(stage, there) for stage in stages)
        samples = f"{planned:,} samples" if planned else f"the samples of {rates}"
        close = f", close {views.close_px} px" if views.close_px != views.whole_px else ""
        return f"{samples} in {_epochs(epochs)} at {views.whole_px} px{close}"

    @property
    def unfinished(self) -> str:
        """The progress of a training that neither ended nor stopped early; empty otherwise."""
        settings, done = self.recipe.training, max((line["epoch"] for line in self.journal), default=0)
        planned = self.about.get("until", settings.epochs)  # a refit ends at the best epoch of the run it repeats
        best = max((line["epoch"] for line in self.journal if line.get("best")), default=done)
        stopped_early = done % settings.judge_every == 0 and done - best >= settings.patience
        if done >= planned or (done and stopped_early):
            return "" if self.has_card else "not finished: no thresholds yet"
        return f"not finished: {done} of {_epochs(planned)}"

    def interval(self, part: str, key: ScoreKey) -> Interval | None:
        """A score with its interval; None if the run does not answer it or was not scored on it."""
        found = key.find(self.trees.get(part, {}).get("scores", {}))
        if found is None or found["value"] is None:
            return None
        return Interval.from_dict(found)

    def photos(self, part: str, key: ScoreKey) -> int:
        """The number of photos of a score."""
        details = self.trees.get(part, {}).get("details", {}).get(key.dataset, {}).get("states", {})
        return details.get(key.question.name, {}).get("photos", 0)

    def refused(self, part: str, dataset: str) -> int:
        """The number of photos of a data set that it refused."""
        return self.trees.get(part, {}).get("details", {}).get(dataset, {}).get("refused", 0)


def _rates(recipe: Recipe, there: Collection[str]) -> str:
    """How often an epoch shows the photos of each data set, in words. there: the data sets that the run had, of which
    alone it is said; empty if they are not known."""
    sampling = recipe.all_sampling
    views = sampling.by_view.items()
    rates = [(rate, dataset, view) for view, of in views for dataset, rate in of.items() if rate]
    words = [f"{rate:g} × {dataset} {view}" for rate, dataset, view in rates if dataset in there or not there]
    words += [f"{sampling.photos:.0%} of the photos"] if sampling.photos < 1 else []
    return ", ".join([*words, *([f"{sampling.per_epoch:,} an epoch"] if sampling.per_epoch else [])])


def _epochs(count: int) -> str:
    return f"{count} {'epoch' if count == 1 else 'epochs'}"


def gather(folders: Sequence[Path]) -> list[Run]:
    """The runs in the order given, each with a unique name. Raises `CompareError`."""
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise CompareError("A run was named twice: name each once.")
    return [read_run(folder, _name(place, places)) for folder, place in zip(folders, places, strict=True)]


def _name(place: Path, places: Sequence[Path]) -> str:
    """The end of a folder's path, as many parts of it as set it apart from the others."""
    ends = (place.parts[-count:] for count in range(1, len(place.parts) + 1))
    others = [other for other in places if other != place]
    return "/".join(next(end for end in ends if all(other.parts[-len(end) :] != end for other in others)))


def read_run(folder: Path, name: str) -> Run:
    """One run. Raises `CompareError` if the folder is not one of a run, or a file in it cannot be read."""
    if not (folder / "recipe.toml").is_file() and (folder / "stages").is_dir():  # written when all stages have ended
        raise CompareError(f"The training of {folder} has not ended: the same command continues it.")
    for needed in ("recipe.toml", "run.json"):
        if not (folder / needed).is_file():
            raise CompareError(f"{folder} has no {needed}: expected the folder of a run, or a bundle of one.")
    with _naming(folder, "recipe.toml") as path:
        recipe = Recipe.from_toml(path.read_text("utf-8"))
    about = _object(folder, "run.json", RunFile) or {}
    trees = {part: _object(folder, f"scores/{part}/scores.json", ScoresFile) for part in PARTS}
    rows = {part: _rows(_objects(folder, f"scores/{part}/photos.jsonl", PhotoLine)) for part in PARTS}
    journal = _objects(folder, "journal.jsonl", JournalLine)
    cost = _object(folder, f"scores/{COST}", CostFile)
    trees = {part: tree for part, tree in trees.items() if tree is not None and _is_scored(tree, part)}
    rows = {part: of_part if part in trees else {} for part, of_part in rows.items()}
    has_card = not (folder / "best.safetensors").is_file() or (folder / "card.json").is_file()  # a bundle has neither
    return Run(name, recipe, about, journal, trees, rows, cost, has_card)


@contextmanager
def _naming(folder: Path, name: str) -> Iterator[Path]:
    """Gives the path of a run's file; where it cannot be read, the `CompareError` names the folder and the file."""
    try:
        yield folder / name
    except (ValueError, RecursionError) as error:
        why = str(error).rstrip(".")
        raise CompareError(f"{folder} has a file that cannot be read, {name}: {why}.") from error


def _object(folder: Path, name: str, schema: type[BaseModel]) -> dict[str, Any] | None:
    """The object in a file of a run; None if there is no file. Raises `CompareError` if it is not as `schema`."""
    with _naming(folder, name) as path:
        if not path.is_file():
            return None
        tree = json.loads(path.read_text("utf-8"))
        check(schema, tree)
        return tree


def _objects(folder: Path, name: str, schema: type[BaseModel]) -> list[dict[str, Any]]:
    """The same for a file of lines; none if there is no file."""
    with _naming(folder, name) as path:
        lines = _lines(path)
        for number, line in enumerate(lines, 1):
            try:
                check(schema, line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
        return lines


def _is_scored(tree: dict[str, Any], part: str) -> bool:
    """Whether `score_runs` made it, and no training of an earlier version, for which refused photos are wrong."""
    about = tree.get("about", {})
    return about.get("part", part) == part and "photos" not in about


def measures_of(runs: Sequence[Run], parts: Sequence[str] = FOLDS) -> list[Measure]:
    """The measures in which any of the runs has a score, in the order of the page."""
    datasets = sorted({name for run in runs for part in parts for name in run.trees.get(part, {}).get("scores", {})})
    every = [Measure(dataset, kind) for kind in KINDS for dataset in datasets]
    return [one for one in every if any(run.interval(part, one.key) for run in runs for part in parts)]


def split_comparable(runs: Sequence[Run]) -> tuple[list[Run], dict[str, str]]:
    """The runs that can be compared, and by name the reason why each of the others cannot.

    Comparable are finished runs with one test fold and one budget; of several such groups the largest is taken, of
    equal ones the first. Raises `CompareError` if no run is finished.
    """
    groups = Counter((run.fold, run.budget) for run in runs if not run.unfinished)
    if not groups:
        names = "; ".join(f"{run.name} {run.unfinished}" for run in runs)
        raise CompareError(f"No run is finished ({names}): continue with the commands that began them.")
    fold, budget = groups.most_common(1)[0][0]
    usual = next(run for run in runs if not run.unfinished and (run.fold, run.budget) == (fold, budget))
    reasons: dict[str, str] = {}
    for run in runs:
        other = [run.unfinished] if run.unfinished else []
        other += [f"{run.tested_on} instead of {usual.tested_on}"] if run.fold != fold else []
        other += [f"another budget: {run.budget}"] if run.budget != budget else []
        if other:
            reasons[run.name] = "; ".join(other)
    return [run for run in runs if run.name not in reasons], reasons


def learned_from(runs: Sequence[Run]) -> dict[str, str]:
    """One letter for each run; runs with the same training photos and labels have the same letter."""
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
            tree = read_if_there(run / "scores" / name / "scores.json")
            if tree is None:
                continue
            (scores / name).mkdir()
            kept = json.dumps(_trimmed(tree, whole=name in FOLDS), separators=(",", ":")) + "\n"
            write_atomically(scores / name / "scores.json", kept.encode())
            if name != TRAINING:  # its scores are compared as they are, never photo by photo
                rows = _lines(run / "scores" / name / "photos.jsonl")
                _write_lines(scores / name / "photos.jsonl", [_narrowed(row) for row in rows])


def _trimmed(tree: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """Scores and their numbers of photos, without curves. whole: every score, otherwise those with a column."""
    named = {(kind.question.name, kind.score) for kind in KINDS}
    scores = {
        dataset: {
            state: {
                score: {name: interval[name] for name in ("value", "low", "high")}
                for score, interval in table.items()
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
                state: {name: counts[name] for name in ("photos", "refused", "visits") if name in counts}
                for state, counts in about["states"].items()
            },
        }
        for dataset, about in tree["details"].items()
    }
    return {"about": tree.get("about", {}), "scores": scores, "details": details}


def _narrowed(row: Row) -> Row:
    kept = {name: value for name, value in row.items() if name in _COLUMNS or name in PACKED}
    return kept | {name: hashed(row[name]) for name in ("key", "visit")}


def hashed(name: str) -> str:
    """A hash in place of the name of a photo or a visit; a hash stays as it is."""
    return name if name.startswith("#") else "#" + hashlib.sha256(name.encode()).hexdigest()[:12]


def _write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())


def read_if_there(path: Path) -> dict[str, Any] | None:
    """The object in a file of a run; None if there is no file. Raises `CompareError` for a damaged one."""
    with _naming(path.parent, path.name):
        tree = json.loads(path.read_text("utf-8")) if path.is_file() else None
        if tree is not None and not isinstance(tree, dict):
            raise ValueError("it holds no object")
        return tree


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; none if there is no file."""
    return read_lines(path) if path.is_file() else []


def _rows(lines: Sequence[Row]) -> dict[str, Row]:
    return {hashed(row["key"]): row | {"visit": hashed(row["visit"])} for row in lines}
