"""Cut the eye square out of a photograph, resize it once, and know the exact way back.

Coordinates everywhere: x right, y down, pixel centers at +0.5 (the corner of the first pixel is 0, 0). Under that
convention a resize is a plain scaling, which is what makes the way back exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from funduscope.imaging.burned_in_marks import FRAME_PX, find_marks, paint_over
from funduscope.imaging.field_of_view import FieldOfView, find_field_of_view
from funduscope.imaging.photo_parts import Part

if TYPE_CHECKING:
    from funduscope.imaging.photo import Photo

PAGE_RIM: Final = 0.985
"""The frame of a photo that was cut out of a page or a window is black beyond this share of the circle's radius: a
circle fits an edge to about 1 % of its radius, and a rim of white paper resembles exudates."""

WHOLE_PX2: Final = 120_000_000
"""Squares of more pixels are resized one axis at a time, which bounds memory: most of such a square is beyond the
photo. The limit is the square of the longer side of a 3:2 photo of 80 million pixels."""


@dataclass(frozen=True, slots=True)
class CropTransform:
    """The exact transform between a photo and its frame, and back.

    The frame shows the square of `size_px` at (`left_px`, `top_px`) of the photo, which may reach beyond the photo.
    side_px: of the frame. width_px, height_px: of the photo. part: where in a larger picture the photo lies, as left,
    top, right and bottom in pixels, if it is not all of it; then everything beyond the part, and beyond the circle that
    the frame contains (`PAGE_RIM`), is black in the frame.
    """

    left_px: int
    top_px: int
    size_px: int
    side_px: int
    width_px: int
    height_px: int
    part: Part | None = None

    @property
    def bounds(self) -> Part:
        """The photo's left, top, right and bottom in the picture, in pixels; right and bottom are outside."""
        return self.part or (0, 0, self.width_px, self.height_px)

    @property
    def px_per_frame_px(self) -> float:
        """Photo pixels for each frame pixel, along one axis."""
        return self.size_px / self.side_px

    def to_photo(self, xy: np.ndarray) -> np.ndarray:
        """Points (N, 2) in frame pixels to photo pixels, float64."""
        return np.asarray(xy, np.float64) * self.px_per_frame_px + (self.left_px, self.top_px)

    def to_frame(self, xy: np.ndarray) -> np.ndarray:
        """Points (N, 2) in photo pixels to frame pixels, float64: the inverse of `to_photo`."""
        return (np.asarray(xy, np.float64) - (self.left_px, self.top_px)) * (self.side_px / self.size_px)

    def map_to_photo(self, prob: np.ndarray) -> np.ndarray:
        """A map of the frame (n, n), of any resolution n, in the photo: (H, W) float32, linear, 0 outside."""
        rows, columns, _ = self._inside()
        whole = np.zeros((self.height_px, self.width_px), np.float32)
        whole[rows, columns] = self._enlarged(prob)
        return whole

    def mask_to_photo(self, prob: np.ndarray, threshold: float) -> np.ndarray:
        """(H, W) bool: where `map_to_photo` is at least a threshold above 0, without the map at the photo's size."""
        whole = np.zeros((self.height_px, self.width_px), bool)
        if prob.max(initial=0.0) >= threshold:  # interpolation never exceeds the largest value
            rows, columns, _ = self._inside()
            np.greater_equal(self._enlarged(prob), threshold, out=whole[rows, columns])
        return whole

    def _enlarged(self, prob: np.ndarray) -> np.ndarray:
        """A map of the frame at the photo's resolution, the part that is inside the photo."""
        enlarged = self._resized(prob)
        # A mean over areas may exceed the largest value by its rounding.
        return enlarged if len(prob) <= self.size_px else np.minimum(enlarged, np.float32(prob.max()))

    def _resized(self, prob: np.ndarray) -> np.ndarray:
        if prob.ndim != 2 or prob.shape[0] != prob.shape[1]:
            raise ValueError(f"a map of the frame is square, (n, n); got shape {prob.shape}")
        size = self.size_px
        way = cv2.INTER_AREA if prob.shape[0] > size else cv2.INTER_LINEAR
        rows, columns, _ = self._inside()
        down = slice(rows.start - self.top_px, rows.stop - self.top_px)
        across = slice(columns.start - self.left_px, columns.stop - self.left_px)
        prob, side = np.ascontiguousarray(prob, np.float32), prob.shape[0]
        if size * size <= WHOLE_PX2:
            return cv2.resize(prob, (size, size), interpolation=way)[down, across]
        if rows.stop - rows.start <= columns.stop - columns.start:
            band = cv2.resize(prob, (side, size), interpolation=way)[down]
            return cv2.resize(band, (size, len(band)), interpolation=way)[:, across]
        band = np.ascontiguousarray(cv2.resize(prob, (size, side), interpolation=way)[:, across])
        return cv2.resize(band, (band.shape[1], size), interpolation=way)[down]

    def map_to_frame(self, mask: np.ndarray) -> np.ndarray:
        """The part of each frame pixel that a photo's mask (H, W) covers: (S, S) float32 in 0..1.

        In integers and booleans, any value but 0 is inside. Floats are averaged.
        """
        if mask.shape != (self.height_px, self.width_px):
            raise ValueError(f"a mask of this photo is {(self.height_px, self.width_px)}; got shape {mask.shape}")
        rows, columns, margins = self._inside()
        cut = mask[rows, columns]
        cut = cut.astype(np.float32) if cut.dtype.kind == "f" else (cut != 0).astype(np.float32)
        return _squared(cut, margins, self.side_px, enlarge=cv2.INTER_LINEAR)

    def image_to_frame(self, pixels: np.ndarray) -> np.ndarray:
        """The photo's pixels (H, W, 3) uint8, cut and resized once: (S, S, 3) uint8; black beyond the photo."""
        rows, columns, margins = self._inside()
        image = _squared(pixels[rows, columns], margins, self.side_px, enlarge=cv2.INTER_CUBIC)
        if self.part is not None:
            at = np.arange(self.side_px) + 0.5 - self.side_px / 2
            image[np.hypot(at[:, None], at) > PAGE_RIM * self.side_px / 2] = 0
        return image

    def _inside(self) -> tuple[slice, slice, tuple[int, int, int, int]]:
        """The square's part inside the photo (rows, columns), and the margins beyond it: top, bottom, left, right."""
        first_x, first_y, end_x, end_y = self.bounds
        top, left = min(max(self.top_px, first_y), end_y), min(max(self.left_px, first_x), end_x)
        bottom = max(top, min(self.top_px + self.size_px, end_y))
        right = max(left, min(self.left_px + self.size_px, end_x))
        beyond = (self.top_px + self.size_px - bottom, self.left_px + self.size_px - right)
        return slice(top, bottom), slice(left, right), (top - self.top_px, beyond[0], left - self.left_px, beyond[1])


def _squared(cut: np.ndarray, margins: tuple[int, int, int, int], side: int, enlarge: int) -> np.ndarray:
    """The part of a square inside the photo, padded by margins (top, bottom, left, right) and resized to `side`."""
    top, bottom, left, right = margins
    size = cut.shape[0] + top + bottom
    way = cv2.INTER_AREA if side < size else enlarge
    if size * size <= WHOLE_PX2:
        square = _padded(cut, margins)
        return square.copy() if side == size else cv2.resize(square, (side, side), interpolation=way)
    steps = [((top, bottom, 0, 0), True), ((0, 0, left, right), False)]
    for beyond, is_down in sorted(steps, key=lambda step: sum(step[0])):
        padded = _padded(cut, beyond)
        cut = cv2.resize(padded, (padded.shape[1], side) if is_down else (side, padded.shape[0]), interpolation=way)
    return cut


def _padded(cut: np.ndarray, margins: tuple[int, int, int, int]) -> np.ndarray:
    if not any(margins):
        return np.ascontiguousarray(cut)
    return cv2.copyMakeBorder(cut, *margins, cv2.BORDER_CONSTANT, value=0)


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """The eye cut square and resized.

    image: (S, S, 3) uint8 RGB, text and marks painted over. field_of_view: None if no field was found. marks: (n, n)
    bool over the frame, of any resolution n, the text and marks; None if there are none.
    """

    image: np.ndarray
    transform: CropTransform
    field_of_view: FieldOfView | None
    marks: np.ndarray | None = None

    def resampled(self, pixels: np.ndarray, side_px: int) -> Frame:
        """The same square at another size, sampled from the photo's pixels (H, W, 3), not from this frame."""
        transform = replace(self.transform, side_px=side_px)
        image = transform.image_to_frame(pixels)
        if self.marks is not None:
            image = paint_over(image, self.marks)
        return replace(self, image=image, transform=transform)

    def cut_out(self, pixels: np.ndarray) -> tuple[np.ndarray, Frame]:
        """The photo cut out of the picture's pixels (H, W, 3) that it is a part of, and this frame of it.

        Beyond the circle the photo is then black. Both are unchanged if the photo is the whole picture.
        """
        if self.transform.part is None or self.field_of_view is None:
            return pixels, self
        left, top, right, bottom = self.transform.part
        field = self.field_of_view
        moved = FieldOfView(field.x_px - left, field.y_px - top, field.radius_px)
        cut = pixels[top:bottom, left:right].copy()
        across = (np.arange(right - left) + 0.5 - moved.x_px) ** 2
        for y, row in enumerate(cut):  # one by one: distances of all pixels would take more memory than the photo
            row[across + (y + 0.5 - moved.y_px) ** 2 > moved.radius_px**2] = 0
        corner = {"left_px": self.transform.left_px - left, "top_px": self.transform.top_px - top}
        transform = replace(self.transform, **corner, width_px=right - left, height_px=bottom - top, part=None)
        return cut, replace(self, transform=transform, field_of_view=moved)


def frame(photo: Photo | np.ndarray, side_px: int, *, paint_marks: bool = True) -> Frame:
    """Cut the eye out of a photo as a square of `side_px`: the circle's bounding square, black beyond the photo.

    Shrinking averages areas, enlarging is cubic; the photo is resized once. Where no field of view is found, the square
    contains the whole photo.

    paint_marks: whether text, arrows and other marks that software wrote into the photo are painted over. A model
    takes them for lesions; where no model reads the frame, the search is spared.
    """
    pixels = photo if isinstance(photo, np.ndarray) else photo.pixels
    height, width = pixels.shape[:2]
    field_of_view = find_field_of_view(pixels)
    circle = field_of_view or FieldOfView(width / 2, height / 2, max(width, height) / 2)
    left, top = round(circle.x_px - circle.radius_px), round(circle.y_px - circle.radius_px)
    size = max(1, round(2 * circle.radius_px))
    transform = CropTransform(left, top, size, side_px, width, height, circle.part)
    image = transform.image_to_frame(pixels)
    if not paint_marks:
        return Frame(image, transform, field_of_view)

    # In a smaller frame the letters of a large photo cannot be distinguished.
    sharp = image if side_px >= FRAME_PX else replace(transform, side_px=FRAME_PX).image_to_frame(pixels)
    marks = find_marks(sharp)
    if marks is not None:
        image = paint_over(image, marks)
    return Frame(image, transform, field_of_view, marks)
