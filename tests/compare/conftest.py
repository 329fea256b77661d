"""Run folders made up in a moment: photos whose answers are right as often as a skill says, scored by the real code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funduscope.compare.run_record import PARTS
from funduscope.compare.score_kinds import pack
from funduscope.data.case import Case, Labels
from funduscope.evaluation.score_key import Aspect, Question
from funduscope.evaluation.scores import FALSE_LESIONS, FALSE_VISIBLE, PhotoScore, summarize
from funduscope.metrics import (
    BinaryState,
    DenseState,
    DistanceState,
    FalseLesionState,
    GradingState,
    MaskState,
)
from funduscope.recipe import Recipe
from funduscope.vocabulary import DME_RISKS, GRADES, LESIONS, referable

BUDGET = ["views.whole_px=384", "views.close_px=384", "sampling.per_epoch=900", "training.epochs=4"]
Fabricate = Callable[..., Path]


def at_budget(name: str = "plain", *changes: str) -> Recipe:
    """A recipe of the package at the budget of these tests."""
    once = [] if Recipe.load(name).views.close else ["views.close_px=384"]
    return Recipe.load(name, [*BUDGET, *once, *changes])


@pytest.fixture(scope="session")
def recipe_of() -> Callable[..., Recipe]:
    """The function that makes a recipe at the budget of these tests: its name, and changes as behind `--set`."""
    return at_budget


def _graded(case: Case, truth: int, right: float, recipe: Recipe, rng: np.random.Generator) -> PhotoScore:
    photo = PhotoScore(case, refused=False)
    photo.row.update(key=case.key, dataset=case.dataset, visit=case.visit, fold=case.fold, refused=False)
    said = truth if rng.random() < right else int(rng.integers(len(GRADES)))
    dme = min(len(DME_RISKS) - 1, truth)
    said_dme = dme if rng.random() < right else int(rng.integers(len(DME_RISKS)))
    if recipe.tasks.grade:
        photo.states[Question("DR")] = GradingState.of([truth], [said])
        photo.states[Question("referable DR")] = BinaryState.of([referable(truth)], [said + rng.normal(0, 0.5)])
        photo.row.update(grade=truth, predicted_grade=said)
    if recipe.tasks.dme:
        photo.states[Question("DME")] = GradingState.of([dme], [said_dme], len(DME_RISKS))
        photo.row.update(dme=dme, predicted_dme=said_dme)
    if recipe.tasks.landmarks:
        for name in ("disc center", "fovea"):
            distance = float(rng.gamma(2, 20 + 60 * (1 - right)))
            photo.states[Question(name)] = DistanceState(np.array([distance]), 0)
            photo.row[f"{name} px"] = round(distance, 1)
    if truth == 0 and recipe.tasks.structures:
        counts = {code: int(rng.random() > right) for code in LESIONS}
        photo.states[FALSE_VISIBLE] = FalseLesionState.of(counts, FALSE_LESIONS[FALSE_VISIBLE])
        photo.row["false lesions"] = counts
    return photo


def _masked(case: Case, right: float, recipe: Recipe, rng: np.random.Generator, target: np.ndarray) -> PhotoScore:
    photo = PhotoScore(case, refused=False)
    photo.row.update(key=case.key, dataset=case.dataset, visit=case.visit, fold=case.fold, refused=False)
    codes = ("EX|SE",) if case.dataset == "heimed" else ("EX", "OD")
    for code in codes:
        if not set(code.split("|")) <= set(recipe.tasks.structures):
            continue
        logits = rng.normal(-3, 1.5, target.shape) + target * (1 + 5 * right)
        prob = (1 / (1 + np.exp(-logits))).astype(np.float32)
        photo.states[Question(code, Aspect.PIXELS)] = DenseState.of(prob, target)
        photo.states[Question(code, Aspect.MASK)] = MaskState.of(prob > 0.5, target)
    return photo


def photos_of(part: str, recipe: Recipe, skill: float, seed: int) -> list[PhotoScore]:
    """Sixty graded photos, two with masks, eight of HEI-MED; the labels are the same for every seed."""
    truths, rng = np.random.default_rng(7), np.random.default_rng([seed, PARTS.index(part)])
    right = min(0.98, max(0.02, skill))
    photos = []
    for number in range(60):
        dataset = "idrid-B" if number < 40 else "srahim"
        name = f"{part}-{number}"
        case = Case(f"{dataset}/{name}", dataset, name, Path(name), f"visit {number // 2}", Labels(), 1)
        photos.append(_graded(case, int(truths.integers(len(GRADES))), right, recipe, rng))
    for number in range(10):
        dataset = "idrid-A" if number < 2 else "heimed"
        name = f"{part}-{number}"
        case = Case(f"{dataset}/{name}", dataset, name, Path(name), f"visit {dataset} {number}", Labels(), 1)
        target = truths.random((40, 40)) < 0.03
        photos.append(_masked(case, right, recipe, rng, target))
    return photos


def cost_of(work: float) -> dict[str, Any]:
    """cost.json of so many G multiply-adds."""
    stated = [{"asked_px": [712, 1072], "scaled": {"total": work * 1e9}}]
    whole = {"parameters": int(work * 1.7e6), "photo": {"total": work * 1e9}, "stated": stated}
    prediction = {"wall_s": 0.6 + work / 40, "peak_mb": 300 + 8 * work, "machine": "a processor"}
    return {"sha256": "0", "runtime": "ONNX Runtime", "work": whole, "prediction": prediction}


@pytest.fixture(scope="session")
def fabricate() -> Fabricate:
    """Writes a run's folder without weights: folder, recipe, skill 0..1, and what else run.json says."""

    def write(
        folder: Path,
        recipe: Recipe | None = None,
        skill: float = 0.7,
        seed: int = 0,
        parts: tuple[str, ...] = PARTS,
        work: float = 10.0,
        **about: Any,
    ) -> Path:
        recipe = recipe or at_budget()
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
        told = {"recipe": recipe.name, "fold": 0, "photos": {"train": {"idrid-B": 220, "srahim": 267}}}
        told |= {"data_fingerprint": "same", "environment": {"cpus": 2}, "teachers": []}
        (folder / "run.json").write_text(json.dumps(told | about), "utf-8")
        lines = [
            {"epoch": epoch, "seconds": 300.0, "best": True, "validation selection": epoch / 10}
            for epoch in range(1, recipe.training.epochs + 1)
        ]
        (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        for part in parts:
            photos = photos_of(part, recipe, skill, seed)
            for photo in photos:
                pack(photo)
            about = {"models": [{"sha256": "0"}], "part": part, "labels": {}}
            scores = summarize([photo for photo in photos if photo.states], 30)
            scores.write(folder / "scores" / part, about)
        (folder / "scores").mkdir(exist_ok=True)
        (folder / "scores" / "cost.json").write_text(json.dumps(cost_of(work)), "utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def three_runs(fabricate: Fabricate, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of three runs of one recipe; tests leave them as they are."""
    root, skills = tmp_path_factory.mktemp("three"), {"worst": 0.1, "best": 0.98, "middle": 0.5}
    return [fabricate(root / name, skill=skill, seed=1) for name, skill in skills.items()]
