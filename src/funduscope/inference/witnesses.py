"""Two witnesses for grade and edema risk: the photo as the network sees it whole, and the lesions that were found.

The lesions are summed up in plain numbers, by number, size, strength and place. An ordinal regression in which every
weight is at least 0 turns them into probabilities: more of anything never makes a lower class (McCullagh, "Regression
Models for Ordinal Data", JRSS B 1980). The joint answer is a weighed geometric mean of both (Genest and Zidek,
"Combining Probability Distributions", Statistical Science 1986). Lesions are found without regard to the grade, so
that the two err apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import cv2
import numpy as np

from funduscope.imaging.framing import CropTransform
from funduscope.inference.anatomy import Anatomy, Point
from funduscope.inference.runtime import softmax
from funduscope.vocabulary import DISC_DIAMETER_FRAC

LEVELS: Final = (0.25, 0.5, 0.75)
"""Probabilities from which on a pixel counts."""

TOP_FRACS: Final = {"strongest": 1 / 131072, "strong": 1 / 8192}
"""Shares of the frame's pixels, the most probable ones, that stand for a map: a microaneurysm, and one exudate of a
tenth of a disc diameter."""

MAX_LOGIT: Final = 9.0  # larger ones carry no more information
FLOOR: Final = 1e-6  # of a probability

LesionFeatures = dict[str, float]
"""The numbers of a photo by name: the lesion's code, and what is counted."""


@dataclass(frozen=True)
class Witness:
    """An ordinal regression of one photo task on numbers of lesions, and the exponents that pool its answer with the
    photo's own (a logarithmic opinion pool).

    numbers: names of the features that have a weight. center, spread: by which they are scaled. weights: at least 0.
    cuts: (C - 1,) ascending thresholds of the regression. shares: exponents of the photo's and the lesions'
    probabilities.
    """

    numbers: tuple[str, ...]
    center: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    cuts: tuple[float, ...]
    shares: tuple[float, float]

    def probabilities(self, found: Mapping[str, float]) -> np.ndarray:
        """(C,) of the classes, by the lesions alone."""
        row = (np.array([found[name] for name in self.numbers]) - self.center) / self.spread
        return ordinal(row[None], np.array(self.weights), np.array(self.cuts))[0]

    def joint(self, of_photo: np.ndarray, of_lesions: np.ndarray) -> np.ndarray:
        """(C,) joint probabilities."""
        return geometric_mean(of_photo[None], of_lesions[None], self.shares)[0]

    def to_tree(self) -> dict[str, Any]:
        """Plain values for the card, from which `of_tree` makes an equal one."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def of_tree(cls, tree: Mapping[str, Any]) -> Witness:
        """Raises `TypeError` if the tree is no witness."""
        return cls(**{name: tuple(value) for name, value in tree.items()})


def ordinal(rows: np.ndarray, weights: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """(N, C) probabilities of scaled rows (N, F): P(class >= k) = sigmoid(weights x row - cut k)."""
    above = 1 / (1 + np.exp(-np.clip((rows @ weights)[:, None] - cuts, -30, 30)))
    edges = np.concatenate([np.ones((len(rows), 1)), above, np.zeros((len(rows), 1))], 1)
    probs = np.maximum(edges[:, :-1] - edges[:, 1:], FLOOR)
    return probs / probs.sum(1, keepdims=True)


def geometric_mean(first: np.ndarray, second: np.ndarray, shares: tuple[float, float]) -> np.ndarray:
    """(N, C) first ** shares[0] * second ** shares[1], scaled to a sum of 1."""
    logs = shares[0] * np.log(np.maximum(first, FLOOR)) + shares[1] * np.log(np.maximum(second, FLOOR))
    return softmax(logs, 1)


def features_of_maps(
    maps: Mapping[str, np.ndarray], disc_xy: Point | None, fovea_xy: Point | None, transform: CropTransform
) -> LesionFeatures:
    """The numbers of the lesions of a photo. maps: (h, w) logits over the frame, by code. Points in photo pixels."""
    found: LesionFeatures = {}
    for code, logits in maps.items():
        scale = len(logits) / transform.side_px
        disc, fovea = (_to_cells(xy, transform, scale) for xy in (disc_xy, fovea_xy))
        found |= {f"{code} {name}": value for name, value in _map_features(logits, disc, fovea).items()}
    return found


def feature_names(codes: Iterable[str]) -> set[str]:
    """The names of all numbers that `features_of_maps` gives of these lesions."""
    blank = dict.fromkeys(codes, np.zeros((2, 2), np.float32))
    return {*features_of_maps(blank, None, None, CropTransform(0, 0, 2, 2, 2, 2))}


def _to_cells(xy: Point | None, transform: CropTransform, scale: float) -> Point | None:
    """A point of the photo in cells of a map."""
    if xy is None:
        return None
    x, y = transform.to_frame(np.array([xy]))[0] * scale
    return float(x), float(y)


def _map_features(logits: np.ndarray, disc: Point | None, fovea: Point | None) -> LesionFeatures:
    side = len(logits)
    found = {name: _strongest(logits, round(frac * side * side)) for name, frac in TOP_FRACS.items()}
    for level in LEVELS:
        mask = (logits >= np.log(level / (1 - level))).astype(np.uint8)
        count, _, stats, centers = cv2.connectedComponentsWithStats(mask, connectivity=8)
        found[f"count {level}"] = float(np.log1p(count - 1))
        found[f"area {level}"] = float(np.log1p(1e4 * stats[1:, cv2.CC_STAT_AREA].sum() / side**2))
        if level == 0.5:
            quadrants = Anatomy(disc, fovea).quadrants(centers[1:] + 0.5) if count > 1 else None
            found["quadrants"] = float(len(set(quadrants or ())))
    at = np.arange(side) + 0.5
    for diameters in (1, 2):
        near = np.full(1, -MAX_LOGIT)
        if fovea is not None:
            inside = (at[None] - fovea[0]) ** 2 + (at[:, None] - fovea[1]) ** 2
            near = logits[inside < (diameters * DISC_DIAMETER_FRAC * side) ** 2]
        found[f"within {diameters} DD"] = _strongest(near, round(TOP_FRACS["strong"] * side * side))
    return found


def _strongest(values: np.ndarray, most: int) -> float:
    """The mean of the largest values; the lowest one if there are none."""
    flat = values.ravel()
    if not len(flat):
        return -MAX_LOGIT
    most = min(max(most, 1), len(flat))
    return float(np.clip(np.partition(flat, -most)[-most:], -MAX_LOGIT, MAX_LOGIT).mean())
