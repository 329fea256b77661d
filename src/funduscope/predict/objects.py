"""Lesions as objects: the 8-connected components of a mask, each with its place and how sure the model is of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import cv2
import numpy as np

from funduscope.framing import Home
from funduscope.predict.anatomy import QUADRANTS, Anatomy

MOST_TOLD: Final = 200
"""So many objects a kind stand in findings.json, the largest; all are counted."""


@dataclass(frozen=True, slots=True)
class LesionObject:
    """x_px, y_px: center of mass in photo pixels. area_px. nearest_fovea_dd: of its nearest pixel, in disc diameters.

    quadrant: of its center, around the fovea. probability: the mean over its pixels.
    """

    x_px: float
    y_px: float
    area_px: int
    nearest_fovea_dd: float | None
    quadrant: str | None
    probability: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "x_px": round(self.x_px, 1),
            "y_px": round(self.y_px, 1),
            "nearest_fovea_dd": None if self.nearest_fovea_dd is None else round(self.nearest_fovea_dd, 3),
            "probability": round(self.probability, 4),
        }


def find_objects(mask: np.ndarray, plane: np.ndarray, home: Home, anatomy: Anatomy) -> tuple[LesionObject, ...]:
    """The objects of a mask (H, W) bool, largest first. plane: (n, n) probabilities over the frame it was made of."""
    box = _box(mask)
    if box is None:
        return ()
    cut = _bytes(mask[box])
    count, labels, stats, centers = cv2.connectedComponentsWithStats(cut, connectivity=8)
    places = np.asarray(cv2.findNonZero(cut), np.intp).reshape(-1, 2)  # as numpy's nonzero, which takes far longer
    which = np.asarray(labels, np.int32)[places[:, 1], places[:, 0]] - 1
    corner = np.array([box[1].start + 0.5, box[0].start + 0.5])  # of the first pixel's center
    xy = places + corner
    areas = stats[1:, cv2.CC_STAT_AREA].astype(int)
    sure = np.bincount(which, _sampled(plane, home, xy), count - 1) / areas
    nearest = np.full(count - 1, np.inf)
    away = anatomy.fovea_distances_dd(xy)
    if away is not None:
        np.minimum.at(nearest, which, away)
    middle = centers[1:] + corner
    quadrants = anatomy.quadrants(middle) or [None] * (count - 1)
    return tuple(
        LesionObject(
            float(middle[k, 0]),
            float(middle[k, 1]),
            int(areas[k]),
            None if away is None else float(nearest[k]),
            quadrants[k],
            float(min(1.0, sure[k])),
        )
        for k in np.argsort(-areas, kind="stable")
    )


def by_quadrant(objects: Sequence[LesionObject], anatomy: Anatomy) -> dict[str, int] | None:
    """How many objects lie in each quadrant; None where quadrants are not known."""
    if anatomy.laterality is None:
        return None
    return {name: sum(one.quadrant == name for one in objects) for name in QUADRANTS}


def nearest_fovea_dd(objects: Sequence[LesionObject]) -> float | None:
    """The distance of the nearest object; None without any, or where distances are not known."""
    return min((one.nearest_fovea_dd for one in objects if one.nearest_fovea_dd is not None), default=None)


def without_small(mask: np.ndarray, smallest_px: float) -> np.ndarray:
    """The mask without its 8-connected components of fewer pixels."""
    box = _box(mask)
    if smallest_px <= 1 or box is None:
        return mask
    count, labels, stats, _ = cv2.connectedComponentsWithStats(_bytes(mask[box]), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= smallest_px
    keep[0] = False
    return mask if keep.sum() == count - 1 else _within(mask, box, keep[np.asarray(labels, np.int32)])


def largest_alone(mask: np.ndarray) -> np.ndarray:
    """The mask's largest 8-connected component alone."""
    box = _box(mask)
    if box is None:
        return mask
    count, labels, stats, _ = cv2.connectedComponentsWithStats(_bytes(mask[box]), connectivity=8)
    if count <= 2:
        return mask
    return _within(mask, box, labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def _box(mask: np.ndarray) -> tuple[slice, slice] | None:
    """The rows and columns that hold all of a mask (H, W) bool; None where it is empty.

    Photographs have millions of pixels, lesions few: what is done in the box alone costs a part.
    """
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (slice(top, top + height), slice(left, left + width)) if width else None


def _bytes(mask: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(mask).view(np.uint8)


def _within(mask: np.ndarray, box: tuple[slice, slice], kept: np.ndarray) -> np.ndarray:
    """A mask of that shape with these values in the box, and False elsewhere."""
    whole = np.zeros_like(mask)
    whole[box] = kept
    return whole


def _sampled(plane: np.ndarray, home: Home, xy: np.ndarray) -> np.ndarray:
    """The frame's probabilities (N,) at photo points (N, 2)."""
    cells = home.points_in(xy) * (plane.shape[0] / home.side_px)
    columns, rows = np.clip(cells.astype(int), 0, plane.shape[0] - 1).T
    return plane[rows, columns]
