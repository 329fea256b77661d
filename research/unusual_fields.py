"""How many photos are marked as of an unusual field of view, and how many that were made wide or narrow?

    python -m research.unusual_fields fast --data DATA --photos 200

Up to that many photos of each data set, evenly spread, as they are. Of every tenth also four pictures: the field
shrunk to a half and to a third of a wider one, whose rest is an even retina with soft spots, and the middle 60 % and
45 % of the field's width alone. Such a wide field has no vessels in its outer part, so that real ones may do better
or worse. Only the whole view is computed.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from research.photos_by_set import photos_by_set

from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.loading import load
from funduscope.inference.predictor import Predictor

SIDE_PX = 1024
COUNTED = ("as usual", "wide", "narrow", "neither disc nor fovea")


def within_circle(image: np.ndarray) -> np.ndarray:
    """A square image (n, n, 3), black outside the circle in it, with a black margin."""
    at = np.arange(len(image)) + 0.5 - len(image) / 2
    image = image.copy()
    image[np.hypot(at[:, None], at) > 0.49 * len(image)] = 0
    return cv2.copyMakeBorder(image, 40, 40, 80, 80, cv2.BORDER_CONSTANT, value=0)


def widened(field: np.ndarray, factor: float, random: np.random.Generator) -> np.ndarray:
    """A field (n, n, 3) in the middle of a larger one of the same size."""
    side = len(field)
    small = cv2.resize(field, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    inner = round(0.33 * len(small))
    middle = len(small) // 2
    color = np.median(small[middle - inner : middle + inner, middle - inner : middle + inner], axis=(0, 1))
    spots = cv2.GaussianBlur(random.normal(0, 1, (side, side)).astype(np.float32), (0, 0), 20)
    wide = np.clip(color + 8 * (spots / spots.std())[..., None], 0, 255)

    # The field fades into its surroundings, so that no edge is between them.
    at = np.arange(len(small)) + 0.5 - len(small) / 2
    weight = np.clip((0.97 - np.hypot(at[:, None], at) / (len(small) / 2)) / 0.1, 0, 1)[..., None]
    start = (side - len(small)) // 2
    place = np.s_[start : start + len(small), start : start + len(small)]
    wide[place] = weight * small + (1 - weight) * wide[place]
    return within_circle(wide.astype(np.uint8))


def narrowed(field: np.ndarray, share: float) -> np.ndarray:
    """The middle of a field (n, n, 3), as wide as that share of it."""
    half, middle = round(share * len(field) / 2), len(field) // 2
    return within_circle(field[middle - half : middle + half, middle - half : middle + half])


def outcome(model: Predictor, pixels: np.ndarray) -> str:
    photo = Photo.open(pixels)
    findings = model.run(photo, frame(photo, model.card.close_px))[0]
    if findings.disc_xy is None and findings.fovea_xy is None:
        return "neither disc nor fovea"
    return findings.seen_field or "as usual"


def altered(pixels: np.ndarray, random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    field = frame(pixels, SIDE_PX, paint_marks=False).image
    for factor in (2.0, 3.0):
        yield f"{factor:.0f} times as wide", widened(field, factor, random)
    for share in (0.6, 0.45):
        yield f"{share:.0%} of the width", narrowed(field, share)


def without_close_view(model: Predictor) -> Predictor:
    """The same network, which outlines the disc alone."""
    card = replace(model.card, structures=("OD",), close=(), witnesses={})
    return Predictor(model.runtime, card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=200)
    options = parser.parse_args()
    loaded = load(options.model)
    assert isinstance(loaded, Predictor)
    model = without_close_view(loaded)
    random = np.random.default_rng(0)

    by_set = photos_by_set(options.data, options.photos)
    counts: dict[str, Counter[str]] = {}
    for name, chosen in by_set.items():
        for number, case in enumerate(chosen):
            pixels = Photo.open(case.path).pixels
            counts.setdefault(name, Counter())[outcome(model, pixels)] += 1
            for title, picture in altered(pixels, random) if number % 10 == 0 else ():
                counts.setdefault(title, Counter())[outcome(model, picture)] += 1

    print(f"| photos | number | {' | '.join(COUNTED)} |")
    print("|---" * (2 + len(COUNTED)) + "|")
    titles = [*by_set, *(title for title in counts if title not in by_set)]
    for title in titles:
        row = counts[title]
        print(f"| {title} | {row.total()} | {' | '.join(str(row[kind]) for kind in COUNTED)} |")


if __name__ == "__main__":
    main()
