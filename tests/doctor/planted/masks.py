"""Faults of masks: another convention or size, empty, whole, shifted, swapped, another eye's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from .truth import Plot

MASKED: Final = 7
"""Tens of photos of A in each of two data sets; fewer than a hundred, as in the release, so that no number of A seems
like one of B."""

PHOTOS_A: Final = "A. Segmentation/1. Original Images/a. Training Set"
_MASKS: Final = "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set"
_CODES: Final = ("HE", "EX", "OD")


def plant(plot: Plot, folders: list[Path], each: int) -> None:
    """Each kind in masks of other photos, among those with every mask; A's photos are numbered from 1."""
    rng = plot.rng("masks")
    places = [(folder, number) for folder in folders for number in range(1, MASKED * each + 1)]
    whole = [at for at in places if all(_mask_file(*at, code).exists() for code in _CODES)]
    eyes = iter([whole[place] for place in rng.permutation(len(whole))])
    misfits = frozenset({"mask_misfit", "mask_swapped", "mask_outside_field", "mask_whole", "disc_elsewhere"})

    def photo(folder: Path, number: int) -> Path:
        return folder / PHOTOS_A / f"IDRiD_{number:02d}.jpg"

    for place in range(each):
        path = _mask_file(*next(eyes), ("EX", "HE", "OD")[place % 3])
        inside = _read(path)
        Image.fromarray(inside.astype(np.uint8) * (255, 1)[place % 2]).save(path)
        plot.plant("mask stored otherwise", [path], {"mask_conventions"})
    for place in range(each):
        path = _mask_file(*next(eyes), ("EX", "HE", "OD")[place % 3])
        inside, scale = _read(path), (0.5, 0.3, 2.0)[place % 3]
        size = round(inside.shape[1] * scale), round(inside.shape[0] * scale)
        _palette(cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0, path)
        plot.plant("mask of another size", [path], {"mask_size"})
    for place in range(each):
        path = _mask_file(*next(eyes), ("EX", "HE")[place % 2])
        gray = Image.fromarray(_read(path).astype(np.uint8) * 255)
        if place % 2:
            gray.resize((gray.width // 2, gray.height // 2)).resize(gray.size).save(path)
        else:
            gray.save(path.with_suffix(".jpg"), quality=85)
            path.unlink()
            path = path.with_suffix(".jpg")
        plot.plant("mask smoothed or saved as JPEG", [path], {"mask_soft"}, also={"mask_conventions"} | misfits)
    for place in range(each):
        path = _mask_file(*next(eyes), ("EX", "HE", "OD")[place % 3])
        _palette(np.zeros_like(_read(path)), path)
        plot.plant("mask empty", [path], {"mask_empty"})
    for place in range(each):
        path = _mask_file(*next(eyes), ("EX", "HE", "OD")[place % 3])
        inside = _read(path)
        _palette(np.ones_like(inside) if place % 2 else ~inside, path)
        plot.plant("mask of the whole photo", [path], {"mask_whole"})
    for place in range(each):
        path = _mask_file(*next(eyes), ("EX", "HE")[place % 2])
        inside = _read(path)
        planes = [inside * np.uint8(255), *[np.zeros(inside.shape, np.uint8)] * 2, np.full(inside.shape, 255, np.uint8)]
        Image.fromarray(np.stack(planes, axis=2)).save(path)
        plot.plant("mask with alpha everywhere", [path], {"mask_alpha"}, also={"mask_conventions"})
    for place in range(each):
        path = _mask_file(*next(eyes), ("EX", "HE", "OD")[place % 3])
        inside = _read(path)
        if place % 2:  # the drawing program's frame or stamp
            height, width = inside.shape
            inside[height - 26 : height - 8, width - 70 : width - 8] = True
        else:  # pasted next to its place
            shift = (rng.choice((-1, 1)) * inside.shape[1] * 0.42, rng.choice((-1, 1)) * inside.shape[0] * 0.1)
            move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
            moved = cv2.warpAffine(inside.astype(np.uint8), move, inside.shape[::-1]) > 0
            inside = moved if moved.any() else np.roll(inside, inside.shape[1] // 2, axis=1)
        _palette(inside, path)
        plot.plant("mask outside the field", [path], {"mask_outside_field", "mask_misfit"}, also=misfits)
    for _ in range(each):
        at = next(eyes)
        pair = _mask_file(*at, "EX"), _mask_file(*at, "HE")
        first, second = (path.read_bytes() for path in pair)
        pair[0].write_bytes(second)
        pair[1].write_bytes(first)
        plot.plant("classes swapped", [pair[0]], {"mask_swapped"}, also=misfits, touched=pair)
    for place in range(each):
        at, code = next(eyes), ("EX", "HE")[place % 2]
        path, other = _mask_file(*next(eyes), code), _mask_file(*at, code)
        shutil.copy(path, other)
        plot.plant("mask in two photos", [path, other], {"mask_copied"}, also=misfits, touched=[photo(*at)])
    for place in range(each):
        at, code = next(eyes), ("HE", "OD")[place % 2]
        path = _mask_file(*at, code)
        inside = _read(path)
        _palette(inside[::-1, ::-1] if place % 4 < 2 else inside[:, ::-1], path)
        kinds = {"mask_misfit", "mask_swapped", "mask_outside_field"}
        plot.plant("mask turned or mirrored", [path], kinds, also=misfits)
    for place in range(each):
        path = _mask_file(*next(eyes), ("EX", "HE")[place % 2])
        lost = path.with_name(path.name.replace("IDRiD_", ("IDRiD_9", "idrid", "IDRiD-")[place % 3]))
        path.rename(lost)
        plot.plant("mask of no photo", [lost], {"mask_unknown_photo"})


def _mask_file(folder: Path, number: int, code: str) -> Path:
    names = {"HE": "2. Haemorrhages", "EX": "3. Hard exudates", "OD": "5. Optic disc"}
    return folder / _MASKS / names[code] / f"IDRiD_{number:02d}_{code}.tif"


def _read(path: Path) -> np.ndarray:
    """(H, W) bool."""
    with Image.open(path) as image:
        return np.asarray(image) > 0


def _palette(inside: np.ndarray, path: Path) -> None:
    picture = Image.fromarray(inside.astype(np.uint8))
    picture.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    picture.save(path, compression="tiff_lzw")
