"""Real trainings on drawn eyes: what their folders lack is made once, by their own weights, and kept."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from funduscope import checkpoint
from funduscope.compare.report import compare_runs
from funduscope.compare.run_record import measures_of, read_runs
from funduscope.compare.score_kinds import state_of
from funduscope.compare.score_runs import score_run, time_together
from funduscope.data.case import Case
from funduscope.data.folds import write_folds
from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.data.sources import read_data
from funduscope.evaluation import cost
from funduscope.evaluation.cost import Prediction
from funduscope.inference.loading import load
from funduscope.network.network import build
from funduscope.progress import no_progress
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
        compare_runs([root / "all", root / "grades"], root / "out", cases)
    torch.set_num_threads(before)
    return root


@pytest.fixture
def run(compared: Path, tmp_path: Path) -> Path:
    """A copy of the run of grades, which is scored already."""
    shutil.copytree(compared / "grades", tmp_path / "run")
    return tmp_path / "run"


def score_files(run: Path) -> dict[str, Path]:
    return {part: run / "scores" / part / "scores.json" for part in ("validation", "test")}


def test_each_fold_is_scored_on_its_own_photos(compared: Path, cases: list[Case]) -> None:
    folds = {case.key: case.fold for case in cases}
    for part, fold in (("validation", 1), ("test", 0)):
        lines = (compared / "all" / "scores" / part / "photos.jsonl").read_text("utf-8").splitlines()
        assert {folds[json.loads(line)["key"]] for line in lines} == {fold}


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
    timed: list[list[str]] = []

    def measure(models: list[Path], runs: int) -> list[Prediction]:
        timed.append([model.name for model in models])
        return [TIMED] * len(models)

    monkeypatch.setattr(cost, "measure_predictions", measure)
    runs = [tmp_path / name for name in ("all", "grades")]
    for folder in runs:
        shutil.copytree(compared / folder.name, folder)
    time_together(runs)
    assert timed == [], "they were timed in turn already"
    costs = runs[1] / "scores" / "cost.json"
    costs.write_text(json.dumps({**json.loads(costs.read_text("utf-8")), "sha256": "retrained"}), "utf-8")
    time_together(runs)
    time_together(runs)
    assert timed == [["all", "grades"]]


def test_rows_of_real_predictions_add_up_to_their_scores(compared: Path) -> None:
    (run,) = read_runs([compared / "all"])
    measures = [measure for measure in measures_of([run]) if measure.kind.is_tested]
    assert {"EX pixels", "OD mask", "fovea", "DR", "DME"} <= {measure.kind.question.name for measure in measures}
    for measure in measures:
        for part in ("validation", "test"):
            interval = run.interval(part, measure.key)
            rows = [row for row in run.rows[part].values() if row["dataset"] == measure.dataset]
            states = [state for row in rows if (state := state_of(measure.kind.question, row)) is not None]
            if interval is not None:
                slack = {"average precision": 0.01, "mean px": 0.1}.get(measure.kind.score, 1e-9)
                value = measure.score(type(states[0]).total(states))
                assert value == pytest.approx(interval.value, abs=slack), (measure.title, part)


def test_only_missing_scores_are_made(run: Path, cases: list[Case]) -> None:
    files = score_files(run)
    files["test"].unlink()
    before = files["validation"].stat().st_mtime_ns
    score_run(run, cases, no_progress)
    assert files["test"].is_file()
    assert files["validation"].stat().st_mtime_ns == before


def test_no_photo_is_refused_where_models_are_compared(
    run: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    score_files(run)["test"].unlink()
    monkeypatch.setattr(FundusTest, "classify", lambda self, measures: "other")
    assert load(run)(cases[0].path).reasons, "elsewhere it would be"
    score_run(run, cases, no_progress)
    lines = (run / "scores" / "test" / "photos.jsonl").read_text("utf-8").splitlines()
    assert not any(json.loads(line)["refused"] for line in lines)


def test_scores_of_other_weights_are_made_again(run: Path, cases: list[Case]) -> None:
    stale = score_files(run)["test"]
    stale.write_text(re.sub(r'"sha256": "\w+"', '"sha256": "other"', stale.read_text("utf-8")), "utf-8")
    score_run(run, cases, no_progress)
    assert '"other"' not in stale.read_text("utf-8")


def test_scoring_one_data_set_leaves_the_scores_of_the_others(run: Path, cases: list[Case]) -> None:
    before = {part: path.read_bytes() for part, path in score_files(run).items()}
    score_run(run, [case for case in cases if case.dataset == "idrid-B"], no_progress)
    assert {part: path.read_bytes() for part, path in score_files(run).items()} == before


def test_scores_against_labels_that_were_corrected_since_are_made_again(run: Path, cases: list[Case]) -> None:
    before = {part: path.stat().st_mtime_ns for part, path in score_files(run).items()}
    old = next(case for case in cases if case.dataset == "idrid-B" and case.fold == 0)
    new = replace(old, labels=replace(old.labels, grade=4 - (old.labels.grade or 0)))
    score_run(run, [new if case.key == old.key else case for case in cases], no_progress)
    is_new = {part: path.stat().st_mtime_ns != before[part] for part, path in score_files(run).items()}
    assert is_new == {"validation": False, "test": True}
