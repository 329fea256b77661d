"""Makes what a run's folder lacks for a comparison: scores of both folds, and the cost.

Each file is written whole or not at all, so that a comparison that was stopped continues.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from funduscope.atomic import read_json, write_json
from funduscope.compare.run_record import COST, PARTS
from funduscope.compare.score_kinds import pack
from funduscope.data.case import Case
from funduscope.data.fingerprint import fingerprint
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.score_photo import can_score, score_stream
from funduscope.evaluation.scores import summarize
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.loading import load, models_in
from funduscope.inference.model import identity
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import digest_of
from funduscope.progress import Progress
from funduscope.recipe import Recipe
from funduscope.version import __version__

N_COST_PHOTOS: Final = 8
"""Photos over which multiply-adds are averaged where gates choose experts."""

N_TIMED: Final = 3
"""Predictions that are timed, of each run."""


def score_run(
    folder: Path,
    cases: Sequence[Case],
    progress: Progress,
    parts: Sequence[str] = PARTS,
) -> None:
    """Score a run on its own folds where that is missing, or of other weights, photos or labels.

    A folder without weights stays as it is. Raises the errors of loading models.
    """
    if not models_in(folder):
        return
    card = Card.of(Recipe.load(folder / "recipe.toml"))
    plan = SplitPlan.of_run(folder, cases)
    photos = {"validation": plan.validation, "test": plan.test}
    photos = {part: [c for c in photos[part] if can_score(card, c)] for part in PARTS}

    for part in parts:
        labels = label_hashes(photos[part])
        if photos[part] and not _is_scored(folder, part, labels):
            _score_part(folder, part, photos[part], labels, progress)
    _measure_cost(folder, photos["validation"])


def label_hashes(cases: Sequence[Case]) -> dict[str, str]:
    """Return by data set a hash of its photos and labels, which changes with either."""
    by_dataset: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_dataset[case.dataset].append(case.in_fold(None))
    return {dataset: fingerprint(photos) for dataset, photos in by_dataset.items()}


def _is_scored(folder: Path, part: str, labels: dict[str, str]) -> bool:
    """Whether the folder's weights were scored on these data sets, maybe together with others."""
    path = folder / "scores" / part / "scores.json"
    if not path.is_file():
        return False
    about = read_json(path)["about"]
    weights = {digest_of(model) for model in models_in(folder)}
    return about["models"][0]["sha256"] in weights and labels.items() <= about["labels"].items()


def _score_part(
    folder: Path,
    part: str,
    cases: Sequence[Case],
    labels: dict[str, str],
    progress: Progress,
) -> None:
    # Refusals do not depend on the model, and would hide differences between models.
    predictor = Predictor(load(folder).runtime, refuses=False)
    stream = score_stream(predictor, cases)
    photos = list(progress(stream, f"Scoring {folder.name}, {part}", len(cases)))

    for photo in photos:
        pack(photo)
    about: dict[str, Any] = {"funduscope": __version__, "models": [identity(predictor)]}
    summarize(photos).write(folder / "scores" / part, about | {"part": part, "labels": labels})


def _measure_cost(folder: Path, cases: Sequence[Case]) -> None:
    """Write scores/cost.json of a run with a checkpoint, unless it is of these weights already."""
    path, weights = folder / "scores" / COST, folder / "best.safetensors"
    if not weights.is_file():
        return
    sha256 = digest_of(weights)
    if path.is_file() and read_json(path)["sha256"] == sha256:
        return

    from funduscope import checkpoint
    from funduscope.evaluation import cost

    loaded = checkpoint.load(weights)
    has_experts = any(network.experts.kind != "none" for network in loaded.recipe.networks)
    photos = _open_some(cases) if has_experts else []
    work = cost.measure(loaded.network(), loaded.recipe, photos, [cost.AUTHORS_PX])
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"sha256": sha256, "work": work.to_dict()}, indent=1)


def _open_some(cases: Sequence[Case]) -> list[Photo]:
    """Open a few photos from all over the data sets, without those that cannot be read."""
    step = max(1, len(cases) // N_COST_PHOTOS)
    photos: list[Photo] = []
    for case in cases[::step][:N_COST_PHOTOS]:
        with suppress(PhotoError):
            photos.append(Photo.open(case.path))
    return photos


def time_together(folders: Sequence[Path]) -> None:
    """Time a prediction of every run that has a model, in turn, unless that was done before.

    Seconds of different days cannot be compared, since the load of a machine differs.
    """
    timed: dict[Path, str] = {}
    for folder in folders:
        if models_in(folder) and (folder / "scores" / COST).is_file():
            timed[folder] = "ONNX Runtime" if (folder / "model.onnx").is_file() else "torch"

    costs = [read_json(folder / "scores" / COST) for folder in timed]
    weights = [cost["sha256"] for cost in costs]
    models = sorted(zip(weights, timed.values(), strict=True))
    sitting = hashlib.sha256(repr(models).encode()).hexdigest()[:12]
    if all(cost.get("sitting") == sitting for cost in costs):
        return

    from funduscope.evaluation.cost import measure_predictions

    predictions = measure_predictions(list(timed), runs=N_TIMED)
    for (folder, runtime), prediction in zip(timed.items(), predictions, strict=True):
        put_prediction(folder, prediction.to_dict(), sitting, runtime)


def put_prediction(run: Path, prediction: dict[str, Any], sitting: str, runtime: str) -> None:
    """Put a prediction's seconds and memory into a run's cost.json.

    sitting: equal for all runs that were timed in turn. runtime: what computed the prediction.
    """
    path = run / "scores" / COST
    timed = {"prediction": prediction, "sitting": sitting, "runtime": runtime}
    write_json(path, read_json(path) | timed, indent=1)
