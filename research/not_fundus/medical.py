"""Pictures of medicine that are no fundus photographs: films, slices, scans, scopes, skin, the eye from outside."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .grounds import Draw, clouds, colors_of, disc, fractal, laid, level, sized, words


def film(rng: np.random.Generator) -> np.ndarray:
    """An X-ray film: a chest, or the bones of a hand, light on dark."""
    size = sized(rng)
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size).reshape(2, 1, 1)
    if rng.random() < 0.6:
        light = np.full(size, 150.0)
        for center in (0.33, 0.67):
            light -= 95 * np.exp(-((((x - center) / 0.13) ** 2 + ((y - 0.5) / 0.32) ** 2) ** 2))
        for rib in range(9):
            light += 16 * np.exp(-(((y - 0.12 - 0.09 * rib - 0.5 * (x - 0.5) ** 2) / 0.015) ** 2))
        light += 40 * np.exp(-(((x - 0.5) / 0.04) ** 2))
    else:
        light = np.full(size, 20.0)
        for finger in range(5):
            tilt = (finger - 2) * 0.12
            for part in range(4):
                at_x, at_y = 0.5 + tilt * (0.7 + 0.5 * part), 0.75 - 0.16 * part
                shape = ((x - at_x) / 0.025) ** 2 + ((y - at_y) / 0.07) ** 2
                light += 140 * np.exp(-(shape**2)) + 40 * np.exp(-shape / 4)
    light += 6 * clouds(rng, size, 60) + rng.normal(0, 3, size)
    return colors_of(light)


def slice_through(rng: np.random.Generator) -> np.ndarray:
    """A slice by CT or MR: an oval of gray tissue on black, with organs or folds, and sometimes letters."""
    size = sized(rng)
    x, y, radius = size[1] / 2, size[0] / 2, min(size) * rng.uniform(0.35, 0.48)
    rows, columns = np.mgrid[: size[0], : size[1]]
    away = np.hypot((columns - x) / rng.uniform(0.85, 1.15), rows - y) / radius
    tissue = 95 + 25 * fractal(rng, size, 5) + 90 * (np.abs(away - 0.93) < 0.05)
    for _ in range(int(rng.integers(2, 7))):
        at = disc(size, x + radius * rng.uniform(-0.5, 0.5), y + radius * rng.uniform(-0.5, 0.5), radius * 0.2)[1]
        tissue = tissue * (1 - at) + at * rng.uniform(20, 200)
    picture = Image.fromarray(colors_of(np.where(away < 1, tissue, 4) + rng.normal(0, 4, size)))
    if rng.random() < 0.5:
        draw = ImageDraw.Draw(picture)
        draw.text((10, 10), words(rng, 3), fill=(220, 220, 220), font=ImageFont.load_default(15))
    return np.asarray(picture)


def scan(rng: np.random.Generator) -> np.ndarray:
    """A cross-section by OCT, or a fan of ultrasound: gray speckle on black."""
    size = sized(rng)
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size).reshape(2, 1, 1) - 0.5
    if rng.random() < 0.5:
        surface = -0.15 + 0.3 * x * x + 0.1 * np.exp(-x * x / 0.005)
        light = np.zeros(size)
        for top, thick, tone in ((0, 0.03, 150), (0.03, 0.06, 90), (0.09, 0.06, 60), (0.17, 0.03, 190), (0.2, 0.1, 90)):
            light += tone * ((y - surface > top) & (y - surface < top + thick))
        light = light * rng.gamma(3, 1 / 3, size) + rng.gamma(1, 9, size)
    else:
        away, aside = np.hypot(x, y + 0.6), np.abs(np.arctan2(x, y + 0.6))
        fan = (away > 0.15) & (away < 1.05) & (aside < 0.55)
        light = (90 + 40 * fractal(rng, size, 5)) * rng.gamma(2, 0.5, size) * fan
        light *= 1 - 0.9 * (np.hypot(x / 0.18, y / 0.15) < 1)
    return colors_of(cv2.GaussianBlur(light, (0, 0), 1.2))


def scope(rng: np.random.Generator) -> np.ndarray:
    """A view into the body, round or with cut corners, pink or red: gut, throat, ear, joint."""
    size = sized(rng)
    x, y, radius = size[1] / 2, size[0] / 2, min(size) * rng.uniform(0.42, 0.55)
    away, inside = disc(size, x, y, radius)
    if rng.random() < 0.4:
        rows, columns = np.mgrid[: size[0], : size[1]]
        inside = ((np.abs(columns - x) < 0.95 * radius) & (np.abs(rows - y) < 0.95 * radius) & (away < 1.2)).astype(
            float
        )
    hole = disc(size, x + radius * rng.uniform(-0.4, 0.4), y + radius * rng.uniform(-0.4, 0.4), radius)[0]
    folds = np.sin(14 * np.sqrt(hole + 0.02) + 1.5 * clouds(rng, size, 5)) * np.clip(hole * 1.5, 0, 1)
    tissue = np.array(((215, 130, 115), (225, 160, 120), (200, 100, 80), (228, 200, 180))[rng.integers(4)], np.float32)
    picture = tissue * (0.35 + 0.65 * np.clip(hole * 1.6, 0, 1))[..., None] + 18 * folds[..., None]
    picture = picture + 5 * fractal(rng, size, 8)[..., None]
    for _ in range(int(rng.integers(2, 12))):  # wet light
        at = tuple(int(v) for v in (x + radius * rng.uniform(-0.7, 0.7), y + radius * rng.uniform(-0.7, 0.7)))
        axes, turn = (int(rng.integers(4, 18)), int(rng.integers(2, 8))), float(rng.uniform(0, 180))
        cv2.ellipse(picture, at, axes, turn, 0, 360, (255, 250, 245), -1, cv2.LINE_AA)
    return laid(np.full((*size, 3), 4.0), inside, picture)


def skin(rng: np.random.Generator) -> np.ndarray:
    """Skin with a mole, close, sometimes in a round dark mount."""
    size = sized(rng)
    x, y, radius = size[1] / 2, size[0] / 2, min(size) * rng.uniform(0.45, 0.6)
    tone = np.array(((225, 180, 160), (205, 150, 120), (150, 100, 75))[rng.integers(3)], np.float32)
    picture = tone + 5 * fractal(rng, size, 20, 4)[..., None]
    edge = disc(size, x, y, radius * rng.uniform(0.2, 0.5))[0] + 0.25 * clouds(rng, size, 8)
    mole = np.clip(3 * (1 - edge), 0, 1)[..., None]
    picture = picture * (1 - mole) + mole * (np.array((95, 55, 40)) + 12 * fractal(rng, size, 12)[..., None])
    for _ in range(int(rng.integers(0, 15))):
        ends = rng.integers(0, (size[1], size[0]), (2, 2))
        cv2.line(picture, ends[0].tolist(), ends[1].tolist(), (60, 45, 35), 1, cv2.LINE_AA)
    if rng.random() < 0.6:
        return laid(np.full((*size, 3), 6.0), disc(size, x, y, radius)[1], picture)
    return level(picture)


def outer_eye(rng: np.random.Generator) -> np.ndarray:
    """An eye from outside: lids and lashes, or the iris close in a slit lamp's light."""
    size = sized(rng)
    x, y = size[1] / 2 + rng.uniform(-30, 30), size[0] / 2 + rng.uniform(-20, 20)
    radius = min(size) * rng.uniform(0.15, 0.42)
    rows, columns = np.mgrid[: size[0], : size[1]]
    away, inside = disc(size, x, y, radius)
    tone = np.array(((205, 160, 135), (160, 115, 90), (110, 75, 60))[rng.integers(3)], np.float32)
    picture = tone + 6 * clouds(rng, size, 40)[..., None]
    opening = np.hypot((columns - x) / 2.4, (rows - y) / 1.1) < radius
    picture = np.where(opening[..., None], np.array((226, 214, 208)) + 5 * clouds(rng, size, 20)[..., None], picture)
    rays = np.sin(np.arctan2(rows - y, columns - x) * rng.integers(30, 80)) * 12
    iris = np.array(((95, 120, 150), (110, 75, 45), (100, 125, 90))[rng.integers(3)]) + rays[..., None]
    seen = (inside * opening)[..., None]
    picture = picture * (1 - seen) + seen * iris
    pupil = disc(size, x, y, radius * rng.uniform(0.3, 0.6))[1][..., None] * opening[..., None]
    picture = picture * (1 - pupil) + pupil * np.array((10, 8, 8))
    picture[away < 0.12] = (255, 255, 252)
    lashes = np.ascontiguousarray(picture)
    for _ in range(50):
        at_x = int(rng.uniform(x - 2.2 * radius, x + 2.2 * radius))
        at_y = int(y - 1.1 * radius * np.sqrt(max(0.0, 1 - ((at_x - x) / (2.4 * radius)) ** 2)))
        tip = (at_x + int(rng.integers(-20, 20)), at_y - int(rng.integers(15, 60)))
        cv2.line(lashes, (at_x, at_y), tip, (40, 30, 26), 2, cv2.LINE_AA)
    return level(cv2.GaussianBlur(lashes, (0, 0), 1) + rng.normal(0, 2, lashes.shape))


def false_color(rng: np.random.Generator) -> np.ndarray:
    """Measured maps of the eye and others in rainbow colors, round on black: cornea, thickness, heat."""
    size = sized(rng)
    away, inside = disc(size, size[1] / 2, size[0] / 2, min(size) * rng.uniform(0.35, 0.5))
    shades = level(255 * np.clip(away * rng.uniform(0.5, 1) + 0.12 * clouds(rng, size, 5), 0, 1))
    table = int(rng.choice([cv2.COLORMAP_JET, cv2.COLORMAP_HOT, cv2.COLORMAP_INFERNO, cv2.COLORMAP_RAINBOW]))
    return laid(np.zeros((*size, 3)), inside, cv2.applyColorMap(shades, table)[..., ::-1])


def microscope(rng: np.random.Generator) -> np.ndarray:
    """Stained cells, filling the picture or in the round field of an eyepiece."""
    size = sized(rng)
    grounds = ((235, 215, 230), (230, 200, 190), (225, 225, 215), (205, 140, 130))
    picture = np.array(grounds[rng.integers(4)], np.float32) + 6 * clouds(rng, size, 30)[..., None]
    stain = np.array(((110, 60, 140), (170, 60, 80), (60, 70, 120))[rng.integers(3)], np.float32)
    for _ in range(int(rng.integers(60, 300))):
        at, axes = rng.integers(0, (size[1], size[0])).tolist(), rng.integers(3, 16, 2).tolist()
        cv2.ellipse(picture, at, axes, float(rng.uniform(0, 180)), 0, 360, (stain + rng.normal(0, 15, 3)).tolist(), -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 1)
    if rng.random() < 0.6:
        return laid(np.full((*size, 3), 5.0), disc(size, size[1] / 2, size[0] / 2, min(size) * 0.48)[1], picture)
    return level(picture)


FAMILIES: Final[dict[str, tuple[Draw, ...]]] = {
    "films": (film,),
    "slices": (slice_through,),
    "scans": (scan,),
    "scopes": (scope,),
    "skin": (skin,),
    "the eye from outside": (outer_eye,),
    "false color": (false_color,),
    "microscopes": (microscope,),
}
