"""What goes wrong with photographs, at any strength: focus, movement, light, field, haze, lashes, coding, noise."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Pixels = np.ndarray
Spoil = Callable[[Pixels, np.random.Generator], Pixels]


def blurred(pixels: Pixels, sigma_at_4288: float) -> Pixels:
    return cv2.GaussianBlur(pixels, (0, 0), sigma_at_4288 * pixels.shape[1] / 4288)


def moved(pixels: Pixels, way_at_4288: float, rng: np.random.Generator) -> Pixels:
    """An eye that moved while the light was on, in a direction drawn for it."""
    way = max(2.0, way_at_4288 * pixels.shape[1] / 4288)
    side = 2 * int(np.ceil(way / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    angle = rng.uniform(0, np.pi)
    for at in np.linspace(-way / 2, way / 2, 4 * side):
        kernel[round(side // 2 + at * np.sin(angle)), round(side // 2 + at * np.cos(angle))] += 1
    return cv2.filter2D(pixels, -1, kernel / kernel.sum())


def exposed(pixels: Pixels, times: float) -> Pixels:
    return np.clip(pixels.astype(np.float32) * times, 0, 255).astype(np.uint8)


def halved(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """One half of the photo, cut off or blackened."""
    height, width = pixels.shape[:2]
    halves = (np.s_[:, : width // 2], np.s_[:, width // 2 :], np.s_[: height // 2], np.s_[height // 2 :])
    chosen = halves[rng.integers(4)]
    if rng.random() < 0.5:
        return np.ascontiguousarray(pixels[chosen])
    black = pixels.copy()
    black[chosen] = 0
    return black


def hazed(pixels: Pixels, share: float) -> Pixels:
    """Milky light over everything inside the field, as a cataract gives."""
    lit = (pixels.max(axis=2, keepdims=True) > 20).astype(np.float32)
    milk = np.array([150, 110, 80], np.float32)
    return np.clip(pixels * (1 - share * lit) + milk * share * lit, 0, 255).astype(np.uint8)


def lashed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The upper or lower part in soft shadow, as lid and lashes throw it."""
    height, width = pixels.shape[:2]
    depth = rng.uniform(0.45, 0.6) * height
    edge = depth + 0.08 * height * np.sin(np.linspace(0, rng.uniform(6, 30), width) + rng.uniform(0, 6))
    away = (np.arange(height)[:, None] - edge) / (0.06 * height)
    shade = 1 / (1 + np.exp(-away))
    shade = shade if rng.random() < 0.7 else shade[::-1]
    return (pixels * (0.08 + 0.92 * shade[..., None])).astype(np.uint8)


def compressed(pixels: Pixels, quality: int) -> Pixels:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held).convert("RGB"))


def noisy(pixels: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    """A sensor's noise, its standard deviation in levels."""
    noise = rng.standard_normal(pixels.shape, np.float32)
    return np.clip(pixels + sigma * noise, 0, 255).astype(np.uint8)


def coarse(pixels: Pixels, width_px: int) -> Pixels:
    """The photo as a camera of so many pixels across would have taken it, at its own size again."""
    height, width = pixels.shape[:2]
    if width <= width_px:
        return pixels
    small = cv2.resize(pixels, (width_px, max(1, round(height * width_px / width))), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def shift_color(pixels: Pixels, key: str, share: float = 1.0) -> Pixels:
    """Change the photo's colors as another lamp and sensor do: each one's gain by 20 to 40 %, and a gamma.

    key: of the photo, by which the shift is drawn. share: scales the shift; 0 changes nothing. Black stays black.
    """
    rng = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))
    gains = 1 + share * rng.choice([-1, 1], 3) * rng.uniform(0.2, 0.4, 3)
    gamma = np.exp(share * rng.choice([-1, 1]) * rng.uniform(0.2, 0.4))
    table = 255 * np.linspace(0, 1, 256)[:, None] ** gamma * gains
    return cv2.LUT(pixels, np.rint(np.clip(table, 0, 255)).astype(np.uint8)[None])
