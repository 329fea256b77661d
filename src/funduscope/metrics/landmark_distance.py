"""Distances of the predicted optic disc and fovea from the true ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from funduscope.metrics.state import State

STANDARD_WIDTH_PX = 4288
"""Distances are reported in pixels of a photo this wide, the width of IDRiD's photos."""

DISC_DIAMETER_PX = 550
"""One disc diameter at that width: the protocol's unit, and the distance that a missed landmark counts as."""


@dataclass(frozen=True, eq=False)
class DistanceState(State):
    """Distances of one landmark.

    distances: (N,) in pixels of a 4288-wide photo, a missed landmark's 550. missed: how many of them those are. A
    refused photo has no distance.
    """

    LISTED: ClassVar[frozenset[str]] = frozenset({"distances"})

    distances: np.ndarray
    missed: float

    @classmethod
    def of(cls, found_xy: tuple[float, float] | None, true_xy: tuple[float, float], width_px: int) -> Self:
        """One photo. Points in its own pixels; `found_xy` None is a miss. width_px: of the upright photo."""
        if found_xy is None:
            return cls(np.array([float(DISC_DIAMETER_PX)]), 1)
        distance = np.hypot(found_xy[0] - true_xy[0], found_xy[1] - true_xy[1]) * STANDARD_WIDTH_PX / width_px
        if not np.isfinite(distance):
            raise ValueError(f"A landmark at {found_xy}, true {true_xy}, in a photo {width_px} px wide is no distance.")
        return cls(np.array([float(distance)]), 0)

    @property
    def n(self) -> int:
        """Photos with a distance, missed ones included, refused ones not."""
        return len(self.distances)

    @property
    def mean(self) -> float:
        """Pixels of a 4288-wide photo; nan without photos. `to_disc_diameters` converts to disc diameters."""
        return float(np.mean(self.distances)) if self.n else float("nan")

    @property
    def median(self) -> float:
        return float(np.median(self.distances)) if self.n else float("nan")

    @property
    def largest(self) -> float:
        return float(np.max(self.distances)) if self.n else float("nan")


def to_disc_diameters(distance_px: float) -> float:
    """Disc diameters of a distance in pixels of a 4288-wide photo."""
    return distance_px / DISC_DIAMETER_PX
