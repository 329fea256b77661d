"""Coordinates of one eye: laterality, and where a point lies relative to the fovea.

Distances are in disc diameters (DD). Directions are relative to the line from fovea to disc. Both mean the same in
every photo, whatever its size, its field of view or the tilt of the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from funduscope.i18n.messages import Message, message
from funduscope.imaging.framing import CropTransform
from funduscope.imaging.photo_parts import Part
from funduscope.inference.card import FoveaOffset

Point = tuple[float, float]

QUADRANTS: Final = ("superior_temporal", "inferior_temporal", "superior_nasal", "inferior_nasal")

_SIDEWAYS: Final = 0.5
"""The disc lies next to the fovea in every eye. Where the line between them is steeper than 60 degrees, the photo is
rotated or one of the two points is wrong, and no laterality is given."""

_DISC_TO_FOVEA_DD: Final = (1.5, 5.0)
"""The fovea lies about 2.5 disc diameters from the center of the disc. Where the outlined disc gives a distance outside
this range, the outline is something else or only a part of the disc."""

_MAX_CUT: Final = 0.5
"""A disc that touches the photo's edge along more of its diameter is not all in the photo; up to there, what is cut off
changes the diameter by less than 2 in 100."""

_RIM: Final = np.array([0.995, 1.02])
"""What is within and what is beyond the rim of the field of view, in its radius."""

BLACK: Final = 20
"""Level, of 255. Beyond the circle of the field of view, a photo is black where its brightest channel is darker than
that."""

_SPREADS: Final = 2.5
"""Upright eyes differ in how far the fovea lies below the disc. This many standard deviations above the mean, the photo
is upside down."""


@dataclass(frozen=True)
class Anatomy:
    """disc_xy, fovea_xy: centers in photo pixels. disc_diameter_px. None if it was not found.

    is_upside_down: no laterality and no quadrants are then given, because both would be wrong. is_estimated: whether
    either place was estimated from the other one; none are given then, because half of those sides are wrong.
    has_unusual_field: whether the photo shows a much wider or narrower field than those that models learn from.
    """

    disc_xy: Point | None = None
    fovea_xy: Point | None = None
    disc_diameter_px: float | None = None
    is_upside_down: bool = False
    is_estimated: bool = False
    has_unusual_field: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The landmarks as in findings.json."""
        disc, fovea, diameter = self.disc_xy, self.fovea_xy, self.disc_diameter_px
        diameter_px = None if diameter is None else round(diameter, 1)
        return {
            "optic_disc": disc and {"x_px": round(disc[0], 1), "y_px": round(disc[1], 1), "diameter_px": diameter_px},
            "fovea": fovea and {"x_px": round(fovea[0], 1), "y_px": round(fovea[1], 1)},
        }

    @property
    def is_sideways(self) -> bool:
        """Whether the disc lies above or below the fovea; False where either is unknown."""
        if self.disc_xy is None or self.fovea_xy is None:
            return False
        across, down = self.disc_xy[0] - self.fovea_xy[0], self.disc_xy[1] - self.fovea_xy[1]
        return abs(across) <= _SIDEWAYS * float(np.hypot(across, down))

    @property
    def laterality(self) -> Literal["right", "left"] | None:
        """Which eye. The disc lies nasal to the fovea: to its right in the photo of a right eye."""
        if self.disc_xy is None or self.fovea_xy is None:
            return None
        if self.is_estimated or self.is_upside_down or self.is_sideways:
            return None
        return "right" if self.disc_xy[0] > self.fovea_xy[0] else "left"

    def fovea_distances_dd(self, xy: np.ndarray) -> np.ndarray | None:
        """Distances (N,) of points (N, 2) from the fovea; None if the fovea or the size of the disc is unknown."""
        if self.fovea_xy is None or not self.disc_diameter_px:
            return None
        return np.hypot(*(np.asarray(xy, np.float64) - self.fovea_xy).T) / self.disc_diameter_px

    def quadrants(self, xy: np.ndarray) -> list[str] | None:
        """The quadrant around the fovea of each point (N, 2), a name from `QUADRANTS`; None without both landmarks.

        Nasal is toward the disc along the line to it; superior is up, perpendicular to that line.
        """
        if self.laterality is None or self.disc_xy is None or self.fovea_xy is None:
            return None
        to_disc = np.subtract(self.disc_xy, self.fovea_xy)
        up = np.array([to_disc[1], -to_disc[0]])
        up = up if up[1] < 0 else -up  # y runs down
        offsets = np.asarray(xy, np.float64) - self.fovea_xy
        sides = zip(offsets @ up > 0, offsets @ to_disc > 0, strict=True)
        return [f"{'superior' if above else 'inferior'}_{'nasal' if nasal else 'temporal'}" for above, nasal in sides]


def landmark_warnings(anatomy: Anatomy, sought: Sequence[str], estimated: Sequence[str]) -> list[Message]:
    """What is uncertain about the landmarks, and why no side is given. sought: those that the model seeks."""
    places = {"optic_disc": anatomy.disc_xy, "fovea": anatomy.fovea_xy}
    warnings = [message(f"{name.upper()}_ESTIMATED") for name in estimated]
    warnings += [message(f"{name.upper()}_NOT_FOUND") for name in sought if places[name] is None]
    if anatomy.is_upside_down:
        warnings.append(message("UPSIDE_DOWN"))
    elif anatomy.is_sideways:
        warnings.append(message("SIDEWAYS"))
    return warnings


def disc_diameter_px(
    mask: np.ndarray, disc_xy: Point | None, fovea_xy: Point | None, bounds: Part | None = None
) -> float | None:
    """Diameter in photo pixels of the circle with the area of the disc mask (H, W) bool.

    bounds: where in a larger picture the photo lies, see `CropTransform`. None if the mask is empty, is cut off by
    the photo's edge, does not cover the center of the disc, or is too large or too small for the distance to the fovea.
    Every distance in disc diameters depends on it, and so does the edema risk that exudates support.
    """
    area = int(np.count_nonzero(mask))
    if not area:
        return None
    diameter = 2 * float(np.sqrt(area / np.pi))
    left, top, right, bottom = bounds or (0, 0, *mask.shape[::-1])
    own = mask[top:bottom, left:right]
    if max(np.count_nonzero(edge) for edge in (own[0], own[-1], own[:, 0], own[:, -1])) > _MAX_CUT * diameter:
        return None
    if disc_xy is None:
        return diameter
    left, top = (max(0, int(at - diameter / 2)) for at in disc_xy)
    right, bottom = (int(at + diameter / 2) + 1 for at in disc_xy)
    if not mask[top:bottom, left:right].any():
        return None
    if fovea_xy is None:
        return diameter
    fewest, most = _DISC_TO_FOVEA_DD
    distance_dd = float(np.hypot(disc_xy[0] - fovea_xy[0], disc_xy[1] - fovea_xy[1])) / diameter
    return diameter if fewest <= distance_dd <= most else None


def uncut(diameter: float | None, mask: np.ndarray, transform: CropTransform, pixels: np.ndarray) -> float | None:
    """The disc's diameter; None where the round edge of the field of view cuts off more of it than that bears.

    mask: (H, W) bool of the disc; diameter: of the circle of its area. pixels: the photo, (H, W, 3) uint8. The edge is
    where the photo is black beyond it: the retina may fill a photo, whose corners are then beyond the circle.
    """
    if diameter is None:
        return None
    radius = transform.size_px / 2
    angles = np.arange(0, 2 * np.pi, 1 / radius)  # a pixel each
    along = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    middle = np.array([transform.left_px, transform.top_px]) + radius
    inner, outer = (np.floor(middle + along * at).astype(int) for at in _RIM * radius)
    height, width = mask.shape
    inside = [((at >= 0) & (at < (width, height))).all(axis=1) for at in (inner, outer)]
    touched = inside[0] & inside[1]
    touched[touched] = mask[inner[touched, 1], inner[touched, 0]]
    if transform.part is None:  # of a photo in a larger picture nothing beyond the circle is the eye's
        touched[touched] = pixels[outer[touched, 1], outer[touched, 0]].max(axis=1) < BLACK
    return None if np.count_nonzero(touched) > _MAX_CUT * diameter else diameter


def is_upside_down(disc_xy: Point | None, fovea_xy: Point | None, usual: FoveaOffset | None) -> bool:
    """Whether a photo is upside down, as taken through a handheld lens: the fovea lies clearly above the disc's center.

    An upright fovea lies a little below it. usual: from the card. The ratio of its distances is compared, because no
    field of view changes it. False if nothing can be said; an eye whose fovea is level with the disc may be either way
    up.
    """
    if usual is None or Anatomy(disc_xy, fovea_xy).laterality is None or disc_xy is None or fovea_xy is None:
        return False
    across, _, below, below_spread = usual
    lowest = min(0.0, below - _SPREADS * below_spread) / across
    return fovea_xy[1] - disc_xy[1] < lowest * abs(fovea_xy[0] - disc_xy[0])
