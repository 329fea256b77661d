"""Lesions as objects: the 8-connected components of a mask, each with its place and its probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np

from funduscope.imaging.framing import CropTransform
from funduscope.inference.anatomy import BLACK, QUADRANTS, Anatomy

MAX_OBJECTS_LISTED: Final = 200
"""findings.json lists this many objects of a kind, the largest; all are counted."""

MIN_PPM: Final = {"MA": 4.0, "HE": 18.0, "EX": 2.0, "SE": 64.0}
"""Smaller outlines are no lesions, whatever the model's card says: millionths of the square around the field of view.

About 99 of 100 true lesions are larger, and all of 19 soft exudates (17 photos of IDRiD's part A; docs/log.md,
2026-11-23). 4 ppm are 46 px of a photo 4288 wide.
"""


@dataclass(frozen=True, slots=True)
class LesionObject:
    """x_px, y_px: center of mass in photo pixels. area_px: in photo pixels. quadrant: of the center, around the fovea.

    nearest_fovea_dd: distance of its nearest pixel from the fovea, in disc diameters. probability: the mean over its
    pixels, each as the nearest cell of the network's map has it, so that it may differ a little from the mean of the
    written map, which is linear between cells.
    """

    x_px: float
    y_px: float
    area_px: int
    nearest_fovea_dd: float | None
    quadrant: str | None
    probability: float

    def to_dict(self) -> dict[str, Any]:
        return {  # `asdict` copies deeply, which takes thirty times as long
            "x_px": round(self.x_px, 1),
            "y_px": round(self.y_px, 1),
            "area_px": self.area_px,
            "nearest_fovea_dd": None if self.nearest_fovea_dd is None else round(self.nearest_fovea_dd, 3),
            "quadrant": self.quadrant,
            "probability": round(self.probability, 4),
        }


@dataclass(frozen=True, eq=False, slots=True)
class Components:
    """The 8-connected components of a mask, found once: to remove some, and to measure those that are kept.

    mask: (H, W) bool, the pixels of the kept components. places: (N, 2) x, y of every pixel of all components. which:
    (N,) the component of each. areas: (K,) pixels of each component. kept: (K,) bool.
    """

    mask: np.ndarray
    places: np.ndarray
    which: np.ndarray
    areas: np.ndarray
    kept: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> Components:
        """The components of a mask (H, W) bool, all kept."""
        # A photo has millions of pixels, its lesions few, so the work is limited to the bounding box and the
        # lesion pixels. cv2's statistics of components take three times as long as the components.
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        if not width:
            return cls(mask, np.zeros((0, 2), np.intp), *(np.zeros(0, kind) for kind in (np.intp, np.intp, bool)))
        cut = np.ascontiguousarray(mask[top : top + height, left : left + width])
        count, labels = cv2.connectedComponents(cut.view(np.uint8), connectivity=8)
        flat = np.flatnonzero(cut)  # one dimension takes a fifth of the time of two
        rows, columns = np.unravel_index(flat, cut.shape)
        places = np.stack([columns + left, rows + top], axis=1)
        which = np.asarray(labels).ravel()[flat] - 1
        return cls(mask, places, which, np.bincount(which), np.ones(count - 1, bool))

    def at_least(self, smallest_px: float) -> Components:
        """Without components of fewer pixels."""
        return self.keeping(self.kept & (self.areas >= smallest_px))

    def in_the_eye(self, pixels: np.ndarray, transform: CropTransform) -> Components:
        """Without components in the black around the eye. pixels: the photo, (H, W, 3) uint8.

        Both count, place and darkness: where the retina fills a photo, its corners are beyond the circle and not black.
        Of a photo in a larger picture the network saw black beyond the circle, whatever is there.
        """
        if not len(self.areas):
            return self
        centers = centers_of(self.places, self.which, self.areas)
        middle = np.array([transform.left_px, transform.top_px]) + transform.size_px / 2
        is_beyond = np.hypot(*(centers - middle).T) > transform.size_px / 2
        light = pixels[self.places[:, 1], self.places[:, 0]].max(axis=1)
        is_black = np.bincount(self.which, light, len(self.areas)) < BLACK * self.areas
        return self.keeping(self.kept & ~(is_beyond & (is_black | (transform.part is not None))))

    def largest(self) -> Components:
        """The largest component alone."""
        areas = np.where(self.kept, self.areas, 0)
        return self.keeping(self.kept & (np.arange(len(areas)) == areas.argmax())) if len(areas) else self

    def objects(self, plane: np.ndarray, transform: CropTransform, anatomy: Anatomy) -> tuple[LesionObject, ...]:
        """The kept components, largest first. plane: (n, n) probabilities over the frame; the mask was made of it."""
        count = int(self.kept.sum())
        if not count:
            return ()
        chosen = self.kept[self.which]
        places, which = self.places[chosen], (np.cumsum(self.kept) - 1)[self.which[chosen]]
        areas, xy = self.areas[self.kept], places + 0.5
        probs = np.bincount(which, sampled(plane, transform, xy), count) / areas
        nearest = np.full(count, np.inf)
        distances = anatomy.fovea_distances_dd(xy)
        if distances is not None:
            np.minimum.at(nearest, which, distances)
        centers = centers_of(places, which, areas)
        quadrants = anatomy.quadrants(centers) or [None] * count
        return tuple(
            LesionObject(
                float(centers[k, 0]),
                float(centers[k, 1]),
                int(areas[k]),
                None if distances is None else float(nearest[k]),
                quadrants[k],
                float(min(1.0, probs[k])),
            )
            for k in np.argsort(-areas, kind="stable")
        )

    def keeping(self, kept: np.ndarray) -> Components:
        """Without the components that `kept` (K,) bool does not name."""
        if (kept == self.kept).all():
            return self
        places = self.places[kept[self.which]]
        mask = np.zeros_like(self.mask)
        mask[places[:, 1], places[:, 0]] = True
        return replace(self, mask=mask, kept=kept)


def centers_of(places: np.ndarray, which: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(K, 2) x, y: centers of mass of K components, in photo pixels.

    places: (N, 2) whole pixels of the photo; which: (N,) the component of each; areas: (K,) pixels of each. Sums of
    whole numbers are exact, so the result does not depend on the searched part of the photo: center and area identify
    a lesion again.
    """
    sums = [np.bincount(which, places[:, axis], len(areas)) for axis in (0, 1)]
    return np.stack(sums, axis=1) / areas[:, None] + 0.5


def by_quadrant(objects: Sequence[LesionObject], anatomy: Anatomy) -> dict[str, int] | None:
    """The number of objects in each quadrant; None if quadrants are unknown."""
    if anatomy.laterality is None:
        return None
    return {name: sum(one.quadrant == name for one in objects) for name in QUADRANTS}


def nearest_fovea_dd(objects: Sequence[LesionObject]) -> float | None:
    """The distance of the nearest object; None without any, or if distances are unknown."""
    return min((one.nearest_fovea_dd for one in objects if one.nearest_fovea_dd is not None), default=None)


def sampled(plane: np.ndarray, transform: CropTransform, xy: np.ndarray) -> np.ndarray:
    """The frame's probabilities (N,) at photo points (N, 2), of the nearest cells."""
    cells = transform.to_frame(xy) * (plane.shape[0] / transform.side_px)
    columns, rows = np.clip(cells.astype(int), 0, plane.shape[0] - 1).T
    return plane[rows, columns]
