"""What would change the grade: each kind of lesion is inpainted in turn, and the photo is graded again.

A counterfactual in pixels shows what the model depends on, not what the eye would be like. It is only as good as the
masks and the inpainting; docs/explanations.md measures both on photos with true masks, against control regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from funduscope.explain.inpaint import inpaint
from funduscope.imaging.framing import frame
from funduscope.inference.findings import Findings
from funduscope.inference.model import Model
from funduscope.vocabulary import LESIONS

ALL: Final = "all"
"""Stands for all kinds of lesion together."""


@dataclass(frozen=True)
class PredictedAnswer:
    """The compared answer: grade and edema risk, and the probabilities of grade 2 or more and of risk 1 or more.

    None if the model has no such task.
    """

    grade: int | None
    referable: float | None
    dme: int | None
    edema: float | None

    @classmethod
    def of(cls, findings: Findings) -> PredictedAnswer:
        """The answer in findings."""
        edema = None if findings.dme_probs is None else float(findings.dme_probs[1:].sum())
        return cls(findings.grade, findings.referable_probability, findings.dme, edema)


@dataclass(frozen=True)
class Change:
    """One kind of lesion inpainted. code: of the lesion, or `ALL`. area_frac: share of the photo under its mask.

    left_frac: share of the mask's area in which the model still finds that kind afterwards; None for `ALL`.
    """

    code: str
    before: PredictedAnswer
    after: PredictedAnswer
    area_frac: float
    left_frac: float | None


def counterfactual(model: Model, findings: Findings) -> tuple[Change, ...]:
    """Each kind of lesion found in a photo inpainted by itself and, where there are several, all of them together.

    findings: of that model, perhaps with corrected masks. Empty if no lesion was found. It takes seconds: one answer
    of the model and one inpainting for each kind.
    """
    if not findings.gradable_ok:
        return ()
    masks = {code: findings.mask(code) for code in findings.codes if code in LESIONS}
    return tuple(changes(model, findings, {code: mask for code, mask in masks.items() if mask.any()}))


def changes(model: Model, findings: Findings, masks: Mapping[str, np.ndarray]) -> Iterator[Change]:
    """As `counterfactual`, for given masks: structure code to (H, W) bool, none of them empty."""
    before = PredictedAnswer.of(findings)
    every = np.zeros((findings.photo.height, findings.photo.width), bool)
    for mask in masks.values():
        every |= mask
    for code, mask in (dict(masks) | ({ALL: every} if len(masks) > 1 else {})).items():
        after = without(model, findings, mask, every)
        left = None
        if code in after.codes:
            left = float(np.count_nonzero(after.mask(code) & mask) / np.count_nonzero(mask))
        yield Change(code, before, PredictedAnswer.of(after), float(mask.mean()), left)


def without(model: Model, findings: Findings, mask: np.ndarray, avoid: np.ndarray | None = None) -> Findings:
    """The findings of the same photo with a mask inpainted, in the same frame. avoid: no source of grain.

    They are given whatever the photo's quality, as those that they are compared with were.
    """
    photo = findings.photo
    changed = replace(photo, pixels=inpaint(photo.pixels, mask, findings.transform, avoid))
    framed = frame(photo, model.card.close_px)
    return model.answer(changed, framed.resampled(changed.pixels, framed.transform.side_px), force=True)
