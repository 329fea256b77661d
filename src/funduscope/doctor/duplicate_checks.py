"""Findings about duplicates: one photograph or one eye twice, their labels and folds, and pictures as proof."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from funduscope.data.case import Case
from funduscope.doctor.finding import Finding, Picture, found
from funduscope.doctor.inventory import split_of
from funduscope.doctor.kinds import Severity
from funduscope.doctor.label_rows import LabelRows
from funduscope.duplicates.pairs import DuplicatePair
from funduscope.duplicates.registration import warped
from funduscope.imaging.framing import frame
from funduscope.imaging.vessels import SIDE_PX

PICTURE_PX: Final = 384
_SQUARES: Final = 6
"""Squares of the checkerboard in each direction."""

PhotoLabels = Mapping[str, Any]
"""Labels and places of one photo by their word in `_WORDS`, None if unknown."""

_WORDS: Final = {
    "fold": "fold",
    "visit": "patient",
    "grade": "grade",
    "DME risk": "dme",
    "quality": "quality",
    "side": "eye",
}
"""Compared labels, and their roles in label files."""


def examine(
    pairs: Iterable[DuplicatePair], labels_of: Callable[[str], PhotoLabels], image: Callable[[str], np.ndarray]
) -> Iterator[Finding]:
    """Findings about pairs of photos. labels_of: a photo's name to its labels. image: to its pixels."""
    for pair in pairs:
        both = labels_of(pair.first), labels_of(pair.second)
        labels = {word: [each.get(word) for each in both] for word in _WORDS}
        labels = {word: values for word, values in labels.items() if values != [None, None]}
        split = _splits(pair.first, pair.second)
        wrong = [word for word, values in labels.items() if word != "visit" and _differ(values)]
        says = f"{'One photograph' if pair.kind == 'same_photo' else 'One eye'} under two names"
        says += ", one of them mirrored" if pair.mirrored else ""
        says += "".join(f"; {word} {labels[word][0]} and {labels[word][1]}" for word in wrong)
        says += f"; {split}" if split else ""
        severity = _severity(pair.kind, wrong, bool(split), labels)
        evidence = {"mirrored": pair.mirrored, **pair.evidence, **labels}
        pictures = [
            Picture(
                "Both in one frame: the first in red, the second in cyan, gray where they agree.",
                partial(overlaid, pair, image),
            ),
            Picture("Both in one frame: squares of the first and of the second in turn.", partial(board, pair, image)),
        ]
        yield found(pair.kind, [pair.first, pair.second], f"{says}.", evidence, severity=severity, pictures=pictures)


def labels_of(case: Case | None, photo: Path, label_rows: LabelRows) -> PhotoLabels:
    """The labels of a photo by its case; by the rows of label files where no reader took it."""
    if case is None:
        return {word: label_rows.value(photo, role) for word, role in _WORDS.items()}
    labels = case.labels
    of_case = {"grade": labels.grade, "DME risk": labels.dme, "quality": labels.quality, "side": labels.laterality}
    return {"fold": case.fold, "visit": case.visit, **of_case}


def _differ(values: Sequence[Any]) -> bool:
    return None not in values and values[0] != values[1]


def _splits(first: str, second: str) -> str:
    """A clause where the folders of two photos are on two sides of an official split; "" otherwise."""
    sides = split_of(first), split_of(second)
    return f"one is of {sides[0]}, the other of {sides[1]}" if _differ(sides) else ""


def _severity(kind: str, wrong: list[str], split: bool, labels: Mapping[str, list[Any]]) -> Severity:
    """error where a test leaks or labels of one photo differ; warning where labels of one eye or visits differ."""
    if split or "fold" in wrong or (kind == "same_photo" and wrong):
        return "error"
    return "warning" if wrong or kind == "same_photo" or _differ(labels.get("visit", [None, None])) else "info"


def overlaid(pair: DuplicatePair, image: Callable[[str], np.ndarray]) -> np.ndarray:
    """(S, S, 3) uint8: the first's green channel in red and the second's in cyan, so that what coincides is gray."""
    first, second = (_without_light(each[..., 1]) for each in _in_one_frame(pair, image))
    return np.stack([first, second, second], axis=2)


def board(pair: DuplicatePair, image: Callable[[str], np.ndarray]) -> np.ndarray:
    """(S, S, 3) uint8: squares of the first and of the second in turn; vessels continue across their borders."""
    first, second = _in_one_frame(pair, image)
    place = np.arange(PICTURE_PX) * _SQUARES // PICTURE_PX
    return np.where((place[:, None, None] + place[:, None]) % 2 == 1, first, second)


def _in_one_frame(pair: DuplicatePair, image: Callable[[str], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    first, second = (frame(image(name), PICTURE_PX).image for name in (pair.first, pair.second))
    return warped(first, pair.registration.scaled(PICTURE_PX / SIDE_PX)), second


def _without_light(green: np.ndarray) -> np.ndarray:
    """(S, S) uint8: a channel without its slow changes of light, so that two exposures look alike."""
    light = green.astype(np.float32)
    lit = (light > 8).astype(np.float32)
    around = cv2.GaussianBlur(light, (0, 0), 24) / np.maximum(cv2.GaussianBlur(lit, (0, 0), 24), 0.05)
    return np.clip(128 + 3 * (light - around) * lit, 0, 255).astype(np.uint8) * (lit > 0).astype(np.uint8)
