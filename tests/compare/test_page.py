"""The page: one file that asks nothing of any network, escapes every name, and marks what is best."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from funduscope.compare import tables
from funduscope.compare.charts import draw_costs, draw_curves
from funduscope.compare.format_numbers import DASH, format_number, format_signed
from funduscope.compare.page import PAIRS, SCORES
from funduscope.compare.paired import compare_pairs
from funduscope.compare.report import compare_runs
from funduscope.compare.run_record import CompareError, RunRecord, measures_of, read_runs

Fabricate = Callable[..., Path]


@pytest.fixture(scope="module")
def out(fabricate: Fabricate, recipe_of, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The comparison of a run of all tasks with one of grades alone."""
    root = tmp_path_factory.mktemp("compared")
    runs = [
        fabricate(root / "all<b>tasks", recipe_of(), 0.95, 1),
        fabricate(root / "grades", recipe_of("resnet_grader"), 0.3, 2, command="funduscope train resnet_grader"),
    ]
    return compare_runs(runs, root / "out", command="funduscope compare runs/*").parent


@pytest.fixture
def text(out: Path) -> str:
    return (out / "compare.html").read_text("utf-8")


def bold_runs(runs: list[RunRecord], score: str = "DR kappa") -> list[str]:
    row = tables.score_table(runs, "test")["idrid-B"][score]
    return [name for name, cell in row.items() if cell.is_bold]


def test_numbers_have_a_true_minus_and_unknown_ones_are_a_dash() -> None:
    numbers = format_number(-0.5), format_number(12.34), format_number(5.25, 1), format_number(float("nan"))
    assert numbers == ("−0.500", "12.3", "5.2", DASH)
    assert [format_signed(x) for x in (0.25, -0.25, 0.0, -0.00001)] == ["+0.250", "−0.250", "0.000", "0.000"]


def test_page_needs_nothing_but_itself(text: str) -> None:
    assert "Content-Security-Policy" in text
    outside = re.sub(r'src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]+"', "", text)
    assert not re.search(r"https?:|<script|<link|@import|url\(|\sstyle=|\son\w+=", outside)
    assert text.count("data:image/svg+xml") == 3


def test_names_are_escaped(text: str) -> None:
    assert "all&lt;b&gt;tasks" in text
    assert "all<b>" not in text


def test_page_names_settings_commands_and_every_score(text: str) -> None:
    for words in (
        "Settings that differ", "funduscope train resnet_grader", "funduscope compare runs/*", "DR: recall of 4",
        "referable DR: AUROC", "EX mask: precision", "EX or SE pixels: AUPR",
    ):  # fmt: skip
        assert words in text, words


def test_tables_are_written_as_csv(out: Path) -> None:
    with (out / SCORES).open(encoding="utf-8") as file:
        scores = [row for row in csv.DictReader(file) if (row["part"], row["dataset"]) == ("test", "idrid-B")]
    with (out / PAIRS).open(encoding="utf-8") as file:
        pairs = [row for row in csv.DictReader(file) if (row["part"], row["dataset"]) == ("test", "idrid-B")]
    (pair,) = [row for row in pairs if row["score"] == "kappa"]
    kappas = [float(row["value"]) for row in scores if (row["question"], row["score"]) == ("DR", "kappa")]
    assert kappas == [float(pair["value"]), float(pair["reference_value"])]
    assert float(pair["difference"]) == pytest.approx(kappas[0] - kappas[1], abs=1e-5)
    assert 0 < float(pair["p"]) <= float(pair["corrected_p"]) <= 1


def test_run_without_an_answer_has_a_dash(fabricate: Fabricate, recipe_of, tmp_path: Path) -> None:
    folders = [fabricate(tmp_path / "all"), fabricate(tmp_path / "grades", recipe_of("resnet_grader"))]
    row = tables.score_table(read_runs(folders), "test")["idrid-A"]["EX AP"]
    assert [row["all"].text == DASH, row["grades"].text == DASH] == [False, True]


def test_best_is_bold_only_among_scores_of_the_same_photos(three_runs: list[Path], tmp_path: Path) -> None:
    runs = read_runs(three_runs)
    assert bold_runs(runs) == ["best"]
    assert bold_runs(runs[:1]) == [], "it is the best of one"
    other = tmp_path / "other"
    shutil.copytree(three_runs[0], other)
    rows = other / "scores" / "test" / "photos.jsonl"
    rows.write_text(rows.read_text("utf-8").replace("idrid-B/test-", "idrid-B/other-"), "utf-8")
    assert bold_runs(read_runs([other, *three_runs])) == []


def test_run_that_has_no_answer_for_some_photos_can_be_best(fabricate: Fabricate, recipe_of, tmp_path: Path) -> None:
    lesions = recipe_of("plain", "tasks.grade=false", "tasks.dme=false", "tasks.landmarks=[]")
    folders = [fabricate(tmp_path / "all", None, 0.98, 1), fabricate(tmp_path / "lesions", lesions, 0.1, 1)]
    assert bold_runs(read_runs(folders), "healthy eyes marked") == ["all"]


def test_runs_are_tested_against_the_best_one(three_runs: list[Path]) -> None:
    runs = read_runs(three_runs)
    row = tables.tests_table(runs, compare_pairs(runs)["test"])["idrid-B"]["DR kappa"]
    assert row["best"].text == "best"
    assert row["worst"].text.startswith("−")
    assert row["worst"].is_bold


def test_runs_of_unlike_photos_are_not_tested(fabricate: Fabricate, tmp_path: Path) -> None:
    runs = [fabricate(tmp_path / "validated", parts=("validation",)), fabricate(tmp_path / "tested", parts=("test",))]
    assert "No two runs were scored on the same photos" in compare_runs(runs, tmp_path / "out").read_text("utf-8")
    assert (tmp_path / "out" / PAIRS).read_text("utf-8").startswith("part,dataset,")


def test_one_run_makes_a_page_with_the_same_bytes_each_time(three_runs: list[Path], tmp_path: Path) -> None:
    pages = [compare_runs(str(three_runs[0]), tmp_path / name).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]
    assert b"<strong>" not in pages[0]


def test_only_settings_that_differ_are_shown(fabricate: Fabricate, recipe_of, tmp_path: Path) -> None:
    recipes = {"a": recipe_of(), "b": recipe_of("plain", "training.batch=3")}
    runs = read_runs([fabricate(tmp_path / name, recipe) for name, recipe in recipes.items()])
    (settings,) = tables.settings_table(runs).values()
    assert list(settings) == ["batch"]
    assert settings["batch"]["b"].text == "3"


def test_every_run_is_in_the_legends_of_its_plots(three_runs: list[Path]) -> None:
    """matplotlib leaves names out that begin with an underscore."""
    first, other, _ = read_runs(three_runs)
    runs = [replace(first, name="_base"), other]
    measures = [measure for measure in measures_of(runs) if measure.kind.title == "DR kappa"]
    figures = [draw_costs(runs, measures, "test"), draw_curves(runs)]
    for figure in figures:
        assert figure is not None
        assert [name.get_text() for name in figure.legends[0].get_texts()] == ["_base", "best"]
    assert figures[0] is not None
    labels = {axes.get_xlabel() for axes in figures[0].axes}
    assert "seconds of a whole prediction" not in labels, "they were not timed in turn"


def test_nothing_to_compare_is_refused(fabricate: Fabricate, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="No run is given"):
        compare_runs([], tmp_path / "out")
    with pytest.raises(CompareError, match="bare has no scores to compare: name photos"):
        compare_runs([fabricate(tmp_path / "bare", parts=())], tmp_path / "out")
