"""What labels say of one eye, held against each other: points against the field and each other, edema risk against
exudates, grades against lesions.

Limits were chosen on the markups of 366 photos of IDRiD, where the fovea lies 1.7 to 3.3 disc diameters from the disc,
at most 20 degrees above or below it. Grades: Wilkinson et al., Ophthalmology 110(9), 2003; edema risk: Porwal et al.,
Medical Image Analysis 59, 2020.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import atan2, degrees, hypot
from pathlib import Path
from typing import Any, Final

import numpy as np

from funduscope.doctor.columns import NONE_WORD, POINTS
from funduscope.doctor.disc_light import DISC_FRAC
from funduscope.doctor.finding import Finding, Picture, found
from funduscope.doctor.label_pictures import masked, pointed
from funduscope.doctor.label_rows import LabelRow, LabelRows
from funduscope.doctor.mask_files import Outline, read_stored
from funduscope.doctor.scan import Record, Scan
from funduscope.vocabulary import LESIONS, structure

DISTANCE_DD: Final = (1.4, 4.0)
"""Between disc and fovea, where the disc's own size is known."""

DISTANCE_FRAC: Final = (0.2, 0.65)
"""Between disc and fovea as a share of the field's diameter, where it is not: 0.28 to 0.42 at 50 degrees."""

STEEPEST_DEG: Final = 40.0
"""Of the line from disc to fovea."""

NEAR_DD: Final = (0.85, 1.2)
"""Within one disc diameter beyond doubt, and beyond it."""

DISC_SHARE: Final = (0.07, 0.35)
"""Of the field's diameter that a disc's may be; at 50 degrees it is 0.11 to 0.23."""

MANY: Final = 0.5
"""A fault of so large a share of a file's points is the file's and told once."""

Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Eyeful:
    """All that is said of one photo."""

    scan: Scan
    photo: Path
    name: str
    record: Record
    label_rows: LabelRows
    outlines: Sequence[Outline]

    def value(self, role: str) -> Any:
        return self.label_rows.value(self.photo, role)

    def cell(self, role: str) -> dict[str, Any]:
        """File, row and column of what is said in a role."""
        row = self.label_rows.first(self.photo, role)
        if row is None:
            return {}
        return {"row": row.row, "column": row.said[role].column, "value": row.said[role].text}

    def table(self, role: str) -> Path | None:
        row = self.label_rows.first(self.photo, role)
        return None if row is None else row.table

    def point(self, landmark: str) -> Point | None:
        held = self.label_rows.point(self.photo, landmark)
        return None if held is None else held[1]

    @property
    def disc_box(self) -> tuple[float, float, float, float] | None:
        return next((box for _, box in self.label_rows.boxes(self.photo, "OD")), None)

    @property
    def disc_diameter_px(self) -> tuple[float, bool]:
        """The disc's diameter, and whether it was measured on this eye rather than taken from the field's."""
        box = self.disc_box
        radius = self.record.eye[2] if self.record.eye is not None else self.record.width / 2
        if box is not None and DISC_SHARE[0] <= _across(box) / (2 * radius) <= DISC_SHARE[1]:
            return _across(box), True
        return 2 * radius * DISC_FRAC, False


def _across(box: tuple[float, float, float, float]) -> float:
    """The width of a square of a box's area."""
    return ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5


def examine(scan: Scan, label_rows: LabelRows, outlines: Mapping[Path, Sequence[Outline]]) -> Iterator[Finding]:
    """Findings about each photo of which a label file says anything."""
    misplaced: dict[tuple[Path, str], list[tuple[LabelRow, Point, Eyeful]]] = defaultdict(list)
    for photo in sorted(label_rows.by_photo):
        record = scan.record(scan.relative(photo))
        if record is None or record.error is not None or not record.width:
            continue
        eye = Eyeful(scan, photo, record.path, record, label_rows, outlines.get(photo, ()))
        for landmark in POINTS:
            for row in label_rows.by_photo[photo]:
                point = row.point(landmark)
                if point is not None and not _in_photo(point, record):
                    misplaced[row.table, landmark].append((row, point, eye))
        yield from _points(eye)
        yield from _boxes(eye)
        yield from _edema(eye)
        yield from _lesions(eye)
    for (table, landmark), held in misplaced.items():
        rows = next(one.rows for one in label_rows.tables if one.file == table)
        yield from _outside(landmark, sum(row.point(landmark) is not None for row in rows), held)


def _in_photo(point: Point, record: Record) -> bool:
    return 0 <= point[0] <= record.width and 0 <= point[1] <= record.height


def _outside(landmark: str, count: int, held: Sequence[tuple[LabelRow, Point, Eyeful]]) -> Iterator[Finding]:
    """Points beyond their photos, of one landmark in one file; where most of its `count` are, they are in pixels of
    copies of another size."""
    row, point, eye = held[0]
    file = eye.scan.relative(row.table)
    if len(held) > MANY * count and len(held) > 2:
        says = f"{len(held)} of {count} {landmark} points lie beyond their photos: they are in pixels of another size."
        evidence = {"row": row.row, "point_px": list(point), "photo_px": [eye.record.width, eye.record.height]}
        yield found("points_of_another_size", [file], says, evidence | {"landmark": landmark})
        return
    for row, point, eye in held:
        size = f"{eye.record.width}x{eye.record.height} px"
        says = f"Row {row.row} puts the {landmark} at ({point[0]:g}, {point[1]:g}), outside the photo of {size}."
        evidence = {"row": row.row, "column": row.said[f"{landmark}_x"].column, "value": row.said[f"{landmark}_x"].text}
        yield found("point_outside", [file, eye.name], says, evidence | {"point_px": list(point)})


def _points(eye: Eyeful) -> Iterator[Finding]:
    """Points within the photo: in the field of view, and as far from each other as disc and fovea are."""
    points = {
        landmark: point
        for landmark in POINTS
        if (point := eye.point(landmark)) is not None and _in_photo(point, eye.record)
    }
    circle = eye.record.eye
    beyond = set()
    for landmark, (x, y) in points.items():
        if circle is not None and hypot(x - circle[0], y - circle[1]) > 1.02 * circle[2]:
            beyond.add(landmark)
            says = f"The {landmark} is marked at ({x:g}, {y:g}), outside the field of view."
            evidence = eye.cell(f"{landmark}_x") | {"point_px": [x, y]}
            yield _about(eye, "point_outside_field", f"{landmark}_x", says, evidence, points)
    if len(points) < 2 or beyond or circle is None:
        return
    across, down = (points["fovea"][axis] - points["disc"][axis] for axis in (0, 1))
    diameter, measured = eye.disc_diameter_px
    apart = hypot(across, down)
    steep = degrees(atan2(abs(down), abs(across)))
    share = apart / diameter if measured else apart / (2 * circle[2])
    low, high = DISTANCE_DD if measured else DISTANCE_FRAC
    unit = "disc diameters" if measured else "of the field's width"
    evidence = eye.cell("fovea_x") | {"apart": round(share, 2), "unit": unit, "angle_deg": round(steep, 1)}
    if not low <= share <= high:
        says = f"Disc and fovea are marked {share:.2f} {unit} apart; in an eye it is {low:g} to {high:g}."
        yield _about(eye, "landmarks_implausible", "fovea_x", says, evidence, points)
    elif steep > STEEPEST_DEG:
        says = f"The line from disc to fovea is {steep:.0f} degrees steep; in an upright photo it is nearly level."
        yield _about(eye, "landmarks_implausible", "fovea_x", says, evidence, points)


def _boxes(eye: Eyeful) -> Iterator[Finding]:
    """Boxes beyond the photo, and disc boxes that no disc fills."""
    for row in eye.label_rows.by_photo[eye.photo]:
        box, code = row.box(), row.value("structure")
        if box is None or box[0] >= box[2] or box[1] >= box[3]:
            continue
        evidence: dict[str, Any] = {"row": row.row, "column": row.said["x1"].column, "value": row.said["x1"].text}
        evidence["box"] = list(box)
        files = [eye.scan.relative(row.table), eye.name]
        width, height, slack = eye.record.width, eye.record.height, 0.01 * eye.record.width
        if box[0] < -slack or box[1] < -slack or box[2] > width + slack or box[3] > height + slack:
            says = f"Row {row.row} has a box beyond the photo of {width}x{height} px."
            yield found("box_outside", files, says, evidence)
        elif code == "OD" and eye.record.eye is not None:
            share = _across(box) / (2 * eye.record.eye[2])
            if not DISC_SHARE[0] <= share <= DISC_SHARE[1]:
                says = f"Row {row.row} has a disc box of {share:.2f} of the field's width; discs have 0.1 to 0.25."
                pictures = [pointed(eye.scan, eye.name, {}, "The disc's box.", [("OD", box)])]
                yield found("box_implausible", files, says, evidence, pictures=pictures)


def _edema(eye: Eyeful) -> Iterator[Finding]:
    """Edema risk against exudates and grade."""
    dme, grade = eye.value("dme"), eye.value("grade")
    if eye.value("maculopathy") == 1 and grade == 0:
        says = "Grade 0 is an eye without retinopathy, and maculopathy is a part of it."
        yield _about(eye, "dme_contradicts", "maculopathy", says, eye.cell("maculopathy") | {"grade": grade})
    if eye.value("edema") == 1 and grade is not None and grade < structure("EX").lowest_grade:
        says = f"Macular edema means hard exudates near the fovea, which grade {grade} excludes."
        yield _about(eye, "dme_contradicts", "edema", says, eye.cell("edema") | {"grade": grade})
    if dme is None:
        return
    evidence = eye.cell("dme")
    if dme > 0 and grade is not None and grade < structure("EX").lowest_grade:
        says = f"Edema risk {dme} means hard exudates, which grade {grade} excludes."
        yield _about(eye, "dme_contradicts", "dme", says, evidence | {"grade": grade})
    boxes = [box for _, box in eye.label_rows.boxes(eye.photo, "EX")]
    drawn = [("EX", box) for box in boxes]
    mask = _mask_of(eye, "EX")
    pictures = _shown(eye, ["EX"], drawn)
    if dme == 0 and (boxes or mask is not None):
        what = "outlined" if mask is not None else f"boxed ({len(boxes)})"
        says = f"Hard exudates are {what}, and the edema risk is 0, which means that there are none."
        yield _about(eye, "dme_contradicts", "dme", says, evidence | {"boxes": len(boxes)}, pictures=pictures)
    if dme > 0 and "EX" in _absent(eye):
        says = f"The edema risk is {dme}, and hard exudates are known to be absent."
        yield _about(eye, "dme_contradicts", "dme", says, evidence)
    fovea, (diameter, _) = eye.point("fovea"), eye.disc_diameter_px
    if fovea is None or dme == 0:
        return
    nearest = None if mask is None else _nearest(mask, fovea) / diameter
    inside = [box for box in boxes if _farthest(box, fovea) / diameter < NEAR_DD[0]]
    if dme == 1 and (inside or (nearest is not None and nearest < NEAR_DD[0])):
        says = "Hard exudates lie within one disc diameter of the fovea, which is edema risk 2, not 1."
        nearest = nearest if nearest is not None else min(_farthest(box, fovea) / diameter for box in inside)
    elif dme == 2 and nearest is not None and nearest > NEAR_DD[1]:
        says = f"The nearest hard exudate lies {nearest:.1f} disc diameters from the fovea: edema risk 1, not 2."
    else:
        return
    evidence |= {"nearest_dd": round(nearest, 2)}
    pictures = [*pictures, pointed(eye.scan, eye.name, {"fovea": fovea}, "Fovea and exudates.", drawn)]
    yield _about(eye, "dme_contradicts", "dme", says, evidence, pictures=pictures)


def _lesions(eye: Eyeful) -> Iterator[Finding]:
    """Grade against what is outlined, boxed or voted for."""
    grade = eye.value("grade")
    if grade is None:
        return
    evidence = eye.cell("grade")
    seen = {}
    for code in LESIONS:
        if structure(code).lowest_grade > grade and _mask_of(eye, code) is not None:
            seen[code] = "outlined"
    for code in LESIONS:
        # A box called HE is around any red lesion, microaneurysms too.
        lowest = 1 if code == "HE" else structure(code).lowest_grade
        boxes = [box for _, box in eye.label_rows.boxes(eye.photo, code)]
        if boxes and lowest > grade:
            seen.setdefault(code, f"boxed ({len(boxes)})")
        if (eye.value(f"experts_{code}") or 0) >= 2 and structure(code).lowest_grade > grade:
            seen.setdefault(code, "seen by two experts or more")
    if seen:
        told = ", ".join(f"{structure(code).name.lower()} are {how}" for code, how in seen.items())
        says = f"The grade is {grade}, which excludes such lesions: {told}."
        drawn = [(code, box) for code in seen for _, box in eye.label_rows.boxes(eye.photo, code)]
        pictures = _shown(eye, list(seen), drawn)
        yield _about(eye, "lesions_above_grade", "grade", says, evidence | {"lesions": seen}, pictures=pictures)
    if grade > 0 and set(LESIONS) <= _absent(eye):
        says = f"The grade is {grade}, and all four lesions are known to be absent."
        says += " New vessels alone make grade 4." if grade == 4 else ""
        yield _about(eye, "grade_without_lesions", "grade", says, evidence)


def _mask_of(eye: Eyeful, code: str) -> np.ndarray | None:
    """(H, W) bool of a structure's outlines; None where there is none or it marks nothing."""
    united: np.ndarray | None = None
    for outline in eye.outlines:
        stored = read_stored(outline.file) if outline.code == code and not outline.is_votes else ""
        if isinstance(stored, str) or stored.values.shape != (eye.record.height, eye.record.width):
            continue
        united = stored.inside if united is None else united | stored.inside
    return united if united is not None and united.any() else None


def _absent(eye: Eyeful) -> set[str]:
    """Lesions that are known not to be there: a table says none, or no expert saw one."""
    absent = set()
    for code in LESIONS:
        rows = eye.label_rows.by_photo[eye.photo]
        said = [cell.text.lower() for row in rows if (cell := row.said.get(f"mask_{code}")) is not None and cell.text]
        if said and all(text == NONE_WORD for text in said):
            absent.add(code)
        if eye.value(f"experts_{code}") == 0:
            absent.add(code)
    return absent


def _nearest(mask: np.ndarray, point: Point) -> float:
    rows, columns = np.nonzero(mask)
    return float(np.hypot(columns + 0.5 - point[0], rows + 0.5 - point[1]).min())


def _farthest(box: tuple[float, float, float, float], point: Point) -> float:
    across = max(abs(box[0] - point[0]), abs(box[2] - point[0]))
    return hypot(across, max(abs(box[1] - point[1]), abs(box[3] - point[1])))


def _shown(
    eye: Eyeful, codes: Sequence[str], boxes: Sequence[tuple[str, tuple[float, float, float, float]]]
) -> list[Picture]:
    files = [(outline.file, outline.code) for outline in eye.outlines if outline.code in codes and not outline.is_votes]
    pictures = [masked(eye.scan, eye.name, files, "What is outlined.")] if files else []
    return [*pictures, pointed(eye.scan, eye.name, {}, "What is boxed.", boxes)] if boxes else pictures


def _about(
    eye: Eyeful,
    kind: str,
    role: str,
    says: str,
    evidence: Mapping[str, Any],
    points: Mapping[str, Point] | None = None,
    pictures: Sequence[Picture] = (),
) -> Finding:
    table = eye.table(role)
    files = [*([eye.scan.relative(table)] if table is not None else []), eye.name]
    if points:
        pictures = [
            *pictures,
            pointed(eye.scan, eye.name, points, "Disc (cyan) and fovea (white) as they are marked."),
        ]
    return found(kind, files, says, evidence, pictures=pictures)
