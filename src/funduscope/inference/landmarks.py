"""The places of disc and fovea in a photo, and how far they usually lie apart.

`network.answer.LandmarkFinder` locates them in the frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from funduscope.imaging.framing import CropTransform
from funduscope.inference.anatomy import Point
from funduscope.inference.card import Card, FoveaOffset

_MIN_SPREAD: Final = 1e-3
"""Lower bound of the spread, as a share of the frame's side: equal distances in a few photos would make the prior too
sure."""


@dataclass(frozen=True)
class LandmarkEstimate:
    """xy: in photo pixels. estimated: located from the other landmark, because its own map is unclear."""

    xy: Point
    estimated: bool


def places_in_photo(
    answer: Mapping[str, np.ndarray], card: Card, transform: CropTransform
) -> dict[str, LandmarkEstimate]:
    """The landmarks that were found, by name; only those inside the photo, because a frame extends beyond it.

    answer: of a model, see `network.answer.Answer`.
    """
    found: dict[str, LandmarkEstimate] = {}
    if "places" not in answer:
        return found
    left, top, right, bottom = transform.bounds
    for number, name in enumerate(card.landmarks):
        if name not in card.located or not answer["is_found"][number]:
            continue
        place = answer["places"][number].astype(np.float64) * transform.side_px
        x, y = transform.to_photo(place[None])[0]
        if left <= x <= right and top <= y <= bottom:
            found[name] = LandmarkEstimate((float(x), float(y)), bool(answer["is_estimated"][number]))
    return found


def fit_fovea_offset(discs: Sequence[Point], foveas: Sequence[Point]) -> FoveaOffset | None:
    """Mean and standard deviation of the horizontal and of the vertical distance of the fovea from the disc.

    discs, foveas: of the same eyes, in shares of the frame's side. None if there are fewer than ten.
    """
    if len(discs) < 10:
        return None
    apart = np.array(foveas) - np.array(discs)
    across, below = np.abs(apart[:, 0]), apart[:, 1]
    spreads = [max(float(value), _MIN_SPREAD) for value in (across.std(), below.std())]
    return round(float(across.mean()), 5), round(spreads[0], 5), round(float(below.mean()), 5), round(spreads[1], 5)
