"""Labels of one eye against each other: points against the field, edema risk against exudates, grade against lesions.

Limits were chosen on the markups of 366 photos of IDRiD, where the fovea lies 1.7 to 3.3 disc diameters from the disc,
at most 20 degrees above or below it. Grades: Wilkinson et al., Ophthalmology 110(9), 2003; edema risk: Porwal et al.,
Medical Image Analysis 59, 2020.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import atan2, degrees, hypot
from pathlib import Path
from typing import Any, Final

import numpy as np

from funduscope.data.case import Box, Point
from funduscope.data.table import NONE_WORD
from funduscope.doctor.columns import POINTS
from funduscope.doctor.finding import Finding, Picture, found
from funduscope.doctor.label_pictures import drawn
from funduscope.doctor.label_rows import LabelRow
from funduscope.doctor.labeled_photo import DISC_SHARE, LabeledPhoto, box_width
from funduscope.vocabulary import AGREEING_VOTERS, ICDR_KINDS, LESIONS, structure

DISTANCE_DD: Final = (1.4, 4.0)
"""Plausible distances of disc and fovea, where the disc's own diameter is known."""

DISTANCE_FRAC: Final = (0.2, 0.65)
"""The same as shares of the field's diameter, where it is not known; at 50 degrees they are 0.28 to 0.42."""

STEEPEST_DEG: Final = 40.0
"""Largest plausible slope of the line from disc to fovea."""

NEAR_DD: Final = (0.85, 1.2)
"""Distances certainly within and certainly beyond one disc diameter."""

MANY: Final = 0.5
"""Above this share of a file's points a fault is the file's, and is reported once."""

_MARKED: Final = "Disc (cyan) and fovea (white) as marked."


class AnatomyChecks:
    """Findings about photos that a label file names. Points outside their photos are collected by label file."""

    def __init__(self) -> None:
        self._outside: dict[tuple[Path, str], list[tuple[LabelRow, Point, LabeledPhoto]]] = defaultdict(list)

    def of_photo(self, photo: LabeledPhoto) -> Iterator[Finding]:
        """Findings about points, boxes, edema risk and grade."""
        if not photo.rows or photo.record.error is not None or not photo.record.width:
            return
        for landmark in POINTS:
            for row in photo.rows:
                point = row.point(landmark)
                if point is not None and not _in_photo(point, photo):
                    self._outside[row.table, landmark].append((row, point, photo))
        yield from _points(photo)
        yield from _boxes(photo)
        yield from _edema(photo)
        yield from _lesions(photo)

    def of_data(self, findings: Sequence[Finding]) -> Iterator[Finding]:
        """Points outside their photos; where most points of one landmark in a file are, the file was made for copies of
        another size."""
        for (file, landmark), outside in self._outside.items():
            row, point, photo = outside[0]
            rows = next(table.rows for table in photo.label_rows.tables if table.file == file)
            count = sum(row.point(landmark) is not None for row in rows)
            if len(outside) > max(2, MANY * count):
                says = f"{len(outside)} of {count} {landmark} points lie beyond their photos: "
                says += "they are in pixels of another size."
                evidence = {
                    "row": row.row,
                    "point_px": list(point),
                    "landmark": landmark,
                    "photo_px": [photo.record.width, photo.record.height],
                }
                yield found("points_of_another_size", photo.scan.names(file), says, evidence)
                continue
            for row, (x, y), photo in outside:
                says = f"Row {row.row} has the {landmark} at ({x:g}, {y:g}), outside the photo of {_size(photo)}."
                evidence = row.evidence(f"{landmark}_x") | {"point_px": [x, y]}
                yield found("point_outside", photo.scan.names(file, photo.path), says, evidence)


def _size(photo: LabeledPhoto) -> str:
    return f"{photo.record.width}x{photo.record.height} px"


def _in_photo(point: Point, photo: LabeledPhoto) -> bool:
    return 0 <= point[0] <= photo.record.width and 0 <= point[1] <= photo.record.height


def _points(photo: LabeledPhoto) -> Iterator[Finding]:
    """Points inside the photo: whether they are in the field of view, and how disc and fovea lie to each other."""
    points = {name: xy for name in POINTS if (xy := photo.point(name)) is not None and _in_photo(xy, photo)}
    circle = photo.record.field_of_view
    if circle is None:
        return
    pictures = [drawn(photo.scan, photo.name, _MARKED, points=points)]
    beyond = [name for name, (x, y) in points.items() if hypot(x - circle[0], y - circle[1]) > 1.02 * circle[2]]
    for landmark in beyond:
        x, y = points[landmark]
        says = f"The {landmark} is marked at ({x:g}, {y:g}), outside the field of view."
        evidence = photo.evidence(f"{landmark}_x") | {"point_px": [x, y]}
        yield _about(photo, "point_outside_field", f"{landmark}_x", says, evidence, pictures)
    if len(points) < 2 or beyond:
        return
    across, down = (points["fovea"][axis] - points["disc"][axis] for axis in (0, 1))
    diameter, measured = photo.disc_diameter_px
    slope = degrees(atan2(abs(down), abs(across)))
    distance = hypot(across, down) / (diameter if measured else 2 * circle[2])
    low, high = DISTANCE_DD if measured else DISTANCE_FRAC
    unit = "disc diameters" if measured else "of the field's width"
    evidence = photo.evidence("fovea_x") | {"apart": round(distance, 2), "unit": unit, "angle_deg": round(slope, 1)}
    if not low <= distance <= high:
        says = f"Disc and fovea are marked {distance:.2f} {unit} apart; in an eye it is {low:g} to {high:g}."
        yield _about(photo, "landmarks_implausible", "fovea_x", says, evidence, pictures)
    elif slope > STEEPEST_DEG:
        says = f"The line from disc to fovea slopes by {slope:.0f} degrees; in an upright photo it is nearly level."
        yield _about(photo, "landmarks_implausible", "fovea_x", says, evidence, pictures)


def _boxes(photo: LabeledPhoto) -> Iterator[Finding]:
    """Boxes beyond the photo, and boxes around the disc of an implausible size."""
    width, height = photo.record.width, photo.record.height
    slack = 0.01 * width
    for row in photo.rows:
        box = row.box()
        if box is None:
            continue
        evidence = row.evidence("x1") | {"box": list(box)}
        files = photo.scan.names(row.table, photo.path)
        if min(box) < -slack or box[2] > width + slack or box[3] > height + slack:
            yield found("box_outside", files, f"Row {row.row} has a box beyond the photo of {_size(photo)}.", evidence)
        elif row.value("structure") == "OD" and photo.record.field_of_view is not None:
            share = box_width(box) / (2 * photo.record.field_of_view[2])
            if not DISC_SHARE[0] <= share <= DISC_SHARE[1]:
                says = f"Row {row.row} has a disc box of {share:.2f} of the field's width; discs have 0.1 to 0.25."
                picture = drawn(photo.scan, photo.name, "The disc's box.", boxes=[("OD", box)])
                yield found("box_implausible", files, says, evidence, pictures=[picture])


def _edema(photo: LabeledPhoto) -> Iterator[Finding]:
    """Edema risk, maculopathy and macular edema against the grade, then edema risk against exudates."""
    dme, grade = photo.value("dme"), photo.value("grade")
    too_low = grade is not None and grade < structure("EX").lowest_grade
    for role, contradicts, says in (
        ("maculopathy", grade == 0, "Grade 0 is an eye without retinopathy, and maculopathy is a part of it."),
        ("edema", too_low, f"Macular edema means hard exudates near the fovea, which grade {grade} excludes."),
        ("dme", too_low, f"Edema risk {dme} means hard exudates, which grade {grade} excludes."),
    ):
        if contradicts and photo.value(role):
            yield _about(photo, "dme_contradicts", role, says, photo.evidence(role) | {"grade": grade})
    if dme is None:
        return
    boxes = [box for _, box in photo.label_rows.boxes(photo.path, "EX")]
    mask, evidence = photo.mask("EX"), photo.evidence("dme")
    pictures = _pictures(photo, ["EX"])
    if dme == 0 and (boxes or mask is not None):
        what = "outlined" if mask is not None else f"boxed ({len(boxes)})"
        says = f"Hard exudates are {what}, and the edema risk is 0, which means that there are none."
        yield _about(photo, "dme_contradicts", "dme", says, evidence | {"boxes": len(boxes)}, pictures)
    if dme > 0 and "EX" in _absent(photo):
        says = f"The edema risk is {dme}, and hard exudates are known to be absent."
        yield _about(photo, "dme_contradicts", "dme", says, evidence)
    fovea = photo.point("fovea")
    if fovea is not None and dme > 0:
        yield from _distance(photo, dme, fovea, mask, boxes)


def _distance(
    photo: LabeledPhoto, dme: int, fovea: Point, mask: np.ndarray | None, boxes: Sequence[Box]
) -> Iterator[Finding]:
    """Edema risk 1 or 2 against the distance of exudates from the fovea: 1 is beyond one disc diameter, 2 within."""
    diameter = photo.disc_diameter_px[0]
    nearest = None if mask is None else _nearest(mask, fovea) / diameter
    inside = [far for box in boxes if (far := _farthest(box, fovea) / diameter) < NEAR_DD[0]]
    if dme == 1 and (inside or (nearest is not None and nearest < NEAR_DD[0])):
        says = "Hard exudates lie within one disc diameter of the fovea, which is edema risk 2, not 1."
        nearest = nearest if nearest is not None else min(inside)
    elif dme == 2 and nearest is not None and nearest > NEAR_DD[1]:
        says = f"The nearest hard exudate lies {nearest:.1f} disc diameters from the fovea: edema risk 1, not 2."
    else:
        return
    exudates = [("EX", box) for box in boxes]
    fovea_too = drawn(photo.scan, photo.name, "Fovea and exudates.", points={"fovea": fovea}, boxes=exudates)
    evidence = photo.evidence("dme") | {"nearest_dd": round(nearest, 2)}
    yield _about(photo, "dme_contradicts", "dme", says, evidence, [*_pictures(photo, ["EX"]), fovea_too])


def _lesions(photo: LabeledPhoto) -> Iterator[Finding]:
    """Grade against lesions that are outlined, boxed or voted for."""
    grade = photo.value("grade")
    if grade is None:
        return
    above = [code for code in LESIONS if structure(code).lowest_grade > grade]
    marked = {code: "outlined" for code in above if photo.mask(code) is not None}
    for code in LESIONS:
        # A box called HE is around any red lesion, microaneurysms too.
        lowest = 1 if code == "HE" else structure(code).lowest_grade
        boxes = list(photo.label_rows.boxes(photo.path, code))
        if boxes and lowest > grade:
            marked.setdefault(code, f"boxed ({len(boxes)})")
        if (photo.value(f"experts_{code}") or 0) >= AGREEING_VOTERS and code in above:
            marked.setdefault(code, "seen by two experts or more")
    evidence = photo.evidence("grade")
    if marked:
        listed = ", ".join(f"{structure(code).name.lower()} are {how}" for code, how in marked.items())
        says = f"The grade is {grade}, which excludes such lesions: {listed}."
        pictures = _pictures(photo, list(marked))
        yield _about(photo, "lesions_above_grade", "grade", says, evidence | {"lesions": marked}, pictures)
    if grade > 0 and set(ICDR_KINDS) <= _absent(photo):
        says = f"The grade is {grade}, and all four lesions are known to be absent."
        says += " New vessels alone make grade 4." if grade == 4 else ""
        yield _about(photo, "grade_without_lesions", "grade", says, evidence)


def _absent(photo: LabeledPhoto) -> set[str]:
    """Lesions that are known to be absent: every table that has a mask column says none, or no expert saw one."""
    absent = set()
    for code in LESIONS:
        cells = [row.cells[role].text.lower() for row in photo.rows if (role := f"mask_{code}") in row.cells]
        if set(filter(None, cells)) == {NONE_WORD} or photo.value(f"experts_{code}") == 0:
            absent.add(code)
    return absent


def _nearest(mask: np.ndarray, point: Point) -> float:
    """Distance in pixels of a point from the nearest marked pixel's center."""
    rows, columns = np.nonzero(mask)
    return float(np.hypot(columns + 0.5 - point[0], rows + 0.5 - point[1]).min())


def _farthest(box: Box, point: Point) -> float:
    """Distance in pixels of a point from the box's farthest corner."""
    x, y = point
    return hypot(max(abs(box[0] - x), abs(box[2] - x)), max(abs(box[1] - y), abs(box[3] - y)))


def _pictures(photo: LabeledPhoto, codes: Sequence[str]) -> list[Picture]:
    """The photo with its outlines, and with its boxes, of some structures."""
    files = [(outline.file, outline.code) for outline in photo.outlines_of(*codes)]
    boxes = [(code, box) for code in codes for _, box in photo.label_rows.boxes(photo.path, code)]
    pictures = [drawn(photo.scan, photo.name, "Outlines.", files)] if files else []
    return [*pictures, drawn(photo.scan, photo.name, "Boxes.", boxes=boxes)] if boxes else pictures


def _about(
    photo: LabeledPhoto,
    kind: str,
    role: str,
    says: str,
    evidence: Mapping[str, Any],
    pictures: Sequence[Picture] = (),
) -> Finding:
    """A finding about a photo and the label file that has the role's value."""
    return found(kind, photo.scan.names(photo.table(role), photo.path), says, evidence, pictures=pictures)
