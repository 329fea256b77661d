"""Labels that belong to other eyes: the disc in two places, the wrong side, numbers of one subset taken for another's.

The places of the disc are compared with each other (point, box, mask) and with the picture (`disc_light`). In 366
photos of IDRiD, boxes and points lie 0.15 disc diameters apart at most.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import hypot
from pathlib import Path
from typing import Any, Final

import numpy as np

from funduscope.data.case import Laterality, Point
from funduscope.data.rows import split_side
from funduscope.doctor.columns import plain
from funduscope.doctor.disc_light import Disc, find_disc
from funduscope.doctor.finding import Finding, found
from funduscope.doctor.inventory import split_of
from funduscope.doctor.label_pictures import drawn
from funduscope.doctor.label_rows import LabelRow, LabelRows
from funduscope.doctor.labeled_photo import LabeledPhoto
from funduscope.doctor.mask_files import MaskFile
from funduscope.doctor.scan import Scan
from funduscope.vocabulary import LESIONS

APART_DD: Final = 0.4
"""Two places of one disc farther apart than this are two discs."""

AWAY_DD: Final = 1.2
"""A point farther than this from the visible disc is not on it."""

NO_DISC: Final = 0.5
"""Contrast at a point below which no disc is there; true points have 0.25 or more, all but six above 0.6."""

ON_DISC_DD: Final = 0.6
"""A fovea nearer than this to the visible disc was marked on it."""

OFF_CENTER: Final = 0.12
"""The disc shows the side where it is farther than this from the field's center, as a share of the diameter."""

MANY: Final = (3, 0.25)
"""Contradictions, and their share of what can be compared, that are no chance."""

HALF: Final = 0.5
HABIT: Final = (20, 0.1)
"""More photos of the other side than this, and a larger share, are one finding: a camera turns them."""

_SHOWN: Final = 6
_NUMBER_OF_A: Final = re.compile(r"idrid_(\d{2})", re.IGNORECASE)
_NUMBER: Final = re.compile(r"idrid_(\d{2,4})", re.IGNORECASE)
_CONTRADICTIONS: Final = (
    "dme_contradicts",
    "lesions_above_grade",
    "grade_without_lesions",
    "disc_elsewhere",
    "landmarks_swapped",
)
_JOINED: Final = ("grade", "dme", "disc_x", "disc_y", "fovea_x", "fovea_y")


class WrongEyeChecks:
    """Findings about labels that do not belong to their photos. Sides are collected to judge each label file."""

    def __init__(self, scan: Scan, label_rows: LabelRows, outlines: Sequence[MaskFile]) -> None:
        self.scan, self.label_rows = scan, label_rows
        self._outlined: dict[Path, set[str]] = defaultdict(set)
        for outline in outlines:
            if outline.photo is not None:
                self._outlined[outline.photo].add(outline.code)
        self._sides: dict[Path, list[tuple[bool, Finding | None]]] = defaultdict(list)

    def of_photo(self, photo: LabeledPhoto) -> Iterator[Finding]:
        """Findings about the disc's places; the photo's side is kept for its label file."""
        if photo.record.error is not None or photo.record.field_of_view is None:
            return
        disc = _visible_disc(photo)
        yield from _discs(photo, disc)
        table = photo.table("eye")
        if table is not None:
            self._sides[table].append(_side(photo, disc))

    def of_data(self, findings: Sequence[Finding]) -> Iterator[Finding]:
        """Findings about sides and joins of whole label files. findings: everything found in the photos."""
        for table, sides in self._sides.items():
            yield from _sides_of(self.scan, table, sides)
        by_number = list(_joined_by_number(self.scan, self.label_rows, self._outlined))
        yield from by_number
        known = {finding.files[0] for finding in by_number if finding.severity == "error"}
        yield from _of_other_eyes(self.scan, self.label_rows, self._outlined, findings, known)


def _visible_disc(photo: LabeledPhoto) -> Disc | None:
    """Where the disc is seen in the picture, if a label can be compared with it."""
    thumbnail, record = photo.scan.thumbnail(photo.name), photo.record
    is_labeled = photo.point("disc") or photo.point("fovea") or photo.value("eye") is not None
    if not is_labeled or thumbnail is None or record.field_of_view is None:
        return None
    return find_disc(thumbnail, record.width, record.height, record.field_of_view)


def _discs(photo: LabeledPhoto, disc: Disc | None) -> Iterator[Finding]:
    """The disc by point, box and mask, and by the picture's light."""
    places: dict[str, Point] = {}
    point, box = photo.point("disc"), photo.disc_box
    if point is not None:
        places["point"] = point
    if box is not None:
        places["box"] = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    outlined = photo.outlines_of("OD")
    if outlined and (places or photo.point("fovea")) and (center := _center(photo.inside(outlined[0]))) is not None:
        places["mask"] = center
    apart = [
        (hypot(a[0] - b[0], a[1] - b[1]) / photo.disc_diameter_px[0], one, other)
        for (one, a), (other, b) in combinations(places.items(), 2)
    ]
    farthest, one, other = max(apart, default=(0.0, "", ""))
    files = _files(photo, "disc_x", "fovea_x")
    if farthest > APART_DD:
        says = f"The disc by its {one} and the disc by its {other} lie {farthest:.1f} disc diameters apart."
        places_px = {name: [round(float(x), 1), round(float(y), 1)] for name, (x, y) in places.items()}
        evidence = photo.evidence("disc_x") | {"apart_dd": round(farthest, 2), "places_px": places_px}
        caption = f"The disc's places: by {', '.join(places)}."
        boxes = [("OD", box)] if box is not None else []
        picture = drawn(photo.scan, photo.name, caption, points=places, boxes=boxes)
        files += photo.scan.names(*(outline.file for outline in outlined))
        yield found("disc_elsewhere", files, says, evidence, pictures=[picture])
    elif disc is not None and disc.is_sure:
        yield from _by_light(photo, disc, files)


def _by_light(photo: LabeledPhoto, disc: Disc, files: list[str]) -> Iterator[Finding]:
    """Points against the disc that is plainly visible."""
    point, fovea = photo.point("disc"), photo.point("fovea")
    marks = {name: xy for name, xy in (("disc", point), ("fovea", fovea), ("seen", disc.xy)) if xy is not None}
    evidence: dict[str, Any] = {"seen_px": [round(disc.xy[0]), round(disc.xy[1])], "contrast": round(disc.contrast, 2)}
    caption = "Disc (cyan) and fovea (white) as marked; orange: where the disc is seen."
    picture = drawn(photo.scan, photo.name, caption, points=marks)
    off_disc = point is None or (disc.apart_dd(point) > AWAY_DD and (disc.at(point) or 0.0) < NO_DISC)
    if off_disc and fovea is not None and disc.apart_dd(fovea) < ON_DISC_DD:
        says = "The fovea is marked where the disc is seen."
        yield found("landmarks_swapped", files, says, photo.evidence("fovea_x") | evidence, pictures=[picture])
    elif off_disc and point is not None:
        says = f"The disc is marked {disc.apart_dd(point):.1f} disc diameters from where it is seen."
        evidence |= {"apart_dd": round(disc.apart_dd(point), 2)}
        yield found("disc_elsewhere", files, says, photo.evidence("disc_x") | evidence, pictures=[picture])


def _center(mask: np.ndarray | None) -> Point | None:
    """The center of a mask's (H, W) bounding box; None without a mask, and where it marks nothing."""
    if mask is None or not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (float(columns[0] + columns[-1] + 1) / 2, float(rows[0] + rows[-1] + 1) / 2)


def _files(photo: LabeledPhoto, *roles: str) -> list[str]:
    """The label files that have a value in these roles, then the photo."""
    return list(dict.fromkeys(photo.scan.names(*map(photo.table, roles), photo.path)))


def _side(photo: LabeledPhoto, disc: Disc | None) -> tuple[bool, Finding | None]:
    """Whether the labeled side could be checked, and what is wrong with it."""
    label: Laterality = photo.value("eye")
    _, by_name = split_side(photo.path.stem)
    files = _files(photo, "eye")
    if by_name is not None and by_name != label:
        says = f"The row says {label} and the photo's name says {by_name}."
        return True, found("side_conflict", files, says, photo.evidence("eye") | {"by": "name"}, severity="error")
    side, by, marks = _side_by_disc(photo, disc)
    if side is None or side == label:
        return side is not None, None
    says = f"It is labeled as a {label} eye and looks like a {side} one, by the place of its disc."
    picture = drawn(photo.scan, photo.name, "Disc (cyan: marked, orange: seen) and fovea (white).", points=marks)
    return True, found("side_conflict", files, says, photo.evidence("eye") | {"by": by}, pictures=[picture])


def _side_by_disc(photo: LabeledPhoto, disc: Disc | None) -> tuple[Laterality | None, str, dict[str, Point]]:
    """The side by the disc's place (right of the fovea in a right eye), how that is known, and the points."""
    point, fovea, circle = photo.point("disc"), photo.point("fovea"), photo.record.field_of_view
    if point is not None and fovea is not None:
        return ("right" if point[0] > fovea[0] else "left"), "points", {"disc": point, "fovea": fovea}
    by = "point" if point is not None else "light"
    if point is None and disc is not None and disc.is_sure:
        point = disc.xy
    if point is None or circle is None:
        return None, by, {}
    offset = (point[0] - circle[0]) / (2 * circle[2])
    side = None if abs(offset) <= OFF_CENTER else "right" if offset > 0 else "left"
    return side, by, {"disc" if by == "point" else "seen": point}


def _sides_of(scan: Scan, table: Path, sides: Sequence[tuple[bool, Finding | None]]) -> Iterator[Finding]:
    """A finding for each photo; one for the file where most of its photos contradict it, or so many do by habit."""
    wrong = [finding for _, finding in sides if finding is not None]
    known = sum(is_known for is_known, _ in sides)
    most = len(wrong) > max(MANY[0], HALF * known)
    if not most and len(wrong) <= max(HABIT[0], HABIT[1] * known):
        yield from wrong
        return
    why = "left and right are exchanged" if most else "those photos are upside down or mirrored"
    says = f"{len(wrong)} of {known} photos look like the other side than the file says: {why}."
    yield found(
        "side_conflict",
        [scan.relative(table), *(finding.files[-1] for finding in wrong)],
        says,
        {"photos": len(wrong), "of": known},
        severity="error" if most else "warning",
        pictures=[picture for finding in wrong[:_SHOWN] for picture in finding.pictures],
    )


def _joined_by_number(scan: Scan, label_rows: LabelRows, outlined: Mapping[Path, set[str]]) -> Iterator[Finding]:
    """Photos of IDRiD's A with labels, which A does not have: usually those of B's or C's photo of the same number."""
    official = _official_labels(scan, label_rows)
    for table in label_rows.tables:
        roles = [role for role in _JOINED if role in table.roles]
        rows = [
            (row, row.photo)
            for row in table.rows
            if row.photo is not None
            and _is_of_a(scan, row.photo, outlined)
            and any(row.value(role) is not None for role in roles)
        ]
        if len(rows) < MANY[0]:
            continue
        agrees = [_agrees(row, roles, official.get(_split_and_number(scan, photo), {})) for row, photo in rows]
        compared = [repeats for repeats in agrees if repeats is not None]
        files = scan.names(table.file, *(photo for _, photo in rows))
        if len(compared) >= MANY[0] and np.mean(compared) > 0.9:
            says = f"{len(compared)} photos of A have the labels that IDRiD gives to other eyes with the same numbers."
            evidence = {"rows": [row.row for row, _ in rows][:50], "columns": [table.roles[role] for role in roles]}
            yield found("joined_by_number", files, says, evidence)
        elif not compared:
            says = f"{len(rows)} photos with names of IDRiD's A have grades or points, which A does not come with."
            yield found("joined_by_number", files, says, severity="warning")


def _is_of_a(scan: Scan, photo: Path, outlined: Mapping[Path, set[str]]) -> bool:
    """Whether a photo is of IDRiD's A, by its folder, or by a two-digit name and masks of lesions."""
    if _NUMBER_OF_A.fullmatch(photo.stem) is None:
        return False
    in_a = any(plain(part).endswith("segmentation") for part in Path(scan.relative(photo)).parts[:-1])
    return in_a or not outlined.get(photo, set()).isdisjoint(LESIONS)


def _official_labels(scan: Scan, label_rows: LabelRows) -> dict[tuple[str, int], dict[str, Any]]:
    """Split and number to the labels, by role, that IDRiD's own files give to photos of B and C."""
    official: dict[tuple[str, int], dict[str, Any]] = {}
    for photo in label_rows.by_photo:
        in_b = any(plain(part).endswith("diseasegrading") for part in scan.relative(photo).split("/"))
        if in_b and _NUMBER.fullmatch(photo.stem):
            labels = {role: label_rows.value(photo, role) for role in _JOINED}
            official.setdefault(_split_and_number(scan, photo), labels)
    return official


def _split_and_number(scan: Scan, photo: Path) -> tuple[str, int]:
    """The official split of a photo and the number in its name, -1 if it has none."""
    number = _NUMBER.fullmatch(photo.stem)
    return split_of(scan.relative(photo)) or "train", -1 if number is None else int(number[1])


def _agrees(row: LabelRow, roles: Sequence[str], official: Mapping[str, Any]) -> bool | None:
    """Whether a row of a photo of A repeats the labels of B's photo with its number; None if B's has none."""
    pairs = [(row.value(role), official.get(role)) for role in roles]
    known = [mine == theirs for mine, theirs in pairs if mine is not None and theirs is not None]
    return all(known) if known else None


def _of_other_eyes(
    scan: Scan, label_rows: LabelRows, outlined: Mapping[Path, set[str]], findings: Sequence[Finding], known: set[str]
) -> Iterator[Finding]:
    """Label files with too many rows that contradict what is drawn on the photos. known: files left out."""
    tables = {scan.relative(table.file): table for table in label_rows.tables}
    against: dict[str, set[str]] = defaultdict(set)
    of_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for finding in findings:
        for file in finding.files if finding.kind in _CONTRADICTIONS else ():
            if file in tables:
                photo = next(name for name in finding.files if name not in tables)
                against[file].add(photo)
                of_kind[file][finding.kind] += 1
    for file, photos in against.items():
        named = {row.photo for row in tables[file].rows if row.photo is not None}
        marked = {scan.relative(photo) for photo in named if _is_drawn_on(photo, label_rows, outlined)}
        photos &= marked  # labels that contradict each other, with nothing drawn, are no sign of another eye's labels
        if file not in known and len(photos) >= max(MANY[0], MANY[1] * len(marked)):
            says = f"{len(photos)} of {len(marked)} photos contradict this file by what is drawn on them."
            evidence = {"photos": len(photos), "of": len(marked), "contradictions": dict(of_kind[file])}
            yield found("labels_of_other_eyes", [file, *sorted(photos)], says, evidence)


def _is_drawn_on(photo: Path, label_rows: LabelRows, outlined: Mapping[Path, set[str]]) -> bool:
    """Whether a photo has a mask, box, disc point or mask column that its labels could contradict."""
    rows = label_rows.by_photo.get(photo, ())
    marked = any(row.box() is not None or row.point("disc") is not None for row in rows)
    absent = any(cell.text for row in rows for role, cell in row.cells.items() if role.startswith("mask_"))
    return marked or absent or any(outlined.get(photo, ()))
