"""Where in a photo an answer comes from: class activation maps as evidence for one answer against the others.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016. A head that is linear on pooled
features has such maps exactly: the mean of a class's map is its logit (Draelos and Carin, "Use HiResCAM instead of
Grad-CAM for faithful explanations", 2020, section 3). What differs: one logit alone has no meaning, because the
probabilities do not change when all logits rise together. The map shown is therefore that of the log odds of some
classes against the rest, to first order at the given answer.
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

EXPLAINED_TARGETS: Final[tuple[Target, ...]] = ("referable", "edema")
"""The answers explained to users: the two decisions. "Why this grade" has no place to point at where the grade is 0,
and between neighboring grades it points at their difference, which is not the disease."""

TASK_OF: Final[Mapping[Target, str]] = {"referable": "grade", "edema": "dme", "grade": "grade", "dme": "dme"}
"""The photo tasks of the explained answers: referable, edema; just this grade, just this risk."""

EvidenceOf = Callable[[str, tuple[int, ...]], np.ndarray]
"""Task and classes to a map (n, n), in log odds, of these classes against the rest; used without an exact map."""

_LEAST: Final = 1e-9


@dataclass(frozen=True, eq=False)
class Explanation:
    """The evidence for one answer by place.

    evidence: (n, n) float32 over the frame, in log odds: positive for `classes` of `task`, negative against; its mean
    is the log odds up to a constant. probability: of `classes`. also_by_lesions: the answer also depends on the lesions
    that were outlined, which the map does not show. exact: an exact map; otherwise it holds to first order and shows
    only evidence in favor.
    """

    target: Target
    task: str
    classes: tuple[int, ...]
    probability: float
    evidence: np.ndarray
    transform: CropTransform
    also_by_lesions: bool = False
    exact: bool = True


def explanation(findings: Findings, target: Target, otherwise: EvidenceOf | None = None) -> Explanation | None:
    """The evidence for an answer of the findings. None if there is no answer or no map.

    target: "referable" (grade 2 or more against less) and "edema" (risk 1 or 2 against 0), the decisions; "grade" and
    "dme", the most probable one against all others. otherwise: makes the map where the model has no exact one
    (`report.checkpoint_maps`). Raises `ValueError` for another target.
    """
    if target not in TASK_OF:
        raise ValueError(f"There is no explanation of {target!r}; there are: {', '.join(TASK_OF)}.")
    task = TASK_OF[target]
    probs, answer = (findings.grade_probs, findings.grade) if task == "grade" else (findings.dme_probs, findings.dme)
    cams = findings.cams.get(task)
    if probs is None or answer is None or (cams is None and otherwise is None):
        return None
    several = {"referable": range(REFERABLE_FROM, len(GRADES)), "edema": range(1, len(DME_RISKS))}
    classes = tuple(several.get(target, (answer,)))
    also_by_lesions = task in findings.by_lesions
    probability = float(probs[list(classes)].sum())
    if cams is not None:
        evidence = np.tensordot(log_odds_weights(probs, classes), cams, axes=1).astype(np.float32)
    else:
        assert otherwise is not None
        evidence = otherwise(task, classes)
    return Explanation(
        target, task, classes, probability, evidence, findings.transform, also_by_lesions, exact=cams is not None
    )


def log_odds_weights(probs: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """(C,) float64: the gradient of the log odds of `classes` against the rest by the logits; it sums to 0.

    probs: (C,), the softmax of the logits. Where one side has no probability, its classes get equal weights.
    """
    inside = np.zeros(len(probs), bool)
    inside[list(classes)] = True
    weights = np.asarray(probs, np.float64)
    sides = [np.where(side, weights + _LEAST, 0.0) for side in (inside, ~inside)]
    return sides[0] / sides[0].sum() - sides[1] / sides[1].sum()
