"""Published figures stand next to the runs of their designs, marked as scored on other photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from funduscope.compare.page_parts import DASH, Table
from funduscope.compare.published import published_section, read_published
from funduscope.compare.report import compare_runs
from funduscope.compare.run_folder import CompareError, gather

COMMITTED = Path(__file__).parents[2] / "results" / "three-trainings.toml"
HEAD = 'source = "somebody"\nphotos = "Theirs were others."\n'


def test_each_figure_stands_beside_its_run(fabricate, tmp_path: Path) -> None:
    path = tmp_path / "published.toml"
    path.write_text(
        HEAD + '[[figure]]\nrecipe = "plain"\ndata = "idrid-B"\nstate = "DR"\nscore = "accuracy"\nvalue = 0.5\n'
        '[[figure]]\nrecipe = "plain"\ncost = "multiply_adds"\nheight_px = 712\nwidth_px = 1072\nvalue = 8e9\n'
        'note = "a note"\n'
        '[[figure]]\nrecipe = "plain"\ncost = "parameters"\nvalue = 17e6\n'
        '[[figure]]\nrecipe = "not here"\ncost = "parameters"\nvalue = 1e6\n',
        "utf-8",
    )
    runs = gather([fabricate(tmp_path / "a")])
    section = published_section(read_published(path), runs)
    assert section.paragraphs == ["From somebody.", "Theirs were others."]
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert [line.name for line in table.lines] == [
        "a: DR: accuracy, idrid-B",
        "a: multiply-adds at 712 × 1072 px, G",
        "a: parameters, million",
    ]
    accuracy, adds, size = (line.cells for line in table.lines)
    held = runs[0].trees["test"]["scores"]["idrid-B"]["DR"]["accuracy"]["value"]
    assert accuracy[0].text == "0.500"
    assert float(accuracy[2].text) == pytest.approx(held, abs=5e-4)
    assert [cell.text for cell in adds] == ["8.00", DASH, DASH, "10.0", "a note"]
    assert adds[3].small == "+25.0 %"
    assert (size[3].small, size[4].text) == ("0.0 %", DASH)


@pytest.mark.parametrize(
    "text",
    [
        "source = 1",
        "figure = []",
        HEAD + '[[figure]]\nrecipe = "plain"\nvalue = 1\n',
        HEAD + '[[figure]]\nrecipe = "plain"\nvalue = 1\ncost = "seconds"\n',
        HEAD + '[[figure]]\nrecipe = "plain"\nvalue = 1\ncost = "parameters"\ndata = "d"\nstate = "s"\nscore = "s"\n',
        HEAD + '[[figure]]\nrecipe = "plain"\ncost = "parameters"\nvalue = 1\nyear = 2020\n',
        HEAD + '[[figure]]\nrecipe = "plain"\ncost = "parameters"\nvalue = 0\n',
        HEAD + '[[figure]]\nrecipe = "plain"\ncost = "multiply_adds"\nvalue = 1e9\n',
        HEAD + '[[figure]]\nrecipe = "plain"\ndata = "d"\nstate = "s"\nscore = "s"\nvalue = "0.8"\n',
        HEAD + '[[figure]]\nrecipe = "plain"\ncost = "parameters"\nvalue = true\n',
        HEAD + '[[figure]]\nrecipe = 3\ncost = "parameters"\nvalue = 1\n',
        HEAD + '[[figure]]\nrecipe = "plain"\ncost = "parameters"\nvalue = 1\nnote = 5\n',
        HEAD + '[[figure]]\nrecipe = "plain"\ndata = "d"\nstate = ["EX mask"]\nscore = "s"\nvalue = 1\n',
        HEAD + f'[[figure]]\nrecipe = "plain"\ncost = "parameters"\nvalue = {"9" * 400}\n',
        HEAD + f'[[figure]]\nrecipe = "plain"\ncost = "parameters"\nvalue = {"9" * 5000}\n',
    ],
)
def test_a_file_that_says_too_little_is_refused_with_what_is_wanted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "published.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(CompareError, match=r"has no published figures: .*; expected `source`, `photos`"):
        read_published(path)


def test_a_misspelled_score_is_named_under_the_figures(fabricate, tmp_path: Path) -> None:
    path = tmp_path / "published.toml"
    one = '[[figure]]\nrecipe = "plain"\ndata = "idrid-B"\nstate = "DR"\nscore = "{}"\nvalue = 0.5\n'
    path.write_text(HEAD + one.format("accuracy") + one.format("acuracy"), "utf-8")
    section = published_section(read_published(path), gather([fabricate(tmp_path / "a")]))
    said = [text for text in section.paragraphs if text.startswith("No run of the design has a score")]
    assert len(said) == 1
    assert said[0].endswith("plain: DR: acuracy, idrid-B.")


def test_without_a_run_of_a_named_recipe_the_section_says_so(fabricate, tmp_path: Path) -> None:
    section = published_section(read_published(COMMITTED), gather([fabricate(tmp_path / "moe_deeplab")]))
    assert section.paragraphs[-1].endswith("named there: deeplab_segmenter, moe_deeplab, resnet_grader.")
    assert not section.blocks


def test_the_committed_figures_are_on_the_page(fabricate, recipe_of, tmp_path: Path) -> None:
    """Found by the recipe, whatever the folders are called."""
    runs = [fabricate(tmp_path / f"run {name}", recipe_of(name)) for name in ("moe_deeplab", "resnet_grader")]
    page = compare_runs(runs, tmp_path / "out", published=COMMITTED).read_text("utf-8")
    assert "Published figures and these runs" in page
    assert "175.8" in page
