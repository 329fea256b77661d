"""Registers two photos of one eye and finds which lesions are new and which are gone.

The framed photos are registered by their vessels (duplicates/registration.py). A lesion is found again where one of its
pixels, mapped into the other photo, lies on a lesion of the same kind or within the tolerance of one. Where the other
photo's model was undecided next to it (half the threshold or more), it counts as neither new nor gone, because light
and focus alone can move it across the threshold. A place that only one photo shows is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from funduscope.app.viewer_data import contours_of
from funduscope.duplicates.registration import Registration, register, warped
from funduscope.imaging.framing import CropTransform, frame
from funduscope.imaging.vessels import lit_field
from funduscope.inference.findings import Findings
from funduscope.inference.objects import LesionObject
from funduscope.vocabulary import LESIONS

SIDE_PX: Final = 1024
TOLERANCE_FRAC: Final = 1 / 128
"""Of the frame's side, about a twentieth of a disc diameter; twice the registration's residual is added."""

UNDECIDED_FRAC: Final = 0.5
"""Of the threshold: from this probability on, a lesion may be there."""


@dataclass(frozen=True)
class LesionChange:
    """A lesion that only one visit shows. xy: its center in the second visit's frame."""

    code: str
    lesion: LesionObject
    xy: tuple[float, float]


@dataclass(frozen=True, eq=False)
class VisitComparison:
    """Two framed photos, (S, S, 3) uint8, the first one registered onto the second.

    new, gone: None where the vessels do not prove one eye. stayed: lesions found again in the second photo, by kind.
    unsure: lesions of both photos that count as neither.
    """

    first: np.ndarray
    second: np.ndarray
    registration: Registration | None
    new: tuple[LesionChange, ...] | None
    gone: tuple[LesionChange, ...] | None
    stayed: Mapping[str, int]
    unsure: int = 0

    @property
    def is_one_eye(self) -> bool:
        """Whether the vessels prove one eye."""
        return self.new is not None


def compare_visits(first: Findings, second: Findings) -> VisitComparison:
    """Registers the earlier photo onto the later one and compares their lesions."""
    before, after = (frame(one.photo, SIDE_PX) for one in (first, second))
    found = register(before.image, after.image)
    if found is None or not found.proves_one_eye:
        return VisitComparison(before.image, after.image, found, None, None, {})
    back = cv2.invertAffineTransform(found.matrix)
    fields = [lit_field(image) > 0 for image in (before.image, after.image)]
    tolerance_px = 2 * found.residual_px + SIDE_PX * TOLERANCE_FRAC
    new, gone, stayed, unsure = [], [], {}, 0
    for code in LESIONS:
        if code in first.codes and code in second.codes:
            old, late = _lesions(first, code, before.transform), _lesions(second, code, after.transform)
            near_old, near_late = (
                _near(one, code, lesions, tolerance_px) for one, lesions in ((first, old), (second, late))
            )
            lost, _, lost_unsure = _unmatched(old, found.matrix, near_late, fields[1])
            came, stayed[code], came_unsure = _unmatched(late, back, near_old, fields[0])
            unsure += lost_unsure + came_unsure
            gone += [LesionChange(code, one, _center(one, before.transform, found.matrix)) for one in lost]
            new += [LesionChange(code, one, _center(one, after.transform, np.eye(2, 3))) for one in came]
    return VisitComparison(warped(before.image, found), after.image, found, tuple(new), tuple(gone), stayed, unsure)


def _center(lesion: LesionObject, transform: CropTransform, matrix: np.ndarray) -> tuple[float, float]:
    """A lesion's center in the second frame, with pixel centers at +0.5. matrix: from its own frame to the second."""
    index = transform.to_frame(np.array([[lesion.x_px, lesion.y_px]])) - 0.5
    x, y = (index @ matrix[:, :2].T + matrix[:, 2])[0] + 0.5
    return round(float(x), 1), round(float(y), 1)


Lesions = list[tuple[LesionObject, np.ndarray]]
"""The lesions of a kind, each with its pixels in the frame: (N, 2) integers, column and row."""


def _lesions(findings: Findings, code: str, transform: CropTransform) -> Lesions:
    return [
        (one, _pixels([transform.to_frame(ring.reshape(-1, 2) + 0.5) - 0.5 for ring in rings]))
        for one, rings in zip(findings.objects(code), contours_of(findings, code), strict=True)
    ]


def _pixels(rings: list[np.ndarray]) -> np.ndarray:
    """(N, 2) pixels inside contours, column and row."""
    edges = [np.rint(ring).astype(np.int32) for ring in rings]
    left, top, width, height = cv2.boundingRect(edges[0])
    patch = np.zeros((height, width), np.uint8)
    cv2.fillPoly(patch, [edge - np.array([left, top], np.int32) for edge in edges], 1)
    rows, columns = np.nonzero(patch)
    return np.stack([columns + left, rows + top], axis=1)


def _near(findings: Findings, code: str, lesions: Lesions, tolerance_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a lesion of a kind is, and where one may be, within the tolerance: both (S, S) bool."""
    drawn = np.zeros((SIDE_PX, SIDE_PX), bool)
    for _, pixels in lesions:
        columns, rows = np.clip(pixels, 0, SIDE_PX - 1).T
        drawn[rows, columns] = True
    plane = cv2.resize(findings.frame_probs[code], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)
    undecided = plane >= UNDECIDED_FRAC * findings.card.thresholds[code]
    return _dilated(drawn, tolerance_px), _dilated(undecided, tolerance_px)


def _dilated(mask: np.ndarray, radius_px: float) -> np.ndarray:
    if not mask.any():
        return mask
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 5) <= radius_px


def _unmatched(
    lesions: Lesions, matrix: np.ndarray, near: tuple[np.ndarray, np.ndarray], field: np.ndarray
) -> tuple[list[LesionObject], int, int]:
    """The lesions with nothing near them in the other photo, how many were found again, and how many are unsure.

    matrix: from their frame to the other's. near: see `_near`, of the other photo. field: (S, S) bool, where the other
    photo shows retina. A lesion of which the other photo does not show every pixel is in none of the three.
    """
    alone, found, unsure = [], 0, 0
    for one, pixels in lesions:
        mapped = np.rint(pixels @ matrix[:, :2].T + matrix[:, 2]).astype(int)
        inside = ((mapped >= 0) & (mapped < SIDE_PX)).all(axis=1)
        columns, rows = mapped[inside].T
        if near[0][rows, columns].any():
            found += 1
        elif near[1][rows, columns].any():
            unsure += 1
        elif inside.all() and field[rows, columns].all():
            alone.append(one)
    return alone, found, unsure
