"""The vocabulary: structures, photo tasks and landmarks, with their order, colors and clinical meaning.

Every order (channels of a network, rows of a table, layers of a report) is the one here. Adding a lesion takes one line
of `STRUCTURES` and a reader that provides its masks; adding a photo task takes one line of `PHOTO_TASKS`, a reader that
provides its label, and its words in i18n/strings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Structure:
    """Something that a mask can outline.

    color, safe_color: RGB 0-255; the safe palette (Okabe and Ito, 2008) is distinct for color-blind readers.
    lowest_grade: the lowest ICDR grade with such a lesion, by the scale's definition; 0 for one that healthy eyes have.
    """

    code: str
    name: str
    color: tuple[int, int, int]
    safe_color: tuple[int, int, int]
    is_lesion: bool
    meaning: str
    lowest_grade: int = 1


STRUCTURES: Final[tuple[Structure, ...]] = (
    Structure("MA", "Microaneurysms", (230, 25, 25), (204, 121, 167), True, "tiny red dots: ballooned capillaries", 1),
    Structure("HE", "Haemorrhages", (40, 180, 40), (0, 158, 115), True, "red blots and flames: blood in the retina", 2),
    Structure("EX", "Hard exudates", (255, 225, 25), (240, 228, 66), True, "bright, sharp-edged deposits of lipid", 2),
    Structure("SE", "Soft exudates", (60, 90, 255), (0, 114, 178), True, "pale, soft-edged cotton-wool spots", 2),
    Structure("OD", "Optic disc", (0, 220, 220), (213, 94, 0), False, "where the optic nerve leaves the eye", 0),
)
CODES: Final[tuple[str, ...]] = tuple(s.code for s in STRUCTURES)
LESIONS: Final[tuple[str, ...]] = tuple(s.code for s in STRUCTURES if s.is_lesion)

ICDR_KINDS: Final = ("MA", "HE", "EX", "SE")
"""The kinds of lesion of ICDR grades 0 to 2: where none of them is, the grade is 0."""

EITHER_EXUDATE: Final = "EX|SE"
"""A label for exudates that does not distinguish hard from soft ones (HEI-MED's)."""

# International Clinical Diabetic Retinopathy scale (Wilkinson et al., Ophthalmology 110(9), 2003).
GRADES: Final[tuple[str, ...]] = ("No DR", "Mild", "Moderate", "Severe", "Proliferative")
VOTERS: Final = 4
"""DIARETDB1's experts, each of whom marked regions that hold a lesion."""

AGREEING_VOTERS: Final = 2
"""So many of them make a lesion present; one alone is weak, and leaves it unknown."""

DISC_DIAMETER_FRAC: Final = 0.155
"""The optic disc's diameter as a share of the field of view's, at 45 to 50 degrees."""

REFERABLE_FROM: Final = 2
"""Referable diabetic retinopathy: this grade and above."""

# IDRiD's definition (Porwal et al., Medical Image Analysis 59, 2020).
DME_RISKS: Final[tuple[str, ...]] = (
    "no hard exudate",
    "hard exudates, all further than one disc diameter from the fovea",
    "a hard exudate within one disc diameter of the fovea",
)


@dataclass(frozen=True, slots=True)
class PhotoTask:
    """What a photo as a whole is classified for.

    name: an identifier: the label's (and its column in a user's table), the switch in a recipe's `tasks`, the weight in
    `loss`, the output and the answer. title: one word, which names the scores. classes: from 0, the healthy one first.
    headline: the score that stands for the task: epochs and runs are compared by it. weight: default of `loss`.
    is_ordinal: whether the classes have an order, so that an error by two is worse than an error by one.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    headline: str
    weight: float = 1.0
    is_ordinal: bool = True

    @property
    def headline_question(self) -> str:
        """The key in scores.json of what the headline is a score of."""
        return f"{self.title} probabilities" if self.headline.endswith("AUROC") else self.title


PHOTO_TASKS: Final[tuple[PhotoTask, ...]] = (
    PhotoTask("grade", "DR", GRADES, "kappa"),
    PhotoTask("dme", "DME", DME_RISKS, "accuracy", weight=0.5),
)
CLASSES: Final[dict[str, tuple[str, ...]]] = {task.name: task.classes for task in PHOTO_TASKS}
FURTHER_TASKS: Final[tuple[PhotoTask, ...]] = tuple(task for task in PHOTO_TASKS if task.name not in ("grade", "dme"))
"""Those that the rules, the referral and the explanations do not use; in findings.json they are under `tasks`."""

View = Literal["whole", "close"]
"""What a network sees of the eye: all of it, or its details."""

LANDMARKS: Final[tuple[str, ...]] = ("optic_disc", "fovea")

DATASETS: Final[dict[str, str]] = {
    "idrid-A": "IDRiD, outlined",
    "idrid-B": "IDRiD",
    "srahim": "srahim",
    "heimed": "HEI-MED",
    "diaretdb1": "DIARETDB1",
    "eyepacs400": "EyePACS",
    "messidor2": "Messidor-2",
    "eophtha": "e-ophtha",
    "aptos": "APTOS 2019",
    "eyepacs1024": "EyePACS, 1024 px",
    "odir400": "ODIR-5K",
    "drimdb": "DRIMDB",
}
"""The data sets that the shipped models learn from or are scored on: key of scores and recipes to name in reports."""

NOISY_GRADE_SETS: Final = ("eyepacs400", "eyepacs1024", "aptos")
"""Those whose grade 0 comes from one quick reading: it does not prove that a lesion found is false."""


def structure(code: str) -> Structure:
    """The structure of that code; raises `KeyError` naming the known ones."""
    for item in STRUCTURES:
        if item.code == code:
            return item
    raise KeyError(f"No structure {code!r}; known: {', '.join(CODES)}.")


def referable(grade: int) -> bool:
    """Whether a grade calls for a referral."""
    return grade >= REFERABLE_FROM
