"""The study: arms differ in one thing, an effect is what was planted, rows are made once, and the page shows them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from research.bundles import add, read_table, unpack
from research.study_page import GENERATED, PAGE, Effect, measure_effects, write
from scipy.stats import t
from tests import less_work

from funduscope.compare.paired import LEVEL, holm
from funduscope.compare.run_record import RunRecord
from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.data.sources import read_data
from funduscope.evaluation.score_key import ScoreKey
from funduscope.evaluation.scores import Scores
from funduscope.metrics import Interval
from funduscope.recipe import Recipe
from funduscope.testing.drawn_eyes import write_idrid
from research import study

TINY = (
    "encoder.name=test_resnet",
    "encoder.weights=none",
    "decoder.channels=[8, 8, 8, 8]",
    "views.whole_px=64",
    "views.close_px=64",
    "sampling.per_epoch=6",
    "training.epochs=1",
    "training.batch=2",
    "training.workers=0",
    "training.precision=float32",
)
ONE_THING = {
    "grades": {"tasks", "sampling"},
    "lesions": {"tasks", "sampling"},
    "soft": {"experts"},
    "top_p": {"experts"},
    "routed": {"balance"},
    "gates": {"decoder"},
}


def differing(first: Recipe, second: Recipe) -> set[str]:
    """The sections in which two recipes differ, apart from names and the metric that selects epochs."""
    kept_out: dict[str, Any] = {"name": True, "about": True, "training": {"select"}}
    trees = [recipe.model_dump(mode="json", exclude=kept_out) for recipe in (first, second)]
    return {section for section in trees[0] if trees[0][section] != trees[1][section]}


def test_every_arm_has_one_budget_and_differs_from_the_shared_one_in_one_thing() -> None:
    shared = study.Row("shared", 1, 2).recipe()
    assert shared.sampling.per_epoch * shared.training.epochs == 6000
    assert {arm: differing(study.Row(arm, 1, 2).recipe(), shared) for arm in ONE_THING} == ONE_THING
    assert {*ONE_THING, "shared"} == set(study.ARMS)
    assert len(study.ROWS) == 7 * 3 * 2
    assert {row.recipe().views.whole_px for row in study.LARGER} == {512}
    assert differing(study.LARGER[0].recipe(), shared) == {"views"}
    assert {row.seed for row in study.ROWS[:14]} == {1}, "one seed of every arm comes first"


def run_of(right: float, seed: int, visits: int = 60, prefix: str = "#") -> RunRecord:
    """A run whose photos are of 5 grades in turn, answered rightly as often as said."""
    rng = np.random.default_rng(seed)
    rows: dict[str, dict[str, Any]] = {}
    for number in range(visits):
        grade = number % 5
        said = grade if rng.random() < right else int(rng.integers(5))
        name = f"{prefix}{number}"
        rows[name] = {"dataset": "idrid-B", "visit": name, "grade": grade, "predicted_grade": said}
    kappa = {ScoreKey.parse("idrid-B", "DR", "kappa"): Interval(0.4, 0.6, 0.5)}
    scores = Scores(kappa, {}, {"idrid-B": {"photos": visits, "refused": 0, "states": {}}})
    recipe = study.Row("shared", seed, 2).recipe()
    return RunRecord("run", recipe, {}, [], {"test": scores}, {"test": rows})


def arm(*skills: float) -> list[list[RunRecord]]:
    return [[run_of(skill, seed)] for seed, skill in enumerate(skills)]


def kappa_effect(more: list[list[RunRecord]], less: list[list[RunRecord]]) -> Effect:
    (effect,) = measure_effects(more, less)
    assert effect.measure.kind.title == "DR kappa"
    return effect


def test_an_effect_is_what_was_planted_and_says_what_could_have_been_seen() -> None:
    nothing = kappa_effect(arm(0.8, 0.8, 0.8), arm(0.8, 0.8, 0.8))
    assert (nothing.interval.value, nothing.error) == (0, 0)
    assert np.isnan([nothing.visible, nothing.interval.low, nothing.interval.high]).all()
    assert not nothing.differs
    large = kappa_effect(arm(0.95, 0.95, 0.95), arm(0.3, 0.3, 0.3))
    assert large.differs
    assert 0 < large.interval.low < large.interval.value
    assert 3 < large.freedom < 60
    assert 2.8016 * large.error < large.visible < 3.6 * large.error
    assert replace(large, freedom=1e6).visible == pytest.approx(2.8016 * large.error, rel=1e-3)
    assert (large.n_photos, large.interval.visits) == (60, 60)


@pytest.mark.parametrize("freedom", [2.5, 10.0, 100.0])
def test_what_could_have_been_seen_is_found_four_times_in_five_among_ten_scores(freedom: float) -> None:
    effect = kappa_effect(arm(0.9, 0.9, 0.9), arm(0.5, 0.5, 0.5))
    visible = replace(effect, n_tests=10, freedom=freedom).visible
    rng, n_found, draws = np.random.default_rng(0), 0, 2000
    for _ in range(draws):
        scores = rng.normal(0, effect.error, 10)
        scores[0] += visible
        errors = effect.error * np.sqrt(rng.chisquare(freedom, 10) / freedom)
        p = 2 * t.sf(np.abs(scores) / errors, freedom)
        n_found += holm(p)[0] < LEVEL
    assert 0.77 < n_found / draws < 0.88


@pytest.mark.slow
def test_three_seeds_that_disagree_find_no_effect_more_often_than_promised() -> None:
    """Arms whose seeds scatter far more than 60 visits explain: p is at most .05 once in twenty, not once in five."""
    rng, found, draws = np.random.default_rng(0), 0, 60
    for _ in range(draws):
        found += kappa_effect(arm(*rng.uniform(0.2, 1, 3)), arm(*rng.uniform(0.2, 1, 3))).p < LEVEL
    assert found <= 6


def test_seeds_that_disagree_make_an_effect_less_sure() -> None:
    alike = kappa_effect(arm(0.7, 0.7, 0.7), arm(0.4, 0.4, 0.4))
    apart = kappa_effect(arm(0.3, 0.7, 1.0), arm(0.4, 0.4, 0.4))
    assert apart.error > 1.5 * alike.error
    assert apart.freedom < 10 < alike.freedom
    assert apart.p > alike.p


@pytest.mark.slow
def test_rows_are_made_once_and_scored_on_the_test_fold_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    less_work.draw_less(monkeypatch.setattr)
    write_idrid(tmp_path / "idrid", graded=20, masked=10, width_px=400)
    cases = read_data([tmp_path / "idrid"])
    results = tmp_path
    rows = [study.Row(arm, 1, 2) for arm in ("shared", "gates")]
    for row in rows:
        study.make(row, cases, tmp_path / "runs", results, TINY)
    stored = read_table(study.table_of(rows[0], results))
    assert set(stored) == {row.name for row in rows}
    about = json.loads((tmp_path / "runs" / rows[0].name / "run.json").read_text("utf-8"))
    assert about["fold"] == 2
    assert about["command"] == "python -m research.study --data DATA --only shared-seed1-fold2"
    assert all("scores/cost.json" in files and files["journal.jsonl"] for files in stored.values())
    assert not any("scores/validation/scores.json" in files for files in stored.values()), "the test fold is scored"

    monkeypatch.setattr(study, "RESULTS", results)
    monkeypatch.setattr("sys.argv", ["study", "--data", str(tmp_path / "idrid"), "--only", rows[0].name])
    monkeypatch.setattr(study, "make", lambda *_: pytest.fail("a stored row is made again"))
    assert study.main() == 0
    monkeypatch.setattr("sys.argv", ["study", "--write"])
    assert study.main() == 1, "a page of some rows alone is not written"


def test_the_page_has_the_stored_rows_and_keeps_what_people_wrote(tmp_path: Path) -> None:
    results, page, arms = tmp_path, tmp_path / "study.md", {"shared": 0.3, "gates": 0.9}
    for row in (study.Row(arm, seed, fold) for arm in arms for seed in (1, 2) for fold in study.FOLDS):
        folder = tmp_path / "runs" / row.name
        run = run_of(arms[row.arm], row.seed + 10 * row.fold, prefix=f"#{row.fold}-")
        (folder / "scores" / "test").mkdir(parents=True)
        (folder / "recipe.toml").write_text(row.recipe().to_toml(), "utf-8")
        device = "cuda (a card)" if row.name == "gates-seed2-fold2" else "cpu"
        (folder / "run.json").write_text(
            json.dumps({"environment": {"device": device}, "training_peak_mb": 100 if device == "cpu" else 900})
        )
        (folder / "scores" / "test" / "scores.json").write_text(json.dumps(run.scores["test"].to_dict()), "utf-8")
        lines = [json.dumps({"key": key, **values}) + "\n" for key, values in run.rows["test"].items()]
        (folder / "scores" / "test" / "photos.jsonl").write_text("".join(lines), "utf-8")
        add(study.table_of(row, results), folder)
    write(results, page, tuple(arms), (1, 2))
    text = page.read_text("utf-8")
    assert "DR kappa, idrid-B, 120 photos" in text, "of both folds"
    assert "512 px" not in text, "no such row is stored"
    assert "Attention gates on the skips, or none: gates against shared" in text
    assert "Effects that differ from zero: 1 of 1." in text
    assert "gates-seed2-fold2 were trained on a GPU, all other rows on a processor." in text
    assert "900" not in text, "memory of the rows trained on a processor"
    assert (tmp_path / "study-effects.png").is_file()
    page.write_text(text.replace("## Method", "The answer.\n\n## Method"), "utf-8")
    write(results, page, tuple(arms), (1, 2))
    assert page.read_text("utf-8") == text.replace("## Method", "The answer.\n\n## Method")
    assert page.read_text("utf-8").count(GENERATED) == 1


@pytest.mark.slow
def test_the_committed_page_is_that_of_the_stored_rows(tmp_path: Path) -> None:
    copy = tmp_path / PAGE.name
    copy.write_bytes(PAGE.read_bytes())
    write(study.RESULTS, copy)
    assert copy.read_text("utf-8") == PAGE.read_text("utf-8")


def test_trained_top_p_gates_make_their_experts_cheaper_in_proportion(tmp_path: Path) -> None:
    """Within 5 % of the number that the gates choose, at both sizes."""
    unpack(study.RESULTS / "study-fold2.jsonl.gz", tmp_path)
    work = json.loads((tmp_path / "top_p-seed1-fold2" / "scores" / "cost.json").read_text("utf-8"))["work"]
    for counts in (work["photo"], work["stated"][0]["scaled"]):
        assert 0 < counts["kept"] < 1
        assert counts["experts"] == pytest.approx(counts["in_proportion"], rel=0.05)
        assert counts["dense"] - counts["total"] == pytest.approx(counts["dense_experts"] - counts["experts"])
