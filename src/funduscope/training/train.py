"""A training as a function, and the run that it leaves; torch is loaded when a training begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from funduscope.atomic import read_json, read_lines
from funduscope.data.sources import Data, cases_of
from funduscope.evaluation.scores import Scores
from funduscope.i18n.errors import CodedError
from funduscope.inference.loading import ModelPath, load, weights_of
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import Device
from funduscope.progress import Progress, no_progress

if TYPE_CHECKING:  # pydantic comes with the extra `train`, and the names here must be there without
    from funduscope.recipe import Recipe

Models = ModelPath | Sequence[ModelPath]


@dataclass(frozen=True)
class Run(os.PathLike[str]):
    """The folder of a training, as docs/recipes.md describes it. It serves wherever the path of a run does."""

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def best(self) -> Path:
        """The weights of the best epoch."""
        return self.folder / "best.safetensors"

    @property
    def about(self) -> dict[str, Any]:
        """run.json: photos, fold, seed, first weights, data fingerprint, versions."""
        return read_json(self.folder / "run.json")

    @property
    def recipe(self) -> Recipe:
        """Every setting."""
        from funduscope.recipe import Recipe

        return Recipe.load(self.folder / "recipe.toml")

    @property
    def journal(self) -> list[dict[str, Any]]:
        """A line per epoch: losses, validation scores, learning rate, seconds."""
        return read_lines(self.folder / "journal.jsonl")

    @property
    def scores(self) -> Scores:
        """Scores on the validation photos, on which epoch and thresholds were chosen: somewhat too good."""
        return Scores.read(self.folder / "validation")

    def load(self, *, threads: int = 0, device: Device = "auto") -> Predictor:
        """The model; see `funduscope.load`."""
        return load(self.folder, threads=threads, device=device)


def train(
    recipe: Recipe | str | os.PathLike[str],
    data: Data,
    run: str | os.PathLike[str],
    fold: int | None = None,
    *,
    init: Models = (),
    teachers: Models = (),
    processes: int | Literal["auto"] = 1,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    progress: Progress = no_progress,
    command: str | None = None,
) -> Run:
    """Trains a model, or continues the training in the folder after its last finished epoch.

    recipe: or its name, or the path of a TOML file. data: cases, or paths as `read_data` takes them. run: the folder.
    fold: the test fold, which is left alone; the next one chooses the epoch and fixes thresholds. init: weights to
    start from, "default" for the shipped ones; of several the mean. teachers: runs whose answers are learned next to
    the labels. processes: of this machine that share each batch, see docs/recipes.md; a script that asks for more than
    one needs `if __name__ == "__main__":`, since each of them imports it. on_epoch: receives the journal's line of each
    epoch; without it a sentence is printed. progress: wraps what takes long. command: for run.json; without it the call
    in words. Raises `RecipeError`, `LabelError`, `ModelError` and `TrainingError`, `CodedError` E_CONFIG for a folder
    whose name is not UTF-8.
    """
    try:
        str(Path(run).absolute()).encode()
    except UnicodeEncodeError:  # safetensors and TensorBoard cannot write there
        raise CodedError("E_CONFIG", f"the path {str(run)!r} is not UTF-8: choose another folder") from None
    # Before torch, whose import takes seconds.
    from funduscope.recipe import Recipe

    settings = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    if settings.without_effect:
        names = ", ".join(settings.without_effect)
        says = "note: the recipe learns nothing from close crops (views.close), so these settings have no effect:"
        print(f"{says} {names}", file=sys.stderr)
    from funduscope.training.initialization import Start
    from funduscope.training.processes import Watch
    from funduscope.training.stages import run_recipe
    from funduscope.training.validation import make_validation

    weights, taught = (tuple(weights_of(model) for model in _listed(models)) for models in (init, teachers))
    start = Start(weights, taught, command)
    watch = Watch(progress, on_epoch)
    best = run_recipe(settings, cases_of(data), Path(run), fold, start, make_validation, watch, count=processes)
    return Run(best.parent)


def _listed(models: Models) -> Sequence[ModelPath]:
    return [models] if isinstance(models, str | os.PathLike) else models
