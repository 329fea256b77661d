"""`--fix`: a repaired copy of a data set's labels, masks and folds beside the untouched original, and what was changed.

Only what follows from the files themselves is repaired: equal rows, values that cannot be, masks stored in several
ways, visits of twins. Where a person has to decide (rows that contradict each other, a mask of the whole photo in a
layout where no file would mean absent), the finding stays, and `changes.csv` says so.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from funduscope.atomic import replacing
from funduscope.data.case import Case, LabelError
from funduscope.data.csv_cells import guarded
from funduscope.doctor.finding import Finding
from funduscope.doctor.fold_rows import read_all_folds
from funduscope.doctor.label_rows import LabelRows, read_label_rows
from funduscope.doctor.mask_files import Outline, named_files, read_outlines, read_stored
from funduscope.doctor.repair_tables import Change, Edited, Place, join_visits, open_table, repair_table
from funduscope.doctor.scan import Scan

if TYPE_CHECKING:
    from funduscope.duplicates.pairs import DuplicatePair

CHANGES: Final = "changes.csv"
COLUMNS: Final = ("file", "what", "before", "after", "why")
LEFT: Final = "left as it is"

_STORED_AGAIN: Final = frozenset({"mask_soft", "mask_alpha", "mask_conventions"})
_WRITTEN: Final = (".png", ".tif", ".tiff")
_PLAIN: Final = ("gray, 0 and 255", "one bit, 0 and 1")


def repair(
    scan: Scan,
    out: Path,
    findings: Iterable[Finding],
    cases: Sequence[Case] = (),
    twins: Iterable[DuplicatePair] = (),
) -> list[Change]:
    """Writes every label file and fold file, repaired where it can be, and the masks that were stored anew, into `out`.

    Names are as in the data set. findings: of the doctor. cases: what readers understand. twins: by photos' names.
    Raises `LabelError` where `out` is not a new or empty folder beside the data.
    """
    check_place(scan.root, out)
    label_rows = read_label_rows(scan.inventory)
    outlines = read_outlines(scan.inventory, label_rows)
    findings = list(findings)
    pairs = [(pair.first, pair.second) for pair in twins]
    tables, changes = _tables(scan, label_rows, cases, pairs)
    with replacing(out, one_writer=True) as unfinished:
        unfinished.mkdir(parents=True)
        changes.extend(_masks(scan, outlines, findings, tables, unfinished))
        changes.extend(_whole(scan, outlines, findings, tables))
        for edited in tables.values():
            changes.extend(_written(scan, edited, unfinished))
        for sheet in label_rows.unreadable:
            _copy(sheet.file, unfinished / _inside(scan, sheet.file))
        _write_changes(unfinished / CHANGES, changes)
        if out.is_dir():
            out.rmdir()
    return changes


def check_place(data: Path, out: Path) -> None:
    """Raises `LabelError` where a repaired copy cannot be written to `out`."""
    root = data if data.is_dir() else data.parent
    here, there = out.resolve(), root.resolve()
    if here == there or there in here.parents or here in there.parents:
        raise LabelError(f"{out} is a part of the data set or holds it: expected a folder beside it, so that it stays.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LabelError(f"{out} is there already and holds something: expected a new folder.")


def _inside(scan: Scan, file: Path) -> str:
    """The name of a file in the copy; folds above the data set stand at its top."""
    name = scan.relative(file)
    return Path(name).name if name.startswith("..") else name


def _tables(
    scan: Scan, label_rows: LabelRows, cases: Sequence[Case], twins: Sequence[tuple[str, str]]
) -> tuple[dict[Path, Edited], list[Change]]:
    """Every label file that can be edited, with its changes made, and these."""
    all_folds = {folds.file: folds for folds in read_all_folds(scan, label_rows, cases)}
    held: dict[Path, Edited] = {}
    changes: list[Change] = []
    plain_tables = {table.file: table for table in label_rows.tables}
    for file, table in {**plain_tables, **{file: folds.table for file, folds in all_folds.items()}}.items():
        edited, name = open_table(table), _inside(scan, file)
        if edited is None:
            changes.append(Change(name, LEFT, "", "", "Its letters or its form would have to be guessed."))
            continue
        held[file] = edited
        changes.extend(repair_table(edited, name, lambda photo: _size(scan, photo)))
        if file in all_folds:
            rows = all_folds[file].rows
            places = [
                Place(
                    row.row,
                    scan.relative(row.photo) if row.photo else f"{row.subset}/{row.name}",
                    row.visit,
                    row.fold,
                )
                for row in rows
            ]
        else:
            places = [
                Place(row.row, scan.relative(row.photo), str(row.value("patient") or ""), row.value("fold"))
                for row in table.rows
                if row.photo is not None and not table.is_boxes
            ]
        if {"fold", "patient"} & set(table.roles):
            changes.extend(join_visits(edited, name, places, twins))
    return held, changes


def _size(scan: Scan, photo: Path) -> tuple[int, int] | None:
    record = scan.record(scan.relative(photo))
    return (record.width, record.height) if record is not None and record.width else None


def _masks(
    scan: Scan, outlines: Sequence[Outline], findings: Sequence[Finding], tables: dict[Path, Edited], parts: Path
) -> Iterator[Change]:
    """Masks that are soft, have an alpha plane, or are of a data set that stores them in several ways: 0 and 255."""
    named = {scan.relative(outline.file): outline for outline in outlines}
    wanted = {name for one in findings if one.kind in _STORED_AGAIN for name in one.files if name in named}
    mixed = {_folder(one.files[0]) for one in findings if one.kind == "mask_conventions"}
    wanted |= {name for name in named if _folder(name) in mixed}
    for name in sorted(wanted):
        outline = named[name]
        stored = read_stored(outline.file)
        if isinstance(stored, str) or outline.is_votes or not stored.inside.any():
            continue
        if stored.convention in _PLAIN and stored.kind in ("PNG", "TIFF"):
            continue
        target = parts / _inside(scan, outline.file)
        if target.suffix.lower() not in _WRITTEN:
            target = target.with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        options = {} if target.suffix.lower() == ".png" else {"compression": "tiff_lzw"}
        Image.fromarray(stored.inside.astype(np.uint8) * 255).save(target, **options)
        why = "Stored as most programs read it: one plane, 255 inside and 0 outside, no colors, palette or alpha."
        if not stored.is_binary:
            why += f" Inside is what was above {int(stored.values.max()) // 2}, half of its highest value."
        yield Change(name, "mask", f"{stored.kind}, {stored.convention}", "gray, 0 and 255", why)
        if target.name != outline.file.name:
            yield from _renamed(scan, outline, target.name, tables)


def _folder(name: str) -> str:
    return name.split("/")[0] if "/" in name else "."


def _renamed(scan: Scan, outline: Outline, name: str, tables: dict[Path, Edited]) -> Iterator[Change]:
    """A label file names a mask by its file."""
    for edited in tables.values():
        for role, column in edited.table.roles.items():
            for row in edited.table.rows if role.startswith("mask_") else ():
                text = _called(edited.cell(row.row, column), edited.table.file, outline.file, name)
                before = edited.put(row.row, column, text) if row.row not in edited.dropped else text
                if before != text:
                    where = f"row {row.row}, column {column}"
                    yield Change(_inside(scan, edited.table.file), where, before, text, "The mask is a PNG now.")


def _called(cell: str, table: Path, mask: Path, name: str) -> str:
    """A cell in which one of the masks that it names, by files with `;` between them, is called otherwise."""
    pieces = cell.split(";")
    for index, piece in enumerate(pieces):
        before, held, after = piece.rpartition(mask.name)
        if held and named_files(table, piece) == [mask]:
            pieces[index] = f"{before}{name}{after}"
    return ";".join(pieces)


def _whole(
    scan: Scan, outlines: Sequence[Outline], findings: Sequence[Finding], tables: dict[Path, Edited]
) -> Iterator[Change]:
    """Masks of the whole photo are unknown, where the layout has a way to say so: a table's empty cell."""
    named = {_of_whole(scan, outline): outline for outline in outlines if outline.photo is not None}
    for one in findings:
        key = (*one.files, one.evidence["structure"]) if one.kind == "mask_whole" else ()
        outline = named.get(key)
        if outline is None:
            continue
        edited = tables.get(outline.table[0]) if outline.table is not None else None
        column = edited.table.roles.get(f"mask_{outline.code}") if edited is not None else None
        if edited is None or outline.table is None or column is None or edited.table.roles.get("image") != "path":
            why = "In this layout no file would say absent; unknown has no word. Look at it."
            yield Change(one.files[0], LEFT, one.says, "", why)
            continue
        before = edited.put(outline.table[1], column, "")
        if not before:  # another mask that the cell named was of the whole photo too
            continue
        where = f"row {outline.table[1]}, column {column}"
        why = f"{one.says} An empty cell says unknown."
        yield Change(_inside(scan, outline.table[0]), where, before, "", why)


def _of_whole(scan: Scan, outline: Outline) -> tuple[str, ...]:
    """The files and the structure that a finding about an outline names."""
    photo = scan.relative(outline.photo) if outline.photo is not None else ""
    return scan.relative(outline.file), photo, outline.code


def _written(scan: Scan, edited: Edited, parts: Path) -> Iterator[Change]:
    """The label file as it is now; an unchanged one is copied byte by byte."""
    file = edited.table.file
    target = parts / _inside(scan, file)
    if not edited.changed:
        _copy(file, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix.lower() == ".xlsx":
        target = target.with_suffix(".csv")
        why = "A repaired workbook is written as CSV; put it in the workbook's place."
        yield Change(_inside(scan, file), "file", file.name, target.name, why)
    target.write_text(edited.text(), "utf-8", newline="")


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _write_changes(path: Path, changes: Sequence[Change]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([guarded(text) for text in astuple(change)] for change in changes)
