"""Labels that belong to other eyes: the disc in two places, the wrong side, numbers of one subset taken for another's.

The places of the disc are compared with each other (a point, a box, a mask) and with the picture (`disc_light`). In
366 photos of IDRiD boxes and points lie 0.15 disc diameters apart at most.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import hypot
from pathlib import Path
from typing import Any, Final

import numpy as np

from funduscope.data.case import Laterality
from funduscope.data.rows import EYES
from funduscope.doctor import anatomy_checks
from funduscope.doctor.anatomy_checks import Eyeful, Point
from funduscope.doctor.columns import plain
from funduscope.doctor.disc_light import Disc, find_disc
from funduscope.doctor.finding import Finding, found
from funduscope.doctor.label_pictures import pointed
from funduscope.doctor.label_rows import LabelRow, LabelRows, read_label_rows, split_of
from funduscope.doctor.mask_files import Outline, by_photo, read_outlines, read_stored
from funduscope.doctor.scan import Scan
from funduscope.vocabulary import LESIONS

APART_DD: Final = 0.4
"""Two places of one disc further apart than this are two discs."""

AWAY_DD: Final = 1.2
"""A point this far from the disc that is seen is not on it."""

NO_DISC: Final = 0.5
"""Contrast at a point under which nothing like a disc is there; true points have 0.25 or more, all but six over 0.6."""

ON_DISC_DD: Final = 0.6
"""A fovea this near to the disc that is seen was marked on it."""

OFF_CENTER: Final = 0.12
"""Disc from the field's middle, as a share of the field's diameter, from which it tells left from right."""

MANY: Final = (3, 0.25)
"""So many contradictions, and so large a share of what can be compared, are no chance."""

HALF: Final = 0.5
HABIT: Final = (20, 0.1)
"""More photos than this, and a larger share, of the other side are told once: a camera turns them, no person erred."""

_SHOWN: Final = 6
_SIDE_IN_NAME: Final = re.compile(r"(?:^|[-_ .])(left|right|l|r|os|od)$", re.IGNORECASE)
_NUMBER_OF_A: Final = re.compile(r"idrid_(\d{2})", re.IGNORECASE)
_NUMBER: Final = re.compile(r"idrid_(\d{2,4})", re.IGNORECASE)
_JOINED: Final = ("grade", "dme", "disc_x", "disc_y", "fovea_x", "fovea_y")


def examine(
    scan: Scan,
    label_rows: LabelRows | None = None,
    outlines: Sequence[Outline] | None = None,
    told: Iterable[Finding] | None = None,
) -> Iterator[Finding]:
    """Findings about labels that do not belong to their photos. told: what `labels.examine` found, if it was asked."""
    label_rows = label_rows or read_label_rows(scan.inventory)
    outlines = list(outlines or read_outlines(scan.inventory, label_rows))
    held = by_photo(outlines)
    told = list(told) if told is not None else list(anatomy_checks.examine(scan, label_rows, held))
    moved: list[Finding] = []
    sides: dict[Path, list[tuple[bool, Finding | None]]] = defaultdict(list)
    for photo in sorted({*label_rows.by_photo, *held}):
        record = scan.record(scan.relative(photo))
        if record is None or record.error is not None or record.eye is None:
            continue
        eye = Eyeful(scan, photo, record.path, record, label_rows, held.get(photo, ()))
        disc = _seen_disc(eye)
        moved.extend(_discs(eye, disc))
        table = eye.table("eye")
        if table is not None:
            sides[table].append(_side(eye, disc))
    yield from moved
    for table, judged in sides.items():
        yield from _sides(scan, table, judged)
    by_number = set()
    for finding in _numbers(scan, label_rows, held):
        if finding.severity == "error":
            by_number.add(finding.files[0])
        yield finding
    yield from _others(scan, label_rows, held, [*told, *moved], by_number)


def _seen_disc(eye: Eyeful) -> Disc | None:
    """Where the disc is seen, if a label can be held against it."""
    if not any(eye.point(name) for name in ("disc", "fovea")) and eye.value("eye") is None:
        return None
    thumbnail = eye.scan.thumbnail(eye.name)
    if thumbnail is None or eye.record.eye is None:
        return None
    return find_disc(thumbnail, eye.record.width, eye.record.height, eye.record.eye)


def _discs(eye: Eyeful, disc: Disc | None) -> Iterator[Finding]:
    """The disc by point, box and mask, and by the picture's light."""
    places: dict[str, Point] = {}
    point, fovea, box = eye.point("disc"), eye.point("fovea"), eye.disc_box
    if point is not None:
        places["point"] = point
    if box is not None:
        places["box"] = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    outlined = [one for one in eye.outlines if one.code == "OD" and not one.is_votes]
    if outlined and (places or fovea):
        middle = _middle(outlined, eye)
        if middle is not None:
            places["mask"] = middle
    diameter = eye.disc_diameter_px[0]
    pairs = [(hypot(a[0] - b[0], a[1] - b[1]) / diameter, one, other) for one, other, a, b in _pairs(places)]
    files = _files(eye, "disc_x", "fovea_x")
    if pairs and max(pairs)[0] > APART_DD:
        apart, one, other = max(pairs)
        says = f"The disc by its {one} and the disc by its {other} lie {apart:.1f} disc diameters apart."
        evidence = eye.cell("disc_x") | {"apart_dd": round(apart, 2), "places_px": _plain_places(places)}
        caption = "The disc's places: by " + ", ".join(places) + "."
        picture = pointed(eye.scan, eye.name, places, caption, [("OD", box)] if box is not None else [])
        masks = [eye.scan.relative(outline.file) for outline in outlined]
        yield found("disc_elsewhere", [*files, *masks], says, evidence, pictures=[picture])
    elif disc is not None and disc.is_sure:
        yield from _by_light(eye, disc, files)


def _by_light(eye: Eyeful, disc: Disc, files: list[str]) -> Iterator[Finding]:
    """Points held against the disc that is plainly seen."""
    point, fovea = eye.point("disc"), eye.point("fovea")
    marks = {name: xy for name, xy in (("disc", point), ("fovea", fovea), ("seen", disc.xy)) if xy is not None}
    evidence: dict[str, Any] = {"seen_px": [round(disc.xy[0]), round(disc.xy[1])], "contrast": round(disc.contrast, 2)}
    caption = "Disc (cyan) and fovea (white) as they are marked; orange: where the disc is seen."
    picture = pointed(eye.scan, eye.name, marks, caption)
    off_disc = point is None or (disc.apart_dd(point) > AWAY_DD and (disc.at(point) or 0.0) < NO_DISC)
    if off_disc and fovea is not None and disc.apart_dd(fovea) < ON_DISC_DD:
        says = "The fovea is marked where the disc is seen."
        yield found("landmarks_swapped", files, says, eye.cell("fovea_x") | evidence, pictures=[picture])
    elif off_disc and point is not None:
        says = f"The disc is marked {disc.apart_dd(point):.1f} disc diameters from where it is seen."
        evidence |= {"apart_dd": round(disc.apart_dd(point), 2)}
        yield found("disc_elsewhere", files, says, eye.cell("disc_x") | evidence, pictures=[picture])


def _pairs(places: Mapping[str, Point]) -> Iterator[tuple[str, str, Point, Point]]:
    names = list(places)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            yield one, other, places[one], places[other]


def _plain_places(places: Mapping[str, Point]) -> dict[str, list[float]]:
    return {name: [round(float(xy[0]), 1), round(float(xy[1]), 1)] for name, xy in places.items()}


def _middle(outlined: Sequence[Outline], eye: Eyeful) -> Point | None:
    """The center of a disc's mask; None where it cannot be read, is of another size or marks nothing."""
    stored = read_stored(outlined[0].file)
    if isinstance(stored, str) or stored.values.shape != (eye.record.height, eye.record.width):
        return None
    rows, columns = np.flatnonzero(stored.inside.any(axis=1)), np.flatnonzero(stored.inside.any(axis=0))
    if not len(rows):
        return None
    return (float(columns[0] + columns[-1] + 1) / 2, float(rows[0] + rows[-1] + 1) / 2)


def _files(eye: Eyeful, *roles: str) -> list[str]:
    tables = [table for role in roles if (table := eye.table(role)) is not None]
    return [*dict.fromkeys(eye.scan.relative(table) for table in tables), eye.name]


def side_in_name(name: str) -> Laterality | None:
    """What a photo's name says of the side: "Patient001_L", "10003_left"."""
    word = _SIDE_IN_NAME.search(name)
    return EYES[word[1].lower()] if word else None


def _side(eye: Eyeful, disc: Disc | None) -> tuple[bool, Finding | None]:
    """Whether the side could be judged, and what is wrong with it."""
    told: Laterality = eye.value("eye")
    named = side_in_name(eye.photo.stem)
    files = _files(eye, "eye")
    if named is not None and named != told:
        says = f"The row says {told} and the photo's name says {named}."
        return True, found("side_conflict", files, says, eye.cell("eye") | {"by": "name"}, severity="error")
    looks, by, marks = _looks(eye, disc)
    if looks is None or looks == told:
        return looks is not None, None
    says = f"It is called a {told} eye and looks like a {looks} one, by the place of its disc."
    caption = "Disc (cyan: marked, orange: seen) and fovea (white)."
    pictures = [pointed(eye.scan, eye.name, marks, caption)]
    return True, found("side_conflict", files, says, eye.cell("eye") | {"by": by}, pictures=pictures)


def _looks(eye: Eyeful, disc: Disc | None) -> tuple[Laterality | None, str, dict[str, Point]]:
    """The side by the disc's place (right of the fovea in a right eye), by what that is known, and the points."""
    point, fovea, circle = eye.point("disc"), eye.point("fovea"), eye.record.eye
    if point is not None and fovea is not None:
        return ("right" if point[0] > fovea[0] else "left"), "points", {"disc": point, "fovea": fovea}
    by = "point" if point is not None else "light"
    if point is None and disc is not None and disc.is_sure:
        point = disc.xy
    if point is None or circle is None:
        return None, by, {}
    offset = (point[0] - circle[0]) / (2 * circle[2])
    side: Laterality = "right" if offset > 0 else "left"
    return (side if abs(offset) > OFF_CENTER else None), by, {"disc" if by == "point" else "seen": point}


def _sides(scan: Scan, table: Path, judged: Sequence[tuple[bool, Finding | None]]) -> Iterator[Finding]:
    """One finding a photo; one for the file where it is the way that its photos are, or most contradict it."""
    wrong = [finding for _, finding in judged if finding is not None]
    known = sum(is_known for is_known, _ in judged)
    most = len(wrong) > max(MANY[0], HALF * known)
    if not most and len(wrong) <= max(HABIT[0], HABIT[1] * known):
        yield from wrong
        return
    why = "left and right are exchanged" if most else "those photos are upside down or mirrored"
    says = f"{len(wrong)} of {known} photos look like the other side than the file says: {why}."
    photos = [finding.files[-1] for finding in wrong]
    pictures = [picture for finding in wrong[:_SHOWN] for picture in finding.pictures]
    evidence = {"photos": len(wrong), "of": known}
    severity = "error" if most else "warning"
    yield found("side_conflict", [scan.relative(table), *photos], says, evidence, severity=severity, pictures=pictures)


def _numbers(scan: Scan, label_rows: LabelRows, outlines: Mapping[Path, Sequence[Outline]]) -> Iterator[Finding]:
    """Photos of IDRiD's A with labels, which A does not have: B's and C's of the same number, as a rule."""
    official = _by_number(scan, label_rows)
    for table in label_rows.tables:
        roles = [role for role in _JOINED if role in table.roles]
        rows = [row for row in table.rows if row.photo is not None and _is_of_a(scan, row.photo, outlines)]
        rows = [row for row in rows if any(row.value(role) is not None for role in roles)]
        if not roles or len(rows) < MANY[0]:
            continue
        compared = [agrees for row in rows if (agrees := _agrees(scan, row, roles, official)) is not None]
        names = [scan.relative(row.photo) for row in rows if row.photo is not None]
        evidence = {"rows": [row.row for row in rows][:50], "columns": [table.roles[role] for role in roles]}
        if len(compared) >= MANY[0] and np.mean(compared) > 0.9:
            says = f"{len(compared)} photos of A carry what IDRiD says of other eyes with the same numbers."
            yield found("joined_by_number", [scan.relative(table.file), *names], says, evidence)
        elif not compared:
            says = f"{len(rows)} photos called as IDRiD's A is have grades or points, which A does not come with."
            files = [scan.relative(table.file), *names]
            yield found("joined_by_number", files, says, evidence, severity="warning")


def _is_of_a(scan: Scan, photo: Path, outlines: Mapping[Path, Sequence[Outline]]) -> bool:
    """IDRiD's A by its folder, or by two-digit names with masks of lesions."""
    if _NUMBER_OF_A.fullmatch(photo.stem) is None:
        return False
    in_a = any(plain(part).endswith("segmentation") for part in Path(scan.relative(photo)).parts[:-1])
    return in_a or any(outline.code in LESIONS for outline in outlines.get(photo, ()))


def _by_number(scan: Scan, label_rows: LabelRows) -> dict[tuple[str, int, str], Any]:
    """(split, number, role) to what IDRiD's own files say of B and C."""
    told: dict[tuple[str, int, str], Any] = {}
    for photo, rows in label_rows.by_photo.items():
        name, number = scan.relative(photo), _NUMBER.fullmatch(photo.stem)
        if number is None or not any(plain(part).endswith("diseasegrading") for part in name.split("/")):
            continue
        for row in rows:
            for role in _JOINED:
                if row.value(role) is not None:
                    told.setdefault((split_of(name) or "train", int(number[1]), role), row.value(role))
    return told


def _agrees(
    scan: Scan, row: LabelRow, roles: Sequence[str], official: Mapping[tuple[str, int, str], Any]
) -> bool | None:
    """Whether a row of a photo of A repeats what is said of B's photo with its number; None where nothing is."""
    assert row.photo is not None
    number = _NUMBER.fullmatch(row.photo.stem)
    split = split_of(scan.relative(row.photo)) or "train"
    if number is None:
        return None
    pairs = [(row.value(role), official.get((split, int(number[1]), role))) for role in roles]
    known = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
    return all(mine == theirs for mine, theirs in known) if known else None


def _others(
    scan: Scan,
    label_rows: LabelRows,
    outlines: Mapping[Path, Sequence[Outline]],
    told: Sequence[Finding],
    known: set[str],
) -> Iterator[Finding]:
    """Label files of which too many rows contradict what is drawn on the photos."""
    kinds = ("dme_contradicts", "lesions_above_grade", "grade_without_lesions", "disc_elsewhere", "landmarks_swapped")
    against: dict[str, set[str]] = defaultdict(set)
    of_kind: dict[str, Counter[str]] = defaultdict(Counter)
    names = {scan.relative(table.file): table for table in label_rows.tables}
    for finding in told:
        for file in finding.files if finding.kind in kinds else ():
            if file in names:
                photo = next(name for name in finding.files if name not in names)
                against[file].add(photo)
                of_kind[file][finding.kind] += 1
    for file, photos in against.items():
        named = {row.photo for row in names[file].rows if row.photo is not None}
        drawn = {scan.relative(photo) for photo in named if _can_be_held(photo, label_rows, outlines)}
        photos &= drawn  # labels that contradict each other, with nothing drawn, are no sign of another eye's labels
        if file in known or len(photos) < max(MANY[0], MANY[1] * len(drawn)):
            continue
        says = f"{len(photos)} of {len(drawn)} photos contradict this file by what is drawn on them."
        evidence = {"photos": len(photos), "of": len(drawn), "contradictions": dict(of_kind[file])}
        yield found("labels_of_other_eyes", [file, *sorted(photos)], says, evidence)


def _can_be_held(photo: Path, label_rows: LabelRows, outlines: Mapping[Path, Sequence[Outline]]) -> bool:
    """Whether anything is drawn on a photo that its labels could contradict."""
    rows = label_rows.by_photo.get(photo, ())
    marked = any(row.box() is not None or row.point("disc") is not None for row in rows)
    absent = any(cell.text for row in rows for role, cell in row.said.items() if role.startswith("mask_"))
    return marked or absent or any(outline.code for outline in outlines.get(photo, ()))
