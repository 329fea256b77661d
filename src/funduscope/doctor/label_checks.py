"""What is wrong with label files: their form, impossible values, photos without rows, rows without photos, duplicates.

Each finding names file, row and column. Every file is read to its end, so that one fault hides no other. What labels
mean for the eye is checked in `anatomy_checks`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from funduscope.doctor.columns import BOX_SIDES, POINTS, expected
from funduscope.doctor.finding import MAX_SINGLE, Finding, found
from funduscope.doctor.label_rows import LabelRow, LabelRows, Table
from funduscope.doctor.scan import Scan

_COMPARED: Final = ("grade", "dme", "maculopathy", "edema", "quality", "eye")
GRADED: Final = 20
"""Of so many graded photos some are of grade 0, as a rule."""
_OPTIONAL: Final = ("grade", "dme")
_LISTED: Final = 200


def examine(scan: Scan, label_rows: LabelRows) -> Iterator[Finding]:
    """Findings about the label files of a data set."""
    for sheet in label_rows.unreadable:
        yield found("table_unreadable", [scan.relative(sheet.file)], sheet.faults[-1].says)
    for table in label_rows.tables:
        yield from _form(scan, table)
        yield from _values(scan, table)
        yield from _without_photo(scan, table)
        yield from _in_two_rows(scan, table)
        yield from _empty(scan, table)
        yield from _rejected(scan, table)
        yield from _without_grade_0(scan, table)
    yield from _without_row(scan, label_rows)
    yield from _between_files(scan, label_rows)


def _form(scan: Scan, table: Table) -> Iterator[Finding]:
    for fault in table.sheet.faults:
        where = f"Row {fault.row}: " if fault.row is not None else ""
        yield found("table_form", [scan.relative(table.file)], f"{where}{fault.says}", fault.evidence())


def _values(scan: Scan, table: Table) -> Iterator[Finding]:
    """Values that are impossible in their column, and points and boxes with a missing part."""
    for row in table.rows:
        for says, evidence in _impossible(table, row):
            yield found("impossible_value", scan.names(row.table, row.photo), says, evidence)


def _impossible(table: Table, row: LabelRow) -> Iterator[tuple[str, dict[str, Any]]]:
    """A sentence and evidence for each impossible value, point with one coordinate, and box that is empty or lacks a
    side."""
    if not row.name:
        yield f"Row {row.row} names no photo.", row.evidence("image")
    for role, cell in row.cells.items():
        if cell.text and cell.value is None:
            says = f"Row {row.row}, column {cell.column}: {cell.text!r} is not {expected(role)}."
            yield says, row.evidence(role) | {"expected": expected(role)}
    for point in POINTS:
        pair = [row.cells.get(f"{point}_{axis}") for axis in "xy"]
        if pair[0] is not None and pair[1] is not None and bool(pair[0].text) != bool(pair[1].text):
            empty = pair[1] if pair[0].text else pair[0]
            says = f"Row {row.row} has only one coordinate of the {point}; {empty.column} is empty."
            yield says, row.evidence_of(empty)
    if not table.is_boxes:
        return
    sides = [row.value(side) for side in BOX_SIDES]
    empty = next((row.cells[side] for side in BOX_SIDES if side in row.cells and not row.cells[side].text), None)
    if empty is not None:
        yield f"Row {row.row} has a box without {empty.column}.", row.evidence_of(empty)
    elif None not in sides and row.box() is None:
        yield f"Row {row.row} has an empty box: expected x0 < x1 and y0 < y1.", row.evidence("x1") | {"box": sides}


def _without_photo(scan: Scan, table: Table) -> Iterator[Finding]:
    """Rows that name a photo which is not here."""
    lost: dict[str, LabelRow] = {}
    for row in table.rows:
        if row.photo is None and row.name and not table.is_folds:
            lost.setdefault(row.name, row)
    file, whole = scan.relative(table.file), len({row.name for row in table.rows})
    if len(lost) > MAX_SINGLE:
        says = f"{len(lost)} of the {whole} photos that the file names are not here."
        evidence = {"photos": sorted(lost)[:_LISTED], "rows": [row.row for row in lost.values()][:_LISTED]}
        yield found("row_without_photo", [file], says, evidence)
        return
    for name, row in lost.items():
        says = f"Row {row.row} is about {name}, but no such photo is here."
        yield found("row_without_photo", [file], says, row.evidence("image"))


def _in_two_rows(scan: Scan, table: Table) -> Iterator[Finding]:
    """Photos in several rows of one file."""
    by_photo: dict[str, list[LabelRow]] = defaultdict(list)
    for row in table.rows:
        if row.name and not table.is_folds and not table.is_boxes:
            by_photo[str(row.photo or row.name)].append(row)
    for rows in (rows for rows in by_photo.values() if len(rows) > 1):
        first, numbers = rows[0], [row.row for row in rows]
        roles = {cell.column: role for role, cell in first.cells.items() if role != "image" and _differs(role, rows)}
        evidence: dict[str, Any] = {"rows": numbers, "column": first.cells["image"].column, "value": first.name}
        says = f"{first.name} is in rows {' and '.join(map(str, numbers))}, "
        if roles:
            evidence["differ"] = {name: [row.cells[role].text for row in rows] for name, role in sorted(roles.items())}
            says += f"which contradict each other: {', '.join(sorted(roles))}."
        elif any(len({row.cells[role].text for row in rows}) > 1 for role in first.cells if role != "image"):
            evidence["complete"] = True
            says += "which complete each other: put both into one."
        else:
            says += "which are equal."
        kind = "contradicting_rows" if roles else "duplicated_row"
        yield found(kind, scan.names(first.table, first.photo), says, evidence)


def _differs(role: str, rows: Sequence[LabelRow]) -> bool:
    cells = [cell for row in rows if (cell := row.cells[role]).text]
    return len({cell.value if cell.value is not None else cell.text for cell in cells}) > 1


def _empty(scan: Scan, table: Table) -> Iterator[Finding]:
    """Grades and risks that are empty where most rows have them."""
    for role in _OPTIONAL:
        empty = [row for row in table.rows if role in row.cells and not row.cells[role].text and row.photo is not None]
        others = sum(bool(row.cells[role].text) for row in table.rows if role in row.cells)
        if not empty or len(empty) > others:
            continue
        column = table.roles[role]
        if len(empty) > MAX_SINGLE:
            says = f"{len(empty)} rows have no {column}, which {others} other rows have."
            evidence = {"rows": [row.row for row in empty][:_LISTED], "column": column}
            yield found("empty_label", scan.names(table.file, *(row.photo for row in empty)), says, evidence)
            continue
        for row in empty:
            says = f"Row {row.row} has no {column}, which {others} other rows have."
            yield found("empty_label", scan.names(row.table, row.photo), says, row.evidence(role))


def _rejected(scan: Scan, table: Table) -> Iterator[Finding]:
    """Photos of quality reject with a grade."""
    rows = [row for row in table.rows if row.value("quality") == "reject" and row.value("grade") is not None]
    if rows:
        says = f"{len(rows)} photos are of quality reject and have a grade all the same."
        evidence = {"rows": [row.row for row in rows][:_LISTED], "column": table.roles["quality"]}
        yield found("graded_reject", scan.names(table.file, *(row.photo for row in rows)), says, evidence)


def _without_grade_0(scan: Scan, table: Table) -> Iterator[Finding]:
    """Grades from 1 on: those of a scale that begins with 1 are all one too high."""
    if table.is_folds or "grade" not in table.roles:
        return
    counts = Counter(grade for row in table.rows if (grade := row.value("grade")) is not None)
    if counts.total() >= GRADED and counts[1] and not counts[0]:
        says = f"{counts.total()} photos have a grade, none of them grade 0."
        evidence = {"column": table.roles["grade"], "grades": {str(grade): counts[grade] for grade in sorted(counts)}}
        yield found("grade_0_missing", [scan.relative(table.file)], says, evidence)


def _without_row(scan: Scan, label_rows: LabelRows) -> Iterator[Finding]:
    """Photos without a row in a label file that has rows for other photos of their folder."""
    listed: dict[tuple[Path, str], dict[Path, Table]] = defaultdict(dict)
    for table in label_rows.tables:
        for purpose in table.purposes:
            for row in table.rows:
                if row.photo is not None:
                    listed[row.photo.parent, purpose].setdefault(row.photo, table)
    folders: dict[Path, list[Path]] = defaultdict(list)
    for photo in scan.inventory.photos:
        folders[photo.parent].append(photo)
    for (folder, purpose), tables in listed.items():
        lost = [photo for photo in folders[folder] if photo not in tables]
        yield from _unlisted(scan, next(iter(tables.values())), purpose, lost, len(folders[folder]))


def _unlisted(scan: Scan, table: Table, purpose: str, lost: Sequence[Path], whole: int) -> Iterator[Finding]:
    """Findings about photos `lost` from a table; one finding where they are many of the `whole` folder."""
    file = scan.relative(table.file)
    if len(lost) > min(MAX_SINGLE, whole / 2):
        says = f"{len(lost)} of {whole} photos in the folder have no row ({purpose}) in {table.file.name}."
        severity = "info" if len(lost) > whole / 2 else None  # the file seems to list a selection on purpose
        evidence = {"photos": len(lost), "of": whole}
        yield found("missing_row", [file, *scan.names(*lost[:_LISTED])], says, evidence, severity=severity)
        return
    for photo in lost:
        says = f"{photo.name} has no row ({purpose}) in {table.file.name}; "
        says += f"{whole - len(lost)} photos of its folder have one."
        yield found("missing_row", [file, scan.relative(photo)], says, {"row": None, "column": table.roles["image"]})


def _between_files(scan: Scan, label_rows: LabelRows) -> Iterator[Finding]:
    """Label files that contradict each other about one photo."""
    for photo, rows in label_rows.by_photo.items():
        for role in _COMPARED:
            by_file: dict[Path, LabelRow] = {}
            for row in rows:
                if row.value(role) is not None:
                    by_file.setdefault(row.table, row)
            if len({row.value(role) for row in by_file.values()}) > 1:
                labels = [{"file": scan.relative(file), **row.evidence(role)} for file, row in sorted(by_file.items())]
                says = f"Label files disagree about {photo.name}: {', '.join(str(one['value']) for one in labels)}."
                yield found("contradicting_rows", scan.names(*sorted(by_file), photo), says, {"labels": labels})
