"""Inpainting of lesions from their surroundings: the photo as it might look without them.

Two parts, as in retouching. The ground is the harmonic membrane over the hole: the smoothest surface that meets its
surroundings (Perez et al., "Poisson Image Editing", SIGGRAPH 2003, with a guidance of zero). The grain is copied from a
clean place nearby: what a blur removes there is added to the ground, so that the hole is no smoother than its
neighborhood. cv2.inpaint, which makes the ground alone, leaves visible patches without grain.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np

from funduscope.imaging.framing import CropTransform

MARGIN_FRAC: Final = 0.004
"""Margin of a hole around its mask, as a share of the frame's side: outlines are tight, and edges are blurred."""

GRAIN_FRAC: Final = 0.002
"""Sigma of the Gaussian that separates grain, as a share of the frame's side."""

TILE_PX: Final = 40
"""The grain of a large hole comes from several places, one for each square of this side in frame pixels."""

_SHIFTS: Final = tuple((np.cos(turn), np.sin(turn)) for turn in np.arange(16) * np.pi / 8)


class _Box(NamedTuple):
    """A rectangle in frame pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, plane: np.ndarray) -> np.ndarray:
        """The part of a plane inside the box."""
        return plane[self.top : self.top + self.height, self.left : self.left + self.width]


Places = list[tuple[_Box, tuple[int, int]]]
"""Parts of a hole, and for each the offset (x, y in frame pixels) of the place that its grain comes from."""


def inpaint(
    pixels: np.ndarray, mask: np.ndarray, transform: CropTransform, avoid: np.ndarray | None = None
) -> np.ndarray:
    """(H, W, 3) uint8 with the mask inpainted; all other pixels are unchanged, to the bit.

    mask, avoid: (H, W) bool. avoid: no source of ground or grain; the mask and what lies outside the eye are none
    either.
    """
    small = transform.image_to_frame(pixels)
    hole = _dilated(transform.map_to_frame(mask) > 0, margin_px(transform))
    excluded = hole | ~_field(small)
    if avoid is not None:
        excluded |= _dilated(transform.map_to_frame(avoid) > 0, margin_px(transform))
    result = pixels.copy()
    if not hole.any() or excluded.all():
        return result
    ground = _membrane(small.astype(np.float32), hole, ~excluded)
    # The depth of a pixel inside the hole. New and old pixels are blended over the outer half of the margin.
    depth = cv2.distanceTransform(np.pad(hole, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    share = np.clip(depth / (margin_px(transform) / 2), 0, 1)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hole.view(np.uint8), connectivity=8)
    for one in range(1, count):
        box, own = _Box(*(int(value) for value in stats[one, :4])), labels == one
        _smooth(ground, own, box)
        _blend(
            result, pixels, transform, (ground, np.where(own, share, 0)), box, _grain_sources(small, own, excluded, box)
        )
    return result


def margin_px(transform: CropTransform) -> int:
    """The margin of a hole around its mask, in frame pixels."""
    return max(2, round(transform.side_px * MARGIN_FRAC))


def _dilated(mask: np.ndarray, by: int) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    return cv2.dilate(mask.view(np.uint8), kernel).astype(bool)


def _field(small: np.ndarray) -> np.ndarray:
    """The eye without its edge, (S, S) bool: the circle that fills the frame, inside the photo."""
    side = len(small)
    yy, xx = np.mgrid[:side, :side] + 0.5 - side / 2
    lit = cv2.erode((small.max(axis=2) > 10).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return (np.hypot(xx, yy) < 0.48 * side) & lit


def _membrane(image: np.ndarray, hole: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The image with its hole filled smoothly from the known pixels: (S, S, 3) float32.

    Coarse to fine; each level is made of the means of the finer level's known pixels.
    """
    weight = known.astype(np.float32)
    levels = [(image * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 1 and levels[-1][1].min() == 0:
        sums, weights = levels[-1]
        size = (-(-sums.shape[1] // 2), -(-sums.shape[0] // 2))
        coarser = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in (sums, weights))
        levels.append(tuple(np.asarray(plane, np.float32) for plane in coarser))  # pyright: ignore[reportArgumentType]
    filled = _ratio(*levels[-1])
    for sums, weights in levels[-2::-1]:
        coarse = cv2.resize(filled, sums.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        is_known = weights[..., None] > 0
        filled = np.where(is_known, _ratio(sums, weights), coarse)
    ground = np.where(hole[..., None], filled, image)
    # Pixels that are no source (another lesion next to the hole) are replaced too, so that they do not bleed into the
    # edge of the hole.
    return np.where((known | hole)[..., None], ground, _around(ground, known | hole))


def _smooth(ground: np.ndarray, own: np.ndarray, box: _Box) -> None:
    """Makes the ground harmonic inside one hole, in place. own: (S, S) bool, this hole alone."""
    rows = slice(max(0, box.top - 4), box.top + box.height + 4)
    columns = slice(max(0, box.left - 4), box.left + box.width + 4)
    crop, inside = ground[rows, columns], own[rows, columns]
    for _ in range(min(400, 20 + 2 * max(box.width, box.height))):
        crop[inside] = cv2.blur(crop, (3, 3))[inside]


def _ratio(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return sums / np.maximum(weights, 1e-6)[..., None]


def _around(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The mean of the known pixels around each pixel."""
    weight = known.astype(np.float32)
    size = (31, 31)
    return _ratio(cv2.blur(image * weight[..., None], size), cv2.blur(weight, size))


def _grain_sources(small: np.ndarray, own: np.ndarray, excluded: np.ndarray, box: _Box) -> Places:
    """For each part of a hole the calmest fully clean place nearby; parts without one are left out."""
    places: Places = []
    for top in range(box.top, box.top + box.height, TILE_PX):
        for left in range(box.left, box.left + box.width, TILE_PX):
            size = min(TILE_PX, box.left + box.width - left), min(TILE_PX, box.top + box.height - top)
            part = _Box(left, top, *size)
            shift = _grain_offset(small, own, excluded, part) if part.of(own).any() else None
            if shift is not None:
                places.append((part, shift))
    return places


def _grain_offset(small: np.ndarray, own: np.ndarray, excluded: np.ndarray, part: _Box) -> tuple[int, int] | None:
    """The offset, in frame pixels, of the place whose green varies least; None if every place has excluded pixels."""
    inside = part.of(own)
    calm: list[tuple[float, tuple[int, int]]] = []
    for stretch in (1.1, 1.8, 3.0, 5.0):
        for across, down in _SHIFTS:
            shift = round(across * (part.width + 8) * stretch), round(down * (part.height + 8) * stretch)
            there = part._replace(left=part.left + shift[0], top=part.top + shift[1])
            ends = there.left + there.width, there.top + there.height
            if min(there[:2]) >= 0 and max(ends) <= len(small) and not (there.of(excluded) & inside).any():
                calm.append((float(there.of(small[..., 1])[inside].std()), shift))
    return min(calm, key=lambda place: place[0])[1] if calm else None


def _blend(
    result: np.ndarray,
    pixels: np.ndarray,
    transform: CropTransform,
    ground_share: tuple[np.ndarray, np.ndarray],
    box: _Box,
    places: Places,
) -> None:
    """Fills one hole in the photo. ground_share: the ground, and (S, S) in 0..1 the share of new in each pixel."""
    scale = transform.px_per_frame_px
    # One frame pixel more on each side, because the share is interpolated down to 0 there.
    x0, y0, x1, y1 = _in_photo(_Box(box.left - 1, box.top - 1, box.width + 2, box.height + 2), transform)
    if x1 <= x0 or y1 <= y0:
        return
    photo_to_frame = np.array([
        [1 / scale, 0, (x0 + 0.5 - transform.left_px) / scale - 0.5],
        [0, 1 / scale, (y0 + 0.5 - transform.top_px) / scale - 0.5],
    ])  # fmt: skip
    ground, share = (
        cv2.warpAffine(
            plane.astype(np.float32), photo_to_frame, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        for plane in ground_share
    )
    for part, shift in places:
        left, top, right, bottom = _in_photo(part, transform)
        grain = _grain(pixels, transform, (left, top, right, bottom), shift)
        if grain is not None:
            ground[top - y0 : bottom - y0, left - x0 : right - x0] += grain
    old = result[y0:y1, x0:x1]
    new = share[..., None] * ground + (1 - share[..., None]) * old
    result[y0:y1, x0:x1] = np.where(share[..., None] > 0, np.clip(np.rint(new), 0, 255).astype(np.uint8), old)


def _in_photo(box: _Box, transform: CropTransform) -> tuple[int, int, int, int]:
    """The photo pixels of a box: left, top, right, bottom. Adjoining boxes adjoin in the photo too."""
    corners = np.array([[box.left, box.top], [box.left + box.width, box.top + box.height]])
    (x0, y0), (x1, y1) = np.rint(transform.to_photo(corners)).astype(int).tolist()
    return max(x0, 0), max(y0, 0), min(x1, transform.width_px), min(y1, transform.height_px)


def _grain(
    pixels: np.ndarray, transform: CropTransform, box: tuple[int, int, int, int], shift: tuple[int, int]
) -> np.ndarray | None:
    """What a blur removes from a box of the photo at its shifted place; None if that is not fully in the photo.

    Clipped to the strength of grain, so that no remains of a vessel are copied.
    """
    sigma = max(1.0, GRAIN_FRAC * transform.size_px)
    right, down = (round(value * transform.px_per_frame_px) for value in shift)
    x0, y0, x1, y1 = box[0] + right, box[1] + down, box[2] + right, box[3] + down
    if min(x0, y0) < 0 or x1 > transform.width_px or y1 > transform.height_px or x1 <= x0 or y1 <= y0:
        return None
    reach = int(3 * sigma) + 1
    top, left = max(0, y0 - reach), max(0, x0 - reach)
    patch = pixels[top : y1 + reach, left : x1 + reach].astype(np.float32)
    fine = (patch - cv2.GaussianBlur(patch, (0, 0), sigma))[y0 - top : y1 - top, x0 - left : x1 - left]
    most = 3.5 * 1.4826 * np.median(np.abs(fine)) + 1
    return np.clip(fine, -most, most)
