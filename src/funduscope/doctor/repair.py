"""`--fix`: a repaired copy of a data set's labels, masks and folds next to the untouched original, with its changes.

Only faults whose repair follows from the files are repaired: equal rows, impossible values, masks stored in several
ways, visits of duplicates. Where a person has to decide (rows that contradict each other, a mask of the whole photo in
a layout where no file would mean absent), the finding stays, and `changes.csv` says so.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from funduscope.atomic import replacing
from funduscope.data.case import LabelError
from funduscope.data.csv_cells import guarded
from funduscope.doctor.examine import Report
from funduscope.doctor.fold_rows import label_of, read_all_folds
from funduscope.doctor.label_rows import Table
from funduscope.doctor.mask_files import MaskFile, named_files, read_stored
from funduscope.doctor.repair_tables import LEFT, Change, Edited, drop_equal_rows, join_visits, open_table, repair_table
from funduscope.doctor.scan import Scan

CHANGES: Final = "changes.csv"
COLUMNS: Final = ("file", "what", "before", "after", "why")


_STORED_AGAIN: Final = frozenset({"mask_soft", "mask_alpha", "mask_conventions"})
_WRITTEN: Final = (".png", ".tif", ".tiff")
_PLAIN: Final = ("gray, 0 and 255", "one bit, 0 and 1")


def repair(report: Report, out: Path) -> list[Change]:
    """Writes every label file and fold file, repaired where possible, and the masks that are stored anew, into `out`.

    Files have the names that they have in the data set; those from outside it are named without `..`, and the tables'
    cells follow. No file replaces another: a mask whose new place is taken is left as it is. Returns the changes, which
    are also in `changes_file`. Raises `LabelError` if `out` is not a new or empty folder outside the data set.
    """
    scan = report.scan
    check_place(scan.root, out)
    tables, changes = _tables(report)
    with replacing(out, one_writer=True) as unfinished:
        unfinished.mkdir(parents=True)
        changes.extend(_masks(report, tables, unfinished))
        changes.extend(_whole(report, tables))
        known = {sheet.file for sheet in report.label_rows.unreadable} | {*_label_tables(report)}
        names = {_inside(scan, file) for file in known}
        for edited in tables.values():
            changes.extend(_written(edited, unfinished, names))
        for file in known - {*tables}:
            _copy(file, unfinished / _inside(scan, file))
        _write_changes(unfinished / changes_file(report), changes)
        if out.is_dir():
            out.rmdir()
    return changes


def changes_file(report: Report) -> str:
    """The name of the list of changes in the copy: changes.csv, or another where a label file has that name."""
    unreadable = (sheet.file for sheet in report.label_rows.unreadable)
    taken = {_inside(report.scan, file) for file in (*_label_tables(report), *unreadable)}
    return next(name for name in (CHANGES, *(f"changes-{number}.csv" for number in range(2, 99))) if name not in taken)


def check_place(data: Path, out: Path, report: Path | None = None) -> None:
    """Raises `LabelError` if a repaired copy cannot be written to `out`. report: the folder of the report."""
    if report is not None and out.resolve() in (report.resolve(), *report.resolve().parents):
        raise LabelError(f"{out} would hold the report, too: name another folder.")
    here, there = out.resolve(), (data if data.is_dir() else data.parent).resolve()
    if here == there or there in here.parents or here in there.parents:
        raise LabelError(f"{out} is in the data set or contains it: expected a folder next to it, so that it stays.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LabelError(f"{out} already exists and is not empty: expected a new folder.")


def _inside(scan: Scan, file: Path) -> str:
    """The name of a file in the copy: that in the data set, without the `..` of files outside it."""
    return "/".join(part for part in scan.relative(file).split("/") if part != "..")


def _tables(report: Report) -> tuple[dict[Path, Edited], list[Change]]:
    """Every label file that can be edited, by its path, with its changes made; and the changes."""
    scan = report.scan
    duplicates = [(pair.first, pair.second) for pair in report.pairs]
    all_edited: dict[Path, Edited] = {}
    changes: list[Change] = []
    for file, table in _label_tables(report).items():
        edited = open_table(table, _inside(scan, file))
        if edited is None:
            why = "Its encoding or its form would have to be guessed: save it as CSV UTF-8, and look at its quotes."
            changes.append(Change(_inside(scan, file), LEFT, "", "", why))
            continue
        all_edited[file] = edited
        changes.extend(repair_table(edited, lambda photo: _size(scan, photo)))
        rows = [
            (row, scan.relative(row.photo) if row.photo is not None else label_of(row))
            for row in table.rows
            if table.is_folds or (row.photo is not None and not table.is_boxes)
        ]
        if {"fold", "patient"} & set(table.roles):
            changes.extend(join_visits(edited, rows, duplicates))
            changes.extend(drop_equal_rows(edited))
    return all_edited, changes


def _label_tables(report: Report) -> dict[Path, Table]:
    """Every label file and fold file by its path."""
    tables = {table.file: table for table in report.label_rows.tables}
    return tables | {
        folds.table.file: folds.table for folds in read_all_folds(report.scan, report.label_rows, report.cases)
    }


def _size(scan: Scan, photo: Path) -> tuple[int, int] | None:
    record = scan.record(scan.relative(photo))
    return (record.width, record.height) if record is not None and record.width else None


def _masks(report: Report, tables: dict[Path, Edited], folder: Path) -> Iterator[Change]:
    """Stores masks as 0 and 255 that are soft, have an alpha plane, or are of a data set that stores them in several
    ways."""
    scan = report.scan
    named = {scan.relative(outline.file): outline for outline in report.outlines}
    wanted = {name for one in report.findings if one.kind in _STORED_AGAIN for name in one.files if name in named}
    mixed = {_folder(one.files[0]) for one in report.findings if one.kind == "mask_conventions"}
    wanted |= {name for name in named if _folder(name) in mixed}
    for name in sorted(wanted):
        outline = named[name]
        stored = read_stored(outline.file)
        if isinstance(stored, str) or outline.is_votes or not stored.inside.any():
            continue
        if stored.convention in _PLAIN and stored.kind in ("PNG", "TIFF"):
            continue
        place = _inside(scan, outline.file)
        if not place.lower().endswith(_WRITTEN):
            place = Path(place).with_suffix(".png").as_posix()
        target = folder / place
        if target.exists() or (place != name and (scan.root / place).exists()):
            why = f"Stored anew, it would replace another file: {place}."
            yield Change(name, LEFT, f"{stored.kind}, {stored.convention}", "", why)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        options = {} if target.suffix.lower() == ".png" else {"compression": "tiff_lzw"}
        coded = io.BytesIO()  # coded in memory: Pillow loses the reason if a disk is full
        file_format = "PNG" if target.suffix.lower() == ".png" else "TIFF"
        Image.fromarray(stored.inside.astype(np.uint8) * 255).save(coded, file_format, **options)
        target.write_bytes(coded.getvalue())
        why = "Stored as most programs read masks: one plane, 255 inside and 0 outside, no colors, palette or alpha."
        if stored.is_soft and stored.strength.dtype != bool:
            why += f" Inside is what was at least {int(stored.strength.max()) // 2}, half of its highest value."
        yield Change(name, "mask", f"{stored.kind}, {stored.convention}", "gray, 0 and 255", why)
        if place != name:
            yield from _renamed(outline, place, tables)


def _folder(name: str) -> str:
    return name.split("/")[0] if "/" in name else "."


def _renamed(outline: MaskFile, place: str, tables: dict[Path, Edited]) -> Iterator[Change]:
    """Changes in label files that name a mask, which is now in another file. place: its name in the copy."""
    for edited in tables.values():
        called = os.path.relpath(place, Path(edited.name).parent).replace(os.sep, "/")
        for role, column in edited.table.roles.items():
            for row in edited.rows if role.startswith("mask_") else ():
                text = _called(edited.cell(row.row, column), edited.table.file, outline.file, called)
                change = edited.put(row.row, column, text, "The mask that was stored anew is this file.")
                if change.before != text:
                    yield change


def _called(cell: str, table: Path, mask: Path, name: str) -> str:
    """A cell of mask files separated by `;`, with one of them renamed."""
    pieces = cell.split(";")
    for index, piece in enumerate(pieces):
        if any(os.path.normpath(file) == os.path.normpath(mask) for file in named_files(table, piece)):
            pieces[index] = piece.replace(piece.strip(), name)
    return ";".join(pieces)


def _whole(report: Report, tables: dict[Path, Edited]) -> Iterator[Change]:
    """Makes masks of the whole photo unknown, where the layout can express that: by an empty cell of a table."""
    scan = report.scan
    named: dict[tuple[str, ...], MaskFile] = {
        (scan.relative(outline.file), scan.relative(outline.photo), outline.code): outline
        for outline in report.outlines
        if outline.photo is not None
    }
    for one in report.findings:
        outline = named.get((*one.files, one.evidence["structure"])) if one.kind == "mask_whole" else None
        if outline is None:
            continue
        file, row = outline.table or (None, 0)
        edited = tables.get(file) if file is not None else None
        roles = edited.table.roles if edited is not None else {}
        if edited is None or f"mask_{outline.code}" not in roles or roles.get("image") != "path":
            why = "In this layout a missing file means absent, and nothing means unknown. Look at the mask."
            yield Change(one.files[0], LEFT, one.says, "", why)
            continue
        change = edited.put(row, roles[f"mask_{outline.code}"], "", f"{one.says} An empty cell means unknown.")
        if change.before:  # otherwise another mask of the cell was of the whole photo too
            yield change


def _written(edited: Edited, folder: Path, names: Collection[str]) -> Iterator[Change]:
    """Writes an edited label file; an unchanged one is copied byte by byte. names: of all label files in the copy."""
    file, target = edited.table.file, folder / edited.name
    if edited.reencoded:
        yield Change(edited.name, "file", "UTF-16", "UTF-8", "Tables are read as UTF-8.")
    elif not edited.changed:
        _copy(file, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix.lower() == ".xlsx":
        own = Path(edited.name).with_suffix(".csv").as_posix()
        target = folder / (f"{edited.name}.csv" if own in names else own)
        why = "A repaired workbook is written as CSV; put it in the workbook's place."
        yield Change(edited.name, "file", file.name, target.name, why)
    target.write_text(edited.text(), "utf-8", newline="")


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _write_changes(path: Path, changes: Sequence[Change]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([guarded(text) for text in astuple(change)] for change in changes)
