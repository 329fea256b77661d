"""What is wrong with folds and official splits: eyes on both sides, missing photos, uneven sizes and grades."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from funduscope.data.case import Case
from funduscope.doctor.finding import Finding, found
from funduscope.doctor.fold_rows import FoldRow, Folds, read_all_folds
from funduscope.doctor.inventory import split_of
from funduscope.doctor.label_rows import LabelRows, read_label_rows
from funduscope.doctor.permutation_test import chance_of
from funduscope.doctor.scan import Scan

if TYPE_CHECKING:
    from funduscope.duplicates.pairs import DuplicatePair

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
    yield from _official(scan, patients, pairs)


def _patients(label_rows: LabelRows) -> dict[Path, str]:
    """Photo to label file and patient or visit: the same name in two files is not one person."""
    rows = {photo: label_rows.first(photo, "patient") for photo in label_rows.by_photo}
    return {photo: f"{row.table}\n{row.value('patient')}" for photo, row in rows.items() if row is not None}


def _rows(scan: Scan, folds: Folds) -> Iterator[Finding]:
    """Photos in two rows, and rows of photos that are missing although others of their subset are here."""
    file = scan.relative(folds.file)
    first: dict[tuple[str, str], FoldRow] = {}
    lost = []
    for row in folds.rows:
        one = first.setdefault((row.subset, row.name), row)
        if one is not row:
            same = (one.visit, one.fold) == (row.visit, row.fold)
            says = f"{row.label} is in rows {one.row} and {row.row}, "
            says += "which are equal." if same else "which contradict each other."
            evidence = {"rows": [one.row, row.row], "folds": [one.fold, row.fold], "visits": [one.visit, row.visit]}
            yield found("folds_row_twice", [file, *_name(scan, row)], says, evidence | {"same": same})
        elif row.photo is None and row.is_here:
            lost.append(row)
    if len(lost) > _ROW_BY_ROW:
        says = f"{len(lost)} rows are about photos that are not here."
        evidence: dict[str, Any] = {"rows": [row.row for row in lost][:_LISTED]}
        yield found("folds_unknown_photo", [file], says, evidence)
        return
    for row in lost:
        says = f"Row {row.row} gives a fold to {row.label}, but no such photo is here."
        evidence = {"row": row.row, "column": "image", "value": row.name}
        yield found("folds_unknown_photo", [file], says, evidence)


def _name(scan: Scan, row: FoldRow) -> list[str]:
    return [scan.relative(row.photo)] if row.photo is not None else []


def _unlisted(scan: Scan, folds: Folds, label_rows: LabelRows) -> Iterator[Finding]:
    """Photos without a fold in folders where most photos have one."""
    listed = {row.photo for row in folds.rows if row.photo is not None}
    folders = Counter(photo.parent for photo in listed)
    file = scan.relative(folds.file)
    for folder, count in folders.items():
        here = [photo for photo in scan.inventory.photos if photo.parent == folder]
        lost = [photo for photo in here if photo not in listed]
        if not lost or count < len(here) / 2:
            continue
        if len(lost) > _ROW_BY_ROW:
            says = f"{len(lost)} of {len(here)} photos of the folder have no fold."
            yield found("folds_missing_photo", [file, *(scan.relative(photo) for photo in lost)], says)
            continue
        for photo in lost:
            says = f"{photo.name} has no fold; {count} other photos of its folder have one."
            labelled = photo in label_rows.by_photo
            yield found("folds_missing_photo", [file, scan.relative(photo)], says, {"has_labels": labelled})


def _visits(scan: Scan, folds: Folds, patients: Mapping[Path, str]) -> Iterator[Finding]:
    """Visits of the file, and patients of the label files, that are in several folds."""
    visits: dict[str, list[FoldRow]] = defaultdict(list)
    people: dict[str, list[FoldRow]] = defaultdict(list)
    for row in folds.rows:
        if row.visit and row.fold is not None:
            visits[row.visit].append(row)
        if row.photo is not None and row.photo in patients and row.fold is not None:
            people[patients[row.photo]].append(row)
    reported: set[tuple[int, ...]] = set()
    for word, groups in (("Visit", visits), ("Patient or visit", people)):
        for name, rows in groups.items():
            numbers = tuple(row.row for row in rows)
            if len({row.fold for row in rows}) < 2 or numbers in reported:
                continue
            reported.add(numbers)
            in_folds = sorted({row.fold for row in rows if row.fold is not None})
            shown = name.rsplit("\n", 1)[-1]
            says = f"{word} {shown} is in folds {', '.join(map(str, in_folds))}."
            photos = [name for row in rows for name in _name(scan, row)]
            evidence = {"rows": list(numbers), "column": "fold", "value": [row.fold for row in rows], "visit": shown}
            yield found("visit_across_folds", [scan.relative(folds.file), *photos], says, evidence)


def _separated_duplicates(scan: Scan, folds: Folds, pairs: Sequence[DuplicatePair]) -> Iterator[Finding]:
    """One finding for all duplicates that the file puts into different folds."""
    fold_of = {scan.relative(photo): fold for photo, fold in folds.fold_of().items()}
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
    yield found("twins_across_folds", [scan.relative(folds.file), *photos], says, evidence)


def _spread(scan: Scan, folds: Folds, label_rows: LabelRows, patients: Mapping[Path, str]) -> Iterator[Finding]:
    """Sizes of the folds, and their grades, for each subset."""
    file = scan.relative(folds.file)
    subsets: dict[str, list[FoldRow]] = defaultdict(list)
    for row in folds.rows:
        if row.fold is not None and row.photo is not None:
            subsets[row.subset].append(row)
    numbers = sorted({row.fold for row in folds.rows if row.fold is not None})
    for subset, rows in subsets.items():
        sizes = Counter(row.fold for row in rows)
        counts = {str(fold): sizes[fold] for fold in numbers}
        mean = len(rows) / len(numbers)
        uneven = {fold: size for fold, size in counts.items() if not UNEQUAL[0] * mean <= size <= UNEQUAL[1] * mean}
        if uneven and mean >= EXPECTED:
            says = f"The folds of {subset} have {', '.join(map(str, counts.values()))} photos."
            yield found("fold_sizes", [file], says, {"subset": subset, "photos": counts})
        yield from _grades(file, subset, rows, numbers, label_rows, patients)


def _grades(
    file: str,
    subset: str,
    rows: Sequence[FoldRow],
    numbers: Sequence[int],
    label_rows: LabelRows,
    patients: Mapping[Path, str],
) -> Iterator[Finding]:
    graded = [(row, label_rows.value(row.photo, "grade")) for row in rows if row.photo is not None]
    graded = [(row, grade) for row, grade in graded if grade is not None]
    if len(graded) < len(numbers) * EXPECTED:
        return
    counts = np.zeros((len(numbers), 5), int)
    for row, grade in graded:
        counts[numbers.index(row.fold or 0), grade] += 1
    sizes, totals = counts.sum(axis=1), counts.sum(axis=0)
    expected = np.outer(sizes, totals) / max(1, counts.sum())
    none = [(numbers[k], g) for k, g in np.argwhere((counts == 0) & (expected >= EXPECTED))]
    visits = [row.visit or patients.get(row.photo or Path(), str(row.row)) for row, _ in graded]
    chance = _chance(visits, [row.fold or 0 for row, _ in graded], [grade for _, grade in graded])
    evidence = {
        "subset": subset,
        "photos_by_grade": {str(fold): counts[k].tolist() for k, fold in enumerate(numbers)},
        "chance": round(chance, 4),
    }
    if none:
        fold, grade = none[0]
        says = f"Fold {fold} of {subset} has no photo of grade {grade}, of which there are {int(totals[grade])}."
        yield found("fold_classes", [file], says, evidence)
    elif chance < CHANCE:
        says = f"The grades of {subset} differ more between the folds than between folds drawn at random."
        yield found("fold_classes", [file], says, evidence)


def _chance(visits: Sequence[str], folds: Sequence[int], grades: Sequence[int]) -> float:
    """How often folds that whole visits are shuffled between are as uneven; each sequence has one value a photo."""
    visit_of = np.unique(visits, return_inverse=True)[1]
    fold_of = np.zeros(visit_of.max() + 1, int)
    fold_of[visit_of] = np.unique(folds, return_inverse=True)[1]
    counts = np.zeros((len(fold_of), max(grades) + 1))
    np.add.at(counts, (visit_of, np.asarray(grades)), 1)
    return chance_of(fold_of, counts)


def _official(scan: Scan, patients: Mapping[Path, str], pairs: Sequence[DuplicatePair]) -> Iterator[Finding]:
    """Patients and duplicates on both sides of a split made by folders."""
    people: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for photo, patient in patients.items():
        name = scan.relative(photo)
        split = split_of(name)
        if split is not None:
            people[patient][split].append(name)
    yield from _together("patients or visits are on two sides of an official split", _on_both_sides(people))
    apart = [(pair.first, pair.second) for pair in pairs if _splits_differ(pair)]
    if apart:
        says = f"{len(apart)} pairs of equal photos or of photos of one eye are on two sides of an official split."
        photos = sorted({name for names in apart for name in names})
        evidence = {"pairs": [{"photos": list(names), "splits": list(map(split_of, names))} for names in apart]}
        yield found("twins_across_folds", photos, says, evidence)


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


def _splits_differ(pair: DuplicatePair) -> bool:
    one, other = split_of(pair.first), split_of(pair.second)
    return one is not None and other is not None and one != other
