"""From a data set's folder to a report of what is wrong with it: each part examines, this file asks them in turn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from funduscope.atomic import write_atomically
from funduscope.data.case import Case, LabelError
from funduscope.data.sources import READERS, read_data
from funduscope.doctor import (
    cameras,
    duplicate_checks,
    label_checks,
    label_noise,
    mask_checks,
    photo_checks,
    split_checks,
    wrong_eye,
)
from funduscope.doctor.doctor_html import page
from funduscope.doctor.finding import Finding, found, ordered
from funduscope.doctor.inventory import take_inventory
from funduscope.doctor.kinds import SEVERITIES
from funduscope.doctor.label_rows import read_label_rows
from funduscope.doctor.mask_files import read_outlines
from funduscope.doctor.scan import Progress, Scan, take_scan
from funduscope.duplicates.pairs import DuplicatePair
from funduscope.duplicates.search import compare

SCHEMA: Final = "funduscope-doctor/1"
PAGE, TABLE = "doctor.html", "doctor.json"


@dataclass(frozen=True, eq=False)
class Report:
    """What was found in a data set; `findings` are worst first.

    cases: what readers understand of it; pairs: its proved pairs, by the photos' names. Both are what `repair` needs.
    """

    data: Path
    scan: Scan
    findings: tuple[Finding, ...]
    cases: tuple[Case, ...] = ()
    pairs: tuple[DuplicatePair, ...] = ()

    @property
    def photos(self) -> int:
        return len(self.scan)

    @property
    def has_errors(self) -> bool:
        """Whether anything was found that spoils a training or a score."""
        return any(one.severity == "error" for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As doctor.json has it."""
        return {
            "schema": SCHEMA,
            "data": str(self.data),
            "photos": self.photos,
            "counts": {severity: sum(one.severity == severity for one in self.findings) for severity in SEVERITIES},
            "findings": [one.to_dict() for one in self.findings],
        }

    def write(self, out: Path, progress: Progress = lambda items, words, total: items) -> None:
        """Writes doctor.json and doctor.html into a folder, each whole or not at all."""
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / TABLE, (json.dumps(self.to_dict(), indent=1) + "\n").encode())
        name = self.data.absolute().name or str(self.data)
        html = page(name, self.photos, self.findings, self.scan.thumbnail, progress)
        write_atomically(out / PAGE, html.encode())


def examine(
    data: Path,
    *,
    models: Sequence[Path] = (),
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress = lambda items, words, total: items,
) -> Report:
    """Examine a data set: a folder (one data set's, of several, or of photos alone) or a table (.csv) of photos.

    models: run folders whose answers are held against the labels of photos they did not learn from. What was seen of a
    photo is kept in the cache folder, so that a run that was stopped goes on. Raises `LabelError` where there is
    nothing at the path, and what `noise.check` raises of a model, both before any photo is looked at.
    """
    label_noise.check(models)
    inventory = take_inventory(data)
    scan = take_scan(inventory, cache, workers, progress)
    label_rows = read_label_rows(inventory)
    outlines = read_outlines(inventory, label_rows)
    cases, findings = read_cases(data)
    named = {inventory.relative(case.path): case for case in cases}
    names = {case.key: name for name, case in named.items()}
    pairs = compare(scan.sketches(_copies_aside(scan, named)), workers, progress)
    of_labels = list(label_checks.examine(scan, label_rows, outlines))

    def said(name: str) -> duplicate_checks.Said:
        return duplicate_checks.said_of(named.get(name), inventory.root / name, label_rows)

    findings += photo_checks.examine(scan)
    findings += cameras.examine(scan, cases, names)
    findings += duplicate_checks.examine(pairs, said, scan.image)
    findings += of_labels
    findings += mask_checks.examine(scan, label_rows, progress)
    findings += wrong_eye.examine(scan, label_rows, outlines, of_labels)
    findings += split_checks.examine(scan, cases, pairs, label_rows)
    findings += label_noise.examine(scan, cases, models, pairs, progress)
    return Report(data, scan, tuple(ordered(findings)), tuple(cases), tuple(pairs))


def read_cases(data: Path) -> tuple[list[Case], list[Finding]]:
    """What the readers understand of a data set, and where they stop: a data set that cannot be read hides no other.

    The photos' paths are absolute, as an inventory has them, however the data set's path is written.
    """
    places = [data]
    if data.is_dir() and not _recognized(data):
        places = [child for child in sorted(data.iterdir()) if child.is_dir() and _recognized(child)]
    cases: list[Case] = []
    findings: list[Finding] = []
    for place in places:
        try:
            cases.extend(replace(case, path=case.path.absolute()) for case in read_data([place]))
        except LabelError as error:
            findings.append(found("labels_unreadable", [place.relative_to(data).as_posix()], str(error)))
    return cases, findings


def _recognized(folder: Path) -> bool:
    return any(reader.recognize(folder) for reader in READERS.values())


def _copies_aside(scan: Scan, cases: Mapping[str, Case]) -> set[str]:
    """Photos that no label belongs to and that lie under the same name and with the same bytes where labels do.

    IDRiD's release has the photos of B once more in C: one photo in two folders, and nothing is wrong with it.
    """
    labelled = {(PurePosixPath(name).name, record.sha256) for name in cases if (record := scan.record(name))}
    return {
        record.path
        for record in scan
        if record.path not in cases and (PurePosixPath(record.path).name, record.sha256) in labelled
    }
