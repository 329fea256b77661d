"""Names of scores: a data set, a question about its photos, and the number taken of the answers.

The code passes `ScoreKey`s; scores.json and photos.jsonl spell them as strings ("EX pixels", "HE mask without X").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from funduscope.vocabulary import CODES, EITHER_EXUDATE, PHOTO_TASKS, PhotoTask

T = TypeVar("T")

DR, DME = "DR", "DME"
_WITHOUT: Final = " without "
_TITLES: Final = tuple(task.title for task in PHOTO_TASKS)


class Aspect(StrEnum):
    """Which part of an answer is scored. The value follows the subject in the keys of scores.json."""

    ANSWER = ""
    PROBABILITIES = "probabilities"
    CALIBRATION = "calibration"
    GRADE_SETS = "grade sets"
    PIXELS = "pixels"
    MASK = "mask"
    LESIONS = "lesions"
    DICE_BY_PHOTO = "Dice by photo"
    IOU_BY_PHOTO = "IoU by photo"
    PRESENT = "present"
    VOTES = "votes"


@dataclass(frozen=True)
class Question:
    """What is asked of a photo.

    subject: the title of a photo task ("DR", "DME"), the code of a structure, or a question without aspects, such as
    "referable DR". without: the name of a photo that is left out.
    """

    subject: str
    aspect: Aspect = Aspect.ANSWER
    without: str = ""

    @property
    def name(self) -> str:
        """The key in scores.json."""
        whole = f"{self.subject} {self.aspect}" if self.aspect else self.subject
        return f"{whole}{_WITHOUT}{self.without}" if self.without else whole

    @property
    def title(self) -> str:
        """The name for people: "EX or SE" for "EX|SE"."""
        return self.name.replace("|", " or ")

    @classmethod
    def parse(cls, name: str) -> Question:
        """The question of a key in scores.json."""
        whole, _, without = name.partition(_WITHOUT)
        subject, _, aspect = whole.partition(" ")
        if subject in (*_TITLES, *CODES, EITHER_EXUDATE) and aspect in set(Aspect):
            return cls(subject, Aspect(aspect), without)
        return cls(whole, without=without)


def headline_question(task: PhotoTask) -> Question:
    """The question whose score `task.headline` is."""
    return Question.parse(task.headline_question)


@dataclass(frozen=True)
class ScoreKey:
    """One score: "kappa" of `Question("DR")` on the data set "idrid-B"."""

    dataset: str
    question: Question
    score: str

    @classmethod
    def parse(cls, dataset: str, question: str, score: str) -> ScoreKey:
        """The key of a score as scores.json nests it."""
        return cls(dataset, Question.parse(question), score)

    def __str__(self) -> str:
        return f"{self.dataset} {self.question.name} {self.score}"

    def find(self, scores: Mapping[str, Mapping[str, Mapping[str, T]]]) -> T | None:
        """This score in the `scores` of a scores.json; None if it is not there."""
        return scores.get(self.dataset, {}).get(self.question.name, {}).get(self.score)


def nested(scores: Mapping[ScoreKey, T], datasets: Iterable[str]) -> dict[str, dict[str, dict[str, T]]]:
    """Data set -> question -> score, as scores.json has them; an empty table for a data set without scores."""
    tables: dict[str, dict[str, dict[str, T]]] = {dataset: {} for dataset in datasets}
    for key, value in scores.items():
        tables[key.dataset].setdefault(key.question.name, {})[key.score] = value
    return tables
