"""Makes the scores that a run's folder lacks: of the validation and the test fold, of samples, and the model's cost.

Each part is written atomically, so a comparison that was stopped continues where it was.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from funduscope.atomic import read_lines, write_json
from funduscope.compare.corruptions import CORRUPTIONS, DESCRIPTIONS, corrupted_stream
from funduscope.compare.run_folder import CORRUPTED, COST, PARTS, TRAINING, read_if_there
from funduscope.compare.score_kinds import pack
from funduscope.data.case import Case
from funduscope.data.fingerprint import fingerprint
from funduscope.data.folds import share_of
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.score_photo import can_score, score_stream
from funduscope.evaluation.scores import PhotoScore, summarize
from funduscope.i18n.errors import PhotoError
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.loading import RUN_FILES, load, models_in
from funduscope.inference.model import identity
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import digest_of
from funduscope.progress import Progress
from funduscope.recipe import Recipe
from funduscope.version import __version__

SELDOM: Final = ("diaretdb1", "eyepacs400")
"""Data sets that are scored only with `every_set`: a photo takes a third of a second."""

SAMPLE: Final = 100
"""Largest number of photos in a sample; of training photos no more than there are validation photos."""

REPEATS: Final[dict[str, int]] = {"validation": 1000, "test": 1000, TRAINING: 200, "color": 100, "blur": 100}
"""Draws of the bootstrap, by part. A thousand draws of pixels take half a minute; of corrupted photos the page shows
only differences, which have draws of their own."""

SHOWN, TIMED = 8, 3
"""Photos over which multiply-adds are averaged where gates choose experts, and predictions that are timed."""


def score_runs(
    folder: Path, cases: Sequence[Case], *, every_set: bool, progress: Progress, wanted_parts: Sequence[str] = PARTS
) -> None:
    """Scores the run's model on the parts that are missing, or that other weights than the folder's made.

    wanted_parts: no others are scored. A folder without weights is left as it is. Raises the errors of loading models
    and reading photos.
    """
    files = models_in(folder)
    if not files:
        return
    hashes = {digest_of(path) for path in files}
    recipe = Recipe.from_toml((folder / "recipe.toml").read_text("utf-8"))
    parts = _parts(SplitPlan.of_run(folder, cases), recipe, every_set=every_set)
    card = Card.of(recipe)
    asked = {part: [case for case in parts[part] if can_score(card, case)] for part in PARTS}
    labels = {part: labels_of(asked[part]) for part in PARTS}
    present = {part: _is_there(folder / "scores" / part, asked[part], hashes, labels[part]) for part in PARTS}
    wanted = [part for part in wanted_parts if asked[part] and not present[part]]
    # Refusals do not depend on the model, and would hide differences between models.
    predictor = Predictor(load(folder).runtime, refuses=False) if wanted else None
    for part in wanted:
        assert predictor is not None
        mine = asked[part]
        change = CORRUPTIONS.get(part)
        stream = corrupted_stream(predictor, mine, change) if change else score_stream(predictor, mine)
        photos = list(progress(stream, f"Scoring {folder.name}, {part}", len(mine)))
        _write(folder / "scores" / part, photos, _made_by(predictor, part) | {"labels": labels[part]})
    _fill_cost(folder, asked["validation"])


def _parts(plan: SplitPlan, recipe: Recipe, *, every_set: bool) -> dict[str, list[Case]]:
    """The photos of each part. Samples are drawn before photos that a recipe has no answer for are left out, so that
    they are the same for all recipes."""
    train, validation, test = (
        [case for case in part if every_set or case.dataset not in SELDOM]
        for part in (plan.train, plan.validation, plan.test)
    )
    # More would take as long as everything else.
    drawn = sample(share_of(train, recipe.sampling.photos), min(SAMPLE, len(validation)))
    return {
        "validation": validation,
        "test": test,
        TRAINING: [case for case in drawn if case.dataset in recipe.all_sampling.datasets()],
        **dict.fromkeys(CORRUPTED, sample(validation)),
    }


def sample(cases: Sequence[Case], count: int = SAMPLE) -> list[Case]:
    """At most so many photos, always the same: one of each data set in turn, so that small sets are complete."""
    waiting: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: hashlib.sha256(case.key.encode()).hexdigest()):
        waiting[case.dataset].append(case)
    turns = itertools.zip_longest(*(mine for _, mine in sorted(waiting.items())))
    taken = [case for turn in turns for case in turn if case is not None]
    return sorted(taken[:count], key=lambda case: case.key)


def _made_by(predictor: Predictor, part: str) -> dict[str, Any]:
    """What made the scores, in the form of `funduscope evaluate`."""
    shift = {"shift": DESCRIPTIONS[part]} if part in CORRUPTED else {}
    return {"funduscope": __version__, "models": [identity(predictor)], "part": part, **shift}


def labels_of(cases: Sequence[Case]) -> dict[str, str]:
    """By data set a hash of its photos and labels: scores are made again after either was changed."""
    by_dataset: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_dataset[case.dataset].append(case.in_fold(None))
    return {dataset: fingerprint(its) for dataset, its in by_dataset.items()}


def _is_there(folder: Path, cases: Sequence[Case], hashes: set[str], labels: dict[str, str]) -> bool:
    """Whether there are scores of these photos, by these weights and against these labels, with rows as of `pack`.

    Scores of more data sets than these count, so that a comparison of one set does not throw the others away. Older
    scores without hashes of their labels count; those that a training of an earlier version wrote here, of fewer data
    sets and without such rows, do not.
    """
    path, rows = folder / "scores.json", folder / "photos.jsonl"
    if not path.is_file() or not rows.is_file():
        return False
    about = json.loads(path.read_text("utf-8")).get("about", {})
    is_other = about.get("part") != folder.name or (about.get("models") or [{}])[0].get("sha256") not in hashes
    known = about.get("labels", labels)
    if is_other or not isinstance(known, dict) or not labels.items() <= known.items():
        return False
    try:
        return {case.key for case in cases} <= {row["key"] for row in read_lines(rows)}
    except (ValueError, LookupError, TypeError):  # damaged: the photos are scored again
        return False


def _write(folder: Path, photos: list[PhotoScore], about: dict[str, Any]) -> None:
    """Writes the scores."""
    for photo in photos:
        pack(photo)
    scores = summarize(photos, REPEATS[folder.name])
    scores.write(folder, about)


def _fill_cost(folder: Path, cases: Sequence[Case]) -> None:
    """Writes scores/cost.json where there is a checkpoint. With experts, counts are means over some of `cases`."""
    path, weights = folder / "scores" / COST, folder / "best.safetensors"
    if not weights.is_file():
        return
    runtime = "ONNX Runtime" if (folder / RUN_FILES[0]).is_file() else "torch"
    made_of = {"sha256": digest_of(weights), "runtime": runtime}
    if path.is_file() and made_of.items() <= json.loads(path.read_text("utf-8")).items():
        return
    from funduscope import checkpoint
    from funduscope.evaluation import cost

    loaded = checkpoint.load(weights)
    has_experts = any(one.experts.kind != "none" for one in loaded.recipe.networks)
    photos = list(_opened(sample(cases, SHOWN))) if has_experts else []
    work = cost.measure(loaded.network(), loaded.recipe, photos, [cost.AUTHORS_PX])
    path.parent.mkdir(exist_ok=True)
    write_json(path, {**made_of, "work": work.to_dict()}, indent=1)


def time_together(folders: Sequence[Path]) -> None:
    """Times a prediction by every folder that has a model, in one sitting, unless that was done before.

    Seconds of one sitting can be compared; those of different days cannot, since the load of a machine differs.
    """
    with_model = [folder for folder in folders if models_in(folder)]
    known = {folder: tree for folder in with_model if (tree := read_if_there(folder / "scores" / COST)) is not None}
    sitting = hashlib.sha256("".join(sorted(tree["sha256"] for tree in known.values())).encode()).hexdigest()[:12]
    if all(tree.get("sitting") == sitting for tree in known.values()):
        return
    from funduscope.evaluation import cost

    predictions = cost.measure_predictions(list(known), runs=TIMED)
    for (folder, tree), prediction in zip(known.items(), predictions, strict=True):
        put_prediction(folder, tree, prediction.to_dict(), sitting)


def put_prediction(folder: Path, tree: dict[str, Any], prediction: dict[str, Any], sitting: str) -> None:
    """Puts the cost of a prediction into the folder's cost.json. sitting: equal for all that were timed in turn."""
    timed = {**tree, "prediction": prediction, "sitting": sitting}
    write_json(folder / "scores" / COST, timed, indent=1)


def _opened(cases: Sequence[Case]) -> Iterator[Photo]:
    """The photos that can be read."""
    for case in cases:
        with suppress(PhotoError):
            yield Photo.open(case.path)
