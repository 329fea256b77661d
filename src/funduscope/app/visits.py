"""Two photos of one eye, laid onto each other: which lesions are new, which are gone.

The framed eyes are registered by their vessels (duplicates/registration.py). A lesion of one photo is found again where
any of its pixels, carried over, lies on a lesion of the same kind in the other, or no further from one than the
tolerance. A lesion beside which the other photo's model was undecided (half the threshold or more) is neither new nor
gone: light and focus alone move it across the threshold. What only one of the photos shows is left out, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from funduscope.app.contours import contours_of
from funduscope.duplicates.registration import Registration, register, warped
from funduscope.imaging.framing import CropTransform, frame
from funduscope.imaging.vessels import lit_field
from funduscope.inference.findings import Findings
from funduscope.inference.objects import LesionObject
from funduscope.vocabulary import LESIONS

SIDE_PX: Final = 1024
TOLERANCE_FRAC: Final = 1 / 128
"""Of the frame's side, beside twice the registration's own residual: about a twentieth of a disc diameter."""


UNDECIDED_FRAC: Final = 0.5
"""Of the threshold: from here on a lesion might be there."""


@dataclass(frozen=True)
class Change:
    """One lesion that only one visit shows. code: its kind; one: itself; xy: its center in the second visit's frame."""

    code: str
    one: LesionObject
    xy: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Visits:
    """Two framed eyes (S, S, 3) uint8, the first laid onto the second. new, gone: None where it is not one eye."""

    first: np.ndarray
    second: np.ndarray
    registration: Registration | None
    new: tuple[Change, ...] | None
    gone: tuple[Change, ...] | None
    stayed: Mapping[str, int]
    unsure: int = 0

    @property
    def is_one_eye(self) -> bool:
        """Whether the vessels prove it."""
        return self.new is not None


def compare(first: Findings, second: Findings) -> Visits:
    """Lays the earlier photo onto the later one and compares their lesions."""
    before, after = (frame(one.photo, SIDE_PX) for one in (first, second))
    found = register(before.image, after.image)
    if found is None or not found.proves_one_eye:
        return Visits(before.image, after.image, found, None, None, {})
    back = cv2.invertAffineTransform(found.matrix)
    fields = [_field(image) for image in (before.image, after.image)]
    tolerance = 2 * found.residual_px + SIDE_PX * TOLERANCE_FRAC
    new, gone, stayed, unsure = [], [], {}, 0
    for code in LESIONS:
        if code in first.codes and code in second.codes:
            here, there = _seen(first, code, before.transform), _seen(second, code, after.transform)
            then, now = _Near.of(first, code, here, tolerance), _Near.of(second, code, there, tolerance)
            lost, _, maybe_lost = _parted(here, found.matrix, now, fields[1])
            came, stayed[code], maybe_new = _parted(there, back, then, fields[0])
            unsure += maybe_lost + maybe_new
            gone += [Change(code, one, _carried(one, before.transform, found.matrix)) for one in lost]
            new += [Change(code, one, _carried(one, after.transform, np.eye(2, 3))) for one in came]
    return Visits(warped(before.image, found), after.image, found, tuple(new), tuple(gone), stayed, unsure)


def _field(image: np.ndarray) -> np.ndarray:
    """(S, S) bool: where a frame shows retina, a little within its edge."""
    return lit_field(image) > 0


def _carried(one: LesionObject, transform: CropTransform, matrix: np.ndarray) -> tuple[float, float]:
    """A lesion's center in the second frame, pixel centers at +0.5."""
    index = transform.to_frame(np.array([[one.x_px, one.y_px]])) - 0.5
    x, y = (index @ matrix[:, :2].T + matrix[:, 2])[0] + 0.5
    return round(float(x), 1), round(float(y), 1)


Seen = list[tuple[LesionObject, np.ndarray]]
"""A kind's lesions, each with its pixels in the frame, (N, 2) whole numbers, column and row."""


def _seen(findings: Findings, code: str, transform: CropTransform) -> Seen:
    return [
        (one, _pixels([transform.to_frame(ring.reshape(-1, 2) + 0.5) - 0.5 for ring in rings]))
        for one, rings in zip(findings.objects(code), contours_of(findings, code), strict=True)
    ]


def _pixels(rings: list[np.ndarray]) -> np.ndarray:
    edges = [np.rint(ring).astype(np.int32) for ring in rings]
    left, top, width, height = cv2.boundingRect(edges[0])
    patch = np.zeros((height, width), np.uint8)
    cv2.fillPoly(patch, [edge - np.array([left, top], np.int32) for edge in edges], 1)
    rows, columns = np.nonzero(patch)
    return np.stack([columns + left, rows + top], axis=1)


@dataclass(frozen=True, eq=False)
class _Near:
    """Where a lesion of a kind is, or might be, within the tolerance: both (S, S) bool."""

    sure: np.ndarray
    maybe: np.ndarray

    @classmethod
    def of(cls, findings: Findings, code: str, seen: Seen, tolerance_px: float) -> _Near:
        drawn = np.zeros((SIDE_PX, SIDE_PX), bool)
        for _, pixels in seen:
            columns, rows = np.clip(pixels, 0, SIDE_PX - 1).T
            drawn[rows, columns] = True
        plane = cv2.resize(findings.frame_probs[code], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)
        undecided = plane >= UNDECIDED_FRAC * findings.card.thresholds[code]
        return cls(_grown(drawn, tolerance_px), _grown(undecided, tolerance_px))


def _grown(mask: np.ndarray, tolerance_px: float) -> np.ndarray:
    if not mask.any():
        return mask
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 5) <= tolerance_px


def _parted(seen: Seen, matrix: np.ndarray, near: _Near, field: np.ndarray) -> tuple[list[LesionObject], int, int]:
    """Those that have nothing near them in the other photo though it shows their place; how many have something, and
    of how many it cannot be said.

    matrix: from their frame to the other's. field: where the other photo shows retina.
    """
    alone, found, unsure = [], 0, 0
    for one, pixels in seen:
        there = np.rint(pixels @ matrix[:, :2].T + matrix[:, 2]).astype(int)
        inside = ((there >= 0) & (there < SIDE_PX)).all(axis=1)
        columns, rows = there[inside].T
        if near.sure[rows, columns].any():
            found += 1
        elif near.maybe[rows, columns].any():
            unsure += 1
        elif inside.all() and field[rows, columns].all():
            alone.append(one)
    return alone, found, unsure
