"""How far two forms of one model are apart on the same photos: torch and ONNX, float32 and INT8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from funduscope.inference.model import Model

MOST_DIFFERENCE = 1e-3
"""Of a probability, of a router's share, and of a landmark's place over the photo's width."""


class ParityError(RuntimeError):
    """Two forms of a model that could not be compared; the message says why."""


@dataclass(frozen=True)
class Parity:
    """How far two forms of a model are apart.

    photos: how many both answered. most_difference: of any probability. labels_equal: share of those photos with the
    same grade and DME risk. most_landmark: the largest distance of disc center or fovea over the photo's width,
    infinite where only one form has it. most_gate: the largest difference of a router's share. most_cam: of a class
    activation map at any place, over the map's largest value. All three are 0 where a model has none.
    """

    photos: int
    most_difference: float
    labels_equal: float
    most_landmark: float = 0.0
    most_gate: float = 0.0
    most_cam: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the two may stand for each other: as far apart as float32 rounds, and no further."""
        worst = max(self.most_difference, self.most_landmark, self.most_gate, self.most_cam)
        return worst <= MOST_DIFFERENCE and self.labels_equal == 1


def compare(first: Model, second: Model, photos: list[np.ndarray]) -> Parity:
    """Both predictors on the same photos: how far each kind of answer is apart at most, and equal labels.

    A photo that is refused says nothing of either and is not counted. Raises `ParityError` where none is answered.
    """
    most, landmark, gate, cam, equal, answered = 0.0, 0.0, 0.0, 0.0, 0, 0
    for image in photos:
        a, b = first(image), second(image)
        if not (a.gradable_ok and b.gradable_ok):
            continue
        answered += 1
        for name in ("grade_probs", "dme_probs"):
            if getattr(a, name) is not None:
                most = max(most, float(np.abs(getattr(a, name) - getattr(b, name)).max()))
        for code in a.codes:
            most = max(most, float(np.abs(a.frame_probs[code] - b.frame_probs[code]).max()))
        for one, other in ((a.disc_xy, b.disc_xy), (a.fovea_xy, b.fovea_xy)):
            landmark = max(landmark, _apart(one, other) / image.shape[1])
        for router, shares in a.gates.items():
            gate = max(gate, float(np.abs(np.subtract(shares, b.gates[router])).max()))
        for task in a.cams.keys() | b.cams.keys():
            cam = max(cam, _maps_apart(a.cams.get(task), b.cams.get(task)))
        equal += (a.grade, a.dme) == (b.grade, b.dme)
    if not answered:
        raise ParityError(f"None of the {len(photos)} photos shows an eye: there is nothing to compare on them.")
    return Parity(answered, most, equal / answered, landmark, gate, cam)


def _apart(one: Sequence[float] | None, other: Sequence[float] | None) -> float:
    """The distance of two points; 0 where neither is there."""
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return math.dist(one, other)


def _maps_apart(one: np.ndarray | None, other: np.ndarray | None) -> float:
    """The largest difference of two stacks of maps over the largest value in them; infinite where one has none."""
    if one is None or other is None:
        return math.inf
    return float(np.abs(one - other).max() / max(1.0, float(np.abs(one).max())))
