"""What is wrong with folds and official splits: eyes on both sides, missing photos, uneven sizes and grades."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from funduscope.data.case import Case
from funduscope.doctor.columns import Cell
from funduscope.doctor.finding import Finding, found
from funduscope.doctor.fold_rows import Folds, label_of, read_all_folds
from funduscope.doctor.inventory import split_of
from funduscope.doctor.label_rows import LabelRow, LabelRows, read_label_rows
from funduscope.doctor.permutation_test import expected_counts, permutation_p_value
from funduscope.doctor.scan import Scan
from funduscope.duplicates.pairs import DuplicatePair
from funduscope.vocabulary import GRADES

UNEQUAL: Final = (0.6, 1.6)
"""Smallest and largest fold, as shares of the mean size."""

CHANCE: Final = 0.001
"""Grades are uneven where folds drawn by visit are as uneven more rarely than this."""

EXPECTED: Final = 5.0
"""Photos of a grade that a fold should have on average before having none is a finding."""

_LISTED: Final = 200
_ROW_BY_ROW: Final = 50


def examine(
    scan: Scan, cases: Sequence[Case] = (), pairs: Iterable[DuplicatePair] = (), label_rows: LabelRows | None = None
) -> Iterator[Finding]:
    """Findings about files of folds, and about folders of a training and a test split.

    cases: what readers take of the data set. pairs: duplicates by the photos' names.
    """
    label_rows = label_rows or read_label_rows(scan.inventory)
    pairs = list(pairs)
    patients = _patients(label_rows)
    for folds in read_all_folds(scan, label_rows, cases):
        yield from _rows(scan, folds)
        yield from _unlisted(scan, folds, label_rows)
        yield from _together("visits or patients are in several folds", _visits(scan, folds, patients))
        yield from _separated_duplicates(scan, folds, pairs)
        yield from _spread(scan, folds, label_rows, patients)
    for table in label_rows.tables:
        if "fold" in table.roles and not table.is_folds:  # what else may be wrong with its folds is said of its rows
            whole = {"subset": Cell("", table.file.name)}
            rows = tuple(replace(row, cells={**row.cells, **whole}) for row in table.rows)
            yield from _spread(scan, Folds(replace(table, rows=rows), frozenset()), label_rows, patients)
    yield from _official(scan, patients, pairs)


def _patients(label_rows: LabelRows) -> dict[Path, str]:
    """Photo to label file and patient or visit: the same name in two files is not one person."""
    rows = {photo: label_rows.first(photo, "patient") for photo in label_rows.by_photo}
    return {photo: f"{row.table}\n{row.value('patient')}" for photo, row in rows.items() if row is not None}


def _rows(scan: Scan, folds: Folds) -> Iterator[Finding]:
    """Photos in two rows, and rows of photos that are missing although others of their subset are here."""
    file = scan.relative(folds.table.file)
    first: dict[str, LabelRow] = {}
    lost: list[LabelRow] = []
    for row in folds.table.rows:
        one = first.setdefault(label_of(row), row)
        if one is not row:
            visits, numbers = ([each.value(role) for each in (one, row)] for role in ("patient", "fold"))
            same = visits[0] == visits[1] and numbers[0] == numbers[1]
            says = f"{label_of(row)} is in rows {one.row} and {row.row}, "
            says += "which are equal." if same else "which contradict each other."
            evidence = {"rows": [one.row, row.row], "folds": numbers, "visits": [visit or "" for visit in visits]}
            yield found("folds_row_twice", [file, *scan.names(row.photo)], says, evidence | {"same": same})
        elif row.photo is None and row.cells["subset"].text in folds.here:
            lost.append(row)
    if len(lost) > _ROW_BY_ROW:
        says = f"{len(lost)} rows are about photos that are not here."
        yield found("folds_unknown_photo", [file], says, {"rows": [row.row for row in lost][:_LISTED]})
        return
    for row in lost:
        says = f"Row {row.row} gives a fold to {label_of(row)}, but no such photo is here."
        yield found("folds_unknown_photo", [file], says, {"row": row.row, "column": "image", "value": row.name})


def _unlisted(scan: Scan, folds: Folds, label_rows: LabelRows) -> Iterator[Finding]:
    """Photos without a fold in folders where most photos have one."""
    listed = {row.photo for row in folds.table.rows if row.photo is not None}
    file = scan.relative(folds.table.file)
    for folder, count in Counter(photo.parent for photo in listed).items():
        here = [photo for photo in scan.inventory.photos if photo.parent == folder]
        lost = [photo for photo in here if photo not in listed]
        if count < len(here) / 2:
            continue
        if len(lost) > _ROW_BY_ROW:
            says = f"{len(lost)} of {len(here)} photos of the folder have no fold."
            yield found("folds_missing_photo", [file, *scan.names(*lost)], says)
            continue
        for photo in lost:
            says = f"{photo.name} has no fold; {count} other photos of its folder have one."
            evidence = {"has_labels": photo in label_rows.by_photo}
            yield found("folds_missing_photo", [file, scan.relative(photo)], says, evidence)


def _visits(scan: Scan, folds: Folds, patients: Mapping[Path, str]) -> Iterator[Finding]:
    """Visits of the file, and patients of the label files, that are in several folds."""
    groups: dict[tuple[str, str], list[LabelRow]] = defaultdict(list)
    in_fold = [row for row in folds.table.rows if row.value("fold") is not None]
    for row in in_fold:
        if row.value("patient"):
            groups["Visit", row.value("patient")].append(row)
    for row in in_fold:
        if row.photo is not None and row.photo in patients:
            groups["Patient or visit", patients[row.photo]].append(row)
    reported: set[tuple[int, ...]] = set()
    for (word, name), rows in groups.items():
        numbers, values = tuple(row.row for row in rows), [row.value("fold") for row in rows]
        if len(set(values)) < 2 or numbers in reported:
            continue
        reported.add(numbers)
        shown = name.rsplit("\n", 1)[-1]
        says = f"{word} {shown} is in folds {', '.join(map(str, sorted(set(values))))}."
        evidence = {"rows": list(numbers), "column": "fold", "value": values, "visit": shown}
        yield found("visit_across_folds", scan.names(folds.table.file, *(row.photo for row in rows)), says, evidence)


def _separated_duplicates(scan: Scan, folds: Folds, pairs: Sequence[DuplicatePair]) -> Iterator[Finding]:
    """One finding for all duplicates that the file puts into different folds."""
    fold_of: dict[str, int] = {}
    for row in folds.table.rows:
        if row.photo is not None and row.value("fold") is not None:
            fold_of.setdefault(scan.relative(row.photo), row.value("fold"))
    separated = [
        (pair.first, pair.second, pair.kind, fold_of[pair.first], fold_of[pair.second])
        for pair in pairs
        if pair.first in fold_of and pair.second in fold_of and fold_of[pair.first] != fold_of[pair.second]
    ]
    if not separated:
        return
    says = f"{len(separated)} pairs of equal photos or of photos of one eye are in different folds."
    evidence = {"pairs": [{"photos": [one, two], "kind": kind, "folds": [a, b]} for one, two, kind, a, b in separated]}
    photos = sorted({name for one, two, *_ in separated for name in (one, two)})
    yield found("duplicates_across_folds", [scan.relative(folds.table.file), *photos], says, evidence)


def _spread(scan: Scan, folds: Folds, label_rows: LabelRows, patients: Mapping[Path, str]) -> Iterator[Finding]:
    """Sizes of the folds, and their grades, for each subset."""
    file = scan.relative(folds.table.file)
    subsets: dict[str, list[LabelRow]] = defaultdict(list)
    for row in folds.table.rows:
        if row.value("fold") is not None and row.photo is not None:
            subsets[row.cells["subset"].text].append(row)
    numbers = sorted({row.value("fold") for row in folds.table.rows} - {None})
    for subset, rows in subsets.items():
        sizes = Counter(row.value("fold") for row in rows)
        mean = len(rows) / len(numbers)
        uneven = any(not UNEQUAL[0] * mean <= sizes[fold] <= UNEQUAL[1] * mean for fold in numbers)
        if uneven and mean >= EXPECTED:
            says = f"The folds of {subset} have {', '.join(str(sizes[fold]) for fold in numbers)} photos."
            evidence = {"subset": subset, "photos": {str(fold): sizes[fold] for fold in numbers}}
            yield found("fold_sizes", [file], says, evidence)
        graded = [
            (row, grade)
            for row in rows
            if row.photo is not None and (grade := label_rows.value(row.photo, "grade")) is not None
        ]
        if len(graded) >= len(numbers) * EXPECTED:
            visits = [row.value("patient") or patients.get(row.photo or Path(), f"row {row.row}") for row, _ in graded]
            of_folds, grades = [row.value("fold") for row, _ in graded], [grade for _, grade in graded]
            yield from _grades(file, subset, numbers, of_folds, grades, _chance(visits, of_folds, grades))


def _grades(
    file: str, subset: str, numbers: Sequence[int], folds: Sequence[int], grades: Sequence[int], chance: float
) -> Iterator[Finding]:
    """Grades that the folds of a subset have in uneven numbers. folds, grades: one value per photo."""
    counts = np.zeros((len(numbers), len(GRADES)), int)
    np.add.at(counts, (np.searchsorted(numbers, folds), np.asarray(grades)), 1)
    evidence = {
        "subset": subset,
        "photos_by_grade": {str(fold): counts[k].tolist() for k, fold in enumerate(numbers)},
        "chance": round(chance, 4),
    }
    none = np.argwhere((counts == 0) & (expected_counts(counts) >= EXPECTED))
    if len(none):
        fold, grade = none[0]
        says = f"Fold {numbers[fold]} of {subset} has no photo of grade {grade}, "
        says += f"of which there are {counts[:, grade].sum()}."
        yield found("fold_classes", [file], says, evidence)
    elif chance < CHANCE:
        says = f"The grades of {subset} differ more between the folds than between folds drawn at random."
        yield found("fold_classes", [file], says, evidence)


def _chance(visits: Sequence[str], folds: Sequence[int], grades: Sequence[int]) -> float:
    """How often folds that whole visits are shuffled between are as uneven; each sequence has one value per photo."""
    visit_of = np.unique(visits, return_inverse=True)[1]
    fold_of = np.zeros(visit_of.max() + 1, int)
    fold_of[visit_of] = np.unique(folds, return_inverse=True)[1]
    counts = np.zeros((len(fold_of), max(grades) + 1))
    np.add.at(counts, (visit_of, np.asarray(grades)), 1)
    return permutation_p_value(fold_of, counts)


def _official(scan: Scan, patients: Mapping[Path, str], pairs: Sequence[DuplicatePair]) -> Iterator[Finding]:
    """Patients and duplicates on both sides of a split made by folders."""
    people: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for photo, patient in patients.items():
        name = scan.relative(photo)
        if (split := split_of(name)) is not None:
            people[patient][split].append(name)
    yield from _together("patients or visits are on two sides of an official split", _on_both_sides(people))
    apart = []
    for pair in pairs:
        splits = [split_of(pair.first), split_of(pair.second)]
        if None not in splits and splits[0] != splits[1]:
            apart.append({"photos": [pair.first, pair.second], "splits": splits})
    if apart:
        says = f"{len(apart)} pairs of equal photos or of photos of one eye are on two sides of an official split."
        photos = sorted({name for pair in apart for name in pair["photos"]})
        yield found("duplicates_across_folds", photos, says, {"pairs": apart})


def _on_both_sides(people: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[Finding]:
    """people: patient to split to the photos' names."""
    for patient, splits in people.items():
        if len(splits) > 1:
            shown = patient.rsplit("\n", 1)[-1]
            says = f"Patient or visit {shown} has photos in {' and in '.join(sorted(splits))}."
            names = sorted(name for names in splits.values() for name in names)
            yield found("visit_across_splits", names, says, {"visit": shown, "splits": sorted(splits)})


def _together(what: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings of one kind; one for all where there are more than `_ROW_BY_ROW`."""
    each = list(findings)
    if len(each) <= _ROW_BY_ROW:
        yield from each
        return
    files = dict.fromkeys(name for one in each for name in one.files)
    visits = [one.evidence["visit"] for one in each]
    says = f"{len(each)} {what}. First: {each[0].says}"
    yield found(each[0].kind, list(files), says, {"count": len(each), "visits": visits[:_LISTED]})
