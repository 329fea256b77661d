"""The places of disc and fovea: each from its own heat map, with the other one's as a prior.

A fovea in a dark or scarred macula is hardly visible in its heat map, and a bright scar resembles a disc; but the two
lie at a known distance. Each heat map is multiplied by the prior that the other one implies through that distance:
pictorial structures of two parts, Felzenszwalb and Huttenlocher, "Pictorial Structures for Object Recognition", IJCV
61(1), 2005. What differs: left and right eyes are mirror images, so the distance has two signs. And where a landmark's
own map has enough weight around the chosen peak, its mean counts, so that the prior does not shift a clear fovea.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from funduscope.imaging.framing import CropTransform
from funduscope.inference.anatomy import Point
from funduscope.inference.card import Card, FoveaOffset
from funduscope.inference.runtime import Outputs, softmax

_CELLS: Final = 64  # side of the grid on which the priors are computed
_WIDER: Final = 1.5
"""Factor on the spread of the distance. Cameras differ in field of view, and so in the distance per frame side."""

_MIN_SPREAD: Final = 1e-3
"""Lower bound of the spread, as a share of the frame's side: equal distances in a few photos would make the prior too
sure."""

_FLOOR: Final = 1e-5
"""Added to maps that sum to 1, so that the other map can select a place that this one excludes."""

_SURE: Final = 0.5
"""Share of the fused map that an estimated place needs: of two equally likely sides neither has it."""


@dataclass(frozen=True)
class LandmarkEstimate:
    """xy: in photo pixels. estimated: located from the other landmark, because its own map is unclear."""

    xy: Point
    estimated: bool


def find_landmarks(whole: Outputs, card: Card, transform: CropTransform) -> dict[str, LandmarkEstimate]:
    """The landmarks that were found, by name; only those inside the photo, because a frame extends beyond it.

    whole: outputs of the whole view, a batch of one.
    """
    if whole.landmarks is None or not card.located:
        return {}
    planes = zip(card.landmarks, whole.landmarks[0], strict=True)
    heats = {name: softmax(plane.astype(np.float64)) for name, plane in planes if name in card.located}
    fused = heats
    if card.fovea_from_disc is not None and {"optic_disc", "fovea"} <= heats.keys():
        disc, fovea = _fuse_heatmaps(heats["optic_disc"], heats["fovea"], card.fovea_from_disc)
        fused = heats | {"optic_disc": disc, "fovea": fovea}
    found: dict[str, LandmarkEstimate] = {}
    for name, heat in heats.items():
        place = _locate(heat, fused[name], card.landmark_floor)
        if place is not None:
            side = transform.side_px / len(heat)
            x, y = transform.to_photo(np.array([[place[0] * side, place[1] * side]]))[0]
            left, top, right, bottom = transform.bounds
            if left <= x <= right and top <= y <= bottom:
                found[name] = LandmarkEstimate((float(x), float(y)), place[2])
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


def _locate(own: np.ndarray, fused: np.ndarray, floor: float) -> tuple[float, float, bool] | None:
    """x and y of the fused map's peak, in cells, and whether it was estimated; None if neither map is clear.

    The mean over the cells around the peak: of the own map where enough of it lies there, otherwise of the fused one.
    """
    side = len(own)
    peak_y, peak_x = np.unravel_index(cv2.GaussianBlur(fused, (0, 0), 2.0).argmax(), fused.shape)
    reach = max(3, side // 16)  # about half a disc diameter
    y0, x0 = max(0, int(peak_y) - reach), max(0, int(peak_x) - reach)
    here = np.s_[y0 : peak_y + reach + 1, x0 : peak_x + reach + 1]
    estimated = bool(own[here].sum() < floor)
    if estimated and (fused is own or fused[here].sum() < _SURE):
        return None
    around = (fused if estimated else own)[here]
    x = around.sum(0) @ (np.arange(around.shape[1]) + x0 + 0.5) / around.sum()
    y = around.sum(1) @ (np.arange(around.shape[0]) + y0 + 0.5) / around.sum()
    return float(x), float(y), estimated


def _fuse_heatmaps(disc: np.ndarray, fovea: np.ndarray, usual: FoveaOffset) -> tuple[np.ndarray, np.ndarray]:
    """Heat maps (S, S), each times the prior that the other landmark implies; each sums to 1 before and after."""
    apart, apart_spread, below, below_spread = usual
    at = np.arange(-_CELLS, _CELLS) / _CELLS  # a power of two long, for the Fourier transform
    across = sum(np.exp(-0.5 * ((at - sign * apart) / (_WIDER * apart_spread)) ** 2) for sign in (1, -1))
    down = np.exp(-0.5 * ((at - below) / (_WIDER * below_spread)) ** 2)
    offset = np.fft.rfft2(np.fft.ifftshift(np.outer(down, across)))
    small = [np.fft.rfft2(_coarse(heat) + _FLOOR, (2 * _CELLS, 2 * _CELLS)) for heat in (disc, fovea)]
    fused = []
    for heat, spectrum in ((disc, small[1] * offset.conj()), (fovea, small[0] * offset)):
        prior = np.fft.irfft2(spectrum, (2 * _CELLS, 2 * _CELLS))[:_CELLS, :_CELLS]
        full = cv2.resize(np.maximum(prior, 0), heat.shape[::-1], interpolation=cv2.INTER_LINEAR)
        product = (heat + _FLOOR) * full
        fused.append(product / product.sum())
    return fused[0], fused[1]


def _coarse(heat: np.ndarray) -> np.ndarray:
    coarse = cv2.resize(heat, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    return coarse / coarse.sum()
