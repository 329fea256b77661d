"""The tables of trust.py, from what was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from funduscope.inference.card import Card
from funduscope.inference.conformal import COVERAGE, PENALTY, closed, grade_set, nonconformity
from funduscope.inference.ood import Reference
from funduscope.metrics import bootstrap
from funduscope.metrics.calibration import ConformalState
from funduscope.metrics.state import State

CLINICS: Final = ("idrid-B", "srahim", "eyepacs400", "messidor2")
GRADES = FOLDS = 5
OWN: Final = CLINICS[:2]
"""Whose photos are also spoiled, and whose distances are shown by fold."""

SHARES: Final = (0, 1, 2, 5, 10, 20, 30)
"""Percent of the photos that are refused, those of the lowest score."""

Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Seen:
    """One look. kind: "as it is" or how it was spoiled. score: `gradable.score`, nan where no eye was seen.

    refused: the codes of its reasons. grade: the true one, -1 where unknown. probs (5,): calibrated. features (C,).
    """

    dataset: str
    key: str
    visit: str
    fold: int
    kind: str
    grade: int
    score: float
    refused: str
    probs: np.ndarray
    features: np.ndarray


def probabilities(rows: Sequence[Seen]) -> np.ndarray:
    return np.stack([row.probs for row in rows]).astype(np.float64)


def graded(rows: Sequence[Seen], fold: int) -> list[Seen]:
    return [row for row in rows if row.grade >= 0 and row.fold == fold and row.kind == "as it is"]


def _clinics(rows: Sequence[Seen]) -> list[str]:
    """Those of `CLINICS` that the rows have photos of."""
    return [name for name in CLINICS if any(row.dataset == name for row in rows)]


# --- conformal -------------------------------------------------------------------------------------------------------


def ordinal(penalty: float) -> Score:
    """The score of `predict.conformal` with another penalty."""

    def score(probs: np.ndarray) -> np.ndarray:
        told = nonconformity(probs)
        size = told.argsort(kind="stable").argsort(kind="stable")  # how many grades a set holds before each
        return told + (penalty - PENALTY) * size

    return score


def least_ambiguous(probs: np.ndarray) -> np.ndarray:
    """1 - p as in LAC (Sadinle, Lei, Wasserman 2019), beyond a grade never less than on the way to it: no gaps."""
    top, told = int(probs.argmax()), 1 - probs
    for grade in range(len(probs)):
        way = slice(grade, None) if grade > top else slice(None, grade + 1)
        told[grade] = 0.0 if grade == top else 1 - probs[way].max()
    return told


def cumulative(probs: np.ndarray) -> np.ndarray:
    """APS with the grade itself in its score (Romano, Sesia, Candes 2020, not randomized), along the ordinal order."""
    told = nonconformity(probs)
    size = told.argsort(kind="stable").argsort(kind="stable")
    return told - PENALTY * size + probs


SCORES: Final[dict[str, Score]] = {
    "ordinal, no penalty": ordinal(0.0),
    "ordinal, penalty 0.05": ordinal(0.05),
    "ordinal, penalty 0.1 (chosen)": ordinal(PENALTY),
    "ordinal, penalty 0.2": ordinal(0.2),
    "LAC without gaps": least_ambiguous,
    "ordinal APS, the grade itself counted": cumulative,
}


def conformal_tables(rows: list[Seen], card: Card, fold: int) -> Iterator[str]:
    yield "### Grade sets\n"
    yield from _choice(graded(rows, (fold + 1) % FOLDS))
    yield ""
    yield f"Quantile {card.grade_quantile}, fixed on the validation photos of the model's clinics.\n"
    yield "| data set | photos | coverage (95 %) | mean size (95 %) | by true grade 0, 1, 2, 3, 4 |"
    yield "|---|---|---|---|---|"
    test = graded(rows, fold)
    for name in (*_clinics(test), "all"):
        chosen = [row for row in test if name in (row.dataset, "all")]
        yield f"| {name} | {len(chosen)} | {_covered(chosen, card)} |"


def _covered(rows: list[Seen], card: Card) -> str:
    units: dict[str, list[State]] = {}
    for row, probs in zip(rows, probabilities(rows), strict=True):
        held = np.isin(np.arange(GRADES), grade_set(probs, card.grade_quantile or 0.0))[None]
        units.setdefault(row.visit, []).append(ConformalState.of([row.grade], held, [bool(row.refused)]))
    states = [ConformalState.total(of) for of in units.values()]  # pyright: ignore[reportArgumentType]
    whole = ConformalState.total(states)
    coverage = bootstrap(states, lambda state: state.coverage)
    size = bootstrap(states, lambda state: state.mean_size)
    by_grade = ", ".join("-" if np.isnan(share) else f"{share:.2f}" for share in whole.coverage_by_grade)
    return " | ".join([*(f"{one.value:.3f} ({one.low:.3f}-{one.high:.3f})" for one in (coverage, size)), by_grade])


def _choice(rows: list[Seen], times: int = 40) -> Iterator[str]:
    """Each score fitted on half of the validation visits and judged on the others, the mean over many halves."""
    probs, truth = probabilities(rows), np.array([row.grade for row in rows])
    names, visits = np.unique([row.visit for row in rows], return_inverse=True)
    yield f"Chosen on validation photos ({len(rows)}), in halves of their visits:\n"
    clinics, datasets = _clinics(rows), np.array([row.dataset for row in rows])
    yield f"| score | coverage | mean size | {' | '.join(f'on {name}' for name in clinics)} |"
    yield "|---|---|---|" + "---|" * len(clinics)
    for name, score in SCORES.items():
        table = np.stack([closed(row, score(row)) for row in probs])
        own = table[np.arange(len(truth)), truth]
        told = []
        for seed in range(times):
            half = np.isin(visits, np.random.default_rng(seed).permutation(len(names))[: len(names) // 2])
            place = int(np.ceil((half.sum() + 1) * COVERAGE))
            quantile = np.sort(own[half])[min(place, half.sum()) - 1]
            sizes = (table <= quantile).sum(axis=1)
            parts = [sizes[~half & (datasets == clinic)].mean() for clinic in clinics]
            told.append([(own[~half] <= quantile).mean(), sizes[~half].mean(), *parts])
        yield f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.mean(told, axis=0)) + " |"


# --- refusing --------------------------------------------------------------------------------------------------------


def refusing_tables(rows: list[Seen], _: Card, fold: int) -> Iterator[str]:
    """Risk (share of wrong grades, and mean distance from the true one) against the share that is refused."""
    both = [row for row in rows if row.grade >= 0 and row.fold in (fold, (fold + 1) % FOLDS)]
    natural = [row for row in both if row.kind == "as it is"]
    yield "### Refusing\n"
    yield "Share of wrong grades among those answered, when the photos of the lowest `gradable.score` are refused:\n"
    yield "| photos | number | " + " | ".join(f"{share} %" for share in SHARES) + " | AUROC of the score for an error |"
    yield "|---|---|" + "---|" * (len(SHARES) + 1)
    for name in _clinics(natural):
        yield _curve(f"{name}, as they are", [row for row in natural if row.dataset == name])
    keys = {row.key for row in both if row.kind != "as it is"}
    with_spoiled = [row for row in both if row.key in keys]
    yield _curve("IDRiD and srahim, each photo also spoiled in seven ways", with_spoiled)
    yield ""
    yield "| photos of IDRiD and srahim | number | wrong grades | referable missed | mean distance from the grade |"
    yield "|---|---|---|---|---|"
    for kind in dict.fromkeys(row.kind for row in with_spoiled):
        chosen = [row for row in with_spoiled if row.kind == kind]
        said, truth = probabilities(chosen).argmax(axis=1), np.array([row.grade for row in chosen])
        missed = (said < 2)[truth >= 2].mean()
        off = np.abs(said - truth).mean()
        yield f"| {kind} | {len(chosen)} | {(said != truth).mean():.3f} | {missed:.3f} | {off:.2f} |"


def _curve(name: str, rows: list[Seen]) -> str:
    scores = np.array([0.0 if np.isnan(row.score) else row.score for row in rows])
    wrong = probabilities(rows).argmax(axis=1) != np.array([row.grade for row in rows])
    worst_first = wrong[np.argsort(scores, kind="stable")]
    cells = [f"{worst_first[int(len(rows) * share / 100) :].mean():.3f}" for share in SHARES]
    ranks = scores[:, None] - scores[None]
    pairs = (ranks < 0) + 0.5 * (ranks == 0)
    return f"| {name} | {len(rows)} | {' | '.join(cells)} | {pairs[np.ix_(wrong, ~wrong)].mean():.3f} |"


# --- distance --------------------------------------------------------------------------------------------------------


def distance_table(rows: list[Seen], card: Card, fold: int) -> Iterator[str]:
    yield "### Distance from the training photos\n"
    if card.distance is None:
        yield "The card has no reference."
        return
    reference = Reference.from_tree(card.distance)
    yield "| photos | number | median value | median percentile | beyond 95 % | beyond 99 % |"
    yield "|---|---|---|---|---|---|"
    natural = [row for row in rows if row.kind == "as it is"]
    own = [row for row in natural if row.dataset in OWN]
    parts = {f"{name}, fold {fold}": [r for r in own if r.dataset == name and r.fold == fold] for name in OWN}
    names = dict.fromkeys(row.dataset for row in natural if row.dataset not in OWN)
    parts |= {name: [row for row in natural if row.dataset == name] for name in names}
    kinds = dict.fromkeys(row.kind for row in rows if row.kind != "as it is")
    parts |= {f"IDRiD and srahim, {kind}": [row for row in rows if row.kind == kind] for kind in kinds}
    for name, chosen in parts.items():
        told = [reference.of(row.features) for row in chosen]
        values, percentiles = (np.array([getattr(one, of) for one in told]) for of in ("value", "percentile"))
        beyond = [f"{100 * (percentiles > limit).mean():.0f} %" for limit in (95, 99)]
        cells = f"{np.median(values):.2f} | {np.median(percentiles):.0f} | {' | '.join(beyond)}"
        yield f"| {name} | {len(chosen)} | {cells} |"
