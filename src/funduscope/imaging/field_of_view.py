"""Find the circular field of view in a photograph, from the image alone, without constants of any camera.

The image is thresholded at several levels above the surround (its darkest corner). A circle is fitted to each region's
rim by RANSAC (Fischler and Bolles, Communications of the ACM 24(6), 1981), without the points on the photo's edges. The
circle across which brightness falls most is then moved onto the steepest fall. So tabs, notches, dark parts of the rim
and fields that are cut on any side do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from funduscope.imaging.photo_parts import Part, find_parts

SEARCH_SIDE_PX: Final = 512
"""Longer side of the copy in which the field is searched: a circle averages over hundreds of edge points anyway."""

NOTHING_LEVELS: Final = 8
"""An image whose smoothed brightness spans less than this (of 255) shows nothing."""

MIN_RADIUS_FRAC: Final = 0.09
"""Radius of the smallest field that is accepted, as a fraction of the photo's longer side."""

SMALL_RADIUS_FRAC: Final = 0.33
"""A field with a smaller radius must be alone on its surround: otherwise it may be the disc of a photo without rim."""

MAX_RADIUS_FRAC: Final = 0.75
"""Largest radius, as a fraction of the photo's diagonal: half the diagonal already covers a whole photo."""

MIN_ARC_DEG: Final = 24.0
"""Smallest part of the circle, in degrees, that must be a visible edge inside the photo for a fit to be accepted."""

_RAYS: Final = 360
"""Rays across the circle on which its edge is measured: one per degree, as `MIN_ARC_DEG` counts them."""

LEVELS_ABOVE_SURROUND: Final = (5.0, 9.0, 15.0, 26.0, 42.0)
"""Thresholds above the surround: dark fields need the low ones, noisy surrounds the high ones."""

CLUTTER_LEVELS, CLUTTER_FRAC = 25, 0.02
"""Around the field of one photo, less than this share of the picture differs by more levels from the surround."""

LETTERS_FRAC: Final = 0.0004
"""Where more of the picture than this differs from the surround, letters or a logo stand there, and all around the
field is cut off. The camera's notch and tab are smaller: at most 0.0002 in 2,556 photos of five sources, but for two
whose rim flares."""

PAGE_LEVEL: Final = 120
"""A surround that is brighter than this is a page, which is cut off around the field."""

RETINA_FRAC: Final = 0.35
"""An orange corner with more than this share of the photo's median brightness is retina. The surrounds of 1,139 photos
of seven sources had less, but for three photos that are black all over."""

CLEAR_EDGE: Final = 3.0
"""A field in a part of a picture has at least this score of its edge: a fall of 9 levels all around."""

ANOTHER_FRAC: Final = 0.6
"""A field with more than this share of the largest one's radius is a second photo; thumbnails are smaller."""

MIN_PART_PX: Final = 64
"""Shorter side of the smallest part of a picture in which a field is looked for."""

_NESTED: Final = 2
"""A photo is looked for in parts of parts, to this depth: in a viewer's pane, in its window, on a screen."""


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """The field of view: a circle in the photo's pixels, which may reach beyond the photo's edges.

    part: where in the picture the photo lies, as left, top, right and bottom in pixels; None if it is all of it.
    is_one_of_several: whether the picture shows other fields that are nearly as large. is_edgeless: whether the retina
    fills the photo, so that the circle is one around the photo and no edge.
    """

    x_px: float
    y_px: float
    radius_px: float
    part: Part | None = None
    is_one_of_several: bool = False
    is_edgeless: bool = False


def find_field_of_view(pixels: np.ndarray) -> FieldOfView | None:
    """Find the field of view in a photo (H, W, 3) uint8: full, cut by the photo's edges, or larger than the photo.

    If the retina fills the photo and no edge is visible, returns a circle around the photo's center whose diameter is
    the photo's longer side (`is_edgeless`). None for an image of one color. If the photo lies in a frame, a window or a
    page, or its surround contains letters, `part` is the rectangle to keep. Of several photos the largest is returned.
    """
    small, _ = thumbnail(pixels, SEARCH_SIDE_PX)
    found, edge = _searched(pixels, _smoothed(small))
    if found is None:
        return None
    on_page = edge > 0 and _surround(_smoothed(small))[0].max() > PAGE_LEVEL
    unlike = _unlike_around(small, found, small.shape[1] / pixels.shape[1]) if edge > 0 else 1.0
    # In a photo without a rim a faint circle may be a disc's or a vessel's, and retina lies around it.
    is_cut_off = on_page or (edge >= CLEAR_EDGE and unlike > LETTERS_FRAC)
    whole = replace(found, part=(0, 0, pixels.shape[1], pixels.shape[0])) if is_cut_off else found
    if not on_page and unlike <= CLUTTER_FRAC:
        return whole
    inner = _in_parts(pixels, small, (0, 0), _NESTED)
    if not inner:
        return replace(whole, is_one_of_several=_has_two_halves(pixels))
    largest = max(inner, key=lambda field: field.radius_px)
    return replace(largest, is_one_of_several=any(_is_another(field, largest) for field in inner))


def _is_another(field: FieldOfView, largest: FieldOfView) -> bool:
    """Whether a field is that of a second photo, and no thumbnail: nearly as large, with a center of its own."""
    apart = float(np.hypot(field.x_px - largest.x_px, field.y_px - largest.y_px))
    return field.radius_px > ANOTHER_FRAC * largest.radius_px and apart > largest.radius_px


def _has_two_halves(pixels: np.ndarray) -> bool:
    """Whether two photos that touch lie on each other or side by side: each half shows a field of its own."""
    height, width = pixels.shape[:2]
    for first, second, down, across in (
        (pixels[: height // 2], pixels[height // 2 :], height // 2, 0),
        (pixels[:, : width // 2], pixels[:, width // 2 :], 0, width // 2),
    ):
        if min(first.shape[:2]) < MIN_PART_PX:
            continue
        (one, edge), (other, edge_of_other) = (
            _searched(half, _smoothed(thumbnail(half, SEARCH_SIDE_PX)[0])) for half in (first, second)
        )
        if one is not None and other is not None and min(edge, edge_of_other) >= CLEAR_EDGE:
            moved = replace(other, x_px=other.x_px + across, y_px=other.y_px + down)
            small, large = sorted((one, moved), key=lambda field: field.radius_px)
            if _is_another(small, large):
                return True
    return False


def _unlike_around(small: np.ndarray, found: FieldOfView, scale: float) -> float:
    """The share of a small copy that lies around a field and has not the most frequent color there."""
    rows, columns = np.ogrid[: small.shape[0], : small.shape[1]]
    distance = np.hypot(columns + 0.5 - found.x_px * scale, rows + 0.5 - found.y_px * scale)
    around = small[distance > 1.06 * found.radius_px * scale].astype(np.int16)
    if not len(around):
        return 0.0
    return float((np.abs(around - np.median(around, axis=0)).max(axis=1) > CLUTTER_LEVELS).sum()) / distance.size


def _in_parts(pixels: np.ndarray, small: np.ndarray, offset: tuple[int, int], depth: int) -> list[FieldOfView]:
    """The fields with a clear edge in the parts of a picture, in pixels of the whole picture."""
    scale, fields = pixels.shape[1] / small.shape[1], []
    for left, top, right, bottom in find_parts(small):
        margin = 0.5 if scale > 1 else 0  # the copy's pixels at the part's edge are half of its surroundings
        x, y = (int(np.ceil(scale * (at + margin))) for at in (left, top))
        end_x, end_y = (int(scale * (at - margin)) for at in (right, bottom))
        cut, there = pixels[y:end_y, x:end_x], (offset[0] + x, offset[1] + y)
        if min(cut.shape[:2]) < MIN_PART_PX:
            continue
        copy, _ = thumbnail(cut, SEARCH_SIDE_PX)
        found, edge = _searched(cut, _smoothed(copy))
        if found is None:
            continue
        if edge < CLEAR_EDGE or _unlike_around(copy, found, copy.shape[1] / cut.shape[1]) > CLUTTER_FRAC:
            fields += _in_parts(cut, copy, there, depth - 1) if depth else []
        else:
            part = (*there, there[0] + cut.shape[1], there[1] + cut.shape[0])
            fields.append(FieldOfView(found.x_px + there[0], found.y_px + there[1], found.radius_px, part))
    return fields


def _searched(pixels: np.ndarray, small: np.ndarray) -> tuple[FieldOfView | None, float]:
    """The field in a picture that is one photo, and how clear its edge is: 0 if no edge is visible."""
    height, width = pixels.shape[:2]
    scale = np.array([width / small.shape[1], height / small.shape[0]])
    light = _brightest(small)
    if np.ptp(np.percentile(light, (0.5, 99.5))) < NOTHING_LEVELS:
        return None, 0.0
    color, noise = _surround(small)
    away = _brightest(np.abs(small - color)) - 3 * noise  # so a low threshold works on a noisy border too
    # A corner that is bright and orange is retina, not surround: circles in such a photo are discs and vessels.
    bright = color[0] > 60 or (color[0] > 15 and color[0] > RETINA_FRAC * np.median(light))
    filled = bright and np.ptp(color) > 0.4 * color[0] and color[0] >= color[1] >= color[2]
    best, best_score = None, 0.0
    for level in () if filled else LEVELS_ABOVE_SURROUND:
        circle = _circle_at(away, level)
        score = _seen_edge(away, circle) if circle else 0.0
        if score > best_score:
            best, best_score = circle, score
    if best is None:
        return FieldOfView(width / 2, height / 2, max(width, height) / 2, is_edgeless=True), 0.0
    x, y, radius = _sharpened(away, best)
    field = FieldOfView(float((x + 0.5) * scale[0]), float((y + 0.5) * scale[1]), float(radius * scale.mean()))
    return field, best_score


def thumbnail(pixels: np.ndarray, longest_px: int) -> tuple[np.ndarray, float]:
    """A copy (h, w, 3) uint8, at most `longest_px` on its longer side, and its scale.

    Of a large photo only every few-th pixel is averaged: all of 12 megapixels cost more than what the copy is for.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, longest_px / max(height, width))
    step = max(1, int(0.5 / scale))
    thin = np.ascontiguousarray(pixels[step // 2 :: step, step // 2 :: step])
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(thin, size, interpolation=cv2.INTER_AREA), scale


def _smoothed(small: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.0)


def _brightest(image: np.ndarray) -> np.ndarray:
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def _surround(small: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """The surround's color (3,) float32 and noise, in levels: those of the darkest corner."""
    side = max(3, round(0.02 * max(small.shape[:2])))
    ends = slice(0, side), slice(-side, None)
    corners = [small[rows, columns].reshape(-1, 3) for rows in ends for columns in ends]
    darkest = min(corners, key=lambda corner: float(np.median(corner, axis=0).max()))
    color = np.median(darkest, axis=0).astype(np.float32)
    return color, np.float32(1.4826 * np.median(np.abs(darkest - color)))


def _circle_at(away: np.ndarray, level: float) -> tuple[float, float, float] | None:
    """The circle (x, y, radius; pixel indices) around the largest region above a level, None if none fits."""
    region = (away > level).astype(np.uint8)
    region = cv2.morphologyEx(region, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    edge = max(contours, key=cv2.contourArea)[:, 0, :].astype(np.float64)
    height, width = away.shape
    inside = (edge[:, 0] > 2) & (edge[:, 0] < width - 3) & (edge[:, 1] > 2) & (edge[:, 1] < height - 3)
    edge = edge[inside]
    if len(edge) < 20:
        return None
    return _fitted(edge, away.shape)


def _fitted(edge: np.ndarray, shape: tuple[int, ...], tries: int = 250) -> tuple[float, float, float] | None:
    """The circle that most edge points (N, 2) agree on: RANSAC over triples, then least squares on those that agree."""
    circles = _through(edge[np.random.default_rng(0).integers(0, len(edge), (tries, 3))])
    longer, diagonal = max(shape), float(np.hypot(shape[0], shape[1]))
    radius = circles[:, 2]
    sane = (radius > MIN_RADIUS_FRAC * longer) & (radius < MAX_RADIUS_FRAC * diagonal)
    sane &= (circles[:, 0] > 0) & (circles[:, 0] < shape[1]) & (circles[:, 1] > 0) & (circles[:, 1] < shape[0])
    circles = circles[sane]
    if not len(circles):
        return None
    some = edge[:: max(1, len(edge) // 200)]
    off = np.hypot(some[None, :, 0] - circles[:, :1], some[None, :, 1] - circles[:, 1:2]) - circles[:, 2:]
    circle = circles[np.argmax((np.abs(off) < 2.0).sum(axis=1))]
    for within in (4.0, 2.0, 1.5):
        near = np.abs(np.hypot(edge[:, 0] - circle[0], edge[:, 1] - circle[1]) - circle[2]) < within
        if near.sum() < 12:
            return None
        circle = _least_squares(edge[near])
    sane = MIN_RADIUS_FRAC * longer < circle[2] < MAX_RADIUS_FRAC * diagonal
    return (float(circle[0]), float(circle[1]), float(circle[2])) if sane else None


def _through(three: np.ndarray) -> np.ndarray:
    """The circles (N, 3: x, y, radius) through triples of points (N, 3, 2); nan if they lie on a line."""
    origin = three[:, 0]
    (bx, by), (cx, cy) = (three[:, 1] - origin).T, (three[:, 2] - origin).T
    with np.errstate(all="ignore"):
        twice = 2 * (bx * cy - by * cx)
        b2, c2 = bx * bx + by * by, cx * cx + cy * cy
        x, y = (cy * b2 - by * c2) / twice, (bx * c2 - cx * b2) / twice
        return np.stack([x + origin[:, 0], y + origin[:, 1], np.hypot(x, y)], axis=1)


def _least_squares(points: np.ndarray) -> np.ndarray:
    """The circle (x, y, radius) nearest to points (N, 2): algebraic start, then Gauss-Newton on true distances."""
    middle = points.mean(axis=0)
    p = points - middle
    a = np.c_[2 * p, np.ones(len(p))]
    x, y, c = np.linalg.lstsq(a, (p * p).sum(axis=1), rcond=None)[0]
    circle = np.array([x, y, np.sqrt(max(c + x * x + y * y, 1e-9))])
    for _ in range(5):
        away = p - circle[:2]
        distance = np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-9)
        slope = np.c_[-away / distance[:, None], -np.ones(len(p))]
        circle = circle - np.linalg.lstsq(slope, distance - circle[2], rcond=None)[0]
    return circle + np.array([*middle, 0.0])


def _profiles(
    away: np.ndarray, circle: tuple[float, float, float], reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brightness along rays across a circle's edge: values (rays, reach), which rays lie in the photo, directions."""
    x, y, radius = circle
    angle = np.arange(_RAYS) * (2 * np.pi / _RAYS)
    toward = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    at = np.array([x, y]) + toward[:, None, :] * (radius + reach)[None, :, None]
    height, width = away.shape
    inside = (at[..., 0] >= 0) & (at[..., 0] <= width - 1) & (at[..., 1] >= 0) & (at[..., 1] <= height - 1)
    mapped = at.astype(np.float32)
    values = cv2.remap(away, mapped[..., 0], mapped[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return values, inside.all(axis=1), toward


def _seen_edge(away: np.ndarray, circle: tuple[float, float, float]) -> float:
    """A circle's score: the mean over rays of the root of the fall of brightness across its edge.

    With the root, one bright part does not outweigh a dark field's whole rim, and a rim still scores higher than a halo
    around it. 0 where less than `MIN_ARC_DEG` of the circle is a visible edge.
    """
    values, seen, _ = _profiles(away, circle, np.array([-5.0, -4.0, -3.0, 3.0, 4.0, 5.0]))
    inner, outer = values[:, :3].mean(axis=1), values[:, 3:].mean(axis=1)
    fall = inner - outer
    falls = seen & (fall > np.maximum(3.0, 0.25 * inner))
    if falls.sum() < MIN_ARC_DEG or (circle[2] < SMALL_RADIUS_FRAC * max(away.shape) and not _alone(away, circle)):
        return 0.0
    return float(np.sqrt(np.minimum(fall[falls], 60.0)).sum() / max(seen.sum(), MIN_ARC_DEG))


def _alone(away: np.ndarray, circle: tuple[float, float, float]) -> bool:
    """Whether there is only surround around a circle."""
    rows, columns = np.ogrid[: away.shape[0], : away.shape[1]]
    distance = np.hypot(rows - circle[1], columns - circle[0])
    within, beyond = away[distance < circle[2]], away[distance > 1.15 * circle[2]]
    return bool(len(beyond)) and float(np.percentile(beyond, 90)) < max(8.0, 0.1 * float(np.median(within)))


def _sharpened(away: np.ndarray, circle: tuple[float, float, float]) -> tuple[float, float, float]:
    """The circle fitted to the steepest fall along each ray, which has not the bias of a threshold."""
    for far in (10.0, 6.0, 4.0):
        reach = np.arange(-far, far + 0.25, 0.5)
        values, seen, toward = _profiles(away, circle, reach)
        fall = values[:, :-2] - values[:, 2:]
        steepest = fall.argmax(axis=1)
        good = seen & (fall.max(axis=1) > 2.0)
        if good.sum() < MIN_ARC_DEG:
            return circle
        at = np.array(circle[:2]) + toward[good] * (circle[2] + reach[1:-1][steepest[good]])[:, None]
        off = np.hypot(at[:, 0] - circle[0], at[:, 1] - circle[1]) - circle[2]
        keep = np.abs(off - np.median(off)) < far / 2
        if keep.sum() < MIN_ARC_DEG:
            return circle
        moved = _least_squares(at[keep])
        if abs(moved[2] - circle[2]) > 0.1 * circle[2]:
            return circle
        circle = (float(moved[0]), float(moved[1]), float(moved[2]))
    return circle
