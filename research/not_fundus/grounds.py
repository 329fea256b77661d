"""What drawn pictures are made of: sizes, smooth noise, words, shaded balls."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Draw = Callable[[np.random.Generator], np.ndarray]
"""Draws a picture (H, W, 3) uint8 by lot."""


def sized(rng: np.random.Generator) -> tuple[int, int]:
    """A picture's height and width, upright, lying or square."""
    longer, ratio = int(rng.integers(480, 1100)), float(rng.choice([1.0, 0.75, 0.67, 0.56]))
    shorter = int(longer * ratio)
    return (shorter, longer) if rng.random() < 0.7 else (longer, shorter)


def clouds(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """(H, W) float32 smooth noise of about unit variance, so many cells across."""
    coarse = rng.standard_normal((max(2, cells * size[0] // size[1]), max(2, cells))).astype(np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def fractal(rng: np.random.Generator, size: tuple[int, int], cells: int = 3, octaves: int = 6) -> np.ndarray:
    """(H, W) float32 noise of many scales, each of half the strength: rock, skin, cloud."""
    return sum((clouds(rng, size, cells * 2**k) / 1.7**k for k in range(octaves)), np.zeros(size, np.float32))


def words(rng: np.random.Generator, count: int) -> str:
    """Words of no language."""
    return " ".join("".join(chr(97 + int(c)) for c in rng.integers(0, 26, rng.integers(2, 10))) for _ in range(count))


def level(values: np.ndarray) -> np.ndarray:
    """Any numbers as levels: uint8."""
    return np.clip(values, 0, 255).astype(np.uint8)


def colors_of(gray: np.ndarray) -> np.ndarray:
    """(H, W) numbers as a gray picture (H, W, 3) uint8."""
    return np.repeat(level(gray)[..., None], 3, axis=2)


def disc(size: tuple[int, int], x: float, y: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) distance from a center in radii, and how much of each pixel lies inside the circle, 0 to 1."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    away = np.hypot(columns - x, rows - y)
    return away / radius, np.clip(radius - away + 0.5, 0, 1)


def laid(ground: np.ndarray, inside: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) laid onto a ground where `inside` (H, W) says so, 0 to 1: uint8."""
    share = inside[..., None]
    return level(ground * (1 - share) + picture * share)


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture cut to a shape's middle and scaled to it."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    large = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return np.ascontiguousarray(large[top : top + height, left : left + width])
