"""The page: one file that asks nothing of any network, escapes every name, and names no winner that is none."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from funduscope.compare import report, significance
from funduscope.compare.markdown import plain
from funduscope.compare.page_parts import Table, number, scored, signed
from funduscope.compare.report import GENERATED, PAIRS, compare_runs
from funduscope.compare.run_folder import DASH, PARTS, CompareError, gather
from funduscope.compare.score_kinds import Kind
from funduscope.compare.sections import Comparison, score_sections
from funduscope.data.case import Case, Labels
from funduscope.evaluation.score_key import Question
from funduscope.metrics import Interval

HIGHER = Kind("table", Question("DR"), "kappa", "kappa")
LOWER = Kind("table", Question("fovea"), "mean px", "fovea, px", higher=False)


def marks(intervals: list[Interval | None], kind: Kind = HIGHER, comparable: list[bool] | None = None) -> list[str]:
    return [cell.mark for cell in scored(intervals, kind, comparable or [True] * len(intervals))]


@pytest.fixture(scope="module")
def pages(fabricate, recipe_of, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of three runs, one of which answers only grades and one has another budget."""
    root = tmp_path_factory.mktemp("compared")
    runs = [
        fabricate(root / "runs" / "all<b>|tasks", recipe_of(), 0.8, 1, PARTS),
        fabricate(
            root / "runs" / "grades", recipe_of("resnet_grader"), 0.6, 2, command="funduscope train resnet_grader"
        ),
        fabricate(root / "runs" / "longer", recipe_of("plain", "training.epochs=9"), 0.9, 3),
    ]
    compare_runs(runs, root / "out", markdown_file=root / "docs" / "board.md", command="funduscope compare runs/*")
    return root


def test_the_best_is_bold_only_where_its_interval_stands_apart() -> None:
    assert marks([Interval(0.7, 0.9, 0.8), Interval(0.3, 0.6, 0.5)]) == ["best", ""]
    assert marks([Interval(0.7, 0.9, 0.8), Interval(0.3, 0.75, 0.5)]) == ["leads", ""]
    assert marks([Interval(10, 20, 15), Interval(30, 40, 35)], LOWER) == ["best", ""]


def test_nobody_wins_by_an_interval_that_is_unknown_or_has_no_width() -> None:
    assert marks([Interval(float("nan"), float("nan"), 0.9), Interval(0.1, 0.2, 0.15)]) == ["leads", ""]
    assert marks([Interval(1.0, 1.0, 1.0), Interval(0.1, 0.2, 0.15)]) == ["leads", ""]


def test_who_stands_apart_or_alone_wins_nothing() -> None:
    better, worse = Interval(0.8, 0.9, 0.85), Interval(0.1, 0.2, 0.15)
    assert marks([better, worse], comparable=[False, True]) == ["", ""]
    assert marks([better, None]) == ["", ""]


def test_numbers_are_told_with_a_true_minus_and_none_as_a_dash() -> None:
    assert (number(-0.5), number(12.34), number(5.25, 1), number(float("nan"))) == ("−0.500", "12.3", "5.2", DASH)
    assert (signed(0.25), signed(-0.25), signed(0.0), signed(-0.00001)) == ("+0.250", "−0.250", "0.000", "0.000")


def test_the_page_needs_nothing_but_itself(pages: Path) -> None:
    text = (pages / "out" / "compare.html").read_text("utf-8")
    assert "Content-Security-Policy" in text
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    outside = re.sub(r'src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]+"', "", text)
    assert not re.search(r"https?:|<script|<link|@import|url\(|\sstyle=|\son\w+=", outside)


def test_names_are_text_and_nothing_else(pages: Path) -> None:
    text = (pages / "out" / "compare.html").read_text("utf-8")
    assert "all&lt;b&gt;|tasks" in text
    assert "all<b>" not in text
    marked = (pages / "docs" / "board.md").read_text("utf-8")
    assert r"all\<b\>\|tasks" in marked
    assert plain("a\n|_b_ `c` soft_sharing") == r"a \|\_b\_ \`c\` soft_sharing"


def test_every_table_of_the_markdown_is_whole(pages: Path) -> None:
    text = (pages / "docs" / "board.md").read_text("utf-8")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) > 12
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, lines[0]


def test_a_run_that_does_not_answer_has_dashes(pages: Path) -> None:
    text = (pages / "docs" / "board.md").read_text("utf-8")
    lesions = text.split("### Lesions: average precision, test fold")[1]
    row = next(line for line in lesions.splitlines() if line.startswith("| grades |"))
    assert set(row.split("|")[2:-1]) == {f" {DASH} "}


def test_what_cannot_be_compared_stands_below_with_the_reason(pages: Path) -> None:
    text = (pages / "docs" / "board.md").read_text("utf-8")
    assert "another budget: 8,100 samples in 9 epochs at 384 px" in text
    grades = text.split("### Grades, test fold")[1].split("###")[0].splitlines()
    names = [line.split("|")[1].strip() for line in grades if line.startswith("| ")]
    assert names[-1] == "longer"
    assert names[-2].startswith("*not to be compared")
    assert "longer" not in (pages / "out" / PAIRS).read_text("utf-8")


def test_every_score_of_every_run_stands_on_the_page(pages: Path) -> None:
    text = (pages / "out" / "compare.html").read_text("utf-8")
    assert "<summary>idrid-B, test fold</summary>" in text
    assert '<th scope="row">DR: kappa</th>' in text
    for score in ("DR: kappa", "DR: recall of 4", "referable DR: AUROC", "EX mask: precision", "EX or SE pixels: AUPR"):
        assert score in text, score


def test_generalization_is_told_as_a_loss(pages: Path) -> None:
    text = (pages / "docs" / "board.md").read_text("utf-8")
    for title in ("From training to validation photos", "strong color shift", "strong blur"):
        assert title in text
    assert re.search(r"0\.\d{3} → 0\.\d{3}<br><small>loses [+−]0\.\d{3} \([+−]?\d", text)


def test_pairs_are_written_as_numbers(pages: Path) -> None:
    with (pages / "out" / PAIRS).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kappa = next(row for row in rows if (row["fold"], row["data set"], row["score"]) == ("test", "idrid-B", "kappa"))
    assert float(kappa["difference"]) == pytest.approx(
        float(kappa["score of a"]) - float(kappa["score of b"]), abs=1e-4
    )
    assert float(kappa["low"]) < float(kappa["difference"]) < float(kappa["high"])
    assert 0 < float(kappa["p"]) <= float(kappa["corrected p"]) <= 1


def test_pictures_lie_beside_the_markdown_and_inside_the_page(pages: Path) -> None:
    text = (pages / "docs" / "board.md").read_text("utf-8")
    for name in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (pages / "docs" / name).read_bytes().startswith(b"\x89PNG")
    assert "board-forest.png" in text
    assert (pages / "out" / "compare.html").read_text("utf-8").count("data:image/svg+xml") == 2


def test_a_markdown_file_keeps_what_stands_above_its_line(fabricate, tmp_path: Path) -> None:
    run, path = fabricate(tmp_path / "run"), tmp_path / "board.md"
    compare_runs([run], tmp_path / "out", markdown_file=path)
    made = path.read_text("utf-8")
    assert made.startswith(f"# Runs compared\n\n{GENERATED}\n\n## The runs")
    path.write_text(
        made.replace("# Runs compared", "# Ours\n\nA few words.").replace("## Every score", "## Old"), "utf-8"
    )
    compare_runs([run], tmp_path / "out", markdown_file=path)
    assert path.read_text("utf-8") == made.replace("# Runs compared", "# Ours\n\nA few words.")


@pytest.mark.parametrize("notes", [b"# My notes\n", "# Übersicht".encode("latin-1")])
def test_a_file_that_is_no_such_page_is_not_replaced(fabricate, tmp_path: Path, notes: bytes) -> None:
    run, path = fabricate(tmp_path / "run"), tmp_path / "notes.md"
    path.write_bytes(notes)
    with pytest.raises(CompareError, match=r"notes\.md is no page of this program"):
        compare_runs([run], tmp_path / "out", markdown_file=path)
    assert path.read_bytes() == notes


@pytest.mark.parametrize("name", ["compare.html", "pairs.csv"])
def test_a_markdown_file_may_not_be_one_of_the_page_s_own(name: str, fabricate, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CompareError, match="another file of the comparison"):
        compare_runs([fabricate(tmp_path / "run")], out, markdown_file=out / name)
    assert not (out / name).exists()


def test_no_run_is_told_as_that_and_one_by_its_name_is_one(fabricate, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="No run is given"):
        compare_runs([], tmp_path / "out")
    assert compare_runs(str(fabricate(tmp_path / "run")), tmp_path / "out").is_file()


def test_pictures_next_to_a_new_page_are_not_replaced(fabricate, tmp_path: Path) -> None:
    run, path = fabricate(tmp_path / "run"), tmp_path / "notes.md"
    own = tmp_path / "notes-forest.png"
    own.write_bytes(b"mine")
    with pytest.raises(CompareError, match=r"notes-forest\.png would be replaced"):
        compare_runs([run], tmp_path / "out", markdown_file=path)
    assert own.read_bytes() == b"mine"
    own.unlink()
    compare_runs([run], tmp_path / "out", markdown_file=path)
    own.write_bytes(b"of an earlier page")
    compare_runs([run], tmp_path / "out", markdown_file=path)
    assert own.exists() == (own.name in path.read_text("utf-8")), "what the page does not link is removed"


def test_the_same_runs_make_the_same_bytes(fabricate, tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run")
    first, second = (compare_runs([run], tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_one_run_alone_makes_a_page_and_leads_nothing(fabricate, tmp_path: Path) -> None:
    text = compare_runs([fabricate(tmp_path / "run")], tmp_path / "out").read_text("utf-8")
    assert "<strong>" not in text
    assert "No two runs here share enough visits" in text


def test_the_page_does_not_say_that_no_photo_is_refused_where_one_is(fabricate, tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run")
    says = "No photo is refused, since"
    assert says in compare_runs([run], tmp_path / "out").read_text("utf-8")
    path = run / "scores" / "test" / "scores.json"
    tree = json.loads(path.read_text("utf-8"))
    tree["details"]["idrid-B"]["refused"] = 2
    path.write_text(json.dumps(tree), "utf-8")
    text = compare_runs([run], tmp_path / "out").read_text("utf-8")
    assert "Refused photos: run 2." in text
    assert says not in text


def test_without_matplotlib_the_page_has_no_pictures(
    fabricate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    text = compare_runs([fabricate(tmp_path / "one"), fabricate(tmp_path / "two", seed=1)], tmp_path / "out").read_text(
        "utf-8"
    )
    assert "<img" not in text
    assert "DR kappa" in text


def test_no_run_wins_on_photos_that_the_others_were_not_scored_on(fabricate, recipe_of, tmp_path: Path) -> None:
    folders = [fabricate(tmp_path / name, recipe_of(), skill, 1) for name, skill in (("a", 0.98), ("b", 0.1))]
    wins = [mark_of(folders, "DR kappa")]
    rows = folders[0] / "scores" / "test" / "photos.jsonl"
    rows.write_text(rows.read_text("utf-8").replace("idrid-B/test-", "idrid-B/other-"), "utf-8")
    wins.append(mark_of(folders, "DR kappa"))
    assert wins == [("best", False), ("", True)]


def test_the_best_of_a_tested_column_is_one_of_those_on_the_same_photos(
    fabricate, recipe_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the table would call a run the best that is worse on every photo that both were scored on."""
    monkeypatch.setattr("funduscope.compare.paired.REPEATS", 20)
    skills = (("a", 0.98), ("b", 0.5), ("c", 0.1))
    folders = [fabricate(tmp_path / name, recipe_of(), skill, 1) for name, skill in skills]

    def best() -> set[str]:
        comparison = Comparison.of(gather(folders))
        section = significance.tests_section(comparison, significance.run_tests(comparison))
        lines = [line for table in section.blocks if isinstance(table, Table) for line in table.lines]
        return {line.name for line in lines if any(cell.small == "the best value" for cell in line.cells)}

    assert "a" in best()
    for part in ("validation", "test"):
        rows = folders[0] / "scores" / part / "photos.jsonl"
        kept = rows.read_text("utf-8").splitlines(keepends=True)
        rows.write_text("".join(kept[: len(kept) // 2]), "utf-8")
    assert "a" not in best()


def test_no_run_wins_by_other_labels_of_the_same_photos(fabricate, recipe_of, tmp_path: Path) -> None:
    folders = [fabricate(tmp_path / name, recipe_of(), skill, 1) for name, skill in (("a", 0.98), ("b", 0.1))]
    rows = folders[0] / "scores" / "test" / "photos.jsonl"
    first, *others = rows.read_text("utf-8").splitlines()
    row = json.loads(first)
    assert row["dataset"] == "idrid-B"
    rows.write_text("\n".join([json.dumps(row | {"grade": (row["grade"] + 1) % 5}), *others]) + "\n", "utf-8")
    assert mark_of(folders, "DR kappa") == ("", True)


def test_a_run_of_fewer_tasks_is_marked_by_the_photos_of_the_score_itself(fabricate, recipe_of, tmp_path: Path) -> None:
    """Of photos that it has nothing to answer for it has no row, and so fewer photos of the data set."""
    lesions = recipe_of("plain", "tasks.grade=false", "tasks.dme=false", "tasks.landmarks=[]")
    folders = [fabricate(tmp_path / "all", recipe_of(), 0.98, 1), fabricate(tmp_path / "lesions", lesions, 0.1, 1)]
    assert len({len((folder / "scores" / "test" / "photos.jsonl").read_text().splitlines()) for folder in folders}) == 2
    assert mark_of(folders, "healthy eyes marked") == ("leads", False)


def test_equal_values_are_marked_alike() -> None:
    tied = [Interval(0.4, 0.6, 0.5, 9), Interval(0.3, 0.7, 0.5, 9), Interval(0.1, 0.3, 0.2, 9)]
    assert marks(tied) == ["leads", "leads", ""]


def mark_of(folders: list[Path], score: str) -> tuple[str, bool]:
    """The mark of the first run in a score of IDRiD's test photos, and whether the table says why it has none."""
    comparison = Comparison.of(gather(folders))
    (section,) = [one for one in score_sections(comparison) if "test" in one.title]
    for table in section.blocks:
        assert isinstance(table, Table)
        for place, (head, small) in enumerate(table.heads[1:]):
            if head == score and small.startswith("idrid-B"):
                return table.lines[0].cells[place].mark, "not known to be scored on the same photos" in table.caption
    raise AssertionError(score)


@pytest.mark.parametrize("content", ['{"x', "[]"])
def test_a_damaged_card_is_named_with_its_folder(fabricate, content: str, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "one")
    (folder / "card.json").write_text(content)
    cases = [Case("a/1", "a", "1", tmp_path / "1.jpg", "1", Labels(grade=0))]
    with pytest.raises(CompareError, match=r"one has a file that cannot be read, card\.json: "):
        compare_runs([folder], tmp_path / "out", data=cases)


def test_a_refit_is_refused_before_anything_is_scored(fabricate, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "again", parts=())
    (folder / "card.json").write_text(json.dumps({"about": {"repeats": ["0" * 64]}}))
    cases = [Case("a/1", "a", "1", tmp_path / "1.jpg", "1", Labels(grade=0))]
    with pytest.raises(CompareError, match="again is a refit, which has no test or validation photo"):
        compare_runs([folder], tmp_path / "out", data=cases)


def test_a_run_without_scores_is_named(fabricate, tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="bare has no scores to compare yet: name the photos"):
        compare_runs([fabricate(tmp_path / "bare", parts=())], tmp_path / "out")
