"""Every published recipe has a row at its author's budget, which differs from its file in what the row says."""

from __future__ import annotations

import pytest
from research.published import ROWS, Row

from funduscope.compare.ablation_pairs import differing
from funduscope.recipe import Recipe, builtin_recipes


def test_every_published_recipe_has_a_row() -> None:
    assert {name for name in builtin_recipes() if name.startswith("published/")} <= {row.source for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_row_keeps_its_authors_epochs_batch_and_rates(row: Row) -> None:
    recipe, file = row.recipe(), Recipe.load(row.source)
    assert recipe.training.model_copy(update={"patience": file.training.patience}) == file.training
    assert recipe.training.patience == 5 * recipe.training.judge_every
    assert differing(recipe, file) - {"training"} <= {"encoder", "views"}
    half = recipe.views.whole_px / file.views.whole_px
    assert half == pytest.approx(0.5 if row.name.endswith("-half") else 1, rel=0.05)
