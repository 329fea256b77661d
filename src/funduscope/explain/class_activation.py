"""Where in the photo an answer comes from: class activation maps as evidence for one answer against the others.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016. A head that is linear on pooled
features has such maps exactly: the mean of a class's map is its logit (Draelos and Carin, "Use HiResCAM instead of
Grad-CAM for faithful explanations", 2020, section 3). What differs: a logit alone says nothing, since probabilities
stay as they are when all logits rise together. What is shown is therefore the map of the log odds of some classes
against the rest, to first order at the answer that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from funduscope.imaging.framing import CropTransform
from funduscope.vocabulary import DME_RISKS, GRADES, REFERABLE_FROM

if TYPE_CHECKING:
    from funduscope.inference.findings import Findings

Target = Literal["grade", "referable", "dme", "edema"]

TARGETS: Final[tuple[Target, ...]] = ("referable", "edema", "grade", "dme")
"""What can be asked: why referable, why edema; why just this grade, why just this risk."""

SHOWN: Final[tuple[Target, ...]] = ("referable", "edema")
"""What is shown to people: the two decisions. "Why this grade" has no place to point at where the grade is 0, and
between neighboring grades it points at what differs, which is not what is ill."""

TASK_OF: Final[Mapping[Target, str]] = {"grade": "grade", "referable": "grade", "dme": "dme", "edema": "dme"}

EvidenceOf = Callable[[str, tuple[int, ...]], np.ndarray]
"""Makes a map, (n, n) in log odds, of classes of a task against the rest, where there is no exact one."""

_LEAST: Final = 1e-9


@dataclass(frozen=True, eq=False)
class Explanation:
    """One answer's evidence by place.

    evidence: (n, n) float32 over the frame, in log odds: positive speaks for `classes` of `task`, negative against; its
    mean is the log odds but for a constant. chance: the probability of `classes`. in_part: something else than the
    network's own answer was weighed in too (outlined exudates), which the map does not show. exact: else it holds to
    first order only, and shows nothing that speaks against.
    """

    target: Target
    task: str
    classes: tuple[int, ...]
    chance: float
    evidence: np.ndarray
    transform: CropTransform
    in_part: bool = False
    exact: bool = True

    def in_photo(self) -> np.ndarray:
        """(H, W) float32 at the photo's size: the same map, linear between its places, 0 outside the frame."""
        return self.transform.map_to_photo(self.evidence)


def explanation(findings: Findings, target: Target, otherwise: EvidenceOf | None = None) -> Explanation | None:
    """Why the findings say so. None where there is no answer, or where the model has no exact map of it.

    otherwise: what is asked for a map in that case (`report.checkpoint_maps`). target: "referable" (grade 2 or more
    against less) and "edema" (risk 1 or 2 against 0), the decisions; "grade" and "dme", the most probable one against
    all others. Raises `ValueError` for another target.
    """
    if target not in TASK_OF:
        raise ValueError(f"There is no explanation of {target!r}; there are: {', '.join(TARGETS)}.")
    task = TASK_OF[target]
    probs, answer = (findings.grade_probs, findings.grade) if task == "grade" else (findings.dme_probs, findings.dme)
    cams = findings.cams.get(task)
    if probs is None or answer is None or (cams is None and otherwise is None):
        return None
    several = {"referable": range(REFERABLE_FROM, len(GRADES)), "edema": range(1, len(DME_RISKS))}
    classes = tuple(several.get(target, (answer,)))
    in_part = task == "dme" and findings.card.dme_evidence is not None and findings.exudates is not None
    chance = float(probs[list(classes)].sum())
    if cams is not None:
        evidence = np.tensordot(log_odds_weights(probs, classes), cams, axes=1).astype(np.float32)
    else:
        assert otherwise is not None
        evidence = otherwise(task, classes)
    return Explanation(target, task, classes, chance, evidence, findings.transform, in_part, exact=cams is not None)


def log_odds_weights(probs: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """(C,) float64: the gradient of the log odds of `classes` against the rest by the logits; it sums to 0.

    probs: (C,), the softmax of the logits. Where either side has no probability at all, its classes share evenly.
    """
    inside = np.zeros(len(probs), bool)
    inside[list(classes)] = True
    weights = np.asarray(probs, np.float64)
    sides = [np.where(side, weights + _LEAST, 0.0) for side in (inside, ~inside)]
    return sides[0] / sides[0].sum() - sides[1] / sides[1].sum()
