"""Which scores stand on the page, which way is better, and how a score is taken again from what each photo adds to it.

A photo's row (photos.jsonl) holds enough to add up the most important scores anew over any photos: the difference
between two runs is drawn again by visits without predicting anything twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from funduscope.evaluation.scores import FALSE_LESIONS, PhotoScore
from funduscope.metrics import DenseState, GradingState, MaskState
from funduscope.metrics.dense import BINS
from funduscope.vocabulary import DME_RISKS, EITHER_EXUDATE, GRADES, LESIONS

Row = dict[str, Any]

FALSELY: Final = "false HE, EX or SE"
PIXELS, MASK = " pixels", " mask"

# Probability bins of a row: evenly spaced in the logit, so that maps that never rise above a hundredth keep an order.
_EDGES: Final = np.unique(
    np.concatenate([[0], np.rint(BINS / (1 + np.exp(-np.linspace(-11, 11, 127)))).astype(np.int64)])
)


@dataclass(frozen=True)
class Kind:
    """A score by its names in scores.json. table: the heading it stands under. key: it is tested between runs."""

    table: str
    state: str
    score: str
    shown: str
    higher: bool = True
    key: bool = False

    @property
    def digits(self) -> int:
        """Behind the point: pixels are told in tenths."""
        return 1 if self.score.endswith("px") else 3


@dataclass(frozen=True)
class Measure:
    """A kind of score on one data set."""

    dataset: str
    kind: Kind

    @property
    def title(self) -> str:
        """In words: the score and its data set."""
        return f"{self.kind.shown}, {self.dataset}"

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


def _shown(code: str) -> str:
    return code.replace("|", " or ")


_CODES: Final = (*LESIONS, EITHER_EXUDATE)
KINDS: Final[tuple[Kind, ...]] = (
    Kind(GRADING, "DR", "kappa", "DR kappa", key=True),
    Kind(GRADING, "DR", "accuracy", "DR accuracy"),
    Kind(GRADING, "DME", "accuracy", "DME accuracy", key=True),
    Kind(GRADING, "DR and DME", "accuracy", "DR and DME right"),
    Kind(GRADING, "referable DR", "AUROC", "referable DR, AUROC"),
    Kind(GRADING, "maculopathy", "AUROC", "maculopathy, AUROC"),
    *(Kind(AP, f"{code}{PIXELS}", "average precision", f"{_shown(code)} AP", key=True) for code in _CODES),
    *(Kind(DICE, f"{code}{MASK}", "Dice", f"{_shown(code)} Dice") for code in _CODES),
    Kind(REST, f"OD{MASK}", "IoU", "disc IoU", key=True),
    Kind(REST, "disc center", "mean px", "disc center, px", higher=False, key=True),
    Kind(REST, "fovea", "mean px", "fovea, px", higher=False, key=True),
    Kind(REST, FALSELY, "photos with any", "healthy eyes marked", higher=False, key=True),
)


def pack(photo: PhotoScore) -> None:
    """Puts into the photo's row what its masks and maps add to the scores of `KINDS`.

    A mask: true, false and missed pixels. A map: the first bin that holds a pixel, and from there on the pixels inside
    and outside the true mask.
    """
    named = {kind.state for kind in KINDS}
    for name, state in photo.states.items():
        if name in named and isinstance(state, MaskState):
            photo.row[name] = [int(state.tp), int(state.fp), int(state.fn)]
        elif name in named and isinstance(state, DenseState):
            inside, outside = (np.add.reduceat(part, _EDGES) for part in (state.positive, state.negative))
            filled = np.flatnonzero(inside + outside)
            kept = slice(filled[0], filled[-1] + 1)
            photo.row[name] = [int(filled[0]), inside[kept].tolist(), outside[kept].tolist()]


def truths(row: Row) -> dict[str, Any]:
    """What the photo's labels said, as far as the row tells: two runs are compared on photos where they agree."""
    masks = {name: value[0] + value[2] for name, value in row.items() if name.endswith(MASK)}
    return masks | {name: row[name] for name in ("grade", "dme", "maculopathy") if name in row}


def sums(kind: Kind, row: Row) -> np.ndarray | None:
    """(F,) what one photo adds to the score; None where it adds nothing, or the row does not hold it."""
    taken = _FORMULAS.get(kind.score)
    return taken[0](kind.state, row) if taken else None


def score_of(kind: Kind, added: np.ndarray) -> np.ndarray:
    """(R, F) sums over photos to (R,) scores, nan where a score does not exist. Equal to those of `metrics`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _FORMULAS[kind.score][1](np.asarray(added, np.float64))


def _confusion(state: str, row: Row) -> np.ndarray | None:
    fields = {"DR": ("grade", "predicted_grade", len(GRADES)), "DME": ("dme", "predicted_dme", len(DME_RISKS))}
    if state not in fields or row.get(fields[state][0]) is None:
        return None
    truth, said, classes = fields[state]
    return GradingState.of([row[truth]], [row[said]], classes).confusion.ravel()


def _distance(state: str, row: Row) -> np.ndarray | None:
    distance = row.get(f"{state} px")
    return None if distance is None else np.array([distance, 1.0])


def _counts(state: str, row: Row) -> np.ndarray | None:
    return np.array(row[state], np.float64) if state in row else None


def _bins(state: str, row: Row) -> np.ndarray | None:
    if state not in row:
        return None
    first, inside, outside = row[state]
    table = np.zeros((2, len(_EDGES)))
    table[:, first : first + len(inside)] = inside, outside
    return table.ravel()


def _falsely(state: str, row: Row) -> np.ndarray | None:
    counts = row.get("false lesions")
    return None if counts is None else np.array([any(counts[code] for code in FALSE_LESIONS[state]), 1.0])


def _kappa(added: np.ndarray) -> np.ndarray:
    classes = round(added.shape[1] ** 0.5)
    confusion = added.reshape(-1, classes, classes)
    grade = np.arange(classes)
    weights = (grade[:, None] - grade[None, :]) ** 2
    chance = confusion.sum(axis=2)[:, :, None] * confusion.sum(axis=1)[:, None, :]
    return 1 - (weights * confusion).sum(axis=(1, 2)) * confusion.sum(axis=(1, 2)) / (weights * chance).sum(axis=(1, 2))


def _accuracy(added: np.ndarray) -> np.ndarray:
    classes = round(added.shape[1] ** 0.5)
    return added[:, :: classes + 1].sum(axis=1) / added.sum(axis=1)


def _mean(added: np.ndarray) -> np.ndarray:
    return added[:, 0] / added[:, 1]


def _dice(added: np.ndarray) -> np.ndarray:
    tp, fp, fn = added.T
    return 2 * tp / (2 * tp + fp + fn)


def _iou(added: np.ndarray) -> np.ndarray:
    return added[:, 0] / added.sum(axis=1)


def _average_precision(added: np.ndarray) -> np.ndarray:
    """Over the bins of a row. A bin's pixels are taken as spread evenly in it, which comes within 0.005 of the score
    over 65536 bins; both runs of a comparison are counted alike."""
    positive, negative = np.split(added[:, ::-1], 2, axis=1)[::-1]
    tp = np.cumsum(positive, axis=1) - positive / 2
    marked = tp + np.cumsum(negative, axis=1) - negative / 2
    precision = tp / np.maximum(marked, 0.5)  # an empty bin has no pixel whose precision would count
    return (positive * precision).sum(axis=1) / positive.sum(axis=1)


_FORMULAS: Final[dict[str, tuple[Callable[[str, Row], np.ndarray | None], Callable[[np.ndarray], np.ndarray]]]] = {
    "kappa": (_confusion, _kappa),
    "accuracy": (_confusion, _accuracy),
    "mean px": (_distance, _mean),
    "Dice": (_counts, _dice),
    "IoU": (_counts, _iou),
    "average precision": (_bins, _average_precision),
    "photos with any": (_falsely, _mean),
}
