"""Register two photos by their vessels, which coincide where both photos show one eye.

Matched keypoints propose a similarity. It is refined to an affine transform, since a retina seen from another side is a
little sheared: the one that maximizes the vessels' enhanced correlation coefficient (Evangelidis and Psarakis, IEEE
TPAMI 30(10), 2008; OpenCV's). The score is the correlation of both photos' vessels, which does not depend on light.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from funduscope.duplicates.keypoints import NEAR_PX, Keypoints, find_keypoints, matched, proposals
from funduscope.imaging.vessels import SIDE_PX, flattened, inner, lit_field, ridges

SAME_EYE: Final = 0.55
"""Two photos show one eye from this score on, where `INLIERS` or more matches agree.

Measured on 3,429 photos and 300 altered copies of 60 of them (docs/duplicates.md): the 125 true pairs of the photos
score 0.69 to 1.00 and at least 18 of their matches agree; the hardest copies score 0.57. Of the other pairs, the
highest score is 0.49 where ten or more matches agree, the next 0.36, and 0.58 where fewer do.
"""

INLIERS: Final = 10
"""This number of matches that agree on a transform is seldom chance."""

SAME_EYE_OF_FEW: Final = 0.65
MIN_INLIERS: Final = 6
"""The score that proves one eye where fewer matches agree, as in faint photos, and the fewest that are needed."""

WORTH_A_LOOK: Final = 0.15
"""A proposal with a lower correlation of the vessels is not refined."""

MIN_COMMON: Final = 0.25
"""Smallest part of the smaller field that both photos must show: on less, a few vessels coincide by chance."""

STEPS: Final = 30
"""Most iterations of the refinement."""

STRETCH: Final = 1.25
"""Largest ratio of length to width that the refinement may give an eye."""

COINCIDE_PX: Final = 2.0
"""Vessels at most this far from each other coincide, in px of a frame 256 wide."""


@dataclass(frozen=True, eq=False, slots=True)
class Registration:
    """How one framed eye lies on another.

    matrix: (2, 3) float64, from the first frame's pixels to the second's (x right, y down, pixel indices), the mirror
    included where `mirrored`. residual_px: the median distance between matched keypoints. overlap: the share of vessels
    that coincide, where both photos show retina. inliers: matches that agree. common: the part of the smaller field
    that both show. score: the correlation of the vessels there, -1..1.
    """

    matrix: np.ndarray
    mirrored: bool
    residual_px: float
    overlap: float
    inliers: int
    common: float
    score: float

    @property
    def proves_one_eye(self) -> bool:
        """Whether both photos show one eye beyond reasonable doubt; see `SAME_EYE`."""
        needed = SAME_EYE if self.inliers >= INLIERS else SAME_EYE_OF_FEW
        return self.inliers >= MIN_INLIERS and self.score >= needed

    def scaled(self, scale: float) -> Registration:
        """The registration of the same frames made `scale` times as wide."""
        # A pixel's center stands at its index + 0.5 in both sizes.
        grow = np.array([[scale, 0, scale / 2 - 0.5], [0, scale, scale / 2 - 0.5], [0, 0, 1]])
        matrix = (grow @ np.vstack([self.matrix, [0, 0, 1]]) @ np.linalg.inv(grow))[:2]
        return replace(self, matrix=matrix, residual_px=self.residual_px * scale)


@dataclass(frozen=True, eq=False, slots=True)
class Ready:
    """A framed eye prepared for registration, all (S, S): `flat` float32 without the background light, `vessels`
    float32 in 0..1, blurred, `field` uint8, 1 where vessels can be visible; and the keypoints."""

    flat: np.ndarray
    vessels: np.ndarray
    field: np.ndarray
    keypoints: Keypoints

    def mirrored(self) -> Ready:
        """The same eye mirrored left to right."""
        flat, vessels, field = (np.ascontiguousarray(each[:, ::-1]) for each in (self.flat, self.vessels, self.field))
        return Ready(flat, vessels, field, self.keypoints.mirrored())


def ready(green: np.ndarray, field: np.ndarray, keypoints: Keypoints | None = None) -> Ready:
    """Prepare a framed eye: its green channel (S, S) uint8 and its field (S, S) uint8."""
    flat = flattened(green, field)
    vessels = cv2.GaussianBlur(ridges(flat, field), (0, 0), green.shape[0] / 256)
    return Ready(flat, vessels, inner(field), find_keypoints(flat, field) if keypoints is None else keypoints)


def register(first: np.ndarray, second: np.ndarray) -> Registration | None:
    """Register a framed eye (S, S, 3) uint8 RGB onto another of the same side, upright or mirrored, as fits better.

    None if no transform fits; otherwise `proves_one_eye` decides. Matrix and residual are in the frames' own pixels.
    """
    if first.shape != second.shape or first.ndim != 3 or first.shape[0] != first.shape[1]:
        raise ValueError(f"frames are square and of one side, (S, S, 3); got {first.shape} and {second.shape}")
    one, other = (_of_image(image) for image in (first, second))
    found = [align(one, each, mirrored) for each, mirrored in ((other, False), (other.mirrored(), True))]
    best = max((each for each in found if each is not None), key=lambda each: each.score, default=None)
    return None if best is None else best.scaled(first.shape[0] / SIDE_PX)


def warped(image: np.ndarray, registration: Registration) -> np.ndarray:
    """The first frame warped onto the second: of the same shape, black where the first shows nothing."""
    return cv2.warpAffine(image, registration.matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR)


def align(first: Ready, second: Ready, mirrored: bool = False) -> Registration | None:
    """The registration of first onto second; None if no transform fits. mirrored: whether `second` is a mirrored
    frame; the matrix then includes the mirror."""
    pairs = matched(first.keypoints.directions(), second.keypoints.directions())
    proposed = proposals(first.keypoints, second.keypoints, pairs)
    tried = [(proposal, _correlation(first, second, proposal.matrix())) for proposal in proposed]
    best = max(tried, key=lambda each: each[1][0], default=None)
    if best is None or best[1][0] < WORTH_A_LOOK or best[1][1] < MIN_COMMON:
        return None
    proposal, (before, common) = best
    matrix = _refined(first, second, proposal.matrix())
    score, shared = _correlation(first, second, matrix)
    if score < before or shared < MIN_COMMON:
        matrix, score, shared = proposal.matrix(), before, common
    here, there = first.keypoints.xy[pairs[0]], second.keypoints.xy[pairs[1]]
    away = np.linalg.norm(here @ matrix[:, :2].T + matrix[:, 2] - there, axis=1)
    agree = away < NEAR_PX
    if agree.sum() < 3:
        return None
    overlap = _coinciding(first, second, matrix)
    if mirrored:
        matrix = np.array([[-1, 0, second.field.shape[1] - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
    return Registration(matrix, mirrored, float(np.median(away[agree])), overlap, int(agree.sum()), shared, score)


def _of_image(image: np.ndarray) -> Ready:
    small = cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return ready(small[..., 1], lit_field(small))


def _common(first: Ready, second: Ready, matrix: np.ndarray) -> np.ndarray:
    """Where both show retina: (S, S) bool in the second's frame."""
    moved = cv2.warpAffine(first.field, matrix, second.field.shape[::-1], flags=cv2.INTER_NEAREST)
    return (moved & second.field) > 0


def _correlation(first: Ready, second: Ready, matrix: np.ndarray) -> tuple[float, float]:
    """The correlation of the vessels under a transform, and the part of the smaller field that both show."""
    both = _common(first, second, matrix)
    smaller = min(int(first.field.sum()) * abs(float(np.linalg.det(matrix[:, :2]))), int(second.field.sum()))
    common = float(both.sum()) / max(smaller, 1)
    if both.sum() < 500:
        return 0.0, common
    moved = cv2.warpAffine(first.vessels, matrix, second.field.shape[::-1])
    a, b = moved[both], second.vessels[both]
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt(max((a @ a) * (b @ b), 1e-9))), min(common, 1.0)


def _refined(first: Ready, second: Ready, matrix: np.ndarray) -> np.ndarray:
    """The affine transform near the given one with the highest correlation; the given one where none is found."""
    back = cv2.invertAffineTransform(matrix).astype(np.float32)  # OpenCV's goes from the second to the first
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, STEPS, 1e-4)
    try:
        _, back = cv2.findTransformECC(second.vessels, first.vessels, back, cv2.MOTION_AFFINE, stop, first.field, 3)
    except cv2.error:  # raised where it does not converge
        return matrix
    moved = cv2.invertAffineTransform(back.astype(np.float64))
    long, short = np.linalg.svd(moved[:, :2], compute_uv=False)
    return moved if long < STRETCH * short else matrix


def _coinciding(first: Ready, second: Ready, matrix: np.ndarray) -> float:
    """The share of both photos' vessel pixels that have one of the other photo within `COINCIDE_PX`."""
    both = _common(first, second, matrix)
    moved = cv2.warpAffine(first.vessels, matrix, second.field.shape[::-1])
    one, other = (both & (vessels > 0.3) for vessels in (moved, second.vessels))
    total = int(one.sum() + other.sum())
    if not one.any() or not other.any():
        return 0.0
    near_one, near_other = (cv2.distanceTransform((~each).astype(np.uint8), cv2.DIST_L2, 3) for each in (one, other))
    return float(((near_other[one] <= COINCIDE_PX).sum() + (near_one[other] <= COINCIDE_PX).sum()) / total)
