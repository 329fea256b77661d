"""No number in README or card that the committed command did not print."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.unseen import SHIPPED, measured, must_have_kept
from onnx import TensorProto, helper
from research.bars import Bar, bars_table
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

import funduscope
from funduscope.inference.card import Card
from research import figures, unseen_clinics

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["README.md", "MODEL_CARD.md"])
def test_the_figures_are_those_of_the_scores(name: str):
    trees = figures.read_all()
    text = (ROOT / name).read_text("utf-8")
    assert "<!-- figures:" in text
    assert figures.filled(text, trees) == text, f"{name} is stale: run python -m research.figures --write"


@pytest.mark.parametrize("name", ["README.md", "MODEL_CARD.md"])
def test_the_figures_of_clinics_never_seen_are_those_of_the_stored_answers(name: str):
    text = (ROOT / name).read_text("utf-8")
    assert "<!-- unseen clinics:" in text
    assert unseen_clinics.filled(text) == text, f"{name} is stale: run python -m research.unseen_clinics --write"


def test_the_answers_of_clinics_never_seen_are_the_shipped_models():
    for model in unseen_clinics.MODELS:
        answers = unseen_clinics.read_answers(model)
        sets = {row["dataset"] for row in answers}
        assert sets == {"aptos", "drimdb", "eyepacs1024", "odir400"}
        assert {row["model"] for row in answers if "model" in row} == {funduscope.load(model).sha256}


@pytest.mark.parametrize("name", ["default", "fast"])
def test_a_shipped_model_states_its_figures(name: str):
    """The file next to the model is of these scores, and comes with the model's card."""
    tree = figures.read_all()[name]
    beside = figures.SHIPPED[name].with_suffix(".scores.json")
    assert beside.read_text("utf-8") == figures.model_scores(tree), "stale: run python -m research.figures --write"
    rows = funduscope.load(name).card.about["figures"]
    kappa = tree["scores"]["idrid-B"]["DR"]["kappa"]
    (row,) = [one for one in rows if (one["dataset"], one["state"], one["score"]) == ("idrid-B", "DR", "kappa")]
    assert (row["value"], row["low"], row["high"]) == (kappa["value"], kappa["low"], kappa["high"])


def model_file(path: Path, card: Card) -> str:
    """A model that answers nothing, with this card; returns its SHA-256."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4, 4, 3])
    same = helper.make_tensor_value_info("same", TensorProto.UINT8, [1, 4, 4, 3])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["same"])], "none", [image], [same])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"card": card.to_json()})
    path.write_bytes(model.SerializeToString())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_figures_of_fast_can_be_computed_again_from_its_predictions() -> None:
    """By scikit-learn and numpy, not by this package's scores. A photo that was refused has the worst answer."""
    tree = figures.read_all()["fast"]["scores"]
    packed = gzip.decompress(figures.SCORES["fast"].with_suffix(figures.PHOTOS).read_bytes())
    rows = [json.loads(line) for line in packed.splitlines()]
    assert all(row["key"].startswith("#") and row["visit"].startswith("#") for row in rows)
    for dataset in ("idrid-B", "srahim", "eyepacs400", "messidor2"):
        own = [row for row in rows if row["dataset"] == dataset and row.get("grade") is not None]
        label = [row["grade"] for row in own]
        answer = [4 * (row["grade"] < 2) if row["refused"] else row["predicted_grade"] for row in own]
        kappa = cohen_kappa_score(label, answer, labels=range(5), weights="quadratic")
        assert kappa == pytest.approx(tree[dataset]["DR"]["kappa"]["value"], abs=1e-6)
        assert accuracy_score(label, answer) == pytest.approx(tree[dataset]["DR"]["accuracy"]["value"])
        refer = [float(row["grade"] < 2) if row["refused"] else sum(row["grade_probs"][2:]) for row in own]
        area = roc_auc_score(np.array(label) >= 2, refer)
        assert area == pytest.approx(tree[dataset]["referable DR"]["AUROC"]["value"], abs=2e-3), "rounded probabilities"
    own = [row for row in rows if row["dataset"] == "idrid-B"]
    right = [row["dme"] == row["predicted_dme"] for row in own]
    assert np.mean(right) == pytest.approx(tree["idrid-B"]["DME"]["accuracy"]["value"])
    for place, name in (("disc center", "disc center px"), ("fovea", "fovea px")):
        distances = [row[name] for row in own if row.get(name) is not None]
        assert np.mean(distances) == pytest.approx(tree["idrid-B"][place]["mean px"]["value"], abs=0.05)


def test_scores_are_of_the_shipped_model_or_of_the_run_that_it_repeats(tmp_path: Path):
    path, model = tmp_path / "fold0.json", tmp_path / "model.onnx"
    scored = {"name": "a run", "sha256": "ab" * 32, "folds": [0]}
    path.write_text(json.dumps({"about": {"models": [scored], "command": "funduscope evaluate"}}))
    model_file(model, Card())
    with pytest.raises(ValueError, match="of another model"):
        figures.read_scores(path, model)
    model_file(model, Card(about={"fixed by": "a run", "repeats": ["cd" * 32]}))
    with pytest.raises(ValueError, match="of another model"):
        figures.read_scores(path, model)
    digest = model_file(model, Card(about={"fixed by": "a run", "repeats": ["cd" * 32, "ab" * 32]}))
    tree = figures.read_scores(path, model)
    assert tree["about"]["stands for"] == digest
    assert digest[:16] in figures.source(tree)
    for other in ({"name": "another"}, {"folds": [0, 1]}):
        path.write_text(json.dumps({"about": {"models": [scored, scored | {"folds": [3]} | other]}}))
        with pytest.raises(ValueError, match="of another model"):
            figures.read_scores(path, model)
    path.write_text(json.dumps({"about": {"models": [{"sha256": digest}]}}))
    assert "stands for" not in figures.read_scores(path, model)["about"]


def test_scores_of_another_model_are_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    out, results = tmp_path / "out", tmp_path / "results"
    results.mkdir()
    out.mkdir()
    scored = {"name": "another", "sha256": "ab" * 32, "folds": [0]}
    (out / "scores.json").write_text(json.dumps({"about": {"models": [scored]}}))
    with pytest.raises(ValueError, match="of another model"):
        figures.keep("fast", out, results)
    (out / "scores.json").write_bytes(figures.SCORES["fast"].read_bytes())
    with pytest.raises(FileNotFoundError, match=r"photos\.jsonl"):
        figures.keep("fast", out, results)
    assert not list(results.iterdir())


def _card(fold: int | None, **about: object) -> Card:
    return Card(about={"trained on": {"test fold left out": fold, "photos": {}}, **about})


def test_a_model_that_learned_from_the_photos_is_not_measured_on_them() -> None:
    must_have_kept(Card(), 0)  # nothing is known of it
    must_have_kept(_card(0), 0)
    with pytest.raises(SystemExit, match="kept fold 0 apart, not fold 1"):
        must_have_kept(_card(0), 1)
    with pytest.raises(SystemExit, match="learned from every photo"):
        must_have_kept(_card(None))


def test_the_run_that_the_shipped_model_repeats_stands_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped, run = tmp_path / "funduscope.onnx", tmp_path / "run"
    monkeypatch.setitem(SHIPPED, "fast", shipped)
    run.mkdir()
    told = model_file(run / "model.int8.onnx", _card(0))
    digest = model_file(shipped, _card(None, repeats=[told]))
    with pytest.raises(SystemExit, match="learned from every photo"):
        measured(None, "fast")
    found = measured(run, "fast")
    assert (found.onnx, found.stands_for) == (run / "model.int8.onnx", digest)
    assert found.option == " --model fast --run run"
    model_file(shipped, _card(None, repeats=["0" * 64]))
    with pytest.raises(SystemExit, match="not of the run that the shipped model repeats"):
        measured(run, "fast")
    digest = model_file(shipped, _card(0))
    assert measured(None, "fast").stands_for == digest == hashlib.sha256(shipped.read_bytes()).hexdigest()


def test_targets_that_chance_decides_are_counted() -> None:
    scores = {"A": (0.8, 0.7, 0.9), "B": (0.8, 0.79, 0.9), "C": (0.6, 0.5, 0.8), "D": (0.6, 0.5, 0.7)}
    bars = [Bar(name, "clinic", (name, "kappa"), 0.75) for name in scores]
    intervals = {name: {"kappa": dict(zip(("value", "low", "high"), one, strict=True))} for name, one in scores.items()}
    last = bars_table({"scores": {"clinic": intervals}}, bars).splitlines()[-1]
    assert last.startswith("2 of 4 targets are met.")
    assert last.endswith("that is so of 1 that are met here and of 1 that are not.")


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.85, 0.95, "yes"), (0.8, 0.89, "**no**"), (0.91, 1.0, "**no**")]
)
def test_a_bar_may_ask_that_the_interval_contains_it(low: float, high: float, verdict: str) -> None:
    bar = Bar("sets", "clinic", ("sets", "coverage"), 0.9, inside=True)
    tree = {"scores": {"clinic": {"sets": {"coverage": {"value": (low + high) / 2, "low": low, "high": high}}}}}
    table = bars_table(tree, [bar])
    assert "0.9 within the interval" in table
    assert f" {verdict} |" in table
