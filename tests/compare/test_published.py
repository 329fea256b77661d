"""Published figures stand next to the runs of their designs."""

from __future__ import annotations

from pathlib import Path

import pytest

from funduscope.compare.published import read_published
from funduscope.compare.report import compare_runs
from funduscope.compare.run_record import CompareError, read_runs
from funduscope.compare.tables import published_table

COMMITTED = Path(__file__).parents[2] / "results" / "three-trainings.toml"
HEAD = 'source = "somebody"\nphotos = "Theirs were others."\n'
COST = '[[figure]]\nrecipe = "plain"\nvalue = {}\ncost = "{}"\n'


def test_each_figure_stands_next_to_its_run(fabricate, tmp_path: Path) -> None:
    path = tmp_path / "published.toml"
    score = '[[figure]]\nrecipe = "plain"\ndata = "idrid-B"\nstate = "DR"\nscore = "accuracy"\nvalue = 0.5\n'
    size = 'height_px = 712\nwidth_px = 1072\nnote = "a note"\n'
    work, parameters = COST.format(8e9, "multiply_adds") + size, COST.format(17e6, "parameters")
    path.write_text(HEAD + score + work + parameters + parameters.replace("plain", "not here"))

    (run,) = read_runs([fabricate(tmp_path / "a")])
    rows = published_table([run], read_published(path))["a"]
    assert [*rows] == ["DR: accuracy, idrid-B", "multiply-adds at 712 × 1072 px, G", "parameters, million"]
    cells = [[row["published"].text, row["here"], row["note"].text] for row in rows.values()]
    accuracy = run.scores["test"].value("idrid-B", "DR", "accuracy")
    assert (cells[0][0], cells[0][1].text) == ("0.500", f"{accuracy:.3f}")
    assert cells[1] == ["8.00", ("10.0", "+25.0 %", False), "a note"]
    assert cells[2] == ["17.0", ("17.0", "0.0 %", False), ""]


@pytest.mark.parametrize(
    "text",
    [
        "source = 1",
        HEAD + "figure = 3",
        HEAD + '[[figure]]\nrecipe = "plain"\nvalue = 1\n',
        HEAD + COST.format(1, "seconds"),
        HEAD + COST.format(1, "parameters") + 'data = "d"\nstate = "s"\nscore = "s"\n',
        HEAD + COST.format(1, "parameters") + "year = 2020\n",
        HEAD + COST.format(0, "parameters"),
        HEAD + COST.format(1e9, "multiply_adds"),
        HEAD + COST.format("true", "parameters"),
        HEAD + COST.format("9" * 400, "parameters"),
    ],
)
def test_incomplete_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "published.toml"
    path.write_text(text)
    with pytest.raises(CompareError, match=r"published\.toml has no published figures: "):
        read_published(path)


def test_committed_figures_are_on_the_page(fabricate, recipe_of, tmp_path: Path) -> None:
    """They are found by the recipe, whatever the folders are called."""
    runs = [fabricate(tmp_path / f"run {name}", recipe_of(name)) for name in ("moe_deeplab", "resnet_grader")]
    page = compare_runs(runs, tmp_path / "out", published=COMMITTED).read_text("utf-8")
    assert "175.8" in page
    other = compare_runs([fabricate(tmp_path / "plain")], tmp_path / "out", published=COMMITTED)
    assert "None of these runs is of a recipe that the figures name" in other.read_text("utf-8")
