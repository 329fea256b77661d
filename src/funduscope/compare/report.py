"""What `funduscope compare` does: fills what is missing, reads every run, writes the page and its pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from funduscope.compare import charts, compare_html, markdown
from funduscope.compare.ablation_pairs import find_ablation_pairs
from funduscope.compare.costs import cost_section
from funduscope.compare.page_parts import Picture, Section
from funduscope.compare.published import Published, published_section, read_published
from funduscope.compare.robustness import robustness_section
from funduscope.compare.routers import routers_section
from funduscope.compare.run_folder import CompareError, gather
from funduscope.compare.score_runs import Progress, score_runs, time_together
from funduscope.compare.sections import Comparison, every_score, runs_section, score_sections
from funduscope.compare.significance import Tests, ablation_section, run_tests, tests_section
from funduscope.compare.summary import method_section, summary_section
from funduscope.data.case import Case

PAGE: Final = "compare.html"
PAIRS: Final = "pairs.csv"


def compare(
    folders: Sequence[Path],
    out: Path,
    cases: Sequence[Case] = (),
    markdown_file: Path | None = None,
    *,
    published: Path | None = None,
    every_set: bool = False,
    command: str = "",
    progress: Progress = lambda photos, words, total: photos,
) -> Path:
    """Compares runs and returns the page, OUT/compare.html.

    folders: run folders, or bundles of some. cases: photos with which what a run lacks is made; none: only what is
    there is read. markdown_file: the same as Markdown, its pictures beside it. published: a TOML file of figures to put
    beside the runs'. every_set: also the data sets that are seldom scored. command: what is said to have made the page.
    Raises `CompareError`.
    """
    gather(folders)  # says what is wrong before hours are spent
    told = None if published is None else read_published(published)
    if cases:
        for folder in folders:
            score_runs(folder, cases, every_set=every_set, progress=progress)
        time_together(folders)
    runs = gather(folders)
    bare = [run.name for run in runs if not run.trees]
    if bare:
        raise CompareError(f"{bare[0]} has no scores yet: give --data, and its folder its weights.")
    comparison = Comparison.of(runs)
    tests = run_tests(comparison)
    pictures = _draw(comparison)
    sections = document(comparison, tests, command, [picture for picture, _ in pictures], told)
    out.mkdir(parents=True, exist_ok=True)
    svg = {picture.name: charts.saved(figure, "svg") for picture, figure in pictures}
    (out / PAGE).write_text(compare_html.render(sections, svg), "utf-8")
    _write_pairs(out / PAIRS, tests)
    if markdown_file is not None:
        markdown_file.parent.mkdir(parents=True, exist_ok=True)
        for picture, figure in pictures:
            path = markdown_file.with_name(f"{markdown_file.stem}-{picture.name}.png")
            path.write_bytes(charts.saved(figure, "png"))
        markdown_file.write_text(markdown.render(sections, svg.keys(), markdown_file.stem), "utf-8")
    return out / PAGE


def document(
    comparison: Comparison,
    tests: Tests,
    command: str,
    pictures: Sequence[Picture],
    published: Published | None = None,
) -> list[Section]:
    """The whole page, in the order in which it is read."""
    pairs = find_ablation_pairs(comparison.side)
    scores = score_sections(comparison)
    if scores and charts.FOREST in pictures:
        scores.insert(0, Section("Scores at a glance", [], [charts.FOREST]))
    costs = [picture for picture in pictures if picture == charts.COSTS]
    beside = [] if published is None else [published_section(published, comparison.runs)]
    routers = routers_section(comparison.runs)
    return [
        summary_section(comparison, tests, pairs),
        runs_section(comparison),
        *scores,
        *beside,
        cost_section(comparison.runs, comparison.lines(), costs),
        *([routers] if routers else []),
        ablation_section(pairs),
        tests_section(comparison, tests),
        robustness_section(comparison),
        every_score(comparison),
        method_section(command),
    ]


def _draw(comparison: Comparison) -> list[tuple[Picture, charts.Figure]]:
    """The pictures there is something to draw in; none where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return []
    drawn = ((charts.FOREST, charts.draw_forest(comparison)), (charts.COSTS, charts.draw_costs(comparison)))
    return [(picture, figure) for picture, figure in drawn if figure is not None]


def _write_pairs(path: Path, tests: Tests) -> None:
    """Every pair that was tested, with its numbers."""
    rows: list[Iterable[object]] = []
    for part, found in tests.items():
        for measure, pairs in found.items():
            for one in pairs:
                names = part, measure.dataset, measure.kind.state, measure.kind.score, one.a, one.b
                ends = one.interval.value, one.interval.low, one.interval.high
                rows.append((*names, *one.scores, *ends, one.p, one.corrected, one.photos, one.visits))
    heads = "fold,data set,state,score,a,b,score of a,score of b,difference,low,high,p,corrected p,photos,visits"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heads.split(","))
        writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)
