"""Whether a photo shows a much wider or narrower part of the retina than the photos that models learn from.

Models learn from fields of view of about 45 to 50 degrees. There the disc takes a seventh of the field's width, and the
fovea lies three eighths of it away. In a field that is beyond the limits here, neither edema risk nor distances hold.
"""

from __future__ import annotations

from typing import Final, Literal

UnusualField = Literal["wide", "narrow"]

SMALL_DISC: Final = 0.09
"""Diameter of the disc, as a share of the field's width. A smaller one is that of a wide field."""

LARGE_DISC: Final = 0.25
"""A larger one is that of a narrow field."""

FAR_FOR_A_SMALL_DISC: Final = 0.29
"""A small disc was not outlined whole where the fovea is further from it than this share of the field."""

NEAR_FOVEA: Final = 0.24
"""Distance from disc to fovea, as a share of the field's width. A smaller one is that of a wide field."""

FAR_FOVEA: Final = 0.49
"""A larger one is that of a narrow field."""


def unusual_field(
    disc_share: float | None, fovea_share: float | None, *, is_estimated: bool = False
) -> UnusualField | None:
    """Whether a field is wide or narrow; None for a usual one, and where neither disc nor fovea tells.

    disc_share: diameter of the disc; fovea_share: distance from the disc to the fovea; both as shares of the field's
    width, None if unknown. is_estimated: whether either place was estimated from the other one, by the usual distance.
    """
    distance = None if is_estimated else fovea_share
    if disc_share and disc_share < SMALL_DISC and (fovea_share is None or fovea_share < FAR_FOR_A_SMALL_DISC):
        return "wide"
    if distance is not None and distance < NEAR_FOVEA:
        return "wide"
    if (disc_share and disc_share > LARGE_DISC) or (distance is not None and distance > FAR_FOVEA):
        return "narrow"
    return None
