"""Faults in a data set with IDRiD's layout: in its label files, points, boxes and folds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from funduscope.testing.drawn_eyes import write_idrid

from . import masks
from .duplicates import DUPLICATES
from .truth import Plot

WIDTH_PX: Final = 480
GRADED: Final = 15
"""Tens of photos of B: ten for one fault of each kind, and some without a fault."""

POINT_KINDS: Final = frozenset(
    {"point_outside", "point_outside_field", "landmarks_implausible", "landmarks_swapped", "disc_elsewhere",
     "box_implausible", "dme_contradicts"}
)  # fmt: skip
"""Kinds of findings about a misplaced point, by where it happens to be."""

_PHOTOS_B: Final = "B. Disease Grading/1. Original Images/a. Training Set"
_GRADES: Final = "B. Disease Grading/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"
_POINTS: Final = "C. Localization/2. Groundtruths"
_DISCS: Final = f"{_POINTS}/1. Optic Disc Center Location/a. IDRiD_OD_Center_Training Set_Markups.csv"
_FOVEAS: Final = f"{_POINTS}/2. Fovea Center Location/IDRiD_Fovea_Center_Training Set_Markups.csv"


class Sheet:
    """A label file that can be changed row by row; rows are counted as in a spreadsheet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open(newline="", encoding="utf-8-sig") as file:
            self.rows = list(csv.reader(file))

    def at(self, name: str) -> int:
        """The place of a photo's row in `rows`."""
        return next(place for place, row in enumerate(self.rows) if row and row[0] == name)

    def number(self, name: str) -> int:
        """Its number as a spreadsheet counts."""
        return self.at(name) + 1

    def write(self) -> None:
        with self.path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(self.rows)


def plant(plot: Plot, folder: Path, each: int) -> None:
    """Writes the data set and a second one of masks, and plants the faults."""
    more = folder.with_name(f"{folder.name}-more")
    write_idrid(folder, graded=GRADED * each, masked=masks.MASKED * each, width_px=WIDTH_PX, seed=200 + plot.seed)
    write_idrid(more, graded=0, masked=masks.MASKED * each, width_px=WIDTH_PX, seed=300 + plot.seed)
    _boxes(plot, folder, each)
    _labels(plot, folder, each)
    masks.plant(plot, [folder, more], each)
    _folds(plot, folder, each)


def _name(number: int) -> str:
    return f"IDRiD_{number:03d}"


def _boxes(plot: Plot, folder: Path, each: int) -> None:
    """boxes.csv: a box around every disc; two kinds of fault. Every fifth photo is of grade 0."""
    discs, rng = Sheet(folder / _DISCS), plot.rng("boxes")
    rows = [["image", "structure", "x0", "y0", "x1", "y1"]]
    half = 0.16 * 0.397 * WIDTH_PX
    for name, x, y, *_ in discs.rows[1:]:
        rows.append([name, "OD", *(f"{float(at) + sign * half:.0f}" for sign in (-1, 1) for at in (x, y))])
    file = folder / "boxes.csv"
    numbers = [number for number in range(1, len(discs.rows)) if number % 5 == 1]  # grade 0
    for number in rng.permutation(numbers)[:each].tolist():
        x, y = (0.47 + rng.uniform(-0.1, 0.1)) * WIDTH_PX, 0.33 * WIDTH_PX + rng.uniform(-40, 40)
        code = ("EX", "HE")[number % 2]
        rows.append([_name(number), code, *(f"{at + reach:.0f}" for reach in (-9, 9) for at in (x, y))])
        photo = folder / _PHOTOS_B / f"{_name(number)}.jpg"
        plot.plant("lesion boxed at grade 0", [photo], {"lesions_above_grade", "dme_contradicts"})
    # A box drawn on another photo: the disc of an eye of the other side. Photos alternate between right and left.
    whole = list(rows)
    for place in rng.permutation(range(len(discs.rows) - each, len(discs.rows)))[:each].tolist():
        rows[place] = [*rows[place][:2], *whole[place - 1 if place > 1 else place + 1][2:]]
        photo = folder / _PHOTOS_B / f"{rows[place][0]}.jpg"
        plot.plant("box of another eye's disc", [photo], {"disc_elsewhere", "box_implausible"}, also=POINT_KINDS)
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(rows)


def _labels(plot: Plot, folder: Path, each: int) -> None:
    """Grades and points; every fault in rows of its own, the last `each` rows have another's box."""
    grades, discs, foveas = (Sheet(folder / path) for path in (_GRADES, _DISCS, _FOVEAS))
    rng = plot.rng("labels")
    boxed = {fault.files[0] for fault in plot.faults if fault.name == "lesion boxed at grade 0"}
    free = [number for number in range(1, len(grades.rows) - each) if not any(_name(number) in name for name in boxed)]
    takes = iter(rng.permutation(free).tolist())

    def photo(number: int) -> Path:
        return folder / _PHOTOS_B / f"{_name(number)}.jpg"

    later = []  # faults whose rows are known only after the last row is added or removed
    for word in ("5", "-1", "2.5", "severe", "9", "?", "12", "II", "1-2", "NPDR")[:each]:
        number = next(takes)
        grades.rows[grades.at(_name(number))][1 + (len(later) % 2)] = word
        later.append((number, "impossible value", {"impossible_value"}))
    for place in range(each):
        number = next(takes)
        row = grades.rows[grades.at(_name(number))]
        name = row[0]
        row[0] = (name.replace("IDRiD_", "IDRID_"), name.replace("_", ""), f"{name}b", f"{name}{place}")[place % 4]
        also = {"missing_row", "row_without_photo"}
        plot.plant("photo without a row", [photo(number)], {"missing_row"}, also=also, touched=[grades.path])
        later.append((row[0], "row without a photo", {"row_without_photo"}))
    for place in range(each):
        number = next(takes)
        row = list(grades.rows[grades.at(_name(number))])
        if place % 2:
            row[2] = str((int(row[2]) + 1) % 3)
        row[1] = str((int(row[1]) + 2) % 5)
        grades.rows.append(row)
        plot.plant("id twice, contradicting", [photo(number)], {"contradicting_rows"}, also={"dme_contradicts"})
    for _ in range(each):
        number = next(takes)
        at = grades.at(_name(number))
        grades.rows.insert(at + int(rng.integers(1, 3)), list(grades.rows[at]))
        plot.plant("id twice, alike", [photo(number)], {"duplicated_row"})
    for place in range(each):
        number, sheet = next(takes), (discs, foveas)[place % 2]
        row = sheet.rows[sheet.at(_name(number))]
        axis = 1 + place // 2 % 2
        if place < 6:
            row[axis] = f"{float(row[axis]):.0f}{rng.integers(10)}"  # an extra digit
        else:
            row[1:3] = [f"{float(value) * 4288 / WIDTH_PX:.0f}" for value in row[1:3]]  # of the photo as released
        plot.plant("point beyond the photo", [sheet.path, photo(number)], POINT_KINDS)
    for _ in range(each):
        number = next(takes)
        disc, row = discs.rows[discs.at(_name(number))], foveas.rows[foveas.at(_name(number))]
        way, apart = rng.uniform(0, 2 * np.pi), rng.choice((rng.uniform(8, 35), rng.uniform(140, 190)))
        if apart > 100:  # far off, toward the edge behind the disc's other side, above or below
            way = rng.choice((-1, 1)) * rng.uniform(0.9, 1.4) + (np.pi if float(disc[1]) > 0.47 * WIDTH_PX else 0)
        row[1:3] = [f"{float(disc[1]) + apart * np.cos(way):.1f}", f"{float(disc[2]) + apart * np.sin(way):.1f}"]
        plot.plant("fovea misplaced", [photo(number)], POINT_KINDS)
    for _ in range(each):
        number = next(takes)
        disc, fovea = discs.rows[discs.at(_name(number))], foveas.rows[foveas.at(_name(number))]
        disc[1:3], fovea[1:3] = fovea[1:3], disc[1:3]
        kinds = {"landmarks_swapped", "disc_elsewhere"}
        plot.plant("fovea and disc exchanged", [photo(number)], kinds, also=POINT_KINDS)
    for _ in range(each):
        number = next(takes)
        for sheet in (discs, foveas):  # the neighbor's: of the other side
            sheet.rows[sheet.at(_name(number))][1:3] = sheet.rows[sheet.at(_name(number + 1))][1:3]
        kinds = {"landmarks_swapped", "disc_elsewhere"}
        plot.plant("points of another eye", [photo(number)], kinds, also=POINT_KINDS)
    low = [number for number in takes if (number - 1) % 5 < 2][:each]
    for place, number in enumerate(low):
        grades.rows[grades.at(_name(number))][2] = str(1 + place % 2)
        plot.plant("edema risk without retinopathy", [photo(number)], {"dme_contradicts"})
    for sheet in (grades, discs, foveas):
        sheet.write()
    for one, name, kinds in later:
        word = one if isinstance(one, str) else _name(one)
        also = {"dme_contradicts"} if isinstance(one, int) else set()
        further = [photo(one)] if isinstance(one, int) else []
        plot.plant(name, [grades.path, *further], kinds, row=grades.number(word), also=also)


def _folds(plot: Plot, folder: Path, each: int) -> None:
    """folds.csv, and copies of photos of A under numbers of B in other folds."""
    file, rng = folder / "folds.csv", plot.rng("folds")
    rows = [line.split(",") for line in file.read_text().splitlines()]
    of_visit: dict[str, list[list[str]]] = {}
    for row in rows[1:]:
        of_visit.setdefault(row[2], []).append(row)
    pairs = [rows for rows in of_visit.values() if len(rows) == 2]
    photos = {"A": folder / masks.PHOTOS_A, "B": folder / _PHOTOS_B}

    def photo(row: list[str]) -> Path:
        return photos[row[0]] / f"{row[1]}.jpg"

    chosen = iter(rng.permutation(len(pairs)).tolist())
    for _ in range(each):
        pair = pairs[next(chosen)]
        pair[1][3] = str((int(pair[1][3]) + 1) % 5)
        plot.plant("visit in two folds", [file, *map(photo, pair)], {"visit_across_folds"})
    for _ in range(each):
        pair = pairs[next(chosen)]
        rows.remove(pair[0])
        plot.plant("photo missing in the folds", [file, photo(pair[0])], {"folds_missing_photo"})
    for _ in range(each):
        pair = pairs[next(chosen)]
        rows.append([*pair[0][:3], str((int(pair[0][3]) + 1) % 5)])
        also = {"visit_across_folds"}
        plot.plant("photo in two rows of the folds", [file, photo(pair[0])], {"folds_row_twice"}, also=also)
    _again(plot, folder, each, rows, photos)
    for _ in range(each):
        pair = pairs[next(chosen)]
        lost, pair[0][1] = photo(pair[0]), f"{pair[0][1]}x"
        row = rows.index(pair[0]) + 1
        plot.plant("fold of no photo", [file], {"folds_unknown_photo"}, row=row)
        plot.faults[-1] = plot.faults[-1].__class__(
            **{**vars(plot.faults[-1]), "also": frozenset({"folds_missing_photo"}), "touched": (_rel(plot, lost),)}
        )
    file.write_text("\n".join(",".join(row) for row in rows) + "\n")


def _rel(plot: Plot, path: Path) -> str:
    return path.relative_to(plot.root).as_posix()


def _again(plot: Plot, folder: Path, each: int, rows: list[list[str]], photos: dict[str, Path]) -> None:
    """Photos of A again in B, saved again, in another fold: as in the official release."""
    grades = Sheet(folder / _GRADES)
    masked = [row for row in rows if row[0] == "A"]
    for place in range(each):
        row, name = masked[place * 7 % len(masked)], _name(800 + place)
        source, copy = photos["A"] / f"{row[1]}.jpg", photos["B"] / f"{name}.jpg"
        with Image.open(source) as image:
            image.save(copy, quality=80)
        number = int(row[1][-3:].strip("_D"))
        grades.rows.append([name, str(2 + number % 3), "1" if number % 7 == 0 else "2"])
        rows.append(["B", name, str(20_000 + place), str((int(row[3]) + 1 + place % 3) % 5)])
        files = [folder / "folds.csv", source, copy]
        also = DUPLICATES | {"missing_row"}  # its disc and fovea are not marked, which is a finding too
        plot.plant("duplicates in two folds", files, {"duplicates_across_folds"}, also=also)
    grades.write()
