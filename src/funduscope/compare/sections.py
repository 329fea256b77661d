"""The page as sections: the runs, their scores on both folds, every score; what is said of differences is elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from funduscope.compare.page_parts import MARKED, Cell, Line, Section, Table, between, listed, number, scored
from funduscope.compare.run_folder import DASH, FOLDS, Run, interval_of, learned_from, measures_of, parted
from funduscope.compare.score_kinds import BETTER, Measure

APART = "not to be compared with the rows above: see the note of each in the first table"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs and how they may be compared. side: those that stand side by side; reasons: why the others may not."""

    runs: list[Run]
    side: list[Run]
    reasons: dict[str, str]
    measures: list[Measure]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Comparison:
        side, reasons = parted(runs)
        apart = [run for run in runs if run.name in reasons]
        return cls([*side, *apart], side, reasons, measures_of(runs))

    def lines(self) -> list[tuple[str, Run | None]]:
        """The runs in the order of every table; None for the line above those that stand apart."""
        divided: list[tuple[str, Run | None]] = [(run.name, run) for run in self.side]
        if self.reasons:
            divided.append((APART, None))
        return divided + [(run.name, run) for run in self.runs if run.name in self.reasons]

    def table_lines(self, columns: Iterable[Sequence[Cell]]) -> list[Line]:
        """Columns, each a cell a run in the order of `runs`, as lines."""
        cells = dict(zip([run.name for run in self.runs], zip(*columns, strict=True), strict=True))
        return [Line(name, list(cells[run.name]) if run else []) for name, run in self.lines()]


def runs_section(comparison: Comparison) -> Section:
    """What each run is: design, photos, budget, and a note where it stands apart."""
    letters = learned_from(comparison.runs)
    heads = [("run", ""), ("recipe", ""), ("encoder", "starts from"), ("answers", ""), ("learned from", "photos")]
    heads += [("budget", ""), ("note", "")]
    first, every = comparison.side[0], len(comparison.runs)
    fold = "no test fold" if first.fold is None else f"test fold {first.fold}"
    who = f"{len(comparison.side)} of the {every} runs have" if comparison.reasons else f"All {every} runs have"
    says = [f"{who} {fold} and one budget: {first.budget}." if every > 1 else f"One run, {fold}: {first.budget}."]
    about = (
        "One row a run. Runs with the same letter learned from the very same photos and labels; which photos a recipe "
        "can learn from depends on what it answers."
    )
    lines = [
        Line(name, [] if run is None else _run_cells(run, letters[run.name], comparison.reasons.get(run.name, "")))
        for name, run in comparison.lines()
    ]
    tables = [Table("Runs", about, heads, lines)]
    commands = [Line(run.name, [Cell(run.about["command"])]) for run in comparison.runs if run.about.get("command")]
    if commands:
        how = "The command that made each run."
        tables.append(Table("Commands", how, [("run", ""), ("command", "")], commands, folded=True))
    return Section("The runs", says, tables)


def _run_cells(run: Run, letter: str, reason: str) -> list[Cell]:
    recipe, tasks = run.recipe, run.recipe.tasks
    start = "ImageNet" if recipe.encoder.weights == "imagenet" else "from scratch"
    start = run.about["init"]["name"] if run.about.get("init") else start
    answers = [word for word, wanted in (("DR", tasks.grade), ("DME", tasks.dme)) if wanted]
    answers += [*tasks.structures, *(name.replace("_", " ") for name in tasks.landmarks)]
    photos = run.about.get("photos", {}).get("train", {})
    taught = run.about.get("teachers") or []
    notes = [f"taught by {listed(taught)}"] if taught else []
    notes += [f"experts: {recipe.experts.kind.replace('_', ' ')}"] if recipe.experts.kind != "none" else []
    return [
        Cell(recipe.name),
        Cell(recipe.encoder.name, start),
        Cell(", ".join(answers)),
        Cell(
            f"{letter}: {sum(photos.values())}", ", ".join(f"{name} {count}" for name, count in sorted(photos.items()))
        ),
        Cell(run.budget, run.epochs),
        Cell("; ".join([*([reason] if reason else []), *notes]) or DASH),
    ]


def score_sections(comparison: Comparison) -> list[Section]:
    """A section for each fold, a table for each heading."""
    sections = []
    for part in FOLDS:
        tables = []
        for heading, better in BETTER.items():
            mine = [one for one in comparison.measures if one.kind.table == heading]
            mine = [one for one in mine if any(run.interval(part, one) for run in comparison.runs)]
            if mine:
                tables.append(_score_table(comparison, part, heading, better, mine))
        says = {
            "validation": "Epochs, thresholds and temperatures were chosen on these photos: for comparing ideas.",
            "test": "Nothing was chosen on these photos.",
        }[part]
        if tables:
            sections.append(Section(f"Scores on the {part} fold", [says, MARKED], tables))
    return sections


def _score_table(comparison: Comparison, part: str, heading: str, better: str, measures: Sequence[Measure]) -> Table:
    beside = [run.name not in comparison.reasons for run in comparison.runs]
    columns = [scored([run.interval(part, one) for run in comparison.runs], one.kind, beside) for one in measures]
    heads = [("run", ""), *((one.kind.shown, photo_words(comparison.runs, part, one)) for one in measures)]
    return Table(f"{heading}, {part} fold", better, heads, comparison.table_lines(columns))


def photo_words(runs: Sequence[Run], part: str, measure: Measure) -> str:
    """The data set and how many photos a column is of."""
    counts = {run.photos(part, measure) for run in runs if run.interval(part, measure)}
    low, high = min(counts, default=0), max(counts, default=0)
    return f"{measure.dataset}, {low if low == high else f'{low} to {high}'} {'photo' if high == 1 else 'photos'}"


def every_score(comparison: Comparison) -> Section:
    """A folded table for each fold and data set: every score of every run."""
    tables = []
    for part in FOLDS:
        trees = {run.name: run.trees.get(part, {}) for run in comparison.runs}
        for dataset in sorted({name for tree in trees.values() for name in tree.get("scores", {})}):
            held = {name: tree.get("scores", {}).get(dataset, {}) for name, tree in trees.items()}
            rows = list(
                dict.fromkeys((state, score) for table in held.values() for state in table for score in table[state])
            )
            lines = [
                Line(f"{state.replace('|', ' or ')}: {score}", [_held(held[name], state, score) for name in held])
                for state, score in rows
            ]
            says = "Value and 95 % interval; docs/protocol.md says what each score means and which way it is better."
            refused = [
                f"{name} {count}"
                for name, tree in trees.items()
                if (count := tree.get("details", {}).get(dataset, {}).get("refused", 0))
            ]
            says += f" Refused photos: {listed(refused)}." if refused else ""
            heads = [("score", ""), *((name, "") for name in held)]
            tables.append(Table(f"{dataset}, {part} fold", says, heads, lines, folded=True))
    return Section("Every score", [], tables)


def _held(table: dict, state: str, score: str) -> Cell:
    held = table.get(state, {}).get(score)
    if held is None or held["value"] is None:
        return Cell(DASH)
    interval = interval_of(held)
    return Cell(number(interval.value), between(interval))
