"""Out-of-distribution score: how far a photo lies from those that the model learned from.

The pooled features of the training photos, each scaled to length 1, span few directions. The distance is the length of
what of a photo's features lies outside these directions: the residual of Wang, Li, Feng and Zhang, "ViM:
Out-Of-Distribution with Virtual-logit Matching", CVPR 2022, without their logit. It is given in medians of the training
photos' own distances, and as the share of held-out photos of the same clinics that lie nearer.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

DIRECTIONS: Final = 24
"""Number of directions that describe the training photos."""

FAR_PERCENTILE: Final = 99.0
"""Above this percentile the findings warn that the photo is unlike the training photos."""

FEWEST: Final = 20
"""Fewest held-out photos for percentiles, and fewest training photos for directions."""

_LEVELS: Final = 127


@dataclass(frozen=True)
class OodScore:
    """value: in medians of the training photos' distances. percentile: held-out photos that lie nearer, 0 to 100."""

    value: float
    percentile: float

    def to_dict(self) -> dict[str, Any]:
        return {"value": round(self.value, 3), "percentile": round(self.percentile, 1)}


@dataclass(frozen=True, eq=False)
class Reference:
    """The description of the training photos. mean (C,), directions (K, C): of their features, float32.

    unit: the median of their distances. quantiles (101,): distances of held-out photos by percentile, in units.
    """

    mean: np.ndarray
    directions: np.ndarray
    unit: float
    quantiles: np.ndarray

    def of(self, features: np.ndarray) -> OodScore:
        """The distance of a photo's pooled features (C,)."""
        value = float(self._distances(np.asarray(features)[None])[0]) / self.unit
        return OodScore(value, float(np.interp(value, self.quantiles, np.arange(101.0))))

    def _distances(self, features: np.ndarray) -> np.ndarray:
        """(N, C) features to (N,) lengths of their part outside the directions."""
        offsets = _scaled(features) - self.mean
        inside = offsets @ self.directions.T
        return np.linalg.norm(offsets - inside @ self.directions, axis=1)

    def to_tree(self) -> dict[str, Any]:
        """Plain values for a card, some 70 KB at 2048 channels: directions in 8 bits, each with its own scale."""
        return {
            "mean": _packed(self.mean[None])[0],
            "directions": _packed(self.directions),
            "unit": float(self.unit),
            "quantiles": [round(float(value), 4) for value in self.quantiles],
        }

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> Reference:
        """Raises `KeyError`, `TypeError` or `ValueError` if the tree is not a reference."""
        rows = _unpacked([tree["mean"], *tree["directions"]])
        unit, quantiles = float(tree["unit"]), np.array(tree["quantiles"], float)
        if quantiles.shape != (101,) or not (np.isfinite(quantiles).all() and np.isfinite(rows).all() and unit > 0):
            raise ValueError("a reference has 101 percentiles, and finite numbers alone")
        return cls(rows[0], rows[1:], unit, quantiles)


def fit_reference(training: np.ndarray, held_out: np.ndarray | None) -> Reference | None:
    """The reference from features (N, C) of training photos and (M, C) of held-out photos of the same clinics.

    None if there are too few photos.
    """
    if len(training) < FEWEST or held_out is None or len(held_out) < FEWEST:
        return None
    features = _scaled(training)
    mean = features.mean(axis=0)
    directions = np.linalg.svd(features - mean, full_matrices=False)[2][: min(DIRECTIONS, len(training) // 2)]
    # As read back from the card, so that the percentiles belong to the stored values.
    rows = _unpacked(_packed(np.vstack([mean, directions])))
    rough = Reference(rows[0], rows[1:], 1.0, np.zeros(101))
    unit = float(np.median(rough._distances(training)))
    quantiles = np.percentile(rough._distances(held_out) / unit, np.arange(101))
    return Reference(rough.mean, rough.directions, unit, quantiles)


def ood_score(features: np.ndarray | None, tree: dict[str, Any] | None) -> OodScore | None:
    """The distance of a photo's features (C,) by a card's reference; None if either is missing."""
    return None if features is None or tree is None else Reference.from_tree(tree).of(features)


def _scaled(features: np.ndarray) -> np.ndarray:
    values = np.asarray(features, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)


def _packed(rows: np.ndarray) -> list[list[Any]]:
    """Each row as its largest value and 8-bit levels in base64."""
    packed = []
    for row in rows:
        most = float(np.abs(row).max()) or 1.0
        levels = np.rint(row / most * _LEVELS).astype(np.int8)
        packed.append([most, base64.b64encode(levels.tobytes()).decode("ascii")])
    return packed


def _unpacked(rows: list[list[Any]]) -> np.ndarray:
    return np.stack(
        [np.frombuffer(base64.b64decode(text), np.int8).astype(np.float32) * (most / _LEVELS) for most, text in rows]
    )
