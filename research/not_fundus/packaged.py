"""Photographs and pictures that installed packages carry; what is not installed is left out."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from .grounds import colors_of, disc, fitted, laid

MIN_PX: Final = 256
"""The shortest side that a photo may have: smaller pictures are enlarged to it, as `Photo` takes nothing smaller."""

FUNDUS: Final = frozenset({"skimage/data/retina.jpg", "skimage/data/microaneurysms.png"})
"""Pictures of retinas among them."""

GRAY_SLICES: Final = ("CT_small.dcm", "MR_small.dcm")

WANTED: Final = (
    ("skimage", "data", ("*.png", "*.jpg")),
    ("sklearn", "datasets/images", ("*.jpg",)),
    ("matplotlib", "mpl-data/sample_data", ("*.png", "*.jpg")),
    ("matplotlib", "mpl-data/images", ("*_large.png", "matplotlib.png")),
    ("networkx", "drawing/tests/baseline", ("*.png",)),
    ("sympy", "plotting/tests", ("*.png",)),
    ("streamlit", "static", ("*.png", "static/**/*.png")),
    ("playwright", "driver/package/lib", ("**/*.png", "**/*.svg.png")),
    ("scipy", "ndimage/tests", ("*.png",)),
    ("torchvision", "", ("**/*.png", "**/*.jpg")),
)
"""Package, folder in it, names."""

PHOTOS: Final = frozenset({
    *("astronaut", "camera", "chelsea", "coffee", "rocket", "motorcycle_left", "motorcycle_right", "brick", "grass"),
    *("gravel", "hubble_deep_field", "ihc", "china", "flower", "grace_hopper"),
})  # fmt: skip
"""Stems of the photographs among them, of which crops and round cut-outs are further pictures."""


def files() -> Iterator[tuple[str, Path]]:
    """Every wanted picture file that is installed here, as package/path and where it lies."""
    for package, folder, patterns in WANTED:
        found = find_spec(package)
        for root in (found.submodule_search_locations or ()) if found else ():
            for pattern in patterns:
                for path in sorted((Path(root) / folder).glob(pattern)):
                    yield f"{package}/{path.relative_to(root).as_posix()}", path


def pictures() -> dict[str, np.ndarray]:
    """Name to picture (H, W, 3) uint8, every side 256 px or more; photographs and flat ones as they are stored."""
    found: dict[str, np.ndarray] = {}
    for name, path in files():
        if name not in FUNDUS:
            with Image.open(path) as image:
                ground = Image.new("RGBA", image.size, "white")
                ground.alpha_composite(image.convert("RGBA"))
            found[name] = enlarged(np.asarray(ground.convert("RGB")))
    return found | {f"skimage/face {k}": face for k, face in enumerate(_faces())} | _slices()


def photos() -> dict[str, np.ndarray]:
    """Only the photographs among them."""
    return {name: picture for name, picture in pictures().items() if Path(name).stem in PHOTOS}


def crops(rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    """Parts of photographs, each a third to a whole wide."""
    held = list(photos().values())
    for number in range(count if held else 0):
        picture = held[number % len(held)]
        height, width = picture.shape[:2]
        share = rng.uniform(0.35, 1)
        high, wide = int(height * share), int(width * share)
        top, left = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
        yield enlarged(np.ascontiguousarray(picture[top : top + high, left : left + wide]))


def in_a_circle(rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    """Photographs behind a round mask, as if through a telescope."""
    for picture in crops(rng, count):
        side = int(rng.integers(400, 900))
        inside = disc((side, side), side / 2, side / 2, side * rng.uniform(0.4, 0.5))[1]
        yield laid(np.full((side, side, 3), rng.uniform(0, 6)), inside, fitted(picture, side, side))


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A picture at least 256 px on either side."""
    scale = max(1.0, MIN_PX / min(picture.shape[:2]))
    if scale == 1:
        return picture
    size = max(MIN_PX, round(picture.shape[1] * scale)), max(MIN_PX, round(picture.shape[0] * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)


def _faces(count: int = 12) -> list[np.ndarray]:
    """Faces of scikit-image's subset of Labeled Faces in the Wild, gray, enlarged."""
    found = find_spec("skimage")
    path = Path((found.submodule_search_locations or [""])[0]) / "data/lfw_subset.npy" if found else Path()
    if not path.is_file():
        return []
    return [enlarged(colors_of(face * 255)) for face in np.load(path, allow_pickle=False)[:count]]


def _slices() -> dict[str, np.ndarray]:
    """Slices by CT and MR among pydicom's test files: their last bytes are plain 16-bit pixels."""
    found = find_spec("pydicom")
    folder = Path((found.submodule_search_locations or [""])[0]) / "data/test_files" if found else Path()
    told: dict[str, np.ndarray] = {}
    for name, (side, count) in zip(GRAY_SLICES, ((128, 128), (64, 64)), strict=True):
        if (folder / name).is_file():
            end = (folder / name).read_bytes()
            at = end.rindex(b"\xe0\x7f\x10\x00") + 12  # the pixels' tag, their kind and length
            values = np.frombuffer(end, "<i2", side * count, at).reshape(side, count).astype(np.float32)
            low, high = np.percentile(values, (1, 99))
            told[f"pydicom/{name}"] = enlarged(colors_of(255 * (values - low) / max(high - low, 1)))
    return told
