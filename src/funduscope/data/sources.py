"""Cases of the paths that a user gives: each a data set's folder, a folder of several, or a table.

A data set is one file in `data/readers`.
"""

from __future__ import annotations

import os
import pkgutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

from funduscope.data import readers, table
from funduscope.data.case import Case, LabelError
from funduscope.data.folds import PATIENT, TABLE, apply_folds, check_visits, find_folds, read_folds
from funduscope.imaging.hidden_files import is_hidden

READERS: dict[str, ModuleType] = {
    reader.NAME: reader
    for file in pkgutil.iter_modules(readers.__path__)
    for reader in [import_module(f"{readers.__name__}.{file.name}")]
}
"""Name of a data set to its reader: the files of `data/readers`."""


PathName = str | os.PathLike[str]
Data = PathName | Sequence[PathName] | Sequence[Case]
"""Photos with their labels: paths as `read_data` takes them, or cases."""


def cases_of(data: Data) -> list[Case]:
    """The cases that are given, or those in the given paths.

    Raises `LabelError` as `read_data`, also for given cases if two have one key, or a visit is in two folds: photos
    are distinguished by their keys.
    """
    given = [data] if isinstance(data, str | os.PathLike) else list(data)
    if not given or not all(isinstance(one, Case) for one in given):
        return read_data(cast("Sequence[PathName]", given))
    cases = cast("list[Case]", given)
    _check_keys(cases)
    check_visits(cases)
    return cases


def read_data(paths: PathName | Sequence[PathName], *, check_folds: bool = True) -> list[Case]:
    """Every case in the path or paths, sorted by key, with folds and visits from the nearest `folds.csv`.

    A path is a data set's folder (recognized by its content), a folder of several (others in it are skipped) or a
    table of the user's own photos (.csv). Raises `LabelError` if a path is none of these, if no case is found,
    if two cases have one key (the same data given twice), or if a visit, or a patient of a table, is in two
    folds; check_folds: whether the latter is an error.
    """
    cases: list[Case] = []
    of_patients: list[Case] = []  # whose visits may be others in a folds.csv that is older than the table
    for path in map(Path, [paths] if isinstance(paths, str | os.PathLike) else paths):
        read = _read(path)
        file = find_folds(path)
        placed = apply_folds(read, read_folds(file)) if file else read
        cases.extend(placed)
        pairs = zip(read, placed, strict=True)
        of_patients += [
            one.in_fold(own.fold) for one, own in pairs if one.visit.startswith(PATIENT) and own.fold is not None
        ]
    if not cases:
        raise LabelError("No data was given: name a data set's folder, a folder of several, or a table (.csv).")
    _check_keys(cases)
    if check_folds:
        check_visits(of_patients)
        check_visits(cases)
    return sorted(cases, key=lambda case: case.key)


def _read(path: Path) -> list[Case]:
    if path.is_file():
        if path.suffix.lower() != ".csv":
            workbook = " Save a workbook as CSV UTF-8." if path.suffix.lower() in (".xlsx", ".xls", ".ods") else ""
            expected = "expected a data set's folder, a folder of several, or a table (.csv)."
            raise LabelError(f"{path} is a file; {expected}{workbook}")
        return table.read(path)
    if not path.is_dir():
        raise LabelError(f"{path} is not there; expected a data set's folder, a folder of several, or a table (.csv).")
    try:
        children = [child for child in sorted(path.iterdir()) if child.is_dir() and not is_hidden(child.name)]
    except OSError as error:
        raise LabelError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    reader = _reader(path)
    if reader is not None:
        return reader.read(path)
    readers = [(child, reader) for child in children if (reader := _reader(child)) is not None]
    if not readers:
        raise _unrecognized(path)
    return [case for child, reader in readers for case in reader.read(child)]


def _reader(folder: Path) -> ModuleType | None:
    """The reader that recognizes a folder; None also for one that may not be read, such as a disk's lost+found."""
    for reader in READERS.values():
        with suppress(OSError):
            if reader.recognize(folder):
                return reader
    return None


def _unrecognized(path: Path) -> LabelError:
    names = sorted(child.name + "/" * child.is_dir() for child in path.iterdir())
    found = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return LabelError(
        f"{path} is no data set that is known here. Found: {found or 'nothing'}. Expected the folder of one of "
        f"{', '.join(READERS)}, or a folder of such folders. For photos of your own, write a table with a column path "
        "(and dr, dme and so on, as far as known) and give that .csv file."
    )


def _check_keys(cases: Sequence[Case]) -> None:
    paths: dict[str, list[Path]] = defaultdict(list)
    for case in cases:
        paths[case.key].append(case.path)
    twice = {key: places for key, places in paths.items() if len(places) > 1}
    if twice:
        key, places = next(iter(twice.items()))
        more = f" ({len(twice) - 1} more are so)" if len(twice) > 1 else ""
        says = f"{key} is there twice{more}: {places[0]} and {places[1]}."
        if key.startswith(f"{TABLE}/") and places[0].resolve() != places[1].resolve():
            raise LabelError(
                f"{says} Tables that are given together must not name different photos alike: write one table, in a "
                "folder above both, whose paths begin there."
            )
        raise LabelError(f"{says} Give each data set once, and each Case a key of its own.")
