"""Folds, read from a `folds.csv` or made by visit, so that no eye is in training and in the test at once."""

from __future__ import annotations

import csv
import hashlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from funduscope.atomic import replacing
from funduscope.data.case import Case, LabelError
from funduscope.data.rows import read_sheet

Place = tuple[str, int]
"""(visit, fold)."""

OFFICIAL_TEST = "/test"
"""Ends the subset of a photo that its data set's authors kept for the test: IDRiD's numbers repeat there."""

TABLE = "table"
"""The data set of the photos of a table."""

PATIENT = f"{TABLE}/patient/"
"""Begins the visit of a photo whose table names the patient."""

MAX_FOLD = 99
COLUMNS = ("subset", "image", "visit", "fold")


def find_folds(path: Path) -> Path | None:
    """The `folds.csv` in the folder, next to it or one level further up; the nearest one."""
    # Next to a link, and next to what it stands for.
    files = [
        place / "folds.csv"
        for start in (Path(os.path.normpath(path.absolute())), path.resolve())
        for place in (start, start.parent, start.parent.parent)
    ]
    return next((file for file in files if file.is_file()), None)


def read_folds(path: Path) -> dict[tuple[str, str], Place]:
    """(subset, image) to (visit, fold).

    Raises `LabelError` for a photo listed twice, a visit in two folds, or a photo of an official test.
    """
    places: dict[tuple[str, str], Place] = {}
    folds: dict[str, int] = {}
    for row in read_sheet(path, COLUMNS).rows:
        key, visit = (row.needed("subset"), row.needed("image")), row.needed("visit")
        fold = row.integer("fold", MAX_FOLD)
        if fold is None:
            raise row.error("fold", "is empty; expected the number of a fold, from 0")
        if key[0].endswith(OFFICIAL_TEST):
            raise row.error("subset", f"{key[0]} is an official test, whose photos are in no fold; remove these rows")
        if key in places:
            raise row.error("image", f"{'/'.join(key)} is in two rows; expected one a photo")
        if folds.setdefault(visit, fold) != fold:
            raise row.error("fold", f"visit {visit} is in fold {folds[visit]} already; a visit must stay in one fold")
        places[key] = (visit, fold)
    return places


def apply_folds(cases: Iterable[Case], places: dict[tuple[str, str], Place]) -> list[Case]:
    """The cases with their folds and visits; a case that is not listed, or has a fold, stays as it is."""
    found = []
    for case in cases:
        place = places.get(fold_key(case)) if case.fold is None else None
        found.append(case if place is None else case.in_fold(place[1], place[0]))
    return found


def check_visits(cases: Iterable[Case]) -> None:
    """Raises `LabelError` if photos of one visit are in different folds."""
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.visit, case) if case.fold is not None else case
        if other.fold != case.fold:
            who = f"patient {case.visit.removeprefix(PATIENT)}" if case.visit.startswith(PATIENT) else case.visit
            raise LabelError(
                f"{who} is in fold {other.fold} with {other.path} and in fold {case.fold} with {case.path}: the photos "
                "of one person must stay in one fold. Correct the folds, or move folds.csv away and make it anew with "
                "funduscope folds."
            )


def fold_key(case: Case) -> tuple[str, str]:
    """(subset, image) of a case in `folds.csv`. subset: A or B for IDRiD, otherwise the data set; of photos of an
    official test, which no folds.csv may list, with `OFFICIAL_TEST` behind it."""
    subset = case.dataset.removeprefix("idrid-")
    return (f"{subset}{OFFICIAL_TEST}" if case.split == "test" else subset), case.name


def make_folds(cases: Sequence[Case], count: int = 5, seed: int = 42) -> list[Case]:
    """The cases in `count` folds: visits whole; grades and photos with masks of each data set spread evenly.

    Greedy and deterministic. Visits are taken in an order drawn from `seed`, whatever the order of the cases, the
    largest and those of the rarest grades first. Each goes into the fold where its grades are scarcest, then into the
    one with fewest photos.
    """
    visits: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.key):
        visits[case.visit].append(case)
    kinds = Counter(_kind(case) for case in cases)
    order = sorted(visits)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda visit: (-len(visits[visit]), min(kinds[_kind(case)] for case in visits[visit])))
    filled = [Counter[tuple[str, int | None, bool]]() for _ in range(count)]
    fold_of: dict[str, int] = {}
    for visit in order:
        wanted = Counter(_kind(case) for case in visits[visit])
        crowded = [sum(there[kind] / kinds[kind] for kind in wanted) for there in filled]
        fold = min(range(count), key=lambda k: (crowded[k], filled[k].total(), k))
        fold_of[visit] = fold
        filled[fold].update(wanted)
    return [case.in_fold(fold_of[case.visit]) for case in cases]


def share_of(cases: list[Case], share: float) -> list[Case]:
    """The cases of a share (0 to 1) of each data set's visits: the first ones, in an order that never changes."""
    if share >= 1:
        return cases
    visits: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        visits[case.dataset].add(case.visit)
    kept: set[tuple[str, str]] = set()
    for dataset, mine in visits.items():
        order = sorted(mine, key=lambda visit: hashlib.sha256(visit.encode()).hexdigest())
        kept |= {(dataset, visit) for visit in order[: max(1, round(share * len(order)))]}
    return [case for case in cases if (case.dataset, case.visit) in kept]


def write_folds(cases: Iterable[Case], path: Path, further: Mapping[str, Callable[[Case], str]] | None = None) -> None:
    """Writes the cases that have a fold as a `folds.csv`, which `read_folds` reads back.

    further: columns after those of a data set's own, and what they say of a case.
    """
    added = further or {}
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*COLUMNS, *added))
        placed = (case for case in cases if case.fold is not None)
        writer.writerows(
            (*fold_key(case), case.visit, case.fold, *(say(case) for say in added.values())) for case in placed
        )


def _kind(case: Case) -> tuple[str, int | None, bool]:
    """What is spread evenly over the folds: grades, and photos with masks, of each data set."""
    return case.dataset, case.labels.grade, bool(case.labels.masks)
