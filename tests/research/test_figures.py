"""No number in README or card that the committed command did not print."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from benchmarks.unseen import measured, must_have_kept
from onnx import TensorProto, helper

import funduscope
from funduscope.inference.card import Card
from research import figures

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["README.md", "MODEL_CARD.md"])
def test_the_figures_are_those_of_the_scores(name: str):
    tree = figures.read_scores()
    text = (ROOT / name).read_text("utf-8")
    assert "<!-- figures:" in text
    assert figures.filled(text, tree) == text, f"{name} is stale: run python -m research.figures --write"


def test_the_shipped_model_states_its_figures():
    """The file next to the model is of these scores, and comes with the model's card."""
    tree = figures.read_scores()
    assert figures.MODEL_SCORES.read_text("utf-8") == figures.model_scores(tree), (
        "stale: run python -m research.figures --write"
    )
    rows = funduscope.load().card.about["figures"]
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


def test_scores_are_of_the_shipped_model_or_of_the_run_that_it_repeats(tmp_path: Path):
    path, model = tmp_path / "fold0.json", tmp_path / "model.onnx"
    path.write_text(json.dumps({"about": {"models": [{"sha256": "ab" * 32}], "command": "funduscope evaluate"}}))
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
    path.write_text(json.dumps({"about": {"models": [{"sha256": digest}]}}))
    assert "stands for" not in figures.read_scores(path, model)["about"]


def _card(fold: int | None, **about: object) -> Card:
    return Card(about={"trained on": {"test fold left out": fold, "photos": {}}, **about})


def test_a_model_that_learned_from_the_photos_is_not_measured_on_them() -> None:
    must_have_kept(Card(), 0)  # nothing is known of it
    must_have_kept(_card(0), 0)
    with pytest.raises(SystemExit, match="kept fold 0 apart, not fold 1"):
        must_have_kept(_card(0), 1)
    with pytest.raises(SystemExit, match="learned from every photo"):
        must_have_kept(_card(None))


def test_the_run_that_the_shipped_model_repeats_stands_for_it(tmp_path: Path) -> None:
    shipped, run = tmp_path / "funduscope.onnx", tmp_path / "run"
    run.mkdir()
    told = model_file(run / "model.int8.onnx", _card(0))
    digest = model_file(shipped, _card(None, repeats=[told]))
    with pytest.raises(SystemExit, match="learned from every photo"):
        measured(None, shipped)
    found = measured(run, shipped)
    assert (found.onnx, found.stands_for) == (run / "model.int8.onnx", digest)
    assert found.option == " --run run"
    model_file(shipped, _card(None, repeats=["0" * 64]))
    with pytest.raises(SystemExit, match="not of the run that the shipped model repeats"):
        measured(run, shipped)
    digest = model_file(shipped, _card(0))
    assert measured(None, shipped).stands_for == digest == hashlib.sha256(shipped.read_bytes()).hexdigest()
