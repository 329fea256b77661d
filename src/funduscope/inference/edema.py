"""Macular edema risk by two witnesses: the network's own answer, and where it sees hard exudates.

IDRiD defines the risk by a distance: 0 without hard exudates, 1 with some, 2 with one within a disc diameter of the
fovea (Porwal et al., "IDRiD: Diabetic Retinopathy - Segmentation and Grading Challenge", Medical Image Analysis 59,
2020). The answer for the whole eye is learned from some hundred labels and sees exudates of a few pixels; the map of
exudates is learned from outlines, close up, and knows nothing of grades. One linear layer over both, fixed on
validation photos, says how much each is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from funduscope.imaging.framing import CropTransform
from funduscope.inference.card import Card
from funduscope.inference.landmarks import Point
from funduscope.inference.runtime import Outputs, softmax

NEAR_FRAC: Final = 0.155
"""A disc diameter as a share of the frame's side, in photos of 50 degrees."""

_SHARE: Final = 1 / 8192
"""The strongest of so many pixels speak for the map: a single exudate of a tenth of a disc diameter."""

_CLIP: Final = 9.0  # a logit beyond it says no more


def exudate_logits(whole: Outputs, close: Outputs, card: Card) -> np.ndarray | None:
    """The map (h, w) of hard exudates in the view in which they are sought; None where they are not."""
    seen = (close if "EX" in card.close else whole).structures
    return None if seen is None or "EX" not in card.structures else seen[0, card.structures.index("EX")]


def exudate_evidence(
    logits: np.ndarray, fovea_xy: Point | None, transform: CropTransform
) -> tuple[float, float] | None:
    """How sure the map (h, w) of hard exudates is of its strongest place anywhere, and within a disc diameter of the
    fovea: means of logits. fovea_xy: in photo pixels; None of it gives None."""
    if fovea_xy is None:
        return None
    side = len(logits)
    x, y = transform.to_frame(np.array([fovea_xy]))[0] * (side / transform.side_px)
    at = np.arange(side) + 0.5
    near = (at[None] - x) ** 2 + (at[:, None] - y) ** 2 < (NEAR_FRAC * side) ** 2
    most = max(1, round(side * side * _SHARE))
    return _strongest(logits.ravel(), most), _strongest(logits[near], most)


def weighed(log_probs: np.ndarray, evidence: Sequence[float], layer: Mapping[str, Any]) -> np.ndarray:
    """Probabilities (3,) of the risks. log_probs (3,): of the network's own answer. layer: `weights` (3, 5), of these
    and of `exudate_evidence`, and `bias` (3,)."""
    logits = np.asarray(layer["weights"]) @ np.concatenate([log_probs, evidence]) + np.asarray(layer["bias"])
    return softmax(logits)


def _strongest(values: np.ndarray, most: int) -> float:
    """The mean of the largest; a place of which nothing is in the frame has none."""
    if not len(values):
        return -_CLIP
    most = min(most, len(values))
    return float(np.clip(np.partition(values, -most)[-most:], -_CLIP, _CLIP).mean())
