"""Eyes to plant faults in: drawn ones, and copies of real photos that were checked and are clean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from funduscope.imaging.photo import Photo
from funduscope.testing.drawn_eyes import STYLES, draw_eye

from .clean import clean_srahim
from .truth import Plot

DRAWN_PX = 640
REAL_PX = 960


def endless(plot: Plot) -> Iterator[np.ndarray]:
    """Photos (H, W, 3) uint8, each of another eye: a drawn one, then a real one where there is data, and so on.

    The real ones are srahim's and HEI-MED's.
    """
    rng = plot.rng("eyes")
    real = _real(plot, rng)
    seed = 10_000_000 * (plot.seed + 1)
    while True:
        seed += 1
        yield draw_eye(seed, width_px=DRAWN_PX, style=list(STYLES.values())[int(rng.integers(len(STYLES)))]).pixels
        photo = next(real, None)
        if photo is not None:
            yield _narrowed(Photo.open(photo).pixels, REAL_PX)


def _real(plot: Plot, rng: np.random.Generator) -> Iterator[Path]:
    if plot.data is None:
        return iter(())
    photos = [*clean_srahim(plot.data), *sorted((plot.data / "heimed" / "images").glob("*.jpg"))]
    # One eye of a patient: left and right are no duplicates, but must not be confused with planted ones.
    photos = [photo for photo in photos if not photo.stem.endswith("_R")]
    return iter([photos[place] for place in rng.permutation(len(photos))])


def _narrowed(pixels: np.ndarray, width: int) -> np.ndarray:
    scale = width / pixels.shape[1]
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels


def save(pixels: np.ndarray, path: Path, quality: int = 90) -> Path:
    """Writes a photo (H, W, 3) uint8 in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": quality} if path.suffix == ".jpg" else {}))
    return path
