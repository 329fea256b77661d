"""The page in words: what its figures show, no where the answer is no, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence

from funduscope.compare.ablation_pairs import ROUTING, SHARING, TEACHING, AblationPair
from funduscope.compare.costs import cost_words, shared_cost
from funduscope.compare.page_parts import Section, listed, scored
from funduscope.compare.robustness import robustness_summary
from funduscope.compare.routers import routing_words
from funduscope.compare.run_folder import FOLDS, Run
from funduscope.compare.sections import Comparison
from funduscope.compare.significance import Tests, ablation_summary

_UNASKED = {
    SHARING: "Whether sharing helps is not shown: no two of these runs differ in their tasks alone.",
    ROUTING: "Whether routing helps is not shown: no two of these runs differ in their experts alone.",
}


def summary_section(comparison: Comparison, tests: Tests, pairs: Sequence[AblationPair]) -> Section:
    """What a reader takes home: who leads, what is shown to differ, what sharing and routing do, what it costs."""
    says = []
    if len(comparison.side) > 1:
        says += [_leads(comparison, part) for part in FOLDS if any(part in run.trees for run in comparison.side)]
        says += [_tested(part, tests) for part in FOLDS if tests.get(part)]
    for about in (SHARING, ROUTING, TEACHING):
        mine = [one for one in pairs if one.about == about]
        says += [ablation_summary(one) for one in mine]
        if not mine and about in _UNASKED and len(comparison.runs) > 1:
            says.append(_UNASKED[about])
    says += _sharing_costs([one for one in pairs if one.about == SHARING])
    costs = [*cost_words(comparison.runs), *routing_words(comparison.runs)]
    return Section("In words", [*says, *costs, *robustness_summary(comparison)])


def _leads(comparison: Comparison, part: str) -> str:
    """In how many columns one run stands apart from all others."""
    apart: dict[str, list[str]] = {}
    asked = 0
    for one in comparison.measures:
        intervals = [run.interval(part, one) for run in comparison.side]
        if sum(interval is not None for interval in intervals) < 2:
            continue
        asked += 1
        cells = scored(intervals, one.kind, [True] * len(intervals))
        for run, cell in zip(comparison.side, cells, strict=True):
            if cell.mark == "best":
                apart.setdefault(run.name, []).append(one.title)
    where = f"On the {part} fold"
    if not apart:
        return f"{where} no run leads: in none of {asked} scores does the best interval stand apart from all others."
    count = sum(len(titles) for titles in apart.values())
    each = "; ".join(f"{name} in {listed(titles)}" for name, titles in apart.items())
    return f"{where} one run's interval stands apart from all others in {count} of {asked} scores: {each}."


def _tested(part: str, tests: Tests) -> str:
    """How many pairs differ after correction."""
    pairs = [pair for found in tests[part].values() for pair in found]
    differ = sum(pair.differs for pair in pairs)
    where = [f"{one.title} ({sum(pair.differs for pair in found)})" for one, found in tests[part].items()]
    where = [words for words in where if not words.endswith("(0)")]
    if not differ:
        return f"On the {part} fold, visit by visit, none of {len(pairs)} paired tests shows a difference."
    return (
        f"On the {part} fold, visit by visit, {differ} of {len(pairs)} paired tests show a difference: {listed(where)}."
    )


def _sharing_costs(pairs: Sequence[AblationPair]) -> list[str]:
    """For each run with twins that have fewer tasks: its cost beside theirs together."""
    fewer: dict[str, tuple[Run, list[Run]]] = {}
    for one in pairs:
        fewer.setdefault(one.more.name, (one.more, []))[1].append(one.less)
    said = [(shared_cost(more, less), _unanswered(more, less)) for more, less in fewer.values() if len(less) > 1]
    return [words + rest for words, rest in said if words]


def _unanswered(more: Run, less: Sequence[Run]) -> str:
    """What none of the runs with fewer tasks answers, so that their cost together is not that of all of it."""
    rest = [name for name in _answers(more) if not any(name in _answers(run) for run in less)]
    return f" None of these answers {listed(rest)}, so their sum is of less than that." if rest else ""


def _answers(run: Run) -> list[str]:
    tasks = run.recipe.tasks
    named = [word for word, wanted in (("DR", tasks.grade), ("DME", tasks.dme)) if wanted]
    return [*named, *tasks.structures, *(name.replace("_", " ") for name in tasks.landmarks)]


def method_section(command: str) -> Section:
    """How the page was made, so that anybody can make it again."""
    says = [
        "Every score is by docs/protocol.md: in the photo's own pixels, each data set by itself; but no photo is "
        "refused, since which ones are does not depend on the model. Intervals are of 95 %, by bootstrap over visits, "
        "1000 draws (200 for training photos); with few visits (the four photos of a fold of IDRiD A) they are too "
        "narrow, and indicative only.",
        "Tests and losses under shifts add up what each photo's row in photos.jsonl holds; average precision is there "
        "kept in 118 bins of probability instead of 65536 and may differ from the tables by 0.005.",
        "Samples of training and validation photos are fixed by their names: the same for every run.",
    ]
    return Section("How this was made", [*says, *([f"Command: {command}"] if command else [])])
