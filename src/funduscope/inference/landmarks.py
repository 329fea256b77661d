"""Where disc and fovea are: each by its own map, chosen among the map's peaks by where the other one is.

A fovea in a dark or scarred macula leaves hardly a trace in its map, and a bright scar looks like a disc; but the two
lie at a known distance. Each map is multiplied by what the other one says of it through that distance: pictorial
structures of two parts, Felzenszwalb and Huttenlocher, "Pictorial Structures for Object Recognition", IJCV 61(1), 2005.
Different here: the other eye is the mirror image, so the distance has two signs; and where a map is sure of itself
around the chosen peak, its own mean counts, so that the usual distance draws no clear fovea towards itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from funduscope.imaging.framing import CropTransform
from funduscope.inference.card import Card
from funduscope.inference.runtime import Outputs, softmax

Point = tuple[float, float]

_CELLS: Final = 64  # a side of the grid on which the maps tell each other
_WIDER: Final = 1.5
"""Cameras differ in their field of view, and so in the distance as a share of the frame: its spread counts so much."""

_FLOOR: Final = 1e-5
"""Added to maps that sum to 1: a place that a map excludes can still be named by the other one."""

_SURE: Final = 0.5
"""What a place that was not seen needs of the joint map: the two sides of a disc have a half each, and are no place."""


@dataclass(frozen=True)
class LandmarkEstimate:
    """xy: in photo pixels. estimated: not seen clearly, but where it must be by the other landmark."""

    xy: Point
    estimated: bool


def find_landmarks(whole: Outputs, card: Card, transform: CropTransform) -> dict[str, LandmarkEstimate]:
    """The landmarks that were found, by name; none that lies beyond the photo's edge, where a frame is black.

    whole: answers for the whole view, a batch of one.
    """
    if whole.landmarks is None:
        return {}
    heats = {
        name: softmax(plane.astype(np.float64)) for name, plane in zip(card.landmarks, whole.landmarks[0], strict=True)
    }
    joint = heats
    if card.fovea_from_disc is not None and {"optic_disc", "fovea"} <= heats.keys():
        disc, fovea = _fuse_heatmaps(heats["optic_disc"], heats["fovea"], card.fovea_from_disc)
        joint = heats | {"optic_disc": disc, "fovea": fovea}
    found: dict[str, LandmarkEstimate] = {}
    for name, heat in heats.items():
        place = _place(heat, joint[name], card.landmark_floor)
        if place is not None:
            side = transform.side_px / len(heat)
            x, y = transform.to_photo(np.array([[place[0] * side, place[1] * side]]))[0]
            if 0 <= x <= transform.width_px and 0 <= y <= transform.height_px:
                found[name] = LandmarkEstimate((float(x), float(y)), place[2])
    return found


def usual_distance(discs: Sequence[Point], foveas: Sequence[Point]) -> tuple[float, float, float, float] | None:
    """Mean and standard deviation of how far the fovea lies beside the disc, and of how far below.

    discs, foveas: the same eyes', in shares of the frame's side. None where there are fewer than ten.
    """
    if len(discs) < 10:
        return None
    apart = np.array(foveas) - np.array(discs)
    beside, below = np.abs(apart[:, 0]), apart[:, 1]
    return tuple(round(float(value), 5) for value in (beside.mean(), beside.std(), below.mean(), below.std()))  # type: ignore[return-value]


def _place(own: np.ndarray, joint: np.ndarray, floor: float) -> tuple[float, float, bool] | None:
    """x and y of the joint map's peak, in cells, and whether it was estimated; None where neither map is sure of it.

    The mean over the cells around the peak: of the own map where enough of it lies there, else of the joint one.
    """
    side = len(own)
    peak_y, peak_x = np.unravel_index(cv2.GaussianBlur(joint, (0, 0), 2.0).argmax(), joint.shape)
    reach = max(3, side // 16)  # about half a disc diameter
    y0, x0 = max(0, int(peak_y) - reach), max(0, int(peak_x) - reach)
    here = np.s_[y0 : peak_y + reach + 1, x0 : peak_x + reach + 1]
    estimated = bool(own[here].sum() < floor)
    if estimated and (joint is own or joint[here].sum() < _SURE):
        return None
    around = (joint if estimated else own)[here]
    x = around.sum(0) @ (np.arange(around.shape[1]) + x0 + 0.5) / around.sum()
    y = around.sum(1) @ (np.arange(around.shape[0]) + y0 + 0.5) / around.sum()
    return float(x), float(y), estimated


def _fuse_heatmaps(
    disc: np.ndarray, fovea: np.ndarray, usual: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Both maps (S, S), each summing to 1, after each was told by the other where it should be."""
    beside, beside_spread, below, below_spread = usual
    at = np.arange(-_CELLS, _CELLS) / _CELLS  # a power of two long, for the Fourier transform
    across = sum(np.exp(-0.5 * ((at - sign * beside) / (_WIDER * beside_spread)) ** 2) for sign in (1, -1))
    down = np.exp(-0.5 * ((at - below) / (_WIDER * below_spread)) ** 2)
    usual_way = np.fft.rfft2(np.fft.ifftshift(np.outer(down, across)))
    small = [np.fft.rfft2(_coarse(heat) + _FLOOR, (2 * _CELLS, 2 * _CELLS)) for heat in (disc, fovea)]
    ways = (small[1] * usual_way.conj(), small[0] * usual_way)
    told = []
    for heat, way in zip((disc, fovea), ways, strict=True):
        says = np.fft.irfft2(way, (2 * _CELLS, 2 * _CELLS))[:_CELLS, :_CELLS]
        full = cv2.resize(np.maximum(says, 0), heat.shape[::-1], interpolation=cv2.INTER_LINEAR)
        both = (heat + _FLOOR) * full
        told.append(both / both.sum())
    return told[0], told[1]


def _coarse(heat: np.ndarray) -> np.ndarray:
    coarse = cv2.resize(heat, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    return coarse / coarse.sum()
