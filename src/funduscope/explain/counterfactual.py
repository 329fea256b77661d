"""What would change this grade: one kind of lesion after another filled in, and the photo graded again.

A counterfactual in pixels: it tells what the model looks at, not what the eye would be like. It can only be as good as
the outlines and the filling; docs/explanations.md measures both on photos with true masks, against control regions.
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
class Answer:
    """What is compared: grade and edema risk with the probabilities of referable (2 or more) and of edema (1 or more).

    None where the model does not answer it.
    """

    grade: int | None
    referable: float | None
    dme: int | None
    edema: float | None

    @classmethod
    def of(cls, findings: Findings) -> Answer:
        """Of findings."""
        edema = None if findings.dme_probs is None else float(findings.dme_probs[1:].sum())
        return cls(findings.grade, findings.referable_probability, findings.dme, edema)


@dataclass(frozen=True)
class Change:
    """One kind filled in. code: of the lesion, or `ALL`. area_frac: of the photo, filled in by its mask.

    left_frac: how much of the mask's area the model still finds that kind in afterwards; None for `ALL`.
    """

    code: str
    before: Answer
    after: Answer
    area_frac: float
    left_frac: float | None


def counterfactual(grader: Model, findings: Findings) -> tuple[Change, ...]:
    """Each kind of lesion that was found filled in by itself and, where there are several, all of them together.

    findings: of that grader, or of it with corrected masks. Empty where no lesion was found. One answer of the model
    and one filling a kind: seconds.
    """
    if not findings.gradable_ok:
        return ()
    masks = {code: findings.mask(code) for code in findings.codes if code in LESIONS}
    return tuple(changes(grader, findings, {code: mask for code, mask in masks.items() if mask.any()}))


def changes(grader: Model, findings: Findings, masks: Mapping[str, np.ndarray]) -> Iterator[Change]:
    """As `counterfactual`, of masks that are given. masks: structure code to (H, W) bool, each with something in it."""
    before = Answer.of(findings)
    every = np.zeros((findings.photo.height, findings.photo.width), bool)
    for mask in masks.values():
        every |= mask
    asked = dict(masks) | ({ALL: every} if len(masks) > 1 else {})
    for code, mask in asked.items():
        after = without(grader, findings, mask, every)
        left = None
        if code in after.codes:
            left = float(np.count_nonzero(after.mask(code) & mask) / np.count_nonzero(mask))
        yield Change(code, before, Answer.of(after), float(mask.mean()), left)


def without(grader: Model, findings: Findings, mask: np.ndarray, avoid: np.ndarray | None = None) -> Findings:
    """The findings of the same photo with a mask's places filled in, seen through the same frame."""
    photo = findings.photo
    changed = replace(photo, pixels=inpaint(photo.pixels, mask, findings.transform, avoid))
    framed = frame(photo, grader.card.close_px)
    return grader.answer(changed, replace(framed, image=framed.transform.image_to_frame(changed.pixels)))
