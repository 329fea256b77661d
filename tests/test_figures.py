"""No number in README or card that the committed command did not print."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from benchmarks import figures

import funduscope

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["README.md", "MODEL_CARD.md"])
def test_the_figures_are_those_of_the_scores(name: str):
    tree = json.loads(figures.SCORES.read_text("utf-8"))
    text = (ROOT / name).read_text("utf-8")
    assert "<!-- figures:" in text
    assert figures.filled(text, tree) == text, f"{name} is stale: run python -m benchmarks.figures --write"


def test_the_shipped_model_states_its_figures():
    """What lies beside the model is of these scores, and comes with the model's card."""
    tree = json.loads(figures.SCORES.read_text("utf-8"))
    assert figures.BESIDE.read_text("utf-8") == figures.beside(tree), "stale: run python -m benchmarks.figures --write"
    rows = funduscope.load().card.about["figures"]
    kappa = tree["scores"]["idrid-B"]["DR"]["kappa"]
    (row,) = [one for one in rows if (one["dataset"], one["state"], one["score"]) == ("idrid-B", "DR", "kappa")]
    assert (row["value"], row["low"], row["high"]) == (kappa["value"], kappa["low"], kappa["high"])


def test_the_scores_are_of_the_shipped_model():
    tree = json.loads((ROOT / "docs" / "scores" / "fold0.json").read_text("utf-8"))
    model = (ROOT / "src" / "funduscope" / "models" / "funduscope.onnx").read_bytes()
    assert tree["about"]["models"][0]["sha256"] == hashlib.sha256(model).hexdigest()
