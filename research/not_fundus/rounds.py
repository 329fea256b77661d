"""Round things on a ground, as a fundus is one: discs, balls, planets, fruit, dials, dishes, coins, lights."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .grounds import Draw, clouds, disc, fractal, laid, sized

WARM: Final = ((205, 95, 45), (180, 80, 40), (226, 120, 60), (150, 60, 30), (235, 150, 80))


def _placed(rng: np.random.Generator) -> tuple[tuple[int, int], float, float, float]:
    """A size, and a circle (x, y, radius) in it, mostly whole, about as large as a field of view."""
    size = sized(rng)
    radius = min(size) * rng.uniform(0.3, 0.55)
    return size, size[1] / 2 + rng.uniform(-20, 20), size[0] / 2 + rng.uniform(-20, 20), radius


def _ground(rng: np.random.Generator, size: tuple[int, int], black: float = 0.6) -> np.ndarray:
    """Black, or wood, cloth or paper: (H, W, 3) float32."""
    if rng.random() < black:
        return np.full((*size, 3), rng.uniform(0, 8), np.float32)
    color = np.array(((120, 85, 55), (225, 222, 215), (70, 75, 85), (150, 150, 148))[rng.integers(4)], np.float32)
    return color + 6 * clouds(rng, size, 60)[..., None]


def flat(rng: np.random.Generator) -> np.ndarray:
    """A disc of one color or of two, plain or shaded."""
    size, x, y, radius = _placed(rng)
    away, inside = disc(size, x, y, radius)
    color = np.array(WARM[rng.integers(5)] if rng.random() < 0.6 else rng.integers(30, 256, 3), np.float32)
    shade = 1 - rng.choice([0, 0.35, 0.6]) * np.clip(away, 0, 1) ** 2
    picture = color * shade[..., None]
    if rng.random() < 0.4:  # a paler spot, as a disc would be
        spot = disc(size, x + radius * rng.uniform(-0.6, 0.6), y, radius * rng.uniform(0.1, 0.2))[1]
        picture = picture + spot[..., None] * 60
    return laid(_ground(rng, size), inside, picture + rng.normal(0, rng.uniform(0, 4), picture.shape))


def ball(rng: np.random.Generator) -> np.ndarray:
    """A ball lit from one side: rubber, billiard, tennis, glass."""
    size, x, y, radius = _placed(rng)
    rows, columns = np.mgrid[: size[0], : size[1]]
    away, inside = disc(size, x, y, radius)
    lift = np.sqrt(np.clip(1 - away**2, 0, 1))
    light = rng.normal(size=3)
    light = np.abs(light) / np.linalg.norm(light)
    bright = (columns - x) / radius * light[0] * rng.choice([-1, 1]) + (rows - y) / radius * -light[1] + lift * light[2]
    color = np.array(WARM[rng.integers(5)] if rng.random() < 0.5 else rng.integers(40, 256, 3), np.float32)
    picture = color * (0.15 + 0.85 * np.clip(bright, 0, 1))[..., None]
    return laid(_ground(rng, size), inside, picture + 200 * (np.clip(bright, 0, 1) ** 40)[..., None])


def planet(rng: np.random.Generator) -> np.ndarray:
    """A planet, a moon or a sun in the sky: rock, bands, seas, flares."""
    size, x, y, radius = _placed(rng)
    away, inside = disc(size, x, y, radius)
    kind = int(rng.integers(5))
    rough = fractal(rng, size, 4)[..., None]
    if kind == 0:  # rust
        picture = np.array((190, 100, 60)) + rough * np.array((28, 22, 16))
    elif kind == 1:  # bands
        rows = (np.arange(size[0])[:, None] - y) / radius + 0.02 * fractal(rng, size, 6)
        bands = np.sin(rows * rng.uniform(9, 16) + 2 * np.sin(5 * rows))[..., None]
        picture = np.array((200, 160, 120)) + bands * np.array((30, 34, 36)) + 4 * rough
    elif kind == 2:  # gray, with craters
        picture = np.full((*size, 3), 135.0) + 22 * rough
        for _ in range(60):
            at = (int(rng.uniform(x - radius, x + radius)), int(rng.uniform(y - radius, y + radius)))
            wide = int(rng.integers(3, max(4, int(radius * 0.12))))
            cv2.circle(picture, at, wide, (160, 160, 160), 2)
    elif kind == 3:  # a star
        picture = np.array((250, 150, 40)) + rough * np.array((10, 30, 20))
    else:  # seas and land
        land = fractal(rng, size, 4)[..., None] > 0.2
        picture = np.where(land, (95, 120, 60), (25, 60, 130)) + 8 * rough
        picture = picture + 90 * np.clip(fractal(rng, size, 5)[..., None] - 0.6, 0, 1)
    shade = np.sqrt(np.clip(1 - away**2, 0, 1)) if rng.random() < 0.7 else np.ones(size)
    sky = np.full((*size, 3), 3.0)
    stars = rng.random(size) < 0.0006 * (rng.random() < 0.6)
    sky[stars] = 230
    return laid(sky, inside, picture * (0.25 + 0.75 * shade[..., None]))


def fruit(rng: np.random.Generator) -> np.ndarray:
    """An orange, a tomato, a peach, an apple; or a slice of one with its segments."""
    size, x, y, radius = _placed(rng)
    away, inside = disc(size, x, y, radius)
    rows, columns = np.mgrid[: size[0], : size[1]]
    color = np.array(((235, 130, 30), (205, 45, 30), (232, 160, 110), (190, 60, 45))[rng.integers(4)], np.float32)
    pores = clouds(rng, size, int(rng.integers(60, 160)))[..., None]
    shade = 0.45 + 0.55 * np.sqrt(np.clip(1 - away**2, 0, 1))
    picture = color * shade[..., None] + 7 * pores
    if rng.random() < 0.4:
        around = np.arctan2(rows - y, columns - x)
        walls = np.abs(np.sin(around * rng.integers(4, 7))) < 0.06 / np.maximum(away, 0.05)
        picture = np.where((walls | (away > 0.88))[..., None], (248, 205, 130), color + 10 * pores)
    else:
        stem = disc(size, x + radius * rng.uniform(-0.3, 0.3), y - radius * rng.uniform(0, 0.4), radius * 0.08)[1]
        picture = picture * (1 - stem[..., None]) + stem[..., None] * np.array((70, 80, 30))
    return laid(_ground(rng, size, 0.4), inside, picture)


def dial(rng: np.random.Generator) -> np.ndarray:
    """A clock, a gauge, a compass: a round face with ticks, figures and hands."""
    size, x, y, radius = _placed(rng)
    ground = _ground(rng, size)
    inside = disc(size, x, y, radius)[1]
    dark = rng.random() < 0.5
    face = np.array((25, 25, 28) if dark else ((245, 243, 235), (210, 120, 70))[rng.integers(2)], np.float32)
    picture = Image.fromarray(laid(ground, inside, np.broadcast_to(face, (*size, 3))))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(int(radius * 0.13))
    ink = (230, 230, 225) if dark else (20, 20, 24)
    count = int(rng.choice([8, 10, 12]))
    for tick in range(count * 5):
        angle = 2 * np.pi * tick / (count * 5)
        inner = 0.82 if tick % 5 == 0 else 0.9
        ends = [(x + f * radius * np.cos(angle), y + f * radius * np.sin(angle)) for f in (inner, 0.96)]
        draw.line(ends, fill=ink, width=4 if tick % 5 == 0 else 2)
        if tick % 5 == 0:
            at = (x + 0.68 * radius * np.cos(angle) - 8, y + 0.68 * radius * np.sin(angle) - 8)
            draw.text(at, str(tick // 5), fill=ink, font=font)
    for long in (0.5, 0.75):
        angle = rng.uniform(0, 2 * np.pi)
        tip = (x + long * radius * np.cos(angle), y + long * radius * np.sin(angle))
        draw.line([(x, y), tip], fill=(200, 40, 30) if rng.random() < 0.5 else ink, width=6)
    return np.asarray(picture)


def dish(rng: np.random.Generator) -> np.ndarray:
    """A dish with colonies, a plate of food, a pizza, a coin, a button: round, with things on it."""
    size, x, y, radius = _placed(rng)
    inside = disc(size, x, y, radius)[1]
    colors = ((205, 170, 120), (190, 60, 50), (225, 170, 80), (185, 150, 90), (120, 30, 30))
    color = np.array(colors[rng.integers(5)], np.float32)
    picture = np.ascontiguousarray(color + 6 * clouds(rng, size, 40)[..., None] * np.ones(3, np.float32))
    for _ in range(int(rng.integers(5, 70))):
        angle, far = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random()) * 0.9
        at = (int(x + far * np.cos(angle)), int(y + far * np.sin(angle)))
        tone = (color + rng.normal(0, 55, 3)).tolist()
        cv2.circle(picture, at, int(rng.integers(3, max(4, int(radius * 0.12)))), tone, -1, cv2.LINE_AA)
    cv2.circle(picture, (int(x), int(y)), int(radius * 0.93), (color * 0.75).tolist(), int(rng.integers(2, 10)))
    return laid(_ground(rng, size, 0.5), inside, picture)


FAMILIES: Final[dict[str, tuple[Draw, ...]]] = {
    "discs": (flat,),
    "balls": (ball,),
    "planets": (planet,),
    "fruit": (fruit,),
    "dials": (dial,),
    "dishes": (dish,),
}
