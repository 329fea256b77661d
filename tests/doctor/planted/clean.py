"""Clean data sets: drawn eyes with correct labels, and real photos that were checked one by one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from funduscope.testing.drawn_eyes import STYLES, draw_eye, write_idrid

CHECKED = 217
"""Patients of srahim up to this number were checked, on contact sheets and where in doubt at full size."""

SET_ASIDE: dict[str, str] = {
    **dict.fromkeys(
        ("023_L", "040_L", "040_R", "043_L", "047_L", "052_L", "052_R", "079_L", "092_R", "093_L", "103_L", "148_R",
         "180_L", "196_L", "202_R", "215_L", "215_R", "015_L", "024_R", "031_R"),
        "haze or blur over much of the picture",
    ),
    **dict.fromkeys(("005_L", "010_L", "070_L", "133_R", "157_R", "158_L", "201_L"), "much of the picture dark"),
    **dict.fromkeys(("087_L", "087_R", "155_L", "155_R"), "the eye of another patient number: 044 and 058"),
    **dict.fromkeys(("035_R", "037_R", "056_R", "078_R"), "glare of lid or lashes over part of the picture"),
}  # fmt: skip
"""Photos of srahim with a fault that the doctor checks, excluded by eye before the doctor was run; those under another
patient's number were excluded later, since only two photos side by side show it."""


def clean_srahim(data: Path) -> list[Path]:
    """The checked photos without a visible fault."""
    photos = sorted((data / "srahim" / "images").glob("*.jpg"))
    numbered = [(photo, photo.stem.removeprefix("Patient")) for photo in photos]
    return [photo for photo, name in numbered if int(name[:3]) <= CHECKED and name not in SET_ASIDE]


def write_clean(folder: Path, seed: int, data: Path | None, drawn: int = 150, real: int = 150) -> int:
    """Writes clean data sets into a folder; returns their number of photos.

    A third of the drawn eyes have IDRiD's layout, with masks, points and folds; the others are in a user's own table,
    in every style. The real ones are of srahim, with its labels, without the comments in its files, which are a fault
    of another kind.
    """
    masked = drawn // 10
    graded = drawn // 3 - masked
    write_idrid(folder / "idrid", graded=graded, masked=masked, width_px=480, seed=100 + seed)
    rows = ["path,dr,dme,od_x,od_y,fovea_x,fovea_y,patient,eye,mask_EX"]
    first = 50_000_000 * (seed + 1)
    rows += [_drawn(folder / "clinic", first + number, number) for number in range(drawn - graded - masked)]
    (folder / "clinic" / "photos.csv").write_text("\n".join(rows) + "\n")
    return drawn + (_real(folder / "srahim", seed, data, real) if data is not None else 0)


def _drawn(folder: Path, seed: int, number: int) -> str:
    """An eye and its row in the table."""
    style = list(STYLES.values())[number // 2 % len(STYLES)]
    eye = draw_eye(seed, width_px=480, laterality="left" if number % 2 else "right", style=style)
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    Image.fromarray(eye.pixels).save(folder / f"{number:04d}.jpg", quality=90)
    mask = "none"
    if eye.masks["EX"].any():
        mask = f"masks/{number:04d}_EX.png"
        Image.fromarray(eye.masks["EX"].astype(np.uint8) * 255).save(folder / mask)
    points = ",".join(f"{value:.1f}" for value in (*eye.disc_xy, *eye.fovea_xy))
    return f"{number:04d}.jpg,{eye.grade},{eye.dme},{points},P{number // 2:03d},{eye.laterality},{mask}"


def _real(folder: Path, seed: int, data: Path, count: int) -> int:
    photos = clean_srahim(data)
    chosen = [photos[place] for place in np.random.default_rng(seed).permutation(len(photos))[:count]]
    (folder / "images").mkdir(parents=True)
    for photo in chosen:
        (folder / "images" / photo.name).write_bytes(_without_comment(photo.read_bytes()))
    named = {photo.stem for photo in chosen}
    with (data / "srahim" / "labels.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if row[0] in named)])
    return len(chosen)


def _without_comment(data: bytes) -> bytes:
    """A JPEG file without its comments, pixels unchanged: most of srahim's have numbers that may name a person."""
    kept, place = data[:2], 2
    while data[place + 1] != 0xDA:  # the picture itself begins
        length = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] != 0xFE:
            kept += data[place : place + length]
        place += length
    return kept + data[place:]
