"""Macular edema risk from two sources: the network's own answer, and the places of hard exudates.

IDRiD defines the risk by a distance: 0 without hard exudates, 1 with some, 2 with one within a disc diameter of the
fovea (Porwal et al., "IDRiD: Diabetic Retinopathy - Segmentation and Grading Challenge", Medical Image Analysis 59,
2020). The network's answer is learned from some hundred labels on the whole view, where exudates are a few pixels wide.
The map of exudates is learned from outlines on the close view, without grades. One linear layer, fixed on validation
photos, weighs both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from funduscope.imaging.framing import CropTransform
from funduscope.inference.card import Card
from funduscope.inference.landmarks import Point
from funduscope.inference.runtime import Outputs, plane_of, softmax

NEAR_FRAC: Final = 0.155
"""A disc diameter as a share of the frame's side, in photos with a field of view of 50 degrees."""

_SHARE: Final = 1 / 8192
"""This share of the pixels, the strongest ones, represents the map: one exudate of a tenth of a disc diameter."""

_CLIP: Final = 9.0  # larger logits carry no more information


def exudate_logits(whole: Outputs, close: Outputs, card: Card) -> np.ndarray | None:
    """Logits (h, w) of hard exudates, from the view that segments them; None where the model does not."""
    planes = (close if "EX" in card.close else whole).structures
    if planes is None or "EX" not in card.structures or "EX" in card.not_learned:
        return None
    return planes[0, plane_of("EX", card)]


def exudate_evidence(
    logits: np.ndarray, fovea_xy: Point | None, transform: CropTransform
) -> tuple[float, float] | None:
    """Mean logits of the strongest hard exudates anywhere, and of those within a disc diameter of the fovea.

    logits: (h, w) over the frame. fovea_xy: in photo pixels; None gives None.
    """
    if fovea_xy is None:
        return None
    side = len(logits)
    x, y = transform.to_frame(np.array([fovea_xy]))[0] * (side / transform.side_px)
    at = np.arange(side) + 0.5
    near = (at[None] - x) ** 2 + (at[:, None] - y) ** 2 < (NEAR_FRAC * side) ** 2
    most = max(1, round(side * side * _SHARE))
    return _strongest(logits.ravel(), most), _strongest(logits[near], most)


def weighed(log_probs: np.ndarray, evidence: Sequence[float], layer: Mapping[str, Any]) -> np.ndarray:
    """Probabilities (3,) of the risks.

    log_probs: (3,), of the network's own answer. evidence: of `exudate_evidence`. layer: `weights` (3, 5) of both, and
    `bias` (3,).
    """
    return softmax(np.asarray(layer["weights"]) @ np.concatenate([log_probs, evidence]) + np.asarray(layer["bias"]))


def _strongest(values: np.ndarray, most: int) -> float:
    """The mean of the largest values; the lowest value where there are none, outside the frame."""
    if not len(values):
        return -_CLIP
    most = min(most, len(values))
    return float(np.clip(np.partition(values, -most)[-most:], -_CLIP, _CLIP).mean())
