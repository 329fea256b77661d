"""What a photo's row holds adds up to the very scores that scores.json states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from funduscope.compare.run_folder import Run, read_run
from funduscope.compare.score_kinds import KINDS, Kind, Measure, score_of, sums
from funduscope.metrics import DenseState


@pytest.fixture(scope="module")
def run(fabricate, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(fabricate(tmp_path_factory.mktemp("runs") / "one"), "one")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.key], ids=lambda kind: kind.shown)
def test_rows_add_up_to_the_score(run: Run, kind: Kind) -> None:
    for dataset, states in run.trees["validation"]["scores"].items():
        if kind.score not in states.get(kind.state, {}):
            continue
        parts = [sums(kind, row) for row in run.rows["validation"].values() if row["dataset"] == dataset]
        added = np.sum([part for part in parts if part is not None], axis=0)
        stated = run.interval("validation", Measure(dataset, kind))
        assert stated is not None
        # A row's distance is rounded to a tenth, its probabilities lie in 118 bins.
        slack = {"average precision": 0.005, "mean px": 0.05}.get(kind.score, 1e-9)
        assert score_of(kind, added[None])[0] == pytest.approx(stated.value, abs=slack)


def test_every_kind_that_is_compared_was_tried(run: Run) -> None:
    states = {state for table in run.trees["validation"]["scores"].values() for state in table}
    assert {"DR", "DME", "EX pixels", "EX|SE pixels", "OD mask", "fovea", "false HE, EX or SE"} <= states


@pytest.mark.parametrize("faint", [0.0, 3.0, 6.0], ids=["bold", "faint", "fainter"])
def test_coarse_bins_keep_the_average_precision_of_faint_maps(faint: float) -> None:
    rng = np.random.default_rng(3)
    target = rng.random((400, 400)) < 0.005
    prob = 1 / (1 + np.exp(-rng.normal(-3 - faint, 1.5, target.shape) - 3 * target))
    state = DenseState.of(prob.astype(np.float32), target)
    from funduscope.compare.score_kinds import pack
    from funduscope.data.case import Case, Labels
    from funduscope.evaluation.scores import PhotoScore

    photo = PhotoScore(Case("a/b", "a", "b", Path("b"), "v", Labels()), refused=False, states={"EX pixels": state})
    pack(photo)
    kind = next(kind for kind in KINDS if kind.state == "EX pixels")
    added = sums(kind, json.loads(json.dumps(photo.row)))
    assert added is not None
    assert score_of(kind, added[None])[0] == pytest.approx(state.average_precision, abs=0.005)


def test_a_refused_photo_counts_as_the_furthest_grade() -> None:
    kind = next(kind for kind in KINDS if kind.state == "DR" and kind.score == "kappa")
    added = sums(kind, {"grade": 1, "predicted_grade": None})
    assert added is not None
    assert added.reshape(5, 5)[1, 4] == 1


def test_a_row_that_lacks_what_a_score_needs_adds_nothing() -> None:
    for kind in KINDS:
        assert sums(kind, {"key": "a", "dataset": "d", "visit": "v", "refused": True}) is None
