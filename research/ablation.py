"""What each part of the shipped models is worth: paired differences on the photos that a run left out.

    python -m research.ablation                      prints the tables
    python -m research.ablation --write              the tables of docs/ablation.md
    python -m research.ablation --keep OUT           first takes what `funduscope evaluate RUN --data DATA --fold 0
                                                     --out OUT` wrote of the plain network into results/

Both answers of a photo are stored, what the photo and what the lesions say, next to the joint one: so what joining is
worth needs no further training. The plain network is trained by `funduscope train plain --data DATA --run RUN --fold 0
--set training.epochs=10`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from research.bars import HOME, MASKS, PRECISION, interval, number
from research.figures import REFERRED, ROOT, SCORES, keep_as, read_photos

from funduscope.metrics import GradingState, Interval, MeanState, ProbabilityState, State, by_visit, paired_test
from funduscope.vocabulary import GRADES

PAGE: Final = ROOT / "docs" / "ablation.md"
PLAIN: Final = ROOT / "results" / "fold0-plain.json"
FOLD: Final = 0
REPEATS: Final = 1000
START: Final = "<!-- made by python -m research.ablation --write: everything below this line is replaced -->"

Row = dict[str, Any]
Rows = dict[str, Row]
"""A model's photos by key."""


@dataclass(frozen=True)
class Score:
    """A score of two models on the same photos. of: a row to its state; None if the row does not have it."""

    says: str
    of: Callable[[Row], State | None]
    value: Callable[[Any], float]


def kappa(answer: str = "grade_probs", says: str = "DR, kappa") -> Score:
    """Quadratic weighted kappa of the likeliest grade. answer: the row's key of the grades' probabilities."""

    def of(row: Row) -> State | None:
        if row.get("grade") is None:
            return None
        probs = row[answer]
        return GradingState.of(
            [row["grade"]], [None if probs is None else max(range(len(probs)), key=probs.__getitem__)]
        )

    return Score(says, of, lambda state: state.kappa)


def auroc(answer: str = "grade_probs") -> Score:
    """Area under the curve of referable retinopathy. answer: as in `kappa`."""

    def of(row: Row) -> State | None:
        if row.get("grade") is None:
            return None
        probs = row[answer]
        return ProbabilityState.of([row["grade"]], np.array([probs or [0.0] * len(GRADES)]), [probs is None])

    return Score("referable DR, AUROC", of, lambda state: state.referable().auroc)


def edema() -> Score:
    """Accuracy of the edema risk."""

    def of(row: Row) -> State | None:
        return None if row.get("dme") is None else GradingState.of([row["dme"]], [row["predicted_dme"]], 3)

    return Score("edema risk, accuracy", of, lambda state: state.accuracy)


def distance(place: str) -> Score:
    """Mean distance of a place, px of a photo 4288 wide."""

    def of(row: Row) -> State | None:
        return None if row.get(f"{place} px") is None else MeanState(row[f"{place} px"], 1)

    return Score(f"{place}, px", of, lambda state: state.mean)


PARTS: Final = {"photo": "grade_probs_of_photo", "lesions": "grade_probs_of_lesions", "both": "grade_probs"}
"""The answers about a grade that each row has."""

GRADED: Final = (kappa(), kappa(PARTS["photo"], "DR, kappa, photo alone"), auroc())
SHARED: Final = (*((name, score) for score in GRADED for name in REFERRED), (HOME, edema()))
PLACES: Final = ((HOME, distance("disc center")), (HOME, distance("fovea")))
FOUND: Final = (
    ("hard exudates, average precision", MASKS, "EX pixels", PRECISION),
    ("haemorrhages, average precision", MASKS, "HE pixels", PRECISION),
    ("microaneurysms, average precision", MASKS, "MA pixels", PRECISION),
    ("soft exudates, average precision", MASKS, "SE pixels", PRECISION),
    ("microaneurysms, average precision", "eophtha", "MA pixels", PRECISION),
    ("exudates of either kind, average precision", "heimed", "EX|SE pixels", PRECISION),
    ("optic disc, IoU", MASKS, "OD mask", "IoU"),
    ("grade-0 photos with a false HE, EX or SE", "srahim", "false HE, EX or SE", "photos with any"),
)
"""What is shown side by side: of these scores the rows hold too little for a paired difference."""


def read_rows(scores: Path, folds: Sequence[int] = ()) -> Rows:
    """A model's photos; of these folds, where any are named."""
    return {row["key"]: row for row in read_photos(scores) if not folds or row["fold"] in folds}


def compared(dataset: str, a: tuple[Rows, Score], b: tuple[Rows, Score]) -> tuple[float, float, Interval, float, int]:
    """Of the photos that both have: the score of a, that of b, the difference b minus a, its p and the photos."""
    (rows_a, score_a), (rows_b, score_b) = a, b
    states = [
        (rows_a[key]["visit"], of_a, of_b)
        for key in sorted(rows_a.keys() & rows_b.keys())
        if rows_a[key]["dataset"] == dataset
        and (of_a := score_a.of(rows_a[key])) is not None
        and (of_b := score_b.of(rows_b[key])) is not None
    ]
    units_a = by_visit((visit, state) for visit, state, _ in states)
    units_b = by_visit((visit, state) for visit, _, state in states)
    change, p = paired_test(units_b, units_a, score_a.value, REPEATS, batched=True)
    of_a, of_b = (score_a.value(type(units[0]).total(units)) for units in (units_a, units_b))
    return of_a, of_b, change, p, len(states)


def witness_table(models: Mapping[str, Rows]) -> str:
    """What joining both answers is worth, by model and data set."""
    lines = [
        "| model | data set | photos | score | photo alone | lesions alone | both | both minus photo alone | p |",
        "|---" * 9 + "|",
    ]
    for name, rows in models.items():
        for score in (kappa, auroc):
            for dataset in REFERRED:
                alone, both, change, p, photos = compared(
                    dataset, (rows, score(PARTS["photo"])), (rows, score(PARTS["both"]))
                )
                _, lesions, *_ = compared(dataset, (rows, score(PARTS["photo"])), (rows, score(PARTS["lesions"])))
                cells = (f"`{name}`", dataset, str(photos), score().says, *map(number, (alone, lesions, both)))
                lines.append(f"| {' | '.join((*cells, _change(change), _p(p)))} |")
    return "\n".join(lines) + "\n"


def plain_table(plain: Rows, models: Mapping[str, Rows]) -> str:
    """The plain network against each model, on the photos of one fold."""
    said = " | ".join(f"`{name}` | minus plain | p" for name in models)
    lines = [f"| score | data set | photos | plain | {said} |", "|---" * (4 + 3 * len(models)) + "|"]
    for dataset, score in (*SHARED, *PLACES):
        cells: list[str] = []
        for rows in models.values():
            before, after, change, p, photos = compared(dataset, (plain, score), (rows, score))
            cells = cells or [score.says, dataset, str(photos), number(before)]
            cells += [number(after), _change(change), _p(p)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def found_table(trees: Mapping[str, dict[str, Any]]) -> str:
    """Lesions and the disc, side by side, each with its interval."""
    lines = [f"| score | data set | {' | '.join(trees)} |", "|---" * (2 + len(trees)) + "|"]
    for says, dataset, state, name in FOUND:
        told = (tree["scores"][dataset][state][name] for tree in trees.values())
        cells = (f"{number(one['value'])} ({interval(one['low'], one['high'])})" for one in told)
        lines.append(f"| {says} | {dataset} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _change(change: Interval) -> str:
    return f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})".replace("-", "−")


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def tables() -> str:
    """The page's tables of the stored results."""
    default, fast, plain = read_rows(SCORES["default"]), read_rows(SCORES["fast"]), read_rows(PLAIN)
    witnesses = witness_table({"default": default, "fast": fast, "plain": plain})
    models = {"fast": fast, "default": read_rows(SCORES["default"], [FOLD])}
    trees = {name: json.loads(path.read_text("utf-8")) for name, path in (("plain", PLAIN), ("`fast`", SCORES["fast"]))}
    text = f"## Photo, lesions, both\n\n{witnesses}\n## A plain network\n\n"
    return f"{text}{plain_table(plain, models)}\n{found_table(trees)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="OUT")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.keep:
        scores = given.keep / "scores.json"
        models = json.loads(scores.read_text("utf-8"))["about"]["models"] if scores.is_file() else []
        if [one["folds"] for one in models] != [[FOLD]]:
            parser.error(f"{given.keep} holds no scores of one model on fold {FOLD}, which it left out")
        keep_as(PLAIN, given.keep)
    made = tables()
    if given.write:
        before, start, _ = PAGE.read_text("utf-8").partition(START)
        PAGE.write_text(f"{before}{start}\n\n{made}", "utf-8")
    else:
        print(made)


if __name__ == "__main__":
    main()
