"""Drawn eyes: pictures like fundus photographs whose every target is known, for tests that need no real photo.

Lesions follow the ICDR scale (Wilkinson et al., Ophthalmology 110(9), 2003), the macular edema risk IDRiD's geometry.
Nobody's retina: good enough for a network to learn on, no evidence about real photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from PIL import Image

from funduscope.data.case import Point
from funduscope.testing.eye_shapes import (
    SHIFT,
    Ground,
    coverage,
    draw_lesions,
    draw_spots,
    draw_tangle,
    draw_vessels,
    new_layer,
    on_grid,
)
from funduscope.vocabulary import CODES, DME_RISKS, GRADES, STRUCTURES

Side = Literal["right", "left"]
BLOOD: Final = (0.30, 0.72, 0.50)
"""Absorption of red, green and blue by blood: the light that is left is exp(-density * blood)."""

PLAIN: Final = tuple(item for item in STRUCTURES if item.code not in ("MA", "HE", "EX", "SE", "OD"))
"""Structures without a drawing of their own: such a lesion is a few spots of its color."""


@dataclass(frozen=True)
class Style:
    """A camera's style: the position of the field in the photo and its surround. Fractions are of the photo's width.

    outside, outside_noise: RGB levels (0-255) around the field and their standard deviation. vignette: the share of
    light lost at the field's edge. blur_px: Gaussian sigma in px of a 4288-wide photo. grain: noise's sigma in levels.
    """

    aspect: float = 2848 / 4288  # height over width
    radius_frac: float = 0.397
    center_frac: Point = (0.47, 0.5)
    outside: tuple[float, float, float] = (2, 2, 2)
    outside_noise: float = 0.7
    tint: tuple[float, float, float] = (1, 1, 1)
    brightness: float = 1.0
    vignette: float = 0.35
    blur_px: float = 3.0
    grain: float = 1.5
    notch: bool = True


STYLES: Final[dict[str, Style]] = {
    "cut_top_bottom": Style(),
    "full_circle": Style(radius_frac=0.31, center_frac=(0.5, 0.5), notch=False),
    "cut_sides": Style(aspect=1.1, radius_frac=0.53, center_frac=(0.5, 0.5), notch=False),
    "wide_border": Style(radius_frac=0.22, center_frac=(0.42, 0.46)),
    "grey_outside": Style(radius_frac=0.3, center_frac=(0.5, 0.5), outside=(62, 62, 64), notch=False),
    "noisy_outside": Style(outside=(14, 12, 11), outside_noise=9, grain=5),
    "dim": Style(brightness=0.4, vignette=0.6),
    "pale": Style(tint=(1.0, 1.25, 1.8), brightness=1.15),
}


@dataclass(frozen=True, eq=False)
class DrawnEye:
    """A drawn photo, (H, W, 3) uint8 RGB, and its truth: (H, W) bool masks for every code, points in its own pixels.

    field_xy, field_radius_px: the circle of the field of view, cut off by the photo or not.
    """

    pixels: np.ndarray
    masks: dict[str, np.ndarray]
    disc_xy: Point
    fovea_xy: Point
    disc_diameter_px: float
    grade: int
    dme: int
    laterality: Side
    gradable: bool
    field_xy: Point
    field_radius_px: float


def draw_eye(
    seed: int,
    *,
    grade: int | None = None,
    dme: int | None = None,
    width_px: int = 1440,
    laterality: Side | None = None,
    style: Style | None = None,
) -> DrawnEye:
    """A drawn eye that depends only on its arguments; those that are None are drawn at random from the seed.

    grade 0-4; dme 0-2, which needs grade 2 or more unless it is 0. Raises `ValueError` for an impossible eye.
    """
    if width_px < 128:
        raise ValueError(f"A width of {width_px} px is too small to draw an eye in: 128 px or more.")
    rng = np.random.default_rng(seed)
    grade, dme, side = _lots(rng, grade, dme, laterality)
    style = style or Style()
    ground = _ground(rng, width_px, side, style)
    bleeds = grade == 4 and seed % 2 == 0  # the other half of grade 4 has new vessels instead
    layers = {"vessels": draw_vessels(rng, ground), "OD": _disc(rng, ground), "field": _field(ground, style)}
    layers |= draw_lesions(rng, ground, (grade, dme), layers["vessels"], bleeds)
    if grade == 4 and not bleeds:
        draw_tangle(rng, ground, layers["vessels"])
    spots = np.random.default_rng([seed, 1])  # so that everything else is drawn as without them
    for item in PLAIN:
        layers[item.code] = new_layer(ground)
        if item.is_lesion and grade >= item.lowest_grade:
            draw_spots(spots, ground, layers[item.code])
    pixels = _paint(rng, ground, style, layers)
    masks = {code: _mask(layers[code], layers["field"]) for code in CODES}
    return DrawnEye(
        pixels=pixels,
        masks=masks,
        disc_xy=_point(ground.disc),
        fovea_xy=_point(ground.fovea),
        disc_diameter_px=ground.dd,
        grade=grade,
        dme=dme_risk(masks["EX"], _point(ground.fovea), ground.dd),
        laterality=side,
        gradable=style.blur_px < 15 and 0.3 <= style.brightness <= 2,
        field_xy=_point(ground.field),
        field_radius_px=ground.radius,
    )


def _point(xy: np.ndarray) -> Point:
    return float(xy[0]), float(xy[1])


def _lots(
    rng: np.random.Generator, grade: int | None, dme: int | None, laterality: Side | None
) -> tuple[int, int, Side]:
    """The given values, the others drawn at random. Each is drawn in any case, so that giving one changes no other."""
    any_grade, any_side = int(rng.integers(len(GRADES))), int(rng.integers(2))
    any_dme = int(rng.choice(3, p=(0.3, 0.2, 0.5)))
    grade = any_grade if grade is None else grade
    dme = (any_dme if grade >= 2 else 0) if dme is None else dme
    if not 0 <= grade < len(GRADES) or not 0 <= dme < len(DME_RISKS) or (dme and grade < 2):
        raise ValueError(f"No eye has grade {grade} and DME risk {dme}: grades are 0-4, risks 1 and 2 need grade 2.")
    return grade, dme, laterality or ("right" if any_side else "left")


def dme_risk(exudates: np.ndarray, fovea_xy: Point, disc_diameter_px: float) -> int:
    """IDRiD's macular edema risk of an (H, W) bool mask of hard exudates: 0, 1, or 2."""
    y, x = np.nonzero(exudates)
    if len(x) == 0:
        return 0
    return 2 if np.hypot(x + 0.5 - fovea_xy[0], y + 0.5 - fovea_xy[1]).min() <= disc_diameter_px else 1


def _ground(rng: np.random.Generator, width_px: int, side: Side, style: Style) -> Ground:
    radius = style.radius_frac * width_px
    size = (round(width_px * style.aspect), width_px)
    field = np.array([style.center_frac[0] * width_px, style.center_frac[1] * size[0]])
    temporal = -1.0 if side == "right" else 1.0  # the nose is right of a right eye: its disc lies to the right
    disc = field + radius * np.array([-temporal * rng.uniform(0.5, 0.64), rng.uniform(-0.1, 0.06)])
    dd = radius * rng.uniform(0.29, 0.35)
    fall = np.radians(rng.uniform(3, 10))  # the fovea lies a little below the disc
    along = np.array([temporal * np.cos(fall), np.sin(fall)])
    up = np.array([temporal * np.sin(fall), -np.cos(fall)])
    fovea = disc + dd * rng.uniform(2.4, 2.65) * along
    if (np.minimum(disc, fovea) < 0).any() or (np.maximum(disc, fovea) >= size[::-1]).any():
        raise ValueError(
            f"The style puts disc or fovea outside the photo: {style}; move the field in or make it smaller."
        )
    return Ground(size, field, radius, disc, fovea, dd, np.stack([along, up]))


def _field(ground: Ground, style: Style) -> np.ndarray:
    """The layer that the camera lights: a circle, with the tab at its edge that marks the upright photo."""
    layer = new_layer(ground)
    radius = round(2 * ground.radius * (1 << SHIFT))
    cv2.circle(layer, on_grid(ground.field).tolist(), radius, 255, -1, cv2.LINE_8, SHIFT)
    if style.notch:
        corners = np.array([[0.8, -0.6], [0.86, -0.56], [0.85, -0.51], [0.9, -0.49], [0.88, -0.42], [0.75, -0.4]])
        cv2.fillPoly(layer, [on_grid(ground.field + ground.radius * corners)], 255, cv2.LINE_8, SHIFT)
    return layer


def _disc(rng: np.random.Generator, ground: Ground) -> np.ndarray:
    """The disc's layer: an upright ellipse of the area of a circle of one disc diameter."""
    layer, slim = new_layer(ground), rng.uniform(0.93, 1.0)
    axes = np.round(np.array([slim, 1 / slim]) * ground.dd * (1 << SHIFT)).astype(int).tolist()
    cv2.ellipse(layer, on_grid(ground.disc).tolist(), axes, 0, 0, 360, 255, -1, cv2.LINE_8, SHIFT)
    return layer


def _mask(layer: np.ndarray, field: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of which a third or more is covered, so that the smallest microaneurysm has one."""
    small = (field.shape[1] // 2, field.shape[0] // 2)
    return (cv2.resize(layer, small, interpolation=cv2.INTER_AREA) > 85) & (field[::2, ::2] > 0)


def _clouds(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Smooth noise (height, width) of unit variance or less, with `cells` cells across."""
    coarse = rng.standard_normal((max(2, cells * size[0] // size[1]), cells), np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def _retina(rng: np.random.Generator, ground: Ground, style: Style) -> np.ndarray:
    """(H, W, 3) float32: the bare retina with its pigment, texture and shading; coarse, as all of it is smooth."""
    size = (max(2, ground.size[0] // 4), max(2, ground.size[1] // 4))
    x = (np.arange(size[1], dtype=np.float32) + 0.5) * (ground.size[1] / size[1])
    y = ((np.arange(size[0], dtype=np.float32) + 0.5) * (ground.size[0] / size[0]))[:, None]

    def square_distance(xy: np.ndarray, over: float) -> np.ndarray:
        return ((x - np.float32(xy[0])) ** 2 + (y - np.float32(xy[1])) ** 2) / np.float32(over * over)

    red, pink = rng.uniform(150, 232), rng.uniform()
    color = np.array([red, red * rng.uniform(0.4, 0.5 + 0.06 * pink), red * (0.05 + 0.26 * pink * pink)])
    lamp = ground.field + rng.normal(0, 0.13, 2) * ground.radius
    shade = 1.05 - style.vignette * square_distance(lamp, ground.radius * 1.06) ** 1.3
    shade += 0.2 * np.exp(-square_distance(ground.disc, 1.0 * ground.dd))
    pigment = rng.uniform(0.1, 0.22) * np.exp(-square_distance(ground.fovea, 1.0 * ground.dd))
    pigment += rng.uniform(0.15, 0.28) * np.exp(-square_distance(ground.fovea, 0.3 * ground.dd))
    texture = 0.03 * _clouds(rng, size, 5) + 0.02 * _clouds(rng, size, 16) + 0.018 * _clouds(rng, size, 60)
    light = np.clip(shade, 0.15, 1.5) * (1 + texture)
    retina = light[..., None] * color * (1 - pigment[..., None] * np.array([0.75, 1.1, 1.0]))
    return cv2.resize(retina.astype(np.float32), ground.size[::-1], interpolation=cv2.INTER_LINEAR)


def _paint(rng: np.random.Generator, ground: Ground, style: Style, layers: dict[str, np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8: the light of bright structures, less what blood absorbs, in the camera's frame."""
    unit, light = ground.unit, _retina(rng, ground, style)
    _paint_disc(rng, ground, layers["OD"], light)
    texture = _clouds(rng, ground.size, 160)[..., None]
    bright = {"EX": (3.0, (1.16, 1.5, 1.35), (14, 22, 10)), "SE": (14.0, (1.07, 1.24, 1.25), (10, 16, 12))}
    for code, (soft, gain, lift) in bright.items():
        if layers[code].any():
            share = coverage(layers[code], soft * unit)[..., None] * (rng.uniform(0.8, 1.2) + 0.12 * texture)
            light += share * (light * (np.array(gain, np.float32) - 1) + np.array(lift, np.float32))
    for item in PLAIN:
        light += 0.6 * coverage(layers[item.code], 6 * unit)[..., None] * (np.array(item.color, np.float32) - light)
    density = rng.uniform(0.6, 1.0) * coverage(layers["vessels"], 4 * unit)
    for code, soft, strength in (("HE", 9.0, rng.uniform(0.75, 1.15)), ("MA", 2.5, rng.uniform(0.7, 1.0))):
        if layers[code].any():
            density = np.maximum(density, strength * coverage(layers[code], soft * unit) * (1 + 0.1 * texture[..., 0]))
    for channel, taken in enumerate(BLOOD):
        light[..., channel] *= cv2.exp(-taken * density)
    light *= np.array(style.tint, np.float32) * style.brightness
    inside = coverage(layers["field"], 4 * unit)[..., None]
    light = np.array(style.outside, np.float32) + inside * (light - np.array(style.outside, np.float32))
    if style.blur_px * unit > 0.3:
        light = cv2.GaussianBlur(light, (0, 0), style.blur_px * unit)
    noise = rng.standard_normal(ground.size, np.float32)[..., None]
    light += noise * (style.outside_noise + (style.grain - style.outside_noise) * inside)
    return np.clip(light + 0.5, 0, 255).astype(np.uint8)


def _paint_disc(rng: np.random.Generator, ground: Ground, disc: np.ndarray, light: np.ndarray) -> None:
    """A bright disc with a brighter cup, soft at its edge; changes `light` where the disc lies."""
    cup = new_layer(ground)
    axes = np.full(2, ground.dd * rng.uniform(0.32, 0.52) * (1 << SHIFT)).astype(int).tolist()
    center = on_grid(ground.at(np.array([rng.uniform(0.02, 0.08), 0.0]))).tolist()
    cv2.ellipse(cup, center, axes, 0, 0, 360, 255, -1, cv2.LINE_8, SHIFT)
    left, top = np.maximum(ground.disc - 0.8 * ground.dd, 0).astype(int)
    right, bottom = (ground.disc + 0.8 * ground.dd).astype(int) + 1
    here, doubled = np.s_[top:bottom, left:right], np.s_[2 * top : 2 * bottom, 2 * left : 2 * right]
    around = light[here]
    cup_share = coverage(np.ascontiguousarray(cup[doubled]), 0.08 * ground.dd)[..., None]
    share = coverage(np.ascontiguousarray(disc[doubled]), 0.016 * ground.dd)[..., None]
    gain = np.array([1.16, 1.38, 1.5], np.float32) * rng.uniform(0.97, 1.08)
    inner = around * gain + np.array([38, 30, 12]) + cup_share * np.array([28, 52, 34]) * rng.uniform(0.7, 1.3)
    light[here] = around + share * (inner - around)


def write_idrid(folder: Path, *, graded: int, masked: int, width_px: int = 512, seed: int = 0) -> None:
    """Writes drawn eyes in the layout of IDRiD's official release, with its irregularities, and a `folds.csv`.

    graded: photos of B (grades in turn) and their markups in C. masked: photos of A, of grades 2 to 4; an A number is
    another eye than the same number of B. A lesion that a photo of A lacks has no file. Two photos of B share a visit.
    """
    folds = ["subset,image,visit,fold"]
    folds += _write_graded(folder, graded, width_px, first_seed=1_000_000 * seed)
    folds += _write_masked(folder / "A. Segmentation", masked, width_px, first_seed=1_000_000 * seed + 500_000)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "folds.csv").write_text("\n".join(folds) + "\n", encoding="utf-8")


def _write_graded(folder: Path, count: int, width_px: int, first_seed: int) -> list[str]:
    """B and C; the rows of `folds.csv`."""
    grades = ["Image name,Retinopathy grade,Risk of macular edema "]
    discs, foveas, folds = ["Image No,X- Coordinate,Y - Coordinate"], ["Image No,X- Coordinate,Y - Coordinate"], []
    for number in range(1, count + 1):
        side: Side = "right" if number % 2 else "left"
        eye = draw_eye(first_seed + number, grade=(number - 1) % len(GRADES), width_px=width_px, laterality=side)
        name, visit = f"IDRiD_{number:03d}", (number - 1) // 2
        photo = folder / "B. Disease Grading/1. Original Images/a. Training Set" / f"{name}.jpg"
        _save(Image.fromarray(eye.pixels), photo)
        grades.append(f"{name},{eye.grade},{eye.dme}")
        discs.append(f"{name},{eye.disc_xy[0]:.2f},{eye.disc_xy[1]:.2f}")
        foveas.append(f"{name},{eye.fovea_xy[0]:.2f},{eye.fovea_xy[1]:.2f}")
        folds.append(f"B,{name},{visit + 1},{(visit + visit // 5) % 5}")
    points = folder / "C. Localization/2. Groundtruths"
    disc_file = "1. Optic Disc Center Location/a. IDRiD_OD_Center_Training Set_Markups.csv"
    _save_csv(folder / "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv", grades, 9)
    _save_csv(points / disc_file, discs, 8)
    _save_csv(points / "2. Fovea Center Location/IDRiD_Fovea_Center_Training Set_Markups.csv", foveas, 8)
    return folds


def _write_masked(folder: Path, count: int, width_px: int, first_seed: int) -> list[str]:
    """A; the rows of `folds.csv`, whose visits follow after any of B's."""
    folds = []
    for number in range(1, count + 1):
        name, dme = f"IDRiD_{number:02d}", 1 if number % 7 == 0 else 2
        eye = draw_eye(first_seed + number, grade=2 + number % 3, dme=dme, width_px=width_px)
        _save(Image.fromarray(eye.pixels), folder / "1. Original Images/a. Training Set" / f"{name}.jpg")
        for place, item in enumerate(STRUCTURES, start=1):
            if eye.masks[item.code].any():
                outlined = Image.fromarray(eye.masks[item.code].astype(np.uint8))
                outlined.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)  # indices 0 and 1 into black and red
                truth = folder / "2. All Segmentation Groundtruths/a. Training Set" / f"{place}. {item.name}"
                _save(outlined, truth / f"{name}_{item.code}.tif")
        folds.append(f"A,{name},{10_000 + number},{(number - 1) % 5}")
    return folds


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        picture.save(path, compression="tiff_lzw")
    else:
        picture.save(path, quality=92)


def _save_csv(path: Path, rows: list[str], empty_columns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(row + "," * empty_columns + "\r\n" for row in rows).encode())
