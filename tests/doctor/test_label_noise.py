"""Label noise: planted wrong labels are found, ranked first, and predicted only by runs that never saw the photo."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from funduscope.data.case import Case, Labels
from funduscope.data.folds import make_folds, write_folds
from funduscope.doctor import label_noise
from funduscope.doctor.confident_learning import confident_joint, doubts, thresholds
from funduscope.doctor.inventory import Inventory
from funduscope.doctor.label_noise import load_models
from funduscope.doctor.scan import Scan
from funduscope.duplicates.pairs import DuplicatePair
from funduscope.evaluation.out_of_fold import EARLIER
from funduscope.inference.runtime import ModelError

CLASSES = 3


def _sharp(truth: np.ndarray, confidence: float = 0.8) -> np.ndarray:
    """(N, K): `confidence` for the true class, the rest shared."""
    probs = np.full((len(truth), CLASSES), (1 - confidence) / (CLASSES - 1))
    probs[np.arange(len(truth)), truth] = confidence
    return probs


def test_planted_labels_are_the_doubts() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, 300)
    probs = _sharp(truth) + rng.uniform(0, 0.05, (300, CLASSES))
    probs /= probs.sum(axis=1, keepdims=True)
    labels = truth.copy()
    wrong = rng.choice(300, 30, replace=False)
    labels[wrong] = (truth[wrong] + 1) % CLASSES
    found = doubts(labels, probs)
    assert {one.index for one in found} == set(wrong.tolist())
    assert all(one.suggested == truth[one.index] for one in found)
    assert [one.self_confidence for one in found] == sorted(one.self_confidence for one in found)
    assert 1 - np.trace(confident_joint(labels, probs)) == pytest.approx(0.1, abs=0.02)


def test_right_labels_raise_no_doubt_though_a_class_is_answered_timidly() -> None:
    """Class 2 is never the likeliest; its threshold is its own mean, so that its labels are not all doubted."""
    labels = np.repeat([0, 1, 2], 20)
    probs = np.concatenate([_sharp(labels[:40], 0.9), np.tile([0.4, 0.2, 0.4], (20, 1))])
    assert thresholds(labels, probs)[2] == pytest.approx(0.4)
    assert doubts(labels, probs) == []


def test_a_class_of_two_examples_is_no_suggestion() -> None:
    labels = np.array([0] * 20 + [2] * 2)
    probs = np.concatenate([_sharp(np.zeros(19, int)), _sharp(np.array([2, 2, 2]))])
    assert all(one.suggested != 2 for one in doubts(labels, probs))


@dataclass(frozen=True)
class Answer:
    """The used fields of `Findings`."""

    class_probs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Pair:
    """The used fields of a `DuplicatePair`."""

    first: str
    second: str


def _grades(truth: int) -> np.ndarray:
    probs = np.full(5, 0.05)
    probs[truth] = 0.8
    return probs


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Sixty photos of two data sets in two folds: grades, and maculopathy as a constraint."""
    made = []
    for k in range(60):
        labels = Labels(grade=k % 3, classes={"dme": frozenset({0}) if k % 2 else frozenset({1, 2})})
        made.append(Case(f"own/{k:02d}", "own", f"{k:02d}", tmp_path / f"data/{k:02d}.jpg", f"v{k}", labels))
    return make_folds(made, count=2)


@pytest.fixture
def runs(cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two runs, one a fold; a model knows the truth (number modulo 3) and fails on photos that it learned from."""
    folders = []
    for fold in (0, 1):
        folder = tmp_path / f"run{fold}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"fold": fold}))
        write_folds(cases, folder / "folds.csv")
        folders.append(folder)
    places = {case.path: case.fold for case in cases}

    def load(run: Path) -> object:
        def model(path: Path) -> Answer:
            assert places[path] == int(run.name[-1]), "asked about a photo that it learned from"
            number = int(path.stem)
            dme = np.array([0.9, 0.05, 0.05]) if number % 2 else np.array([0.2, 0.3, 0.5])
            return Answer({"grade": _grades(number % 3), "dme": dme})

        model.card = SimpleNamespace(about={})  # pyright: ignore[reportFunctionMemberAccess]
        return model

    monkeypatch.setattr("funduscope.inference.loading.load", load)
    return folders


def _scan(cases: list[Case], tmp_path: Path) -> Scan:
    return Scan(Inventory(tmp_path / "data", tuple(case.path for case in cases), (), ()), tmp_path / "scan")


def _mislabeled(cases: list[Case], names: set[str]) -> list[Case]:
    from dataclasses import replace

    wrong = {
        name: replace(case.labels, grade=((case.labels.grade or 0) + 1) % 3)
        for case in cases
        if (name := case.name) in names
    }
    return [replace(case, labels=wrong.get(case.name, case.labels)) for case in cases]


def test_each_run_judges_its_own_fold_alone(cases: list[Case], runs: list[Path], tmp_path: Path) -> None:
    spoiled = _mislabeled(cases, {"07", "31"})
    findings = list(label_noise.examine(_scan(cases, tmp_path), spoiled, load_models(runs)))
    doubted = [one for one in findings if one.kind == "doubtful_label"]
    assert {one.files for one in doubted} == {("07.jpg",), ("31.jpg",)}
    assert doubted[0].evidence["label"] == 2
    assert doubted[0].evidence["suggested"] == 1
    (summary,) = [one for one in findings if one.kind == "label_noise"]
    assert (summary.evidence["photos"], summary.evidence["doubtful"]) == (60, 2)
    sheet = summary.pictures[0].draw()
    assert sheet is not None
    assert sheet.ndim == 3


def test_one_run_says_nothing_of_the_other_folds(cases: list[Case], runs: list[Path], tmp_path: Path) -> None:
    judged = label_noise.predict_unseen(load_models(runs[:1]), cases, {})
    assert set(judged) == {case.key for case in cases if case.fold == 0}


def test_photos_with_a_learned_duplicate_are_left_out(cases: list[Case], runs: list[Path], tmp_path: Path) -> None:
    one = next(case for case in cases if case.fold == 0)
    other = next(case for case in cases if case.fold == 1)
    pairs = [cast(DuplicatePair, Pair(one.path.name, other.path.name))]
    scan = _scan(cases, tmp_path)
    spoiled = _mislabeled(cases, {one.name})
    assert not list(label_noise.examine(scan, spoiled, load_models(runs), pairs))
    assert list(label_noise.examine(scan, spoiled, load_models(runs)))


def test_photos_that_the_first_weights_may_have_learned_are_left_out(cases: list[Case], runs: list[Path]) -> None:
    models = load_models(runs)
    models[0].model.card.about[EARLIER] = [{"photos": {"own": 60}}]
    models[1].model.card.about[EARLIER] = [{"photos": {"another": 60}}]
    judged = label_noise.predict_unseen(models, cases, {})
    assert set(judged) == {case.key for case in cases if case.fold == 1}


def test_a_run_without_a_test_fold_is_refused(cases: list[Case], runs: list[Path], tmp_path: Path) -> None:
    (runs[0] / "run.json").write_text(json.dumps({"fold": None}))
    with pytest.raises(ModelError, match="names no test fold"):
        load_models(runs)


def test_too_few_judged_labels_are_reported(cases: list[Case], runs: list[Path], tmp_path: Path) -> None:
    """Silence would look as if the models had found every label right."""
    few = cases[:20]
    judged = sum(case.fold == 0 for case in few)
    findings = list(label_noise.examine(_scan(few, tmp_path), few, load_models(runs[:1])))
    assert [(one.kind, one.severity) for one in findings] == [("labels_unjudged", "info")] * 2
    expected = [
        {"task": words, "data_set": "own", "labels": 20, "judged": judged} for words in ("grade", "maculopathy")
    ]
    assert [one.evidence for one in findings] == expected


def test_models_without_anything_to_judge_say_so(runs: list[Path], tmp_path: Path) -> None:
    (only,) = label_noise.examine(_scan([], tmp_path), [], load_models(runs))
    assert (only.kind, only.evidence["judged"]) == ("labels_unjudged", 0)
