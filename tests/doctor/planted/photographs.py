"""Realistic faults of photographs: damaged files, bad light, bad focus, crops, text, metadata."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, PngImagePlugin, TiffImagePlugin

from funduscope.imaging.field_of_view import find_field_of_view

from .eyes import save
from .pictures import NO_FUNDUS
from .truth import Plot

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]

QUALITY: Final = frozenset({"blurred", "dark", "overexposed", "cut", "blank", "not_fundus"})
"""A poor photo may have several faults: a cut one has another size, a dark one is blurred."""


def plant(plot: Plot, folder: Path, eyes: Iterator[np.ndarray], each: int) -> None:
    """Plants `each` of every kind, in a folder of photos."""
    for name, (kinds, change, suffixes) in PICTURES.items():
        rng = plot.rng(name)
        for number in range(each):
            path = folder / f"{name.replace(' ', '_').replace(',', '')}_{number:02d}{suffixes[number % len(suffixes)]}"
            save(change(next(eyes), rng), path, int(rng.integers(80, 96)))
            plot.plant(name, [path], kinds, also=QUALITY)
    _damaged(plot, folder, eyes, each)
    _not_fundus(plot, folder, each)
    _naming(plot, folder, eyes, each)
    _turned(plot, folder, eyes, each)


def _out_of_focus(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus, or moved while the shutter was open."""
    width = pixels.shape[1]
    if rng.uniform() < 0.7:
        return cv2.GaussianBlur(pixels, (0, 0), width * rng.uniform(0.006, 0.014))
    length = max(5, round(width * rng.uniform(0.025, 0.05)))
    angle, kernel = rng.uniform(0, np.pi), np.zeros((length, length), np.float32)
    reach = np.array([np.cos(angle), np.sin(angle)]) * (length / 2 - 1)
    start, end = ((length / 2 + sign * reach).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return cv2.filter2D(pixels, -1, kernel / kernel.sum())


def _with_noise(light: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    return np.clip(light + rng.normal(0, sigma, light.shape) + 0.5, 0, 255).astype(np.uint8)


def _level(pixels: np.ndarray) -> float:
    """The median of the field's brightest color."""
    light = pixels.max(axis=2)
    return float(np.median(light[light > 25])) if (light > 25).any() else 25.0


def _too_dark(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A flash that failed: a level of 12 to 36, where good photos have 90 to 230, and the sensor's noise."""
    return _with_noise(pixels * (rng.uniform(12, 36) / _level(pixels)), rng, 2)


def _too_bright(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Too strong a flash, half a stop to more than one above full, partly scattered by a clouded lens."""
    veil = rng.uniform(0, 40) * (pixels.max(axis=2, keepdims=True) > 20)
    return _with_noise(pixels * (255 * rng.uniform(1.4, 2.5) / _level(pixels)) + veil, rng, 1.5)


def _cut(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A third to a half of the field of view beyond one edge, or beyond two."""
    height, width = pixels.shape[:2]
    field_of_view = find_field_of_view(pixels)
    x, y, radius = (
        (width / 2, height / 2, 0.4 * width)
        if field_of_view is None
        else (field_of_view.x_px, field_of_view.y_px, field_of_view.radius_px)
    )
    left, top, right, bottom = 0, 0, width, height
    sides = rng.permutation(4)[: 1 if rng.uniform() < 0.7 else 2]
    for side in sides:
        depth = rng.uniform(0.7, 1.0) * radius
        if side == 0:
            left = round(max(0, x - radius) + depth)
        elif side == 1:
            right = round(min(width, x + radius) - depth)
        elif side == 2:
            top = round(max(0, y - radius) + depth)
        else:
            bottom = round(min(height, y + radius) - depth)
    if right - left < 256 or bottom - top < 256:  # smaller is another fault
        left, right, top, bottom = round(x), width, 0, height
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def _thumbnail(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A thumbnail, as of a web page or a viewer's cache."""
    width = int(rng.integers(72, 180))
    return cv2.resize(pixels, (width, round(width * pixels.shape[0] / pixels.shape[1])), interpolation=cv2.INTER_AREA)


_WORDS: Final = (
    "Smith, John  1956-03-12  OD", "OS", "2014-03-11 10:22", "ID 0045128", "Eye Clinic North", "Kowalska Anna OS",
    "R  45deg  Topcon", "PAT: 88213 M 61Y", "DOB 02/11/1949", "Ramanathan V. 14.06.2011 09:41:07",
)  # fmt: skip
_INKS: Final = ((255, 255, 255), (255, 255, 0), (0, 255, 0), (230, 230, 230), (0, 200, 255))


def _written_on(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A line that the camera's program burned in: in a corner, along an edge, or over the retina."""
    picture = Image.fromarray(pixels)
    words = _WORDS[int(rng.integers(len(_WORDS)))]
    words = words if len(words) >= 8 else f"{words} {rng.integers(10_000, 99_999)}"
    font = ImageFont.load_default(max(11.0, rng.uniform(0.022, 0.045) * picture.width))
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
    room = max(1, picture.width - (right - left) - 8), max(1, picture.height - (bottom - top) - 12)
    x = (4, room[0], int(rng.integers(room[0])))[int(rng.integers(3))]
    y = (4, room[1], int(rng.integers(room[1])))[int(rng.choice(3, p=(0.35, 0.45, 0.2)))]
    draw.text((x, y), words, fill=_INKS[int(rng.integers(len(_INKS)))], font=font)
    return np.asarray(picture)


def _nothing(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A cap on the lens, a closed lid, an empty export."""
    kind, size = int(rng.integers(4)), pixels.shape
    if kind == 0:
        return _with_noise(np.full(size, rng.uniform(0, 6)), rng, 2)
    if kind == 1:
        return np.full(size, int(rng.choice((0, 255, 128))), np.uint8)
    if kind == 2:  # a closed lid in front of the lens: red-brown, without detail
        across = np.linspace(0.85, 1.15, size[1])[None, :, None]
        return _with_noise(np.array((120, 55, 35)) * across * np.ones(size), rng, 2)
    return _with_noise(np.full(size, 235.0), rng, 3)


def _grey(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Red-free, or saved without color."""
    gray = pixels[..., 1] if rng.uniform() < 0.5 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)


def _filled_up(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A truncated file that a tolerant reader opened and saved again: gray, or black, below a row of blocks."""
    filled = pixels.copy()
    row = 8 * int(rng.uniform(0.35, 0.8) * pixels.shape[0] / 8)
    filled[row:] = 128 if rng.uniform() < 0.7 else 0
    filled[row : row + 8, int(rng.uniform(0.1, 0.9) * pixels.shape[1]) :] = filled[-1, 0]
    return filled


PICTURES: Final[dict[str, tuple[frozenset[str], Change, tuple[str, ...]]]] = {
    "blurred": (frozenset({"blurred"}), _out_of_focus, (".jpg", ".png")),
    "dark": (frozenset({"dark", "blank"}), _too_dark, (".jpg",)),
    "over-exposed": (frozenset({"overexposed", "blank"}), _too_bright, (".jpg",)),
    "cut off": (frozenset({"cut"}), _cut, (".jpg",)),
    "too small": (frozenset({"too_small"}), _thumbnail, (".jpg", ".png")),
    "text burned in": (frozenset({"burned_in_text"}), _written_on, (".jpg", ".png")),
    "shows nothing": (frozenset({"blank", "dark", "not_fundus", "blurred"}), _nothing, (".jpg", ".png")),
    "without color": (frozenset({"gray"}), _grey, (".jpg",)),
    "filled up below": (frozenset({"truncated", "cut"}), _filled_up, (".jpg",)),
}
"""Kind to the accepted findings, the change of a photo, and the files' suffixes in turn."""


def _damaged(plot: Plot, folder: Path, eyes: Iterator[np.ndarray], each: int) -> None:
    rng = plot.rng("damaged")
    for number in range(each):
        path = save(next(eyes), folder / f"short_{number:02d}{('.jpg', '.jpg', '.png')[number % 3]}")
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * rng.uniform(0.15, 0.97))])
        plot.plant("cut short", [path], {"truncated", "unreadable"})
    for number in range(each):
        path = save(next(eyes), folder / f"damaged_{number:02d}.jpg")
        data = path.read_bytes()
        wrong = (
            b"",
            rng.bytes(len(data)),
            b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0a1b2c\nsize 482113\n",
            rng.bytes(200) + data[200:],
            b"PK\x03\x04" + rng.bytes(4000),
            b"\0" * 128 + b"DICM" + rng.bytes(4000),
            b"\0" * len(data),
            data.replace(b"\xff\xc0", b"\xff\xc9"),
            data[2:],
        )[number % 10]
        path.write_bytes(wrong)
        plot.plant("unreadable", [path], {"unreadable", "truncated"})


def _not_fundus(plot: Plot, folder: Path, each: int) -> None:
    rng = plot.rng("not a fundus")
    for number in range(each):
        picture = NO_FUNDUS[number % len(NO_FUNDUS)](rng)
        path = save(picture, folder / f"other_{number:02d}{('.jpg', '.png')[number % 2]}")
        plot.plant("not a fundus", [path], {"not_fundus", "blank"}, also=QUALITY | {"burned_in_text"})


def _naming(plot: Plot, folder: Path, eyes: Iterator[np.ndarray], each: int) -> None:
    """Names, dates and places as cameras, viewers and archives write them into files."""
    for number in range(each):
        picture, path = Image.fromarray(next(eyes)), folder / f"named_{number:02d}.jpg"
        exif, how = Image.Exif(), number % 10
        if how in (0, 1, 2):
            tag = (ExifTags.Base.Artist, ExifTags.Base.ImageDescription, ExifTags.Base.XPAuthor)[how]
            words = "Dr. Maria Lindqvist"
            exif[tag] = words.encode("utf-16le") if how == 2 else words
            picture.save(path, exif=exif)
        elif how == 3:
            exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (18.0, 31.0, 12.0), 3: "E", 4: (73.0, 51.0, 20.0)})
            picture.save(path, exif=exif)
        elif how == 4:
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0Patient Joshi, seen 2013-04-02"
            picture.save(path, exif=exif)
        elif how == 5:
            picture.save(path, comment="Name: Patil S. Right eye, 12-05-2012")
        elif how == 6:
            creator = "<dc:creator><rdf:Seq><rdf:li>J. Okafor</rdf:li></rdf:Seq></dc:creator>"
            picture.save(path, xmp=f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{creator}</x:xmpmeta>".encode())
        elif how in (7, 8):
            path, texts = path.with_suffix(".png"), PngImagePlugin.PngInfo()
            texts.add_text("Description" if how == 7 else "PatientName", "Garcia, Lucia")
            picture.save(path, pnginfo=texts)
        else:
            path, tags = path.with_suffix(".tif"), TiffImagePlugin.ImageFileDirectory_v2()
            tags[270] = "Visit of Mr. Chen, left eye"
            picture.save(path, tiffinfo=tags)
        plot.plant("names a person", [path], {"personal_metadata"})


def _turned(plot: Plot, folder: Path, eyes: Iterator[np.ndarray], each: int) -> None:
    for number in range(each):
        path, exif, held = folder / f"turned_{number:02d}.jpg", Image.Exif(), io.BytesIO()
        exif[ExifTags.Base.Orientation] = (3, 6, 8, 2)[number % 4]
        Image.fromarray(next(eyes)).save(held, "JPEG", quality=90, exif=exif)
        path.write_bytes(held.getvalue())
        plot.plant("turned by a tag", [path], {"orientation"})
