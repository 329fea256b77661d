"""The scores that the page shows first, and what a photo's row in photos.jsonl adds to each.

A row holds what one photo adds to these scores, so that differences between two runs are tested on
any photos that both answered, without another prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from funduscope.evaluation.score_key import DME, DR, Aspect, Question, ScoreKey, headline_question
from funduscope.evaluation.scores import FALSE_LESIONS, FALSE_VISIBLE, PhotoScore, scores_of
from funduscope.metrics import (
    CoarseDenseState,
    DenseState,
    FalseLesionState,
    GradingState,
    MaskState,
    MeanState,
    State,
)
from funduscope.vocabulary import CLASSES, EITHER_EXUDATE, FURTHER_TASKS, LESIONS, PHOTO_TASKS

Row = dict[str, Any]
"""A line of photos.jsonl."""


@dataclass(frozen=True)
class ScoreKind:
    """A score that the page shows first."""

    question: Question
    score: str
    title: str
    higher_is_better: bool = True
    is_tested: bool = False
    """Whether runs are tested for a difference in it."""

    @property
    def digits(self) -> int:
        """Digits behind the point: one for distances in pixels."""
        return 1 if self.score.endswith("px") else 3


@dataclass(frozen=True)
class Measure:
    """A kind of score on one data set."""

    dataset: str
    kind: ScoreKind

    @property
    def key(self) -> ScoreKey:
        return ScoreKey(self.dataset, self.kind.question, self.kind.score)

    @property
    def title(self) -> str:
        return f"{self.kind.title}, {self.dataset}"

    def score(self, state: State) -> Any:
        """Take the score of a sum of `state_of`: a number, or an array for a batch of sums."""
        return scores_of(self.kind.question, state)[self.kind.score](state)


def _kinds() -> list[ScoreKind]:
    """List the kinds in the order of the page."""
    kinds = [
        ScoreKind(Question(DR), "kappa", "DR kappa", is_tested=True),
        ScoreKind(Question(DR), "accuracy", "DR accuracy"),
        ScoreKind(Question(DME), "accuracy", "DME accuracy", is_tested=True),
        ScoreKind(Question("DR and DME"), "accuracy", "DR and DME right"),
        ScoreKind(Question("referable DR"), "AUROC", "referable DR, AUROC"),
        ScoreKind(Question("maculopathy"), "AUROC", "maculopathy, AUROC"),
    ]

    for task in FURTHER_TASKS:
        headline = (headline_question(task), task.headline)
        for question, score in dict.fromkeys([headline, (Question(task.title), "accuracy")]):
            is_tested = question.name == task.title  # rows have no probabilities
            kinds.append(ScoreKind(question, score, f"{task.title} {score}", is_tested=is_tested))

    codes = [Question(code) for code in (*LESIONS, EITHER_EXUDATE)]
    for code in codes:
        question = Question(code.subject, Aspect.PIXELS)
        kinds.append(ScoreKind(question, "average precision", f"{code.title} AP", is_tested=True))
    for code in codes:
        question = Question(code.subject, Aspect.MASK)
        kinds.append(ScoreKind(question, "Dice", f"{code.title} Dice"))

    kinds.append(ScoreKind(Question("OD", Aspect.MASK), "IoU", "disc IoU", is_tested=True))
    lower_is_better = [
        (Question("disc center"), "mean px", "disc center, px"),
        (Question("fovea"), "mean px", "fovea, px"),
        (FALSE_VISIBLE, "photos with any", "healthy eyes marked"),
    ]
    for question, score, title in lower_is_better:
        kinds.append(ScoreKind(question, score, title, higher_is_better=False, is_tested=True))
    return kinds


KINDS: Final = tuple(_kinds())

_MASKS: Final = {k.question.name for k in KINDS if k.question.aspect == Aspect.MASK}
_MAPS: Final = {k.question.name for k in KINDS if k.question.aspect == Aspect.PIXELS}
PACKED: Final = _MASKS | _MAPS
"""The columns that `pack` adds to a row."""

_TASKS: Final = {task.title: task for task in PHOTO_TASKS}


def pack(photo: PhotoScore) -> None:
    """Add to a photo's row what its masks and probability maps add to the scores of `KINDS`.

    A mask becomes its true, false and missed pixels; a map the counts of `CoarseDenseState`.
    """
    for question, state in photo.states.items():
        if question.name in _MASKS and isinstance(state, MaskState):
            photo.row[question.name] = [int(state.tp), int(state.fp), int(state.fn)]
        elif question.name in _MAPS and isinstance(state, DenseState):
            photo.row[question.name] = CoarseDenseState.of(state).to_row()


def state_of(question: Question, row: Row) -> State | None:
    """Return what a photo adds to the tested scores of a question; None if its row lacks that."""
    name = question.name

    if name in _TASKS:
        task = _TASKS[name]
        if row.get(task.name) is None:
            return None
        predicted = row[f"predicted_{task.name}"]  # None: refused
        return GradingState.of([row[task.name]], [predicted], len(task.classes))

    if question in FALSE_LESIONS:
        counts = row.get("false lesions")
        return None if counts is None else FalseLesionState.of(counts, FALSE_LESIONS[question])

    if name in PACKED and name in row:
        is_map = question.aspect == Aspect.PIXELS
        return CoarseDenseState.from_row(row[name]) if is_map else MaskState(*row[name], tn=0)

    distance = row.get(f"{name} px")
    return None if distance is None else MeanState(distance, 1)


def labels_in(row: Row) -> dict[str, Any]:
    """Return the photo's labels as far as its row has them; of a mask its number of pixels."""
    labels = {name: row[name] for name in (*CLASSES, "maculopathy") if name in row}
    for name in _MASKS & row.keys():
        true, _, missed = row[name]
        labels[name] = true + missed
    return labels
