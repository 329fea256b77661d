"""Class activation maps as a model's outputs give them, made those of the calibrated logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funduscope.inference.card import Card
from funduscope.inference.runtime import Outputs

if TYPE_CHECKING:
    pass


def cams_of(whole: Outputs, card: Card, exudates: tuple[float, float] | None = None) -> dict[str, np.ndarray]:
    """Task to class activation maps (C, n, n) of the calibrated logits; only of tasks for which the model has them.

    exudates: what speaks for edema beside the network (inference/edema.py). Where that is weighed in, the maps are
    those of the network's share in the logits, to first order.
    """
    given = {"grade": whole.grade_cam, "dme": whole.dme_cam}
    told = {task: cams[0] / card.temperatures[task] for task, cams in given.items() if cams is not None}
    if whole.dme_cam is not None and whole.dme is not None and exudates is not None and card.dme_evidence is not None:
        powers = np.exp(whole.dme[0] - whole.dme[0].max())
        own = whole.dme_cam[0]
        centered = own - np.tensordot(powers / powers.sum(), own, axes=1)  # of the logarithms of the probabilities
        told["dme"] = np.tensordot(np.asarray(card.dme_evidence["weights"])[:, : len(own)], centered, axes=1)
    return told
