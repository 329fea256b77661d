"""What is wrong with label files: their form, impossible values, rows without photos and photos without rows, photos
in two rows. Each finding names file, row and column.

Everything is read to the end, so that one fault hides no other. What the labels say of the eye itself is in `anatomy`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from funduscope.doctor import anatomy_checks
from funduscope.doctor.columns import BOX_SIDES, POINTS, Said, expected
from funduscope.doctor.finding import Finding, found
from funduscope.doctor.label_rows import LabelRow, LabelRows, Table, read_label_rows
from funduscope.doctor.mask_files import Outline, by_photo, read_outlines
from funduscope.doctor.scan import Scan

MOST_ROWS: Final = 50
"""Rows without a photo, or the reverse, that are told one by one; more are one finding."""

_COMPARED: Final = ("grade", "dme", "maculopathy", "edema", "quality", "eye")
_OPTIONAL: Final = ("grade", "dme")
_LISTED: Final = 200


def examine(
    scan: Scan, label_rows: LabelRows | None = None, outlines: Sequence[Outline] | None = None
) -> Iterator[Finding]:
    """Findings about what the label files of a data set say."""
    label_rows = label_rows or read_label_rows(scan.inventory)
    held = by_photo(list(outlines or read_outlines(scan.inventory, label_rows)))
    for sheet in label_rows.unreadable:
        says = sheet.faults[-1].says
        yield found("table_unreadable", [scan.relative(sheet.file)], says)
    for table in label_rows.tables:
        yield from _form(scan, table)
        yield from _values(scan, table)
        yield from _unmatched(scan, table)
        yield from _twice(scan, table)
        yield from _gaps(scan, table)
        yield from _rejected(scan, table)
    yield from _missing(scan, label_rows)
    yield from _between(scan, label_rows)
    yield from anatomy_checks.examine(scan, label_rows, held)


def _cell(row: LabelRow, said: Said) -> dict[str, Any]:
    return {"row": row.row, "column": said.column, "value": said.text}


def _files(scan: Scan, row: LabelRow) -> list[str]:
    """The label file, and the photo that the row is about."""
    return [scan.relative(row.table), *([scan.relative(row.photo)] if row.photo is not None else [])]


def _form(scan: Scan, table: Table) -> Iterator[Finding]:
    for fault in table.sheet.faults:
        where = f"Row {fault.row}: " if fault.row is not None else ""
        yield found("table_form", [scan.relative(table.file)], f"{where}{fault.says}", fault.evidence())


def _values(scan: Scan, table: Table) -> Iterator[Finding]:
    """Cells that cannot be what their column holds, and points and boxes of which a part is missing."""
    for row in table.rows:
        if not row.name:
            says = f"Row {row.row} names no photo."
            yield found("impossible_value", _files(scan, row), says, _cell(row, row.said["image"]))
        for role, said in row.said.items():
            if said.text and said.value is None:
                says = f"Row {row.row}, column {said.column}: {said.text!r} is not {expected(role)}."
                evidence = _cell(row, said) | {"expected": expected(role)}
                yield found("impossible_value", _files(scan, row), says, evidence)
        yield from _halves(scan, table, row)


def _halves(scan: Scan, table: Table, row: LabelRow) -> Iterator[Finding]:
    for point in POINTS:
        pair = [row.said.get(f"{point}_{axis}") for axis in "xy"]
        if pair[0] is not None and pair[1] is not None and bool(pair[0].text) != bool(pair[1].text):
            empty = pair[1] if pair[0].text else pair[0]
            says = f"Row {row.row} has only one coordinate of the {point}; {empty.column} is empty."
            yield found("impossible_value", _files(scan, row), says, _cell(row, empty))
    if not table.is_boxes:
        return
    sides = [row.said[side] for side in BOX_SIDES if side in row.said]
    box = row.box()
    if any(not side.text for side in sides):
        empty = next(side for side in sides if not side.text)
        says = f"Row {row.row} has a box without {empty.column}."
        yield found("impossible_value", _files(scan, row), says, _cell(row, empty))
    elif box is not None and (box[0] >= box[2] or box[1] >= box[3]):
        says = f"Row {row.row} has an empty box: expected x0 < x1 and y0 < y1."
        yield found("impossible_value", _files(scan, row), says, _cell(row, row.said["x1"]) | {"box": list(box)})


def _unmatched(scan: Scan, table: Table) -> Iterator[Finding]:
    """Rows that name a photo which is not here."""
    if table.is_folds:
        return
    lost: dict[str, LabelRow] = {}
    for row in table.rows:
        if row.photo is None and row.name:
            lost.setdefault(row.name, row)
    file, whole = scan.relative(table.file), len({row.name for row in table.rows})
    if len(lost) > MOST_ROWS:
        says = f"{len(lost)} of the {whole} photos that the file names are not here."
        evidence = {"photos": sorted(lost)[:_LISTED], "rows": [row.row for row in lost.values()][:_LISTED]}
        yield found("row_without_photo", [file], says, evidence)
        return
    for name, row in lost.items():
        says = f"Row {row.row} is about {name}, of which no photo is here."
        yield found("row_without_photo", [file], says, _cell(row, row.said["image"]))


def _twice(scan: Scan, table: Table) -> Iterator[Finding]:
    """Photos that stand in several rows of one file."""
    if table.is_folds or table.is_boxes:
        return
    rows: dict[str, list[LabelRow]] = defaultdict(list)
    for row in table.rows:
        if row.name:
            rows[str(row.photo or row.name)].append(row)
    for held in (held for held in rows.values() if len(held) > 1):
        differing = sorted(
            {said.column for role, said in held[0].said.items() if role != "image" and _differs(role, held)}
        )
        numbers = [row.row for row in held]
        evidence: dict[str, Any] = {"rows": numbers, "column": held[0].said["image"].column, "value": held[0].name}
        shown = " and ".join(map(str, numbers))
        if differing:
            evidence["differ"] = {name: [_text(row, name) for row in held] for name in differing}
            says = f"{held[0].name} stands in rows {shown}, which say different things of it: {', '.join(differing)}."
            yield found("contradicting_rows", _files(scan, held[0]), says, evidence)
        else:
            says = f"{held[0].name} stands in rows {shown}, which say the same."
            yield found("duplicated_row", _files(scan, held[0]), says, evidence)


def _differs(role: str, rows: Sequence[LabelRow]) -> bool:
    return (
        len({(said.value if said.value is not None else said.text) for row in rows if (said := row.said[role]).text})
        > 1
    )


def _text(row: LabelRow, column: str) -> str:
    return next((said.text for said in row.said.values() if said.column == column), "")


def _gaps(scan: Scan, table: Table) -> Iterator[Finding]:
    """Grades and risks that are left empty where most rows have them."""
    for role in _OPTIONAL:
        if role not in table.roles:
            continue
        empty = [row for row in table.rows if not row.said[role].text and row.photo is not None]
        if not empty or len(empty) > len(table.rows) / 2:
            continue
        for row in empty[:MOST_ROWS]:
            says = (
                f"Row {row.row} leaves {row.said[role].column} empty, which {len(table.rows) - len(empty)} others fill."
            )
            yield found("empty_label", _files(scan, row), says, _cell(row, row.said[role]))


def _rejected(scan: Scan, table: Table) -> Iterator[Finding]:
    """Photos that somebody rejected and somebody graded."""
    rows = [row for row in table.rows if row.value("quality") == "reject" and row.value("grade") is not None]
    if not rows:
        return
    says = f"{len(rows)} photos are of quality reject and have a grade all the same."
    photos = [scan.relative(row.photo) for row in rows if row.photo is not None]
    evidence = {"rows": [row.row for row in rows][:_LISTED], "column": table.roles["quality"]}
    yield found("graded_reject", [scan.relative(table.file), *photos], says, evidence)


def _missing(scan: Scan, label_rows: LabelRows) -> Iterator[Finding]:
    """Photos of a folder that no row is about, while most of the folder are in a label file."""
    told: dict[tuple[Path, str], set[Path]] = defaultdict(set)
    files: dict[tuple[Path, str], Table] = {}
    for table in label_rows.tables:
        for purpose in table.purposes:
            for row in table.rows:
                if row.photo is not None:
                    told[row.photo.parent, purpose].add(row.photo)
                    files.setdefault((row.photo.parent, purpose), table)
    folders: dict[Path, list[Path]] = defaultdict(list)
    for photo in scan.inventory.photos:
        folders[photo.parent].append(photo)
    for (folder, purpose), held in told.items():
        lost = [photo for photo in folders[folder] if photo not in held]
        yield from _untold(scan, files[folder, purpose], purpose, lost, len(folders[folder]))


def _untold(scan: Scan, table: Table, purpose: str, lost: Sequence[Path], whole: int) -> Iterator[Finding]:
    file = scan.relative(table.file)
    if len(lost) > min(MOST_ROWS, whole / 2):
        says = f"{len(lost)} of {whole} photos in the folder have no row ({purpose}) in {table.file.name}."
        names = [scan.relative(photo) for photo in lost]
        severity = "info" if len(lost) > whole / 2 else None  # a list of some, as it seems to be meant
        evidence = {"photos": len(lost), "of": whole}
        yield found("missing_row", [file, *names[:_LISTED]], says, evidence, severity=severity)
        return
    for photo in lost:
        says = (
            f"{photo.name} has no row ({purpose}) in {table.file.name}, which {whole - len(lost)} of its folder have."
        )
        yield found("missing_row", [file, scan.relative(photo)], says, {"row": None, "column": table.roles["image"]})


def _between(scan: Scan, label_rows: LabelRows) -> Iterator[Finding]:
    """Two label files that say different things of one photo."""
    for photo, rows in label_rows.by_photo.items():
        for role in _COMPARED:
            by_file: dict[Path, LabelRow] = {}
            for row in rows:
                if row.value(role) is not None:
                    by_file.setdefault(row.table, row)
            if len({row.value(role) for row in by_file.values()}) > 1:
                yield _contradiction(scan, photo, role, by_file)


def _contradiction(scan: Scan, photo: Path, role: str, by_file: Mapping[Path, LabelRow]) -> Finding:
    told = [{"file": scan.relative(file), **_cell(row, row.said[role])} for file, row in sorted(by_file.items())]
    says = f"Label files disagree about {photo.name}: {', '.join(str(one['value']) for one in told)}."
    return found(
        "contradicting_rows", [*(str(one["file"]) for one in told), scan.relative(photo)], says, {"told": told}
    )
