"""One photo with different labels in two data sets: training uses both.

IDRiD's A has masks and no grades, its B has grades and no masks, and many photos are in both under unrelated names.
Scores count such a photo once for each task (docs/protocol.md: lesions by A, grades by B), so scoring never uses this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from funduscope.data.case import Case

_SIDE_PX: Final = 32
_ALIKE_LEVELS: Final = 1.2
"""In thumbnails of 32 px the 37 pairs differ by 0.6 levels of 255 at most, the nearest other photos of A and B by 1.8
(two exposures of one eye; of different eyes 3.8)."""


def share_labels(cases: Sequence[Case]) -> list[Case]:
    """The cases, each with the grade, edema risk, other classes, quality and eye that the other case of its photo has.

    Only cases in the list give labels, so a training learns nothing from a fold that is kept apart. A pair whose photos
    do not look the same is left alone: in a copy of the data with other numbers, the names mean other photos. Where
    both say something of one question, or contradict each other, a case keeps its own. Points, boxes and masks are not
    shared: they are in the pixels of their own copy of the photo.
    """
    by_key = {case.key: case for case in cases}
    return [_with_labels_of(case, by_key.get(case.same_photo or "")) for case in cases]


def _with_labels_of(case: Case, other: Case | None) -> Case:
    if other is None or not _look_the_same(case.path, other.path):
        return case
    own = case.labels
    given = {
        name: value
        for name in ("grade", "dme", "quality", "laterality")
        if getattr(own, name) is None
        and (value := getattr(other.labels, name)) in (own.possible_classes(name) or [value])
    }
    classes = {task: known for task, known in other.labels.classes.items() if own.known_classes(task) is None}
    return replace(case, labels=replace(own, **given, classes=classes | own.classes))


def _look_the_same(one: Path, other: Path) -> bool:
    try:
        first, second = _thumbnail(one), _thumbnail(other)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # the training names what it cannot read
        return False
    return float(np.abs(first - second).mean()) < _ALIKE_LEVELS


def _thumbnail(path: Path) -> np.ndarray:
    with Image.open(path, formats=("JPEG", "PNG", "TIFF")) as image:
        image.draft("L", (4 * _SIDE_PX, 4 * _SIDE_PX))  # decodes a JPEG at an eighth of its size
        return np.asarray(image.convert("L").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX), np.float32)
