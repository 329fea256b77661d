"""Faults in users' own tables: grades against masks, sides, patients in training and test, labels of other eyes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from funduscope.testing.drawn_eyes import STYLES, DrawnEye, draw_eye
from funduscope.vocabulary import LESIONS

from .truth import Plot

WIDTH_PX: Final = 480
COLUMNS: Final = ("path", "dr", "dme", "od_x", "od_y", "fovea_x", "fovea_y", "patient", "eye",
                  *(f"mask_{code}" for code in LESIONS))  # fmt: skip
PILED_UP: Final = frozenset({"labels_of_other_eyes"})


@dataclass
class Drawn:
    """An eye of a table, with its row."""

    photo: Path
    eye: DrawnEye
    row: dict[str, str]


def plant(plot: Plot, folder: Path, each: int) -> None:
    """Writes the tables and plants `each` of every kind."""
    _one_clinic(plot, folder / "clinic", each)
    _joined(plot, folder / "joined", each)
    _hospital(plot, folder / "hospital", each)


def _draw(folder: Path, seed: int, number: int, **wanted: int) -> Drawn:
    """An eye with its masks, right and left in turn."""
    style = STYLES[("cut_top_bottom", "full_circle", "cut_sides")[seed % 3]]
    side = "left" if number % 2 else "right"
    eye = draw_eye(seed, width_px=WIDTH_PX, laterality=side, style=style, **wanted)
    photo = folder / f"{number:04d}.jpg"
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    Image.fromarray(eye.pixels).save(photo, quality=90)
    points = zip(COLUMNS[3:7], (*eye.disc_xy, *eye.fovea_xy), strict=True)
    row = {"path": photo.name, "dr": str(eye.grade), "dme": str(eye.dme), "patient": f"P{number // 2:03d}", "eye": side}
    row |= {column: f"{value:.1f}" for column, value in points}
    for code in LESIONS:
        row[f"mask_{code}"] = "none"
        if eye.masks[code].any():
            row[f"mask_{code}"] = f"masks/{number:04d}_{code}.png"
            Image.fromarray(eye.masks[code].astype(np.uint8) * 255).save(folder / row[f"mask_{code}"])
    return Drawn(photo, eye, row)


def _write(folder: Path, drawn: list[Drawn], name: str = "photos.csv") -> Path:
    lines = [",".join(COLUMNS), *(",".join(one.row[column] for column in COLUMNS) for one in drawn)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def _one_clinic(plot: Plot, folder: Path, each: int) -> None:
    seed, number, drawn = 300_000_000 + 10_000 * plot.seed, 0, []

    def draw(**wanted: int) -> Drawn:
        nonlocal number
        number += 1
        drawn.append(_draw(folder, seed + number, number, **wanted))
        return drawn[-1]

    for _ in range(4 * each):  # correct rows around the spoiled ones
        draw()
    table = folder / "photos.csv"
    for place in range(each):
        one = draw(grade=2 + place % 3, dme=1 + place % 2)
        one.row["dme"] = ("2", "1", "0", "0")[place % 4]
        name = "edema risk against the exudates"
        plot.plant(name, [table, one.photo], {"dme_contradicts"}, also=PILED_UP)
    for place in range(each):
        one = draw(grade=2 + place % 3)
        one.row["dr"] = ("0", "0", "1")[place % 3]
        also = {"dme_contradicts", "grade_without_lesions"} | PILED_UP
        plot.plant("grade 0 or 1 with lesions", [table, one.photo], {"lesions_above_grade"}, also=also)
    for place in range(each):
        one = draw(grade=0)
        one.row["dr"] = str((4, 4, 3, 2)[place % 4])
        plot.plant("grade 2 to 4 without lesions", [table, one.photo], {"grade_without_lesions"}, also=PILED_UP)
    for place in range(each):
        one = draw()
        one.row["eye"] = "left" if one.eye.laterality == "right" else "right"
        if place % 2:  # without marked disc and fovea, only the picture shows it
            one.row |= dict.fromkeys(COLUMNS[3:7], "")
        plot.plant("wrong side", [table, one.photo], {"side_conflict"})
    for place in range(each):
        one = draw(grade=3, dme=2)
        code = ("EX", "HE")[place % 2]
        (folder / one.row[f"mask_{code}"]).unlink()
        also = {"dme_contradicts"}
        plot.plant("mask promised, not there", [table, one.photo], {"mask_missing"}, also=also)
    _write(folder, drawn)


def _joined(plot: Plot, folder: Path, each: int) -> None:
    """Tables whose rows are shifted by one, each in a folder: every eye has its neighbor's grade and points."""
    for place in range(each):
        seed = 400_000_000 + 10_000 * plot.seed + 100 * place
        here = folder / f"export_{place:02d}"
        # neighbors differ: otherwise a shifted row is right
        drawn = [_draw(here, seed + number, number, grade=(0, 2, 1, 4, 0, 3, 0, 2)[number]) for number in range(8)]
        slipped = ("dr", "dme", *COLUMNS[3:7])
        rows = [{column: one.row[column] for column in slipped} for one in drawn]
        for one, other in zip(drawn, [*rows[-1:], *rows[:-1]], strict=True):
            one.row |= other
        table = _write(here, drawn)
        also = {"disc_elsewhere", "landmarks_swapped", "landmarks_implausible", "point_outside_field", "side_conflict",
                "dme_contradicts", "lesions_above_grade", "grade_without_lesions"}  # fmt: skip
        plot.plant("rows slipped: labels of other eyes", [table], PILED_UP, also=also)


def _hospital(plot: Plot, folder: Path, each: int) -> None:
    """Folders for training and test, with patients in both."""
    rows = ["image,patient,dr"]
    for patient in range(each + 5):
        seed = 500_000_000 + 10_000 * plot.seed + 2 * patient
        photos = []
        for which, side in enumerate(("right", "left")):
            split = "train" if patient >= each or which == 0 else "test"
            eye = draw_eye(seed + which, width_px=WIDTH_PX, laterality="right" if side == "right" else "left")
            photo = folder / split / f"{patient:03d}_{side}.jpg"
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(eye.pixels).save(photo, quality=90)
            rows.append(f"{split}/{photo.name},N{patient:03d},{eye.grade}")
            photos.append(photo)
        if patient < each:
            plot.plant("patient in training and test", photos, {"visit_across_splits"})
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
