"""The cost table and its words: the memory that training took, and what a sum of twins does not answer."""

from __future__ import annotations

from pathlib import Path

from funduscope.compare.costs import cost_section
from funduscope.compare.gather import DASH, gather
from funduscope.compare.table import Table
from funduscope.compare.words import _unanswered


def test_the_memory_of_training_stands_in_the_table(fabricate, tmp_path: Path) -> None:
    known = fabricate(tmp_path / "known", training_peak_mb=2345, environment={"cpus": 2, "device": "cpu"})
    runs = gather([known, fabricate(tmp_path / "older")])
    table = cost_section(runs, [(run.name, run) for run in runs], []).blocks[0]
    assert isinstance(table, Table)
    place = [head for head, _ in table.heads].index("training memory") - 1
    first, second = (line.cells[place] for line in table.lines)
    assert (first.text, first.small) == ("2,345", "cpu")
    assert second.text == DASH
    assert all(len(line.cells) == len(table.heads) - 1 for line in table.lines)


def test_the_cost_of_twins_together_says_what_none_of_them_answers(fabricate, recipe_of, tmp_path: Path) -> None:
    grades = recipe_of("spine", "tasks.structures=[]", "tasks.landmarks=[]")
    masks = recipe_of("spine", "tasks.grade=false", "tasks.dme=false", "tasks.landmarks=[]")
    more, *less = gather(
        [fabricate(tmp_path / "all"), fabricate(tmp_path / "grades", grades), fabricate(tmp_path / "masks", masks)]
    )
    assert _unanswered(more, less) == " None of these answers optic disc and fovea, so their sum is of less than that."
    assert _unanswered(more, [more]) == ""
