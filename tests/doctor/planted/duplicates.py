"""One photo under two names, changed as copies are changed on their way, and one eye photographed twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from funduscope.imaging.field_of_view import find_field_of_view

from .eyes import save
from .truth import Plot

DUPLICATES: Final = frozenset({"same_photo", "same_eye"})


def plant(plot: Plot, folder: Path, eyes: Iterator[np.ndarray], each: int) -> list[str]:
    """Plants `each` pair of every kind. Returns the rows (path, dr) of a label file in which pairs contradict."""
    for name, (change, quality) in COPIES.items():
        rng = plot.rng(name)
        for number in range(each):
            pixels, stem = next(eyes), f"{name.split()[0]}_{number:02d}"
            pair = save(pixels, folder / f"{stem}_a.jpg", 92), folder / f"{stem}_b.jpg"
            save(change(pixels, rng), pair[1], int(rng.integers(*quality)))
            plot.plant(f"duplicate: {name}", pair, DUPLICATES, also={"too_small"})
    rng = plot.rng("another photo of the eye")
    for number in range(each):
        first, second = _photographed_twice(next(eyes), rng)
        pair = folder / f"visit_{number:02d}_a.jpg", folder / f"visit_{number:02d}_b.jpg"
        save(first, pair[0])
        save(second, pair[1])
        plot.plant("duplicate: another photo of the eye", pair, DUPLICATES)
    rows, rng = ["path,dr"], plot.rng("contradicting")
    for number in range(each):
        pair = save(next(eyes), folder / f"told_{number:02d}_a.jpg", 92), folder / f"told_{number:02d}_b.jpg"
        shutil.copy(*pair)
        grades = rng.permutation(5)[:2]
        rows += [f"{path.name},{grade}" for path, grade in zip(pair, grades, strict=True)]
        plot.plant("duplicate: contradicting grades", pair, {"same_photo"}, severity="error")
    return rows


def _smaller(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reduced to a quarter at most, not below 256 px."""
    least = 256 / min(pixels.shape[:2])
    scale = max(rng.uniform(0.25, 0.6), least)
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _cropped(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tenth of each side's length is cut off, at random places."""
    height, width = (round(0.9 * length) for length in pixels.shape[:2])
    top, left = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(pixels.shape, (height, width)))  # noqa: B905
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _mirrored(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, ::-1] if rng.uniform() < 0.8 else pixels[::-1])


def _as_it_is(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return pixels


def _relit(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and color changed by a program, as in published atlases and challenges."""
    light = 255 * (pixels / 255.0) ** rng.uniform(0.7, 1.4) * rng.uniform(0.85, 1.2, 3)
    return np.clip(light + 0.5, 0, 255).astype(np.uint8)


COPIES: Final[dict[str, tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], tuple[int, int]]]] = {
    "resized": (_smaller, (88, 95)),
    "compressed again": (_as_it_is, (25, 45)),
    "cropped": (_cropped, (88, 95)),
    "mirrored": (_mirrored, (88, 95)),
    "relit by a program": (_relit, (88, 95)),
}
"""Change of the second of a pair, and the range of its JPEG quality (end excluded)."""


def _photographed_twice(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two fields of view of one eye, with different fixation, rotation, flash, focus and noise.

    Each is a circle of 0.8 of the photo's field, so that each shows parts that the other does not.
    """
    field_of_view = find_field_of_view(pixels)
    assert field_of_view is not None
    away = rng.uniform(0.06, 0.14) * field_of_view.radius_px
    angle, radius = rng.uniform(0, 2 * np.pi), 0.8 * field_of_view.radius_px
    photos = []
    for sign in (-1, 1):
        center = np.array([field_of_view.x_px, field_of_view.y_px]) + sign * away * np.array(
            [np.cos(angle), np.sin(angle)]
        )
        side = max(272, round(2.2 * radius))
        turn = cv2.getRotationMatrix2D(center.tolist(), rng.uniform(-4, 4), 1.0)
        turn[:, 2] += side / 2 - center
        view = cv2.warpAffine(pixels, turn, (side, side), flags=cv2.INTER_CUBIC).astype(np.float32)
        view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.3, 0.8))
        view = 255 * (view / 255) ** rng.uniform(0.85, 1.2) * rng.uniform(0.8, 1.15)
        view *= rng.uniform(0.95, 1.05, 3)
        y, x = np.mgrid[:side, :side]
        lamp = np.hypot(x - side * rng.uniform(0.4, 0.6), y - side * rng.uniform(0.4, 0.6)) / radius
        view *= (1.05 - rng.uniform(0.05, 0.3) * lamp**2)[..., None]
        view[np.hypot(x - side / 2, y - side / 2) > radius] = 3
        photos.append(np.clip(view + rng.normal(0, 1.5, view.shape), 0, 255).astype(np.uint8))
    return photos[0], photos[1]
