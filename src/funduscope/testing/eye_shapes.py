"""The layers of a drawn eye: vessels, microaneurysms, haemorrhages, exudates.

A layer is uint8 at twice the photo's size, drawn without smoothing and averaged down afterwards, so that what is
smaller than a pixel still counts for its share. `drawn` paints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

SHIFT: Final = 4
"""Number of fractional bits of the coordinates for cv2."""
_REFERENCE_RADIUS_PX: Final = 1703  # the field's radius in an IDRiD photo of 4288 px: lesion sizes are given there


@dataclass(frozen=True, eq=False)
class Ground:
    """Positions in px. axes: the unit vectors from the disc toward the fovea, and up."""

    size: tuple[int, int]  # height, width
    field: np.ndarray
    radius: float
    disc: np.ndarray
    fovea: np.ndarray
    dd: float
    axes: np.ndarray

    @property
    def unit(self) -> float:
        """Pixels here for one pixel of a 4288-wide IDRiD photo."""
        return self.radius / _REFERENCE_RADIUS_PX

    def at(self, along_up_dd: np.ndarray) -> np.ndarray:
        """(N, 2) disc diameters along the axes, from the disc -> (N, 2) px."""
        return self.disc + self.dd * np.asarray(along_up_dd) @ self.axes


def new_layer(ground: Ground) -> np.ndarray:
    return np.zeros((2 * ground.size[0], 2 * ground.size[1]), np.uint8)


def on_grid(xy: np.ndarray) -> np.ndarray:
    """Photo px (centers at +0.5) -> cv2's fixed-point grid of a layer."""
    return np.round((2 * np.asarray(xy) - 0.5) * (1 << SHIFT)).astype(np.int32)


def coverage(layer: np.ndarray, sigma_px: float = 0.0) -> np.ndarray:
    """A layer -> (H, W) float32 coverage in 0..1, softened."""
    small = cv2.resize(layer, (layer.shape[1] // 2, layer.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if sigma_px > 0.3:
        small = cv2.GaussianBlur(small, (0, 0), sigma_px)
    return small.astype(np.float32) / 255


def _blobs(
    rng: np.random.Generator,
    layer: np.ndarray,
    xy: np.ndarray,
    radius: np.ndarray,
    turned: np.ndarray,
    faintest: int = 215,
) -> None:
    """Draws N ragged blobs, some fainter: xy (N, 2), radius (N,) in px; turned (N, 2): length over width, radians."""
    around = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    waves = sum(
        rng.uniform(0, 0.32 / k, (len(xy), 1)) * np.cos(k * around + rng.uniform(0, 2 * np.pi, (len(xy), 1)))
        for k in (2, 3, 5)
    )
    reach = radius[:, None] * (1 + waves)
    long, cos, sin = np.sqrt(turned[:, :1]), np.cos(turned[:, 1:]), np.sin(turned[:, 1:])
    u, v = reach * long * np.cos(around), reach / long * np.sin(around)
    rings = xy[:, None] + np.stack([u * cos - v * sin, u * sin + v * cos], -1)
    for ring, value in zip(on_grid(rings), rng.integers(faintest, 256, len(xy)).tolist(), strict=True):
        cv2.fillPoly(layer, [ring], value, cv2.LINE_8, SHIFT)


def _round_turns(count: int) -> np.ndarray:
    return np.tile([1.0, 0.0], (count, 1))


def draw_vessels(rng: np.random.Generator, ground: Ground) -> np.ndarray:
    """A layer of arcades around the macula, nasal trunks and twigs: arteries thinner and paler than veins."""
    layer = new_layer(ground)
    pieces: list[tuple[float, int, np.ndarray]] = []  # width in disc diameters, darkness, points
    fovea_dd = float(np.linalg.norm(ground.fovea - ground.disc)) / ground.dd
    for darkness, lean, width in ((165, 0.0, 0.058), (240, 0.26, 0.085)):
        for up in (1, -1):
            trunks = (  # start and end angle from the line to the fovea, length, share of the width
                (rng.normal(1.3, 0.12) + lean, rng.uniform(-0.35, 0.1), 6.5, 1.0),
                (rng.normal(2.1, 0.15) - lean, rng.uniform(2.3, 2.9), 2.6, 0.7),
                (rng.uniform(0.3, 0.7), rng.uniform(-0.15, 0.2), 1.7, 0.27),
                (rng.uniform(2.6, 3.1), rng.uniform(2.7, 3.3), 1.6, 0.3),
            )
            for trunk in trunks:
                start = np.array([-0.06, 0.0]) + rng.normal(0, 0.035, 2)
                for widths, points in _grow(rng, start, trunk, width, fovea_dd):
                    line = on_grid(ground.at(points * (1, up)))
                    pieces += [(widths[i], darkness, line[i : i + 6]) for i in range(0, len(line) - 1, 5)]
    for wide, darkness, points in sorted(pieces, key=lambda piece: piece[0]):
        line = [points]
        thick = max(1, round(2 * wide * ground.dd))
        cv2.polylines(layer, line, False, int(darkness * (0.5 + 0.5 * min(1.0, wide / 0.04))), thick, cv2.LINE_8, SHIFT)
        if wide > 0.03:  # light reflected along the middle
            cv2.polylines(layer, line, False, int(darkness * 0.72), max(1, thick // 4), cv2.LINE_8, SHIFT)
    return layer


def _grow(
    rng: np.random.Generator, start: np.ndarray, trunk: tuple[float, ...], width: float, fovea_dd: float
) -> list[tuple[list[float], np.ndarray]]:
    """One trunk and its branches as (width at each point, points), in disc diameters; none enters the foveal pit."""
    paths = []
    growing = [(start, trunk[0], trunk[1], trunk[2], width * trunk[3], 0)]
    while growing:
        at, begin, end, length, wide, depth = growing.pop()
        t = np.linspace(0, 1, max(8, int(14 * length)))
        turn = np.clip(t / (0.62 if depth == 0 else 1), 0, 1)
        wiggle = sum(
            rng.uniform(0.04, 0.2) * np.sin(f * length * t + rng.uniform(0, 6.3)) * np.minimum(1, 6 * t)
            for f in (2.2, 5.1)
        )
        heading = begin + (end - begin) * turn * turn * (3 - 2 * turn) + wiggle
        steps = np.stack([np.cos(heading), np.sin(heading)], -1) * (length / len(t))
        points = at + np.cumsum(np.vstack([[0.0, 0.0], steps[:-1]]), 0)
        near = np.nonzero(np.hypot(points[:, 0] - fovea_dd, points[:, 1]) < 0.42)[0]
        last = int(near[0]) if len(near) else len(t)
        widths = wide * (1 - 0.6 * t)
        paths.append((widths[:last].tolist(), points[:last]))
        if depth == 2 or wide < 0.013:
            continue
        for i in rng.integers(3, len(t), max(1, round(length * (1.7 if depth else 1.4)))):
            if i < last:
                off = rng.choice((-1, 1)) * rng.uniform(0.4, 0.95)
                far = heading[i] + off * rng.uniform(-0.1, 1.5)
                size = (length * rng.uniform(0.2, 0.5), float(widths[i]) * rng.uniform(0.35, 0.75))
                growing.append((points[i], float(heading[i] + off), float(far), *size, depth + 1))
    return paths


def draw_tangle(rng: np.random.Generator, ground: Ground, vessels: np.ndarray) -> None:
    """New vessels on the disc: fine, curled, without a tree."""
    for _ in range(int(rng.integers(14, 26))):
        heading = rng.uniform(0, 6.3) + np.cumsum(rng.normal(rng.uniform(-0.3, 0.3), 0.3, 26))
        angle = rng.uniform(0, 6.3)
        start = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.3, 0.6)
        points = start + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], -1), 0) * rng.uniform(0.015, 0.04)
        thick = max(1, round(2 * 0.011 * ground.dd))
        cv2.polylines(vessels, [on_grid(ground.at(points))], False, 190, thick, cv2.LINE_8, SHIFT)


def _places(rng: np.random.Generator, ground: Ground, count: int, keep_off_dd: float = 0.2) -> np.ndarray:
    """(count, 2) px for lesions: in the field and the photo, off the disc, at a minimal distance from the fovea."""
    tries = 40 * count + 60
    angle, reach = rng.uniform(0, 2 * np.pi, tries), 0.9 * ground.radius * np.sqrt(rng.uniform(0, 1, tries))
    xy = ground.field + np.stack([reach * np.cos(angle), reach * np.sin(angle)], -1)
    edge = 25 * ground.unit + 2
    inside = ((xy > edge) & (xy < np.array(ground.size[::-1]) - edge)).all(1)
    off_disc = np.hypot(*(xy - ground.disc).T) > 0.8 * ground.dd
    return xy[inside & off_disc & (np.hypot(*(xy - ground.fovea).T) > keep_off_dd * ground.dd)][:count]


def draw_lesions(
    rng: np.random.Generator,
    ground: Ground,
    grade_dme: tuple[int, int],
    vessels: np.ndarray,
    bleeds: bool,
) -> dict[str, np.ndarray]:
    """A layer for each lesion. Where two overlap, EX covers HE, which covers SE and MA."""
    grade, dme = grade_dme
    layers = {code: new_layer(ground) for code in ("MA", "HE", "EX", "SE")}
    if grade > 0:
        _microaneurysms(
            rng, ground, layers["MA"], vessels, int(rng.integers(*((3, 9), (6, 30), (25, 60))[min(grade, 3) - 1]))
        )
    if grade > 1:
        _haemorrhages(rng, ground, layers["HE"], grade > 2)
    if bleeds:
        place = _places(rng, ground, 1, 1.7)
        _blobs(rng, layers["HE"], place, np.array([rng.uniform(150, 260) * ground.unit]), np.array([[1.8, 0.0]]))
    if dme:
        _exudates(rng, ground, layers["EX"], near=dme == 2)
    if grade > 1 and rng.uniform() < (0.25, 0.5, 0.5)[grade - 2]:
        places = _places(rng, ground, int(rng.integers(1, 8)), 0.9)
        turned = np.stack([rng.uniform(1, 1.8, len(places)), rng.uniform(0, 3.2, len(places))], -1)
        _blobs(rng, layers["SE"], places, rng.uniform(38, 75, len(places)) * ground.unit, turned)
    for front, behind in (("EX", "HE"), ("EX", "SE"), ("HE", "SE"), ("EX", "MA"), ("HE", "MA")):
        layers[behind][layers[front] > 0] = 0
    return layers


def draw_spots(rng: np.random.Generator, ground: Ground, layer: np.ndarray) -> None:
    """A few round spots: any lesion that has no drawing of its own."""
    places = _places(rng, ground, int(rng.integers(2, 6)), 0.9)
    _blobs(rng, layer, places, rng.uniform(30, 60, len(places)) * ground.unit, _round_turns(len(places)))


def _microaneurysms(
    rng: np.random.Generator, ground: Ground, layer: np.ndarray, vessels: np.ndarray, count: int
) -> None:
    places = _places(rng, ground, 3 * count, 0.25)
    on_vessel = cv2.dilate(vessels, np.ones((5, 5), np.uint8))[tuple((2 * places).astype(int).T[::-1])] > 60
    places = places[~on_vessel][:count]
    _blobs(
        rng, layer, places, np.maximum(rng.uniform(6, 12.5, len(places)) * ground.unit, 0.8), _round_turns(len(places))
    )


def _haemorrhages(rng: np.random.Generator, ground: Ground, layer: np.ndarray, many: bool) -> None:
    """Blots, and flames that lie along the nerve fibers; many: some in every quadrant around the fovea."""
    places = _places(rng, ground, 400, 0.3)
    quadrant = ((places - ground.fovea) @ ground.axes.T > 0) @ np.array([1, 2])
    if many:
        each = int(rng.integers(6, 16))
        places = np.concatenate([places[quadrant == q][:each] for q in range(4)])
    else:
        places = places[: int(rng.integers(2, 11))]
    is_flame = rng.uniform(size=len(places)) < 0.3
    away = places - ground.disc
    angle = np.arctan2(away[:, 1], away[:, 0]) + rng.normal(0, 0.25, len(places))
    turned = np.stack(
        [np.where(is_flame, rng.uniform(2.2, 4, len(places)), rng.uniform(1, 1.6, len(places))), angle], -1
    )
    radius = np.clip(rng.lognormal(np.log(21), 0.5, len(places)), 12, 75) * ground.unit
    _blobs(rng, layer, places, np.maximum(radius, 1.2), turned, faintest=150)


def _exudates(rng: np.random.Generator, ground: Ground, layer: np.ndarray, near: bool) -> None:
    """Clusters of spots. near: the first is within a disc diameter of the fovea; otherwise all are beyond one."""
    centers = _places(rng, ground, int(rng.integers(1, 5)), 1.6)
    if near:
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.75) * ground.dd
        centers[0] = ground.fovea + reach * np.array([np.cos(angle), np.sin(angle)])
    for center in centers:
        count = int(rng.integers(6, 55))
        spots = center + rng.normal(0, rng.uniform(0.1, 0.36) * ground.dd, (count, 2))
        spots[0] = center
        radius = np.clip(rng.lognormal(np.log(9), 0.5, count), 4, 40) * ground.unit
        inside = np.hypot(*(spots - ground.field).T) < 0.92 * ground.radius
        off_disc = np.hypot(*(spots - ground.disc).T) > 0.62 * ground.dd
        from_fovea = np.hypot(*(spots - ground.fovea).T) - 1.9 * radius
        keep = inside & off_disc & (from_fovea > (0.03 if near else 1.05) * ground.dd)
        keep[0] = True
        turned = np.stack([rng.uniform(1, 2, count), rng.uniform(0, 3.2, count)], -1)[keep]
        _blobs(rng, layer, spots[keep], np.maximum(radius[keep], 0.9), turned)
