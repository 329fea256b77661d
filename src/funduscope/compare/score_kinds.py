"""The scores of the page, which way is better, and how a photo's row in photos.jsonl becomes a state again.

A row has enough to add up the most important scores over any photos. So the difference between two runs is drawn again
by visits without another prediction.
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


@dataclass(frozen=True)
class Kind:
    """A column of the page. table: its heading. is_tested: whether the score is tested between runs."""

    table: str
    question: Question
    score: str
    shown: str
    higher: bool = True
    is_tested: bool = False

    @property
    def digits(self) -> int:
        """Digits behind the point; pixels have one."""
        return 1 if self.score.endswith("px") else 3


@dataclass(frozen=True)
class Measure:
    """A kind of score on one data set."""

    dataset: str
    kind: Kind

    @property
    def key(self) -> ScoreKey:
        return ScoreKey(self.dataset, self.kind.question, self.kind.score)

    @property
    def title(self) -> str:
        """The score and its data set, for people."""
        return f"{self.kind.shown}, {self.dataset}"

    def score(self, state: State) -> float:
        """The score of a sum of `state_of`; of a batch of sums an array."""
        return scores_of(self.kind.question, state)[self.kind.score](state)

    def worse_by(self, change: float) -> float:
        """A change of the score as a loss: positive is worse, whichever way the score runs."""
        return -change if self.kind.higher else change


GRADING, AP, DICE, REST = "Grades", "Lesions: average precision", "Lesions: Dice", "Disc, landmarks, healthy eyes"

BETTER: Final[dict[str, str]] = {
    GRADING: "Higher is better in every column. Kappa is weighted quadratically: 1 is perfect, 0 is chance.",
    AP: "Higher is better; 1 is perfect, and chance is the share of lesion pixels, one in a hundred or fewer.",
    DICE: "Higher is better; 1 is perfect. At each model's own threshold, which was fixed on the validation fold.",
    REST: "Disc IoU: higher is better. Distances, in pixels of a 4288-wide photo, and the share of healthy eyes in "
    "which a lesion was marked: lower is better.",
}
"""What better means, by table; in the order of the page."""

DISC: Final = Question("OD", Aspect.MASK)
_CODES: Final = (*LESIONS, EITHER_EXUDATE)
KINDS: Final[tuple[Kind, ...]] = (
    Kind(GRADING, Question(DR), "kappa", "DR kappa", is_tested=True),
    Kind(GRADING, Question(DR), "accuracy", "DR accuracy"),
    Kind(GRADING, Question(DME), "accuracy", "DME accuracy", is_tested=True),
    Kind(GRADING, Question("DR and DME"), "accuracy", "DR and DME right"),
    Kind(GRADING, Question("referable DR"), "AUROC", "referable DR, AUROC"),
    Kind(GRADING, Question("maculopathy"), "AUROC", "maculopathy, AUROC"),
    *(
        Kind(GRADING, question, score, f"{task.title} {score}", is_tested=question.name == task.title)
        for task in FURTHER_TASKS
        for question, score in dict.fromkeys(
            [(headline_question(task), task.headline), (Question(task.title), "accuracy")]
        )
    ),
    *(
        Kind(AP, Question(code, Aspect.PIXELS), "average precision", f"{Question(code).title} AP", is_tested=True)
        for code in _CODES
    ),
    *(Kind(DICE, Question(code, Aspect.MASK), "Dice", f"{Question(code).title} Dice") for code in _CODES),
    Kind(REST, DISC, "IoU", "disc IoU", is_tested=True),
    Kind(REST, Question("disc center"), "mean px", "disc center, px", higher=False, is_tested=True),
    Kind(REST, Question("fovea"), "mean px", "fovea, px", higher=False, is_tested=True),
    Kind(REST, FALSE_VISIBLE, "photos with any", "healthy eyes marked", higher=False, is_tested=True),
)
_MASKS: Final = frozenset(kind.question.name for kind in KINDS if kind.question.aspect == Aspect.MASK)
PACKED: Final = _MASKS | {kind.question.name for kind in KINDS if kind.question.aspect == Aspect.PIXELS}
"""The keys that `pack` puts into a row."""

_GRADED: Final = {task.title: (task.name, f"predicted_{task.name}", len(task.classes)) for task in PHOTO_TASKS}


def pack(photo: PhotoScore) -> None:
    """Puts what the photo's masks and probability maps add to the scores of `KINDS` into its row.

    A mask: true, false and missed pixels. A map: see `CoarseDenseState`.
    """
    for question, state in photo.states.items():
        if question.name in PACKED and isinstance(state, MaskState):
            photo.row[question.name] = [int(state.tp), int(state.fp), int(state.fn)]
        elif question.name in PACKED and isinstance(state, DenseState):
            photo.row[question.name] = CoarseDenseState.of(state).to_row()


def state_of(question: Question, row: Row) -> State | None:
    """What one photo adds to the tested scores of a question; None if the row does not have it."""
    name = question.name
    if name in _GRADED:
        truth, predicted, classes = _GRADED[name]
        return None if row.get(truth) is None else GradingState.of([row[truth]], [row[predicted]], classes)
    if question in FALSE_LESIONS:
        counts = row.get("false lesions")
        return None if counts is None else FalseLesionState.of(counts, FALSE_LESIONS[question])
    if name in PACKED and name in row:
        return CoarseDenseState.from_row(row[name]) if question.aspect == Aspect.PIXELS else MaskState(*row[name], tn=0)
    distance = row.get(f"{name} px")
    return None if distance is None else MeanState(distance, 1)


def truths(row: Row) -> dict[str, Any]:
    """The photo's labels as far as the row has them: two runs are compared on photos where these agree."""
    masks = {name: row[name][0] + row[name][2] for name in _MASKS & row.keys()}
    return masks | {name: row[name] for name in (*CLASSES, "maculopathy") if name in row}
