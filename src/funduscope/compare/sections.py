"""Sections of the page: the runs, their scores on both folds, every score, and how the page was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from funduscope.compare.page_parts import MARKED, Cell, Line, Section, Table, interval_cell, listed, photo_count, scored
from funduscope.compare.run_folder import DASH, FOLDS, Run, learned_from, measures_of, split_comparable
from funduscope.compare.score_kinds import BETTER, Measure, state_of, truths
from funduscope.evaluation.score_key import ScoreKey
from funduscope.evaluation.scores import GRADABILITY

APART = "not to be compared with the rows above: see the note of each in the first table"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs and their measures. comparable: the runs that can be compared. reasons: by name, why another run cannot."""

    runs: list[Run]
    comparable: list[Run]
    reasons: dict[str, str]
    measures: list[Measure]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Comparison:
        comparable, reasons = split_comparable(runs)
        apart = [run for run in runs if run.name in reasons]
        return cls([*comparable, *apart], comparable, reasons, measures_of(runs))

    def table_lines(self, cells: Callable[[Run], Sequence[Cell]]) -> list[Line]:
        """A line for each run, in the order of every table, and one that divides off those that cannot be compared."""
        lines = [Line(run.name, cells(run)) for run in self.runs]
        return [
            *lines[: len(self.comparable)],
            *([Line(APART)] if self.reasons else []),
            *lines[len(self.comparable) :],
        ]


def runs_section(comparison: Comparison) -> Section:
    """A table of the runs: design, photos, budget, and a note where a run cannot be compared."""
    letters = learned_from(comparison.runs)
    heads = [("run", ""), ("recipe", ""), ("encoder", "starts from"), ("answers", ""), ("learned from", "photos")]
    heads += [("budget", ""), ("note", "")]
    first, every = comparison.comparable[0], len(comparison.runs)
    has = "has" if len(comparison.comparable) == 1 else "have"
    who = f"{len(comparison.comparable)} of the {every} runs {has}" if comparison.reasons else f"All {every} runs have"
    budget = f"{who} {first.tested_on} and one budget: {first.budget}."
    budget = budget if every > 1 else f"One run, {first.tested_on}: {first.budget}."
    caption = (
        "One row for each run. Runs with the same letter learned from the same photos and labels; a recipe's tasks "
        "decide which photos it can learn from."
    )
    lines = comparison.table_lines(lambda run: _run_cells(run, letters[run.name], comparison.reasons.get(run.name, "")))
    tables = [Table("Runs", caption, heads, lines)]
    commands = [Line(run.name, [Cell(run.about["command"])]) for run in comparison.runs if run.about.get("command")]
    if commands:
        heads = [("run", ""), ("command", "")]
        tables.append(Table("Commands", "The command that made each run.", heads, commands, folded=True))
    return Section("The runs", [budget], tables)


def _run_cells(run: Run, letter: str, reason: str) -> list[Cell]:
    recipe = run.recipe
    start = "ImageNet" if recipe.encoder.weights == "imagenet" else "from scratch"
    start = run.about["init"]["name"] if run.about.get("init") else start
    photos = run.about.get("photos", {}).get("train", {})
    taught = run.about.get("teachers") or []
    notes = [f"taught by {listed(taught)}"] if taught else []
    notes += [f"experts: {recipe.experts.kind.replace('_', ' ')}"] if recipe.experts.kind != "none" else []
    return [
        Cell(recipe.name),
        Cell(" and ".join(dict.fromkeys(one.encoder.name for one in recipe.networks)), start),
        Cell(", ".join(run.answers)),
        Cell(
            f"{letter}: {sum(photos.values())}", ", ".join(f"{name} {count}" for name, count in sorted(photos.items()))
        ),
        Cell(run.budget, run.epochs),
        Cell("; ".join([*([reason] if reason else []), *notes]) or DASH),
    ]


def score_sections(comparison: Comparison) -> list[Section]:
    """A section for each fold, a table for each heading."""
    sections = []
    for part, chosen in (
        ("validation", "Epochs, thresholds and temperatures were chosen on these photos: for comparing ideas."),
        ("test", "Nothing was chosen on these photos."),
    ):
        tables = []
        for heading, better in BETTER.items():
            mine = [one for one in comparison.measures if one.kind.table == heading]
            mine = [one for one in mine if any(run.interval(part, one.key) for run in comparison.runs)]
            if mine:
                tables.append(_score_table(comparison, part, heading, better, mine))
        if tables:
            sections.append(Section(f"Scores on the {part} fold", [chosen, MARKED], tables))
    return sections


def _score_table(comparison: Comparison, part: str, heading: str, better: str, measures: Sequence[Measure]) -> Table:
    chosen = [alike(comparison, part, one) for one in measures]
    columns = [
        scored([run.interval(part, one.key) for run in comparison.runs], one.kind, alike_runs)
        for one, alike_runs in zip(measures, chosen, strict=True)
    ]
    apart = [
        run.name
        for place, run in enumerate(comparison.comparable)
        if any(run.interval(part, one.key) and not of[place] for one, of in zip(measures, chosen, strict=True))
    ]
    if apart:
        better += f" Not marked where not known to be scored on the same photos and labels as others: {listed(apart)}."
    heads = [("run", ""), *((one.kind.shown, photo_words(comparison.runs, part, one)) for one in measures)]
    cells = dict(zip([run.name for run in comparison.runs], zip(*columns, strict=True), strict=True))
    return Table(f"{heading}, {part} fold", better, heads, comparison.table_lines(lambda run: cells[run.name]))


def alike(comparison: Comparison, part: str, measure: Measure) -> list[bool]:
    """Whether each run can be compared and was scored on the same photos as most such runs, with the same labels as far
    as all have them."""
    scored = {run.name: _scored(run, part, measure) for run in comparison.comparable if run.interval(part, measure.key)}
    names: dict[str, Set[str]] = {}  # of labels, by photo
    for photos in scored.values():
        for key, labels in photos.items():
            names[key] = names.get(key, labels.keys()) & labels.keys()
    labeled = {
        run: frozenset((key, *(labels[name] for name in sorted(names[key]))) for key, labels in photos.items())
        for run, photos in scored.items()
    }
    most = Counter(photos for photos in labeled.values() if photos).most_common(1)
    return [bool(most) and labeled.get(run.name) == most[0][0] for run in comparison.runs]


def _scored(run: Run, part: str, measure: Measure) -> dict[str, dict[str, Any]]:
    """The labels of the photos that a score is of: all of the data set where the photos' rows do not say which have
    it."""
    rows = {key: row for key, row in run.rows[part].items() if row["dataset"] == measure.dataset}
    having = {key: row for key, row in rows.items() if state_of(measure.kind.question, row) is not None}
    return {key: truths(row) for key, row in (having or rows).items()}


def photo_words(runs: Sequence[Run], part: str, measure: Measure) -> str:
    """The data set of a column and its number of photos."""
    counts = [run.photos(part, measure.key) for run in runs if run.interval(part, measure.key)]
    return f"{measure.dataset}, {photo_count(counts)}"


def every_score(comparison: Comparison) -> Section:
    """A folded table for each fold and data set: every score of every run."""
    tables = []
    for part in FOLDS:
        trees = {run.name: run.trees.get(part, {}) for run in comparison.runs}
        for dataset in sorted({name for tree in trees.values() for name in tree.get("scores", {})}):
            questions = [tree.get("scores", {}).get(dataset, {}) for tree in trees.values()]
            rows = dict.fromkeys((name, score) for table in questions for name in table for score in table[name])
            keys = [ScoreKey.parse(dataset, name, score) for name, score in rows]
            keys = [key for key in keys if key.question != GRADABILITY]  # stored by earlier versions; none refuses here
            lines = [
                Line(
                    f"{key.question.title}: {key.score}",
                    [interval_cell(run.interval(part, key)) for run in comparison.runs],
                )
                for key in keys
            ]
            caption = "Value and 95 % interval; docs/protocol.md defines each score and which way is better."
            counts = {run.name: run.refused(part, dataset) for run in comparison.runs}
            refused = [f"{name} {count}" for name, count in counts.items() if count]
            caption += f" Refused photos: {listed(refused)}." if refused else ""
            heads = [("score", ""), *((name, "") for name in trees)]
            tables.append(Table(f"{dataset}, {part} fold", caption, heads, lines, folded=True))
    return Section("Every score", [], tables)


def method_section(runs: Sequence[Run], command: str) -> Section:
    """How the page was made, so that it can be made again."""
    refused = any(
        run.refused(part, dataset) for run in runs for part, tree in run.trees.items() for dataset in tree["details"]
    )
    none = "" if refused else "No photo is refused, since refusals do not depend on the model. "
    paragraphs = [
        f"Scores follow docs/protocol.md: in the photo's own pixels, each data set by itself. {none}Intervals are of "
        "95 %, by bootstrap over visits, 1000 draws (200 for training photos); with few visits, as in a fold of IDRiD "
        "A, they are too narrow, and indicative only.",
        "Tests and losses under corruptions add up the photos' rows in photos.jsonl, whose maps are counted in 118 "
        "bins of probability instead of 65536: average precision may differ from the tables by 0.005.",
        "Samples depend on the photos' names alone: those of validation photos are the same for every run, those of "
        "training photos for runs that learned from the same ones.",
    ]
    return Section("How this was made", [*paragraphs, *([f"Command: {command}"] if command else [])])
