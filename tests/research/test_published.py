"""Every published recipe has a row at its author's budget, which differs from its file in what the row says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from research.bundles import read_table
from research.published import ROWS, Row, is_stored, make
from tests import less_work
from tests.research.test_study import TINY, differing

from funduscope.data.prepare import CACHE_VARIABLE
from funduscope.data.sources import read_data
from funduscope.recipe import Recipe, builtin_recipes
from funduscope.testing.drawn_eyes import write_idrid
from funduscope.training.journal import Journal


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


@pytest.mark.slow
def test_a_training_that_was_stopped_is_scored_as_it_stands_and_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    less_work.draw_less(monkeypatch.setattr)
    write_idrid(tmp_path / "idrid", graded=20, masked=10, width_px=400)
    cases, row, results = read_data([tmp_path / "idrid"]), ROWS[0], tmp_path / "rows.jsonl.gz"
    shorter = [*TINY, "training.epochs=2", "training.judge_every=1"]
    written = Journal.write

    def stopped(self: Journal, line: dict[str, Any]) -> None:
        if line["epoch"] == 2:
            raise KeyboardInterrupt
        written(self, line)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", stopped)
        with pytest.raises(KeyboardInterrupt):
            make(row, cases, tmp_path / "runs", results, shorter)
    make(row, cases, tmp_path / "runs", results, shorter, so_far=True)
    (name, files), *others = read_table(results).items()
    assert (name, others) == (row.name, [])
    assert files["journal.jsonl"][0][1][0] == 1
    assert "scores/test/scores.json" in files
    assert not is_stored(row, results)

    make(row, cases, tmp_path / "runs", results, shorter)
    assert is_stored(row, results), "its last epoch was trained"
