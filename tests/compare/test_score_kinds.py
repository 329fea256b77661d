"""The row of a photo adds up to the very scores that scores.json has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from funduscope.compare.run_record import RunRecord, read_run
from funduscope.compare.score_kinds import KINDS, Measure, ScoreKind, pack, state_of
from funduscope.data.case import Case, Labels
from funduscope.evaluation.score_key import Aspect, Question
from funduscope.evaluation.scores import PhotoScore
from funduscope.metrics import DenseState, GradingState

EX = Question("EX", Aspect.PIXELS)


@pytest.fixture(scope="module")
def run(fabricate, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return read_run(fabricate(tmp_path_factory.mktemp("runs") / "one"), "one")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.is_tested], ids=lambda kind: kind.title)
def test_rows_add_up_to_the_score(run: RunRecord, kind: ScoreKind) -> None:
    for dataset in run.scores["validation"].details:
        measure = Measure(dataset, kind)
        reported = run.interval("validation", measure.key)
        if reported is None:
            continue
        rows = [row for row in run.rows["validation"].values() if row["dataset"] == dataset]
        states = [state for row in rows if (state := state_of(kind.question, row)) is not None]
        # A row's distance is rounded to a tenth, its probabilities are in 118 bins.
        slack = {"average precision": 0.005, "mean px": 0.05}.get(kind.score, 1e-9)
        assert measure.score(type(states[0]).total(states)) == pytest.approx(reported.value, abs=slack)


def test_every_kind_that_is_compared_was_tried(run: RunRecord) -> None:
    questions = {key.question.name for key in run.scores["validation"].intervals}
    assert {"DR", "DME", "EX pixels", "EX|SE pixels", "OD mask", "fovea", "false HE, EX or SE"} <= questions


@pytest.mark.parametrize("faint", [0.0, 3.0, 6.0], ids=["bold", "faint", "fainter"])
def test_coarse_bins_keep_the_average_precision_of_faint_maps(faint: float) -> None:
    rng = np.random.default_rng(3)
    target = rng.random((400, 400)) < 0.005
    prob = 1 / (1 + np.exp(-rng.normal(-3 - faint, 1.5, target.shape) - 3 * target))
    state = DenseState.of(prob.astype(np.float32), target)
    photo = PhotoScore(Case("a/b", "a", "b", Path("b"), "v", Labels()), refused=False, states={EX: state})
    pack(photo)
    coarse = state_of(EX, json.loads(json.dumps(photo.row)))
    assert coarse is not None
    measure = Measure("a", next(kind for kind in KINDS if kind.question == EX))
    assert measure.score(coarse) == pytest.approx(state.average_precision, abs=0.005)


def test_a_refused_photo_counts_as_the_furthest_grade() -> None:
    state = state_of(Question("DR"), {"grade": 1, "predicted_grade": None})
    assert isinstance(state, GradingState)
    assert state.confusion[1, 4] == 1


def test_a_row_that_lacks_what_a_score_needs_adds_nothing() -> None:
    for kind in KINDS:
        assert state_of(kind.question, {"key": "a", "dataset": "d", "visit": "v", "refused": True}) is None
