"""Pictures that are no fundus photographs, as they occur among them: pages, scans, screens, parts of faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIZE: Final = (480, 640)  # height, width
_ACROSS: Final = (640, 480)  # width, height


def _clouds(rng: np.random.Generator, cells: int) -> np.ndarray:
    """(H, W) float32 smooth noise of about unit variance."""
    coarse = rng.standard_normal((max(2, cells * 3 // 4), cells)).astype(np.float32)
    return cv2.resize(coarse, _SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def _page(rng: np.random.Generator) -> np.ndarray:
    """A letter to the patient's doctor, scanned."""
    picture = Image.new("RGB", _ACROSS, (246, 244, 238))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for line in range(22):
        words = " ".join("".join(chr(97 + int(c)) for c in rng.integers(0, 26, rng.integers(2, 10))) for _ in range(9))
        draw.text((40, 30 + 20 * line), words[: int(rng.integers(30, 70))], fill=(30, 30, 34), font=font)
    return np.asarray(picture)


def _oct(rng: np.random.Generator) -> np.ndarray:
    """A cross-section of the retina by optical coherence tomography: gray speckle in layers on black."""
    height, width = _SIZE
    x = np.linspace(-1, 1, width)
    surface = height * (0.35 + 0.08 * x * x + 0.05 * np.exp(-x * x / 0.02))
    depth = np.arange(height)[:, None] - surface[None, :]
    light = np.zeros(_SIZE)
    for top, thick, level in ((0, 12, 150), (14, 25, 90), (40, 30, 60), (75, 10, 190), (88, 18, 140), (110, 90, 70)):
        light += level * ((depth > top) & (depth < top + thick))
    light = light * rng.gamma(3, 1 / 3, _SIZE) + rng.gamma(1, 9, _SIZE)
    return cv2.cvtColor(np.clip(light, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def _outer_eye(rng: np.random.Generator) -> np.ndarray:
    """An eye from outside: lids, white and iris."""
    picture = np.empty((*_SIZE, 3), np.float32)
    picture[:] = np.array((205, 160, 135)) + 8 * _clouds(rng, 30)[..., None]
    middle = (320 + int(rng.integers(-25, 25)), 240)
    white = cv2.ellipse(np.zeros(_SIZE, np.uint8), middle, (230, 105), 0, 0, 360, 1, -1)
    picture[white > 0] = np.array((228, 218, 212))
    for radius, color in ((92, np.array(rng.choice(((70, 95, 130), (85, 60, 35), (80, 110, 75))))), (36, (12, 10, 10))):
        disc = cv2.circle(np.zeros(_SIZE, np.uint8), middle, radius, 1, -1)
        picture[(disc > 0) & (white > 0)] = color
    cv2.circle(picture, (middle[0] - 20, 215), 9, (255, 255, 255), -1)
    for _ in range(60):
        x = int(rng.integers(95, 545))
        y = int(240 - 105 * np.sqrt(max(0.0, 1 - ((x - 320) / 230) ** 2)))
        cv2.line(picture, (x, y), (x + int(rng.integers(-15, 15)), y - int(rng.integers(15, 40))), (45, 30, 25), 2)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 1) + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def _landscape(rng: np.random.Generator) -> np.ndarray:
    """Sky, hills, a meadow."""
    height, width = _SIZE
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = np.linspace(0, 1, height)[:, None, None] * np.array((60, 40, 10)) + np.array((110, 160, 225))
    picture += 20 * np.maximum(_clouds(rng, 8), 0)[..., None]
    for level, color in ((0.5, (90, 120, 110)), (0.68, (80, 130, 55))):
        ridge = height * (level + 0.05 * _clouds(rng, 6)[0])
        ground = np.arange(height)[:, None] > ridge[None, :]
        picture[ground] = (np.array(color) + 18 * _clouds(rng, 120)[..., None])[ground]
    return np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def _screen(rng: np.random.Generator) -> np.ndarray:
    """A screenshot of the clinic's program."""
    picture = Image.new("RGB", _ACROSS, (236, 238, 241))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    draw.rectangle((0, 0, 640, 28), fill=(40, 84, 140))
    draw.rectangle((10, 40, 170, 470), fill=(255, 255, 255), outline=(180, 180, 185))
    for row in range(20):
        draw.text((20, 48 + 20 * row), f"{rng.integers(1000, 9999)}  visit {row + 1}", fill=(40, 40, 40), font=font)
    for row in range(8):
        draw.rectangle((190, 45 + 52 * row, 620, 85 + 52 * row), fill=(250, 250, 250), outline=(190, 190, 195))
        words = f"IOP {rng.integers(9, 24)} mmHg   VA 0.{rng.integers(1, 10)}"
        draw.text((200, 55 + 52 * row), words, (60, 60, 60), font)
    return np.asarray(picture)


def _chart(rng: np.random.Generator) -> np.ndarray:
    """A visual field's printout."""
    picture = np.full((*_SIZE, 3), 255, np.uint8)
    for radius in (60, 120, 180):
        cv2.circle(picture, (320, 240), radius, (150, 150, 150), 1)
    cv2.line(picture, (120, 240), (520, 240), (60, 60, 60), 1)
    cv2.line(picture, (320, 40), (320, 440), (60, 60, 60), 1)
    for x in range(140, 520, 30):
        for y in range(60, 440, 30):
            if np.hypot(x - 320, y - 240) < 190:
                cv2.putText(picture, str(int(rng.integers(0, 34))), (x - 8, y + 5), 0, 0.38, (20, 20, 20), 1)
    return picture


def _ultrasound(rng: np.random.Generator) -> np.ndarray:
    """A B-scan of the eye: a fan of gray speckle on black."""
    y, x = np.mgrid[: _SIZE[0], : _SIZE[1]]
    away = np.hypot(x - 320, y + 60)
    fan = (away > 110) & (away < 500) & (np.abs(np.arctan2(x - 320, y + 60)) < 0.55)
    ball = np.hypot((x - 320) / 150, (y - 240) / 140) < 1
    light = np.where(ball, 12, 130) * rng.gamma(2, 0.5, _SIZE) * fan
    return cv2.cvtColor(np.clip(cv2.GaussianBlur(light, (0, 0), 1.2), 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def _room(rng: np.random.Generator) -> np.ndarray:
    """A room: walls, a desk, a window, objects with edges and many colors."""
    picture = np.empty((*_SIZE, 3), np.float32)
    picture[:] = (190, 186, 175)
    picture[330:] = (120, 90, 62)
    for _ in range(26):
        x, y = int(rng.integers(0, 600)), int(rng.integers(0, 440))
        size = rng.integers(15, 130, 2)
        cv2.rectangle(picture, (x, y), (x + int(size[0]), y + int(size[1])), rng.uniform(20, 240, 3).tolist(), -1)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.8) + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def _corneal_map(rng: np.random.Generator) -> np.ndarray:
    """A corneal map: rings of rainbow colors on black."""
    y, x = np.mgrid[: _SIZE[0], : _SIZE[1]]
    away = np.hypot(x - 320, (y - 240) * 1.05)
    level = 255 * np.clip(away / 210 + 0.12 * _clouds(rng, 5), 0, 1)
    colors = cv2.applyColorMap(level.astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return np.where((away < 205)[..., None], colors, 0).astype(np.uint8)


def _xray(rng: np.random.Generator) -> np.ndarray:
    """A chest film: gray, soft, without a round field."""
    y, x = np.mgrid[: _SIZE[0], : _SIZE[1]]
    light = np.full(_SIZE, 150.0)
    for center in (220, 420):
        light -= 95 * np.exp(-((((x - center) / 75) ** 2 + ((y - 240) / 150) ** 2) ** 2))
    for rib in range(9):
        light += 16 * np.exp(-(((y - 60 - 45 * rib - 0.0012 * (x - 320) ** 2) / 7) ** 2))
    light += 40 * np.exp(-(((x - 320) / 25) ** 2)) + 6 * _clouds(rng, 60)
    return cv2.cvtColor(np.clip(light + rng.normal(0, 3, _SIZE), 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)


NO_FUNDUS: Final[tuple[Callable[[np.random.Generator], np.ndarray], ...]] = (
    _page, _oct, _outer_eye, _landscape, _screen, _chart, _ultrasound, _room, _corneal_map, _xray,
)  # fmt: skip
"""One picture each."""
