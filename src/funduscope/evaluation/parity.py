"""Differences between two forms of one model on the same photos: torch and ONNX, float32 and INT8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from funduscope.inference.model import Model

MAX_DIFFERENCE = 1e-3
"""Largest difference of a probability, a router's share, a map, and the position of a landmark over the photo's
width."""


class ParityError(RuntimeError):
    """Two forms of a model that could not be compared; the message says why."""


@dataclass(frozen=True)
class Parity:
    """The largest differences between two forms of a model.

    photos: the number that both answered. most_difference: of any probability. labels_equal: share of those photos with
    the same class in every photo task. most_landmark: distance of disc center or fovea over the photo's width, infinite
    where only one form has it. most_gate: of a router's share. most_cam: of a class activation map at any pixel, over
    the largest value of the first form's maps of that task where it exceeds 1. most_of_structure: of a structure's
    probability, as the mean over a frame. The last four are 0 if a model has none.
    """

    photos: int
    most_difference: float
    labels_equal: float
    most_landmark: float = 0.0
    most_gate: float = 0.0
    most_cam: float = 0.0
    most_of_structure: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether one may replace the other: the differences are those of float32 rounding."""
        worst = max(self.most_difference, self.most_landmark, self.most_gate, self.most_cam)
        return worst <= MAX_DIFFERENCE and self.labels_equal == 1


def _largest(*differences: float) -> float:
    """The largest difference; infinite if one is no number, which comparisons would pass over."""
    return math.inf if any(map(math.isnan, differences)) else max(differences)


def compare(first: Model, second: Model, photos: list[np.ndarray]) -> Parity:
    """Runs both predictors on the same photos: the largest difference of each kind of answer, and equal labels.

    Refused photos are not counted. Raises `ParityError` if all are refused.
    """
    most, landmark, gate, cam, structure, equal, answered = 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0
    for image in photos:
        a, b = first(image), second(image)
        if not (a.gradable_ok and b.gradable_ok):
            continue
        answered += 1
        for task, probs in a.class_probs.items():
            most = _largest(most, float(np.abs(probs - b.class_probs[task]).max()))
        for code in a.codes:
            apart = np.abs(a.frame_probs[code] - b.frame_probs[code])
            most, structure = _largest(most, float(apart.max())), _largest(structure, float(apart.mean()))
        for one, other in ((a.disc_xy, b.disc_xy), (a.fovea_xy, b.fovea_xy)):
            landmark = _largest(landmark, _apart(one, other) / image.shape[1])
        for router, shares in a.gates.items():
            gate = _largest(gate, float(np.abs(np.subtract(shares, b.gates[router])).max()))
        for task in a.cams.keys() | b.cams.keys():
            cam = _largest(cam, _maps_apart(a.cams.get(task), b.cams.get(task)))
        equal += all(a.answer(task) == b.answer(task) for task in a.class_probs)
    if not answered:
        raise ParityError(f"None of the {len(photos)} photos shows an eye: there is nothing to compare on them.")
    return Parity(answered, most, equal / answered, landmark, gate, cam, structure)


def _apart(one: Sequence[float] | None, other: Sequence[float] | None) -> float:
    """The distance of two points; 0 if both are None, infinite if one is."""
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return math.dist(one, other)


def _maps_apart(one: np.ndarray | None, other: np.ndarray | None) -> float:
    """The largest difference of two stacks of maps, over the largest value of the first where that exceeds 1; infinite
    where one is missing."""
    if one is None or other is None:
        return math.inf
    return float(np.abs(one - other).max() / max(1.0, float(np.abs(one).max())))
