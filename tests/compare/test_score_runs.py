"""Real trainings on drawn eyes: what their folders lack is made once, by their own weights, and kept."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from funduscope import checkpoint
from funduscope.compare import score_runs as filling
from funduscope.compare.report import compare_runs
from funduscope.compare.run_folder import bundle, gather, measures_of
from funduscope.compare.score_kinds import state_of
from funduscope.compare.score_runs import score_runs
from funduscope.data.case import Case, Labels
from funduscope.data.folds import write_folds
from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.evaluation import cost
from funduscope.evaluation.cost import Prediction
from funduscope.inference.loading import load
from funduscope.network.network import build
from funduscope.quality.fundus import FundusTest
from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import write_idrid
from funduscope.training.train_network import train_network

TINY = (
    "encoder.name=test_resnet",
    "encoder.weights=none",
    "decoder.skip_channels=[8, 8, 8, 8, 16]",
    "decoder.channels=[16, 16, 8, 8]",
    "views.whole_px=64",
    "views.close_px=64",
    "sampling.whole={idrid-B = 1, idrid-A = 1}",
    "views.close=[]",
    "sampling.close={}",
    "sampling.per_epoch=8",
    "training.epochs=1",
    "training.batch=4",
    "training.workers=0",
    "training.precision=float32",
)
TIMED = Prediction(1.5, 400.0, 0.5, 90.0, 3, "eye.jpg", "a processor, 2 cores")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Ten graded eyes and five with masks."""
    folder = tmp_path_factory.mktemp("drawn") / "idrid"
    write_idrid(folder, graded=10, masked=5, width_px=400)
    return read_data([folder])


def untrained(folder: Path, cases: list[Case], *changes: str) -> None:
    """A run's folder as training leaves it, without the training."""
    recipe = Recipe.load("plain", [*TINY, *changes])
    folder.mkdir()
    progress = {"epoch": 1, "best_epoch": 1, "best_score": 0.5}
    checkpoint.save(folder / "best.safetensors", recipe, {"weights": build(recipe).state_dict()}, {}, progress)
    (folder / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    (folder / "run.json").write_text(json.dumps({"recipe": recipe.name, "fold": 0, "photos": {}}), "utf-8")
    (folder / "journal.jsonl").write_text('{"epoch": 1, "seconds": 2.5}\n', "utf-8")
    (folder / "card.json").write_text("{}", "utf-8")
    write_folds(cases, folder / "folds.csv")


@pytest.fixture(scope="module")
def compared(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run of all tasks, an untrained one of grades alone, and the page about them."""
    root = tmp_path_factory.mktemp("real")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(root / "cache"))
        patch.setattr(cost, "measure_predictions", lambda models, **_: [TIMED] * len(models))
        train_network(Recipe.load("plain", list(TINY)), cases, root / "all", 0)
        untrained(root / "grades", cases, "tasks.structures=[]", "tasks.landmarks=[]")
        compare_runs([root / "all", root / "grades"], root / "out", cases, root / "board.md")
    torch.set_num_threads(before)
    return root


def test_every_part_is_made_of_the_photos_it_is_named_after(compared: Path, cases: list[Case]) -> None:
    folds = {case.key: case.fold for case in cases}
    for part, expected in (("validation", {1}), ("test", {0}), ("training", {2, 3, 4}), ("color", {1}), ("blur", {1})):
        folder = compared / "all" / "scores" / part
        rows = [json.loads(line) for line in (folder / "photos.jsonl").read_text("utf-8").splitlines()]
        assert {folds[row["key"]] for row in rows} <= expected
        assert rows
        assert "| DR | kappa |" in (folder / "scores.md").read_text("utf-8")


def test_no_more_training_photos_are_asked_than_the_validation_fold_has() -> None:
    """Always the same ones, and of the few that there are all sets have some."""
    recipe = Recipe.load("plain", ["sampling.whole={many = 1, few = 1}", "sampling.close={}"])
    cases = [
        Case(f"{name}/{place}", name, str(place), Path(str(place)), str(place), Labels(grade=0), place % 5)
        for name, count in (("many", 60), ("few", 10))
        for place in range(count)
    ]
    parts, again = (
        filling._parts(SplitPlan.of(given, 0), recipe, every_set=False) for given in (cases, list(reversed(cases)))
    )
    assert len(parts["training"]) == len(parts["validation"]) == 14
    assert {case.fold for case in parts["training"]} == {2, 3, 4}
    assert {case.dataset for case in parts["training"]} == {"many", "few"}
    assert parts["training"] == again["training"]


def test_photos_that_a_run_learned_from_are_never_its_validation(
    compared: Path, cases: list[Case], tmp_path: Path
) -> None:
    """Also where none of its validation photos is among those that are given."""
    folder, some = compared / "all", [case for case in cases if case.fold != 1]
    about = json.loads((folder / "run.json").read_text("utf-8"))
    assert (about["fold"], about["validation_fold"]) == (0, 1)
    parts = filling._parts(SplitPlan.of_run(folder, some), Recipe.load("plain", list(TINY)), every_set=True)
    assert parts["validation"] == []
    (tmp_path / "run.json").write_text('{"fold": 0}')
    assert SplitPlan.of_run(tmp_path, some).validation_fold == 2
    shutil.copyfile(folder / "folds.csv", tmp_path / "folds.csv")
    assert SplitPlan.of_run(tmp_path, some).validation_fold == 1, "its own folds count where run.json names none"


def test_photos_that_a_model_has_no_answer_for_are_not_asked(compared: Path) -> None:
    rows = (compared / "grades" / "scores" / "validation" / "photos.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(row)["dataset"] for row in rows} == {"idrid-B"}


def test_the_cost_is_of_this_network(compared: Path) -> None:
    held = json.loads((compared / "all" / "scores" / "cost.json").read_text("utf-8"))
    grades = json.loads((compared / "grades" / "scores" / "cost.json").read_text("utf-8"))
    assert held["work"]["parameters"] > grades["work"]["parameters"] > 0
    assert held["work"]["views_px"] == [64]
    assert held["runtime"] == "torch"
    assert held["sitting"] == grades["sitting"]


def test_models_are_timed_together_again_where_one_is_new(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def measured(models: list[Path], **_: int) -> list[Prediction]:
        asked.append([model.name for model in models])
        return [TIMED] * len(models)

    monkeypatch.setattr(cost, "measure_predictions", measured)
    runs = [tmp_path / name for name in ("all", "grades")]
    for folder in runs:
        shutil.copytree(compared / folder.name, folder)
    filling.time_together(runs)
    assert asked == [], "they were timed in one sitting already"
    costs = runs[1] / "scores" / "cost.json"
    costs.write_text(json.dumps({**json.loads(costs.read_text("utf-8")), "sha256": "retrained"}), "utf-8")
    filling.time_together(runs)
    filling.time_together(runs)
    assert asked == [["all", "grades"]]


def test_rows_of_real_predictions_add_up_to_their_scores(compared: Path) -> None:
    runs = gather([compared / "all"])
    measures = [one for one in measures_of(runs) if one.kind.is_tested]
    assert {"EX pixels", "OD mask", "fovea", "DR", "DME"} <= {one.kind.question.name for one in measures}
    for one in measures:
        for part in ("validation", "test"):
            reported = runs[0].interval(part, one.key)
            rows = [row for row in runs[0].rows[part].values() if row["dataset"] == one.dataset]
            states = [state for row in rows if (state := state_of(one.kind.question, row)) is not None]
            if reported is not None:
                slack = 0.01 if one.kind.score == "average precision" else 0.1 if one.kind.digits == 1 else 1e-9
                value = one.score(type(states[0]).total(states))
                assert value == pytest.approx(reported.value, abs=slack), (one.title, part)


def test_the_page_shows_the_pairs(compared: Path) -> None:
    text = (compared / "board.md").read_text("utf-8")
    assert "Single-task and multi-task: all and grades" in text
    assert "8 samples in 1 epoch at 64 px" in text


def test_what_is_there_is_not_made_again_and_what_is_missing_is(
    compared: Path, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared / "all", folder)
    made: list[str] = []
    keep = filling._write

    def note(part: Path, *given: object) -> None:
        made.append(part.name)
        keep(part, *given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(filling, "_write", note)
    score_runs(folder, cases, every_set=False, progress=lambda photos, words, total: photos)
    assert made == []
    (folder / "scores" / "blur" / "scores.json").unlink()
    score_runs(folder, cases, every_set=False, progress=lambda photos, words, total: photos)
    assert made == ["blur"]


def test_no_photo_is_refused_where_models_are_compared(
    compared: Path, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared / "grades", folder)
    (folder / "scores" / "test" / "scores.json").unlink()
    monkeypatch.setattr(FundusTest, "classify", lambda self, measures: "other")
    assert load(folder)(cases[0].path).reasons, "elsewhere it would be"
    score_runs(folder, cases, every_set=False, progress=lambda photos, words, total: photos)
    rows = [json.loads(row) for row in (folder / "scores" / "test" / "photos.jsonl").read_text("utf-8").splitlines()]
    assert [row["refused"] for row in rows] == [False] * len(rows)
    assert all(row["predicted_grade"] is not None for row in rows)


def test_scores_of_other_weights_are_made_again(compared: Path, cases: list[Case], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared / "grades", folder)
    stale, fresh = (folder / "scores" / part / "scores.json" for part in ("test", "validation"))
    stale.write_text(re.sub(r'"sha256": "\w+"', '"sha256": "other"', stale.read_text("utf-8")), "utf-8")
    before = fresh.stat().st_mtime_ns
    score_runs(folder, cases, every_set=False, progress=lambda photos, words, total: photos)
    assert '"other"' not in stale.read_text("utf-8")
    assert fresh.stat().st_mtime_ns == before


def test_scores_whose_last_row_is_cut_are_made_again(compared: Path, cases: list[Case], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared / "grades", folder)
    rows = folder / "scores" / "test" / "photos.jsonl"
    before = len(rows.read_text("utf-8").splitlines())
    os.truncate(rows, rows.stat().st_size - 40)
    score_runs(folder, cases, every_set=False, progress=lambda photos, words, total: photos)
    assert len([json.loads(line) for line in rows.read_text("utf-8").splitlines()]) == before


def test_a_comparison_of_one_data_set_leaves_the_scores_of_the_others(
    compared: Path, cases: list[Case], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared / "grades", folder)
    paths = [folder / "scores" / part / "scores.json" for part in ("test", "validation")]
    before = [path.read_bytes() for path in paths]
    assert len({case.dataset for case in cases}) > 1
    score_runs(
        folder,
        [case for case in cases if case.dataset == "idrid-B"],
        every_set=False,
        progress=lambda photos, words, total: photos,
        wanted_parts=("test", "validation"),
    )
    assert [path.read_bytes() for path in paths] == before


def test_scores_against_labels_that_were_corrected_since_are_made_again(
    compared: Path, cases: list[Case], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(compared / "grades", folder)
    paths = [folder / "scores" / part / "scores.json" for part in ("test", "validation")]
    before = [path.stat().st_mtime_ns for path in paths]
    tested = next(case for case in cases if case.dataset == "idrid-B" and case.fold == 0)
    other = replace(tested, labels=replace(tested.labels, grade=4 - (tested.labels.grade or 0)))
    corrected = [other if case.key == tested.key else case for case in cases]
    score_runs(folder, corrected, every_set=False, progress=lambda photos, words, total: photos)
    again = [path.stat().st_mtime_ns != was for path, was in zip(paths, before, strict=True)]
    assert again == [True, False], "the validation photos are as they were"
    rows = (folder / "scores" / "test" / "photos.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(row)["key"]: json.loads(row).get("grade") for row in rows}[tested.key] == other.labels.grade


def test_a_bundle_makes_the_same_page_and_is_left_as_it_is(compared: Path, cases: list[Case], tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("all", "grades")]
    for folder in kept:
        bundle(compared / folder.name, folder)
    held = {path: path.read_bytes() for folder in kept for path in folder.rglob("*") if path.is_file()}
    compare_runs(kept, tmp_path / "out", cases, tmp_path / "board.md")
    assert (tmp_path / "board.md").read_text("utf-8") == (compared / "board.md").read_text("utf-8")
    assert {path: path.read_bytes() for folder in kept for path in folder.rglob("*") if path.is_file()} == held
