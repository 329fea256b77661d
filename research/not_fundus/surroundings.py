"""What a fundus photo may lie in: a slide, a printed or scanned page, a screen, a frame; and other fields and casts.

Each takes a photo (H, W, 3) uint8 and its field of view, and gives the picture and where the field is in it.

    python -m research.not_fundus.surroundings --data DATA       how many eyes are found in them, and what is refused
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from funduscope.data.sources import read_data
from funduscope.data.splits import SplitPlan
from funduscope.imaging.field_of_view import FieldOfView, find_field_of_view
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.quality.assessment import assess
from funduscope.quality.image_measures import FRAME_PX

from .grounds import words

Surrounded = tuple[np.ndarray, FieldOfView]
Surround = Callable[[np.ndarray, FieldOfView, np.random.Generator], Surrounded]

MAX_PX: Final = 900
"""Longer side of a photo before it is put anywhere: a screen shows no more."""


FOUND_FRAC: Final = 0.08
"""An eye is found where center and radius are within this part of the true radius."""


def resized(pixels: np.ndarray) -> tuple[np.ndarray, FieldOfView] | None:
    """A photo of `MAX_PX` at most, and its field; None if no field is found."""
    scale = min(1.0, MAX_PX / max(pixels.shape[:2]))
    small = pixels if scale == 1 else cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    found = find_field_of_view(small)
    return None if found is None else (small, found)


def screen(photo: np.ndarray, field: FieldOfView, rng: np.random.Generator) -> Surrounded:
    """A viewer's window: a title, a list or tools at a side, the photo in a pane; light or dark."""
    high, wide = photo.shape[:2]
    is_dark = rng.random() < 0.5
    ground, ink = ((24, 26, 30), (200, 205, 210)) if is_dark else ((240, 241, 243), (40, 42, 50))
    left, top = int(rng.integers(60, 300)), int(rng.integers(40, 110))
    size = (left + wide + int(rng.integers(20, 260)), top + high + int(rng.integers(20, 90)))
    picture = Image.new("RGB", size, ground)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    draw.rectangle((0, 0, size[0], 30), fill=tuple(rng.integers(20, 150, 3).tolist()))
    draw.text((12, 7), words(rng, 4), fill=(255, 255, 255), font=font)
    for line in range(int(rng.integers(3, 20))):
        draw.text((10, 44 + 22 * line), words(rng, 3)[: max(1, left // 9 - 2)], fill=ink, font=font)
    draw.text((left, size[1] - 18), words(rng, 6), fill=ink, font=font)
    return _placed(picture, photo, field, left, top)


def page(photo: np.ndarray, field: FieldOfView, rng: np.random.Generator) -> Surrounded:
    """A page, as printed and scanned: white or nearly, words above and below, the photo with its own surround."""
    high, wide = photo.shape[:2]
    left, top = int(rng.integers(20, 250)), int(rng.integers(40, 250))
    size = (wide + left + int(rng.integers(20, 250)), high + top + int(rng.integers(40, 350)))
    picture = Image.new("RGB", size, tuple(int(v) for v in rng.integers(236, 256, 3)))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    for at in (*range(12, top - 24, 24), *range(top + high + 12, size[1] - 20, 24)):
        draw.text((left, at), words(rng, 12)[: wide // 9], fill=(40, 40, 44), font=font)
    picture, moved = _placed(picture, photo, field, left, top)
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(0, 2.5), picture.shape)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return picture, moved


def cut_out(photo: np.ndarray, field: FieldOfView, rng: np.random.Generator) -> Surrounded:
    """The round field alone on a page or a slide of one color, words below it."""
    rows, columns = np.ogrid[: photo.shape[0], : photo.shape[1]]
    inside = np.hypot(rows + 0.5 - field.y_px, columns + 0.5 - field.x_px) < 0.985 * field.radius_px
    ground = np.full(3, int(rng.integers(225, 256))) if rng.random() < 0.7 else np.sort(rng.integers(30, 220, 3))
    round_photo = np.where(inside[..., None], photo, ground).astype(np.uint8)
    left, top, below = (int(v) for v in rng.integers(20, 160, 3))
    size = (photo.shape[1] + 2 * left, photo.shape[0] + top + below)
    picture = Image.new("RGB", size, tuple(int(v) for v in ground))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    draw.text((left, size[1] - 18), words(rng, 5), fill=(20, 20, 24), font=font)
    return _placed(picture, round_photo, field, left, top)


def lettered(photo: np.ndarray, field: FieldOfView, rng: np.random.Generator) -> Surrounded:
    """A wide black border with words in it, as a camera or an archive adds."""
    left, top, below = int(rng.uniform(0, 0.4) * photo.shape[1]), int(rng.integers(30, 150)), int(rng.integers(30, 150))
    size = (photo.shape[1] + 2 * left, photo.shape[0] + top + below)
    picture = Image.new("RGB", size)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(int(rng.integers(12, 24)))
    for at in (4, size[1] - 26):
        draw.text((8, at), words(rng, 4), fill=(235, 235, 235), font=font)
    return _placed(picture, photo, field, left, top)


def framed(photo: np.ndarray, field: FieldOfView, rng: np.random.Generator) -> Surrounded:
    """A frame of one or two colors around the photo, as of a slide or a scan of one."""
    thick = int(rng.uniform(0.01, 0.15) * photo.shape[1])
    color = (250, 250, 250) if rng.random() < 0.5 else tuple(int(v) for v in rng.integers(60, 256, 3))
    size = (photo.shape[1] + 2 * thick, photo.shape[0] + 2 * thick)
    picture, moved = _placed(Image.new("RGB", size, color), photo, field, thick, thick)
    if rng.random() < 0.4:
        return _placed(Image.new("RGB", (size[0] + 60, size[1] + 40), (0, 0, 0)), picture, moved, 30, 20)
    return picture, moved


def narrowed(photo: np.ndarray, field: FieldOfView, rng: np.random.Generator) -> Surrounded:
    """A smaller field than the photo's, on black: of 45 to 50 degrees, 30 to 42 are left."""
    radius = field.radius_px * rng.uniform(0.62, 0.88)
    x, y = (at + field.radius_px * rng.uniform(-0.1, 0.1) for at in (field.x_px, field.y_px))
    rows, columns = np.ogrid[: photo.shape[0], : photo.shape[1]]
    inside = np.clip(radius + 0.5 - np.hypot(rows + 0.5 - y, columns + 0.5 - x), 0, 1)[..., None]
    left, top = max(0, int(x - 1.05 * radius)), max(0, int(y - 1.05 * radius))
    cut = np.s_[top : int(y + 1.05 * radius), left : int(x + 1.05 * radius)]
    return np.ascontiguousarray((photo * inside).astype(np.uint8)[cut]), FieldOfView(x - left, y - top, radius)


def widened(photo: np.ndarray, field: FieldOfView, rng: np.random.Generator) -> Surrounded:
    """A wider field, of 55 to 65 degrees: the retina continued by its reflection, darker towards the rim."""
    wide = rng.uniform(1.15, 1.35)
    side = int(2 * wide * field.radius_px) + 8
    at = np.arange(side, dtype=np.float32) + 0.5 - side / 2
    y, x = np.meshgrid(at, at, indexing="ij")
    away = np.hypot(x, y) / field.radius_px
    back = np.where(away > 0.96, (1.92 - away) / np.maximum(away, 1e-6), 1).astype(np.float32)
    shown = cv2.remap(photo, back * x + field.x_px - 0.5, back * y + field.y_px - 0.5, cv2.INTER_LINEAR)
    shade = np.clip(1 - 0.5 * np.maximum(away - 0.9, 0) / (wide - 0.9), 0, 1) * np.clip((wide - away) * 40, 0, 1)
    return (shown * shade[..., None]).astype(np.uint8), FieldOfView(side / 2, side / 2, wide * field.radius_px)


def inside(photo: np.ndarray, field: FieldOfView, rng: np.random.Generator) -> Surrounded:
    """Cut inside the field, so that no edge of it is left: retina up to every edge of the picture."""
    shape = float(rng.choice([3 / 4, 1.0, 4 / 3, 3 / 2, 16 / 9]))
    reach = 0.97 * field.radius_px / np.hypot(shape, 1.0)
    left, right = (int(np.clip(field.x_px + side * reach * shape, 0, photo.shape[1])) for side in (-1, 1))
    top, bottom = (int(np.clip(field.y_px + side * reach, 0, photo.shape[0])) for side in (-1, 1))
    cut = np.ascontiguousarray(photo[top:bottom, left:right])
    high, wide = cut.shape[:2]
    return cut, FieldOfView(wide / 2, high / 2, max(high, wide) / 2, is_edgeless=True)


SURROUNDED: Final[dict[str, Surround]] = {
    "on a screen": screen, "on a page": page, "cut out": cut_out, "with words": lettered, "in a frame": framed,
    "30 to 42 degrees": narrowed, "55 to 65 degrees": widened,
    "inside the field": inside,
}  # fmt: skip


def _placed(ground: Image.Image | np.ndarray, photo: np.ndarray, field: FieldOfView, left: int, top: int) -> Surrounded:
    picture = np.array(ground)
    picture[top : top + photo.shape[0], left : left + photo.shape[1]] = photo
    return picture, FieldOfView(field.x_px + left, field.y_px + top, field.radius_px)


def tables(paths: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    """For each way, how many eyes are found within `FOUND_FRAC` of their radius, and what the shipped tests advise.

    paths: photos by data set.
    """
    counts: dict[str, Counter[str]] = {way: Counter() for way in SURROUNDED}
    missed: list[str] = []
    for path in (path for of_set in paths.values() for path in of_set):
        photo = resized(Photo.open(path).pixels)
        if photo is None:
            continue
        rng = np.random.default_rng(int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16))
        for way, surround in SURROUNDED.items():
            picture, true = surround(*photo, rng)
            taken = frame(picture, FRAME_PX)
            found = taken.field_of_view or FieldOfView(0, 0, 0)
            off = (found.x_px - true.x_px, found.y_px - true.y_px, found.radius_px - true.radius_px)
            is_found = max(map(abs, off)) < FOUND_FRAC * true.radius_px
            reasons, quality = assess(taken, picture)
            advice = "refuse" if reasons or quality is None else quality.advice
            counts[way].update([advice, "found" if is_found else "missed", "all"])
            if not is_found or advice == "refuse":
                missed.append(f"{path.name} {way} ({'found' if is_found else 'missed'}, {advice})")
    kinds = ("all", "missed", "grade", "retake", "refuse")
    yield "| surroundings | pictures | eye missed | graded | graded, to take again | refused |"
    yield "|---" * (len(kinds) + 1) + "|"
    for way, of_way in counts.items():
        yield f"| {way} | {' | '.join(str(of_way[kind]) for kind in kinds)} |"
    yield ""
    yield f"Missed or refused: {', '.join(missed) or 'none'}."


def main() -> int:
    parser = argparse.ArgumentParser(description="Tries the search for the eye in pictures that surround a photo.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--most", type=int, default=4, help="photos of a data set")
    given = parser.parse_args()
    cases = SplitPlan.of(read_data([given.data])).cases
    by_set = {
        name: [case.path for case in cases if case.dataset == name] for name in dict.fromkeys(c.dataset for c in cases)
    }
    by_set |= {"cameras": sorted((given.data / "cameras").glob("*.*"))}
    chosen = {name: of[:: max(1, len(of) // given.most)][: given.most] for name, of in by_set.items()}
    print("\n".join(tables(chosen)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
