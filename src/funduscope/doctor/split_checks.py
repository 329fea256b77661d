"""What is wrong with folds and official splits: eyes on both sides, photos left out, sizes and grades that differ."""

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
from funduscope.doctor.scan import Scan

if TYPE_CHECKING:
    from funduscope.duplicates.pairs import DuplicatePair

UNEQUAL: Final = (0.6, 1.6)
"""A fold with fewer or more photos than these shares of the mean."""

CHANCE: Final = 0.001
"""How rarely folds drawn by visit may be spread as unevenly over the grades."""

EXPECTED: Final = 5.0
"""Photos of a grade that a fold should have before having none is told."""

_DRAWS: Final = 2000
_LISTED: Final = 200
_ROW_BY_ROW: Final = 50


def examine(
    scan: Scan, cases: Sequence[Case] = (), pairs: Iterable[DuplicatePair] = (), label_rows: LabelRows | None = None
) -> Iterator[Finding]:
    """Findings about the files of folds, and about folders of a training and a test split.

    cases: what readers understand, if they do. pairs: pairs by the photos' names.
    """
    label_rows = label_rows or read_label_rows(scan.inventory)
    pairs = list(pairs)
    patients = _patients(label_rows)
    for folds in read_all_folds(scan, label_rows, cases):
        yield from _rows(scan, folds)
        yield from _unlisted(scan, folds, label_rows)
        yield from _together("visits or patients are in several folds", _visits(scan, folds, patients))
        yield from _parted_twins(scan, folds, pairs)
        yield from _spread(scan, folds, label_rows, patients)
    yield from _official(scan, patients, pairs)


def _patients(label_rows: LabelRows) -> dict[Path, str]:
    """Photo to patient or visit as the label files tell it; the same word in two files is not one person."""
    held: dict[Path, str] = {}
    for photo, rows in label_rows.by_photo.items():
        row = next((row for row in rows if row.value("patient") is not None), None)
        if row is not None:
            held[photo] = f"{row.table}\n{row.value('patient')}"
    return held


def _rows(scan: Scan, folds: Folds) -> Iterator[Finding]:
    """Photos in two rows, and rows of photos that are not here although others of their subset are."""
    file = scan.relative(folds.file)
    first: dict[tuple[str, str], FoldRow] = {}
    lost = []
    for row in folds.rows:
        held = first.setdefault((row.subset, row.name), row)
        if held is not row:
            same = (held.visit, held.fold) == (row.visit, row.fold)
            says = f"{row.label} stands in rows {held.row} and {row.row}"
            says += ", which say the same." if same else ", which say different things."
            evidence = {"rows": [held.row, row.row], "folds": [held.fold, row.fold], "visits": [held.visit, row.visit]}
            yield found("folds_row_twice", [file, *_name(scan, row)], says, evidence | {"same": same})
        elif row.photo is None and row.is_here:
            lost.append(row)
    if len(lost) > _ROW_BY_ROW:
        says = f"{len(lost)} rows are about photos that are not here."
        evidence: dict[str, Any] = {"rows": [row.row for row in lost][:_LISTED]}
        yield found("folds_unknown_photo", [file], says, evidence)
        return
    for row in lost:
        says = f"Row {row.row} gives a fold to {row.label}, of which no photo is here."
        evidence = {"row": row.row, "column": "image", "value": row.name}
        yield found("folds_unknown_photo", [file], says, evidence)


def _name(scan: Scan, row: FoldRow) -> list[str]:
    return [scan.relative(row.photo)] if row.photo is not None else []


def _unlisted(scan: Scan, folds: Folds, label_rows: LabelRows) -> Iterator[Finding]:
    """Photos without a fold in folders of which most have one."""
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
            says = f"{photo.name} has no fold; {count} others of its folder have."
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
    told: set[tuple[int, ...]] = set()
    for word, groups in (("Visit", visits), ("Patient or visit", people)):
        for name, rows in groups.items():
            numbers = tuple(row.row for row in rows)
            if len({row.fold for row in rows}) < 2 or numbers in told:
                continue
            told.add(numbers)
            in_folds = sorted({row.fold for row in rows if row.fold is not None})
            shown = name.rsplit("\n", 1)[-1]
            says = f"{word} {shown} is in folds {', '.join(map(str, in_folds))}."
            photos = [name for row in rows for name in _name(scan, row)]
            evidence = {"rows": list(numbers), "column": "fold", "value": [row.fold for row in rows], "visit": shown}
            yield found("visit_across_folds", [scan.relative(folds.file), *photos], says, evidence)


def _parted_twins(scan: Scan, folds: Folds, pairs: Sequence[DuplicatePair]) -> Iterator[Finding]:
    """All pairs of twins that the file puts into several folds, as one finding."""
    fold_of = {scan.relative(photo): fold for photo, fold in folds.fold_of().items()}
    parted = [
        (pair.first, pair.second, pair.kind, fold_of[pair.first], fold_of[pair.second])
        for pair in pairs
        if pair.first in fold_of and pair.second in fold_of and fold_of[pair.first] != fold_of[pair.second]
    ]
    if not parted:
        return
    says = f"{len(parted)} pairs of photos that are one or show one eye are in different folds."
    evidence = {"pairs": [{"photos": [one, two], "kind": kind, "folds": [a, b]} for one, two, kind, a, b in parted]}
    photos = sorted({name for one, two, *_ in parted for name in (one, two)})
    yield found("twins_across_folds", [scan.relative(folds.file), *photos], says, evidence)


def _spread(scan: Scan, folds: Folds, label_rows: LabelRows, patients: Mapping[Path, str]) -> Iterator[Finding]:
    """Sizes of the folds, and grades over them, by subset."""
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
    chance = _by_chance(counts, visits, [row.fold or 0 for row, _ in graded], [grade for _, grade in graded])
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
        says = f"The grades of {subset} differ between the folds more than folds drawn by lot would."
        yield found("fold_classes", [file], says, evidence)


def _by_chance(counts: np.ndarray, visits: Sequence[str], folds: Sequence[int], grades: Sequence[int]) -> float:
    """How often folds in which whole visits are shuffled are as uneven (chi-squared) as these: (K, G) counts."""
    order = sorted(set(visits))
    place = {visit: index for index, visit in enumerate(order)}
    by_visit = np.zeros((len(order), counts.shape[1]))
    fold_of = np.zeros(len(order), int)
    names = sorted(set(folds))
    for visit, fold, grade in zip(visits, folds, grades, strict=True):
        by_visit[place[visit], grade] += 1
        fold_of[place[visit]] = names.index(fold)
    members = np.eye(len(names))
    observed = _unevenness(members[fold_of].T @ by_visit)
    rng = np.random.default_rng(0)
    as_uneven = sum(
        _unevenness(members[rng.permutation(fold_of)].T @ by_visit) >= observed - 1e-9 for _ in range(_DRAWS)
    )
    return (as_uneven + 1) / (_DRAWS + 1)


def _unevenness(counts: np.ndarray) -> float:
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / max(1.0, counts.sum())
    return float((np.square(counts - expected) / np.maximum(expected, 1e-9)).sum())


def _official(scan: Scan, patients: Mapping[Path, str], pairs: Sequence[DuplicatePair]) -> Iterator[Finding]:
    """Patients and twins on both sides of a split that folders make."""
    people: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for photo, patient in patients.items():
        name = scan.relative(photo)
        split = split_of(name)
        if split is not None:
            people[patient][split].append(name)
    yield from _together("patients or visits stand on two sides of an official split", _on_both_sides(people))
    parted = [(twin.first, twin.second) for twin in pairs if _splits_differ(twin)]
    if parted:
        says = f"{len(parted)} pairs of photos that are one or show one eye stand on two sides of an official split."
        photos = sorted({name for pair in parted for name in pair})
        evidence = {"pairs": [{"photos": list(pair), "splits": [split_of(name) for name in pair]} for pair in parted]}
        yield found("twins_across_folds", photos, says, evidence)


def _on_both_sides(people: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[Finding]:
    """people: patient to split to the photos' names."""
    for patient, held in people.items():
        if len(held) > 1:
            shown = patient.rsplit("\n", 1)[-1]
            says = f"Patient or visit {shown} has photos in {' and in '.join(sorted(held))}."
            names = sorted(name for names in held.values() for name in names)
            yield found("visit_across_splits", names, says, {"visit": shown, "splits": sorted(held)})


def _together(what: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings of one kind as they are; where they are more than anybody reads, one for all."""
    held = list(findings)
    if len(held) <= _ROW_BY_ROW:
        yield from held
        return
    files = dict.fromkeys(name for one in held for name in one.files)
    visits = [one.evidence["visit"] for one in held]
    says = f"{len(held)} {what}. First: {held[0].says}"
    yield found(held[0].kind, list(files), says, {"count": len(held), "visits": visits[:_LISTED]})


def _splits_differ(pair: DuplicatePair) -> bool:
    one, other = split_of(pair.first), split_of(pair.second)
    return one is not None and other is not None and one != other
