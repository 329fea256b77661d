"""The cost table: memory and time of training, and whether predictions were timed in one sitting."""

from __future__ import annotations

import json
from pathlib import Path

from funduscope.compare.charts import draw_costs
from funduscope.compare.costs import APART, TOGETHER, cost_section
from funduscope.compare.page_parts import Table
from funduscope.compare.run_folder import DASH, gather
from funduscope.compare.sections import Comparison


def test_the_memory_of_training_stands_in_the_table(fabricate, tmp_path: Path) -> None:
    known = fabricate(tmp_path / "known", training_peak_mb=2345, environment={"cpus": 2, "device": "cpu"})
    runs = gather([known, fabricate(tmp_path / "older")])
    table = cost_section(Comparison(runs, runs, {}, []), []).blocks[0]
    assert isinstance(table, Table)
    place = [head for head, _ in table.heads].index("training memory") - 1
    first, second = (line.cells[place] for line in table.lines)
    assert (first.text, first.small) == ("2,345", "cpu")
    assert second.text == DASH
    assert all(len(line.cells) == len(table.heads) - 1 for line in table.lines)


def test_training_is_the_median_epoch_with_what_it_computed_in(fabricate, tmp_path: Path) -> None:
    """One epoch that was paused for hours says nothing of the design."""
    folder = fabricate(tmp_path / "paused", precision="bfloat16")
    lines = [{"epoch": epoch, "seconds": took, "best": True} for epoch, took in enumerate((120, 9000, 132, 126), 1)]
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    runs = gather([folder])
    table = cost_section(Comparison(runs, runs, {}, []), []).blocks[0]
    assert isinstance(table, Table)
    place = [head for head, _ in table.heads].index("training") - 1
    cell = table.lines[0].cells[place]
    assert (cell.text, cell.small) == ("2.1", "4 epochs, bfloat16")


def test_seconds_may_be_compared_where_they_were_taken_in_one_sitting(fabricate, tmp_path: Path) -> None:
    folders = [fabricate(tmp_path / name) for name in ("one", "two")]
    costs = [folder / "scores" / "cost.json" for folder in folders]

    def says() -> str:
        runs = gather(folders)
        return " ".join(cost_section(Comparison(runs, runs, {}, []), []).paragraphs)

    assert APART in says()
    for path in costs:
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "sitting": "today"}), "utf-8")
    assert TOGETHER in says()
    untimed = json.loads(costs[0].read_text("utf-8"))
    del untimed["prediction"]
    costs[0].write_text(json.dumps(untimed), "utf-8")
    runs = gather(folders)
    table = cost_section(Comparison(runs, runs, {}, []), []).blocks[0]
    assert isinstance(table, Table)
    place = [head for head, _ in table.heads].index("predict") - 1
    assert [line.cells[place].text for line in table.lines] == [DASH, "0.8"]


def test_every_run_of_the_cost_chart_is_in_its_legend(fabricate, tmp_path: Path) -> None:
    """matplotlib leaves names out that begin with an underscore."""
    runs = gather([fabricate(tmp_path / name) for name in ("_base", "other")])
    figure = draw_costs(Comparison.of(runs))
    assert figure is not None
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_base", "other"]
    assert "seconds of a whole prediction" not in {axes.get_xlabel() for axes in figure.axes}, "of unlike sittings"
