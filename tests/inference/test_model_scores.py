"""Scores next to a model come with its card, and with no other model's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from funduscope.i18n.languages import LANGUAGES, Words
from funduscope.inference.card import Card
from funduscope.inference.loading import load
from funduscope.inference.model_scores import figures_note, figures_table, measured
from funduscope.recipe import Recipe
from funduscope.vocabulary import DATASETS

SHA = "ab" * 32


def scores(sha: str = SHA, models: int = 1) -> dict:
    score = {"value": 0.8, "low": 0.7, "high": 0.9, "visits": 5, "dropped": 0}
    return {
        "about": {"models": [{"name": "m", "sha256": sha}] * models},
        "schema": "funduscope-scores/1",
        "scores": {
            "clinic": {"DR": {"kappa": score, "recall of 4": score | {"value": None, "low": None, "high": None}}}
        },
        "details": {"clinic": {"states": {"DR": {"photos": 7}}}},
    }


def test_figures_come_with_the_card(tmp_path: Path) -> None:
    (tmp_path / "model.scores.json").write_text(json.dumps(scores()))
    card = measured(replace(Card(), about={"epoch": 3}), tmp_path / "model.onnx", SHA)
    row = {"dataset": "clinic", "state": "DR", "score": "kappa", "photos": 7, "value": 0.8, "low": 0.7, "high": 0.9}
    assert card.about["figures"][0] == row
    assert card.about["figures"][1]["value"] is None
    assert card.about["epoch"] == 3


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(scores("cd" * 32)),
        json.dumps(scores(models=2)),
        "{",
        "[]",
        '{"about": 1}',
        "\ud800".encode("utf-8", "replace").decode(),
    ],
)
def test_figures_of_something_else_are_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.scores.json").write_text(text)
    card = Card()
    assert measured(card, tmp_path / "model.onnx", SHA) == card
    assert measured(card, tmp_path / "other.onnx", SHA) == card


def test_figures_of_photos_that_the_model_learned_from_are_left_out(tmp_path: Path) -> None:
    told = scores()
    told["about"]["models"][0] |= {"learned from": 3, "chosen on": 2}
    (tmp_path / "model.scores.json").write_text(json.dumps(told))
    assert measured(Card(), tmp_path / "model.onnx", SHA) == Card()
    told["about"]["models"][0]["learned from"] = 0
    (tmp_path / "model.scores.json").write_text(json.dumps(told))
    assert measured(Card(), tmp_path / "model.onnx", SHA).about["figures"]


def test_a_model_of_every_photo_states_the_figures_of_its_procedure(tmp_path: Path) -> None:
    """It has no photo left to be scored on; below the table stands that another model was measured."""
    told = scores("cd" * 32)
    (tmp_path / "model.scores.json").write_text(json.dumps(told | {"about": told["about"] | {"stands for": SHA}}))
    rows = measured(Card(), tmp_path / "model.onnx", SHA).about["figures"]
    assert rows[0]["value"] == 0.8
    for words in map(Words, LANGUAGES):
        said = figures_note(rows, words)
        assert said == words("paper.figures_procedure")
        assert said != figures_note([{**rows[0], "procedure": False}], words)


def test_the_data_set_that_answers_most_is_shown_however_few_its_photos() -> None:
    row = {"score": "kappa", "state": "DR", "value": 0.8, "low": 0.7, "high": 0.9}
    figures = [row | {"dataset": f"large {k}", "photos": 500 + k} for k in range(4)]
    figures += [row | {"dataset": "with edema", "photos": 40}]
    figures += [row | {"dataset": "with edema", "photos": 40, "state": "DME", "score": "accuracy"}]
    table = figures_table(figures, Words("en"))
    assert table[0] == ["", "with edema (n = 40)", "large 3 (n = 503)", "large 2 (n = 502)"]
    assert [rows[1] for rows in table[1:]] == ["0.80 (0.70 – 0.90)"] * 2


def test_a_report_names_data_sets_as_people_know_them() -> None:
    learned = Recipe.load("flagship").all_sampling.datasets() - {"table"}
    assert learned <= DATASETS.keys()
    header = figures_table(load().card.about["figures"], Words("en"))[0]
    assert [name.split(" (n = ")[0] for name in header[1:]] == ["IDRiD", "Messidor-2", "EyePACS"]
