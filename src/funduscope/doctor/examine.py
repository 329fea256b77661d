"""From a data set's folder to a report of what is wrong with it: runs every check and collects the findings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from funduscope.atomic import write_atomically, write_json
from funduscope.data.case import Case, LabelError
from funduscope.data.sources import READERS, read_data
from funduscope.doctor import cameras, duplicate_checks, label_checks, label_noise, photo_checks, split_checks
from funduscope.doctor.anatomy_checks import AnatomyChecks
from funduscope.doctor.doctor_html import page
from funduscope.doctor.finding import Finding, found, ordered
from funduscope.doctor.inventory import take_inventory
from funduscope.doctor.kinds import SEVERITIES
from funduscope.doctor.label_rows import read_label_rows
from funduscope.doctor.labeled_photo import check_photos
from funduscope.doctor.mask_checks import MaskChecks
from funduscope.doctor.mask_files import read_outlines
from funduscope.doctor.scan import Scan, take_scan
from funduscope.doctor.wrong_eye import WrongEyeChecks
from funduscope.duplicates.search import compare
from funduscope.imaging.hidden_files import is_hidden
from funduscope.progress import Progress, no_progress

SCHEMA: Final = "funduscope-doctor/1"
PAGE, TABLE = "doctor.html", "doctor.json"


@dataclass(frozen=True, eq=False)
class Report:
    """The findings of a data set, worst first."""

    data: Path
    scan: Scan
    findings: tuple[Finding, ...]

    @property
    def photos(self) -> int:
        return len(self.scan)

    @property
    def has_errors(self) -> bool:
        """Whether any finding makes a training or a score wrong."""
        return any(one.severity == "error" for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The content of doctor.json."""
        return {
            "schema": SCHEMA,
            "data": str(self.data),
            "photos": self.photos,
            "counts": {severity: sum(one.severity == severity for one in self.findings) for severity in SEVERITIES},
            "findings": [one.to_dict() for one in self.findings],
        }

    def write(self, out: str | os.PathLike[str], progress: Progress = no_progress) -> None:
        """Writes doctor.json and doctor.html into a folder, each completely or not at all."""
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / TABLE, self.to_dict(), indent=1)
        name = self.data.absolute().name or str(self.data)
        html = page(name, self.photos, self.findings, self.scan.thumbnail, progress)
        write_atomically(out / PAGE, html.encode())


def check_data(
    data: str | os.PathLike[str],
    *,
    models: Sequence[str | os.PathLike[str]] = (),
    cache: Path | None = None,
    workers: int = 2,
    progress: Progress = no_progress,
) -> Report:
    """What is wrong with a data set: a folder (one data set's, of several, of photos alone) or a table (.csv).

    models: run folders that predict the photos that they did not learn from, to compare with the labels. cache: the
    folder that keeps each photo's record, so that a run that was stopped continues. workers: processes; 0 works in this
    one, and a script that asks for any needs `if __name__ == "__main__":`, since each imports it. Raises `LabelError`
    if there is nothing at the path, and what `label_noise.load_models` raises, both before any photo is opened.
    """
    data = Path(data)
    loaded = label_noise.load_models([Path(model) for model in models])
    inventory = take_inventory(data)
    scan = take_scan(inventory, cache, workers, progress)
    label_rows = read_label_rows(inventory)
    outlines = read_outlines(inventory, label_rows)
    cases, findings = read_cases(data)
    by_name = {inventory.relative(case.path): case for case in cases}
    names = {case.key: name for name, case in by_name.items()}
    pairs = compare(scan.descriptors(_unlabeled_copies(scan, by_name)), workers, progress)

    def labels_of(name: str) -> duplicate_checks.PhotoLabels:
        return duplicate_checks.labels_of(by_name.get(name), inventory.root / name, label_rows)

    checks = [
        AnatomyChecks(),
        MaskChecks(scan, label_rows, outlines),
        WrongEyeChecks(scan, label_rows, outlines),
    ]
    findings += photo_checks.examine(scan)
    findings += cameras.examine(scan, cases, names)
    findings += duplicate_checks.examine(pairs, labels_of, scan.image)
    findings += label_checks.examine(scan, label_rows)
    findings += check_photos(scan, label_rows, outlines, checks, progress)
    findings += split_checks.examine(scan, cases, pairs, label_rows)
    findings += label_noise.examine(scan, cases, loaded, pairs, progress)
    return Report(data, scan, tuple(ordered(findings)))


def read_cases(data: Path) -> tuple[list[Case], list[Finding]]:
    """The cases of each data set, and a finding for each data set that its reader refuses.

    The photos' paths are absolute, as in an inventory, however the data set's path is written.
    """
    folders = [data]
    if data.is_dir() and not _recognized(data):
        children = [child for child in sorted(data.iterdir()) if child.is_dir() and not is_hidden(child.name)]
        folders = [child for child in children if _recognized(child)]
    cases: list[Case] = []
    findings: list[Finding] = []
    for folder in folders:
        try:
            read = read_data([folder], check_folds=False)  # split_checks reports visits in several folds
            cases.extend(replace(case, path=case.path.absolute()) for case in read)
        except LabelError as error:
            name = data.name if data.is_file() else folder.relative_to(data).as_posix()
            findings.append(found("labels_unreadable", [name], str(error)))
    return cases, findings


def _recognized(folder: Path) -> bool:
    return any(reader.recognize(folder) for reader in READERS.values())


def _unlabeled_copies(scan: Scan, cases: Mapping[str, Case]) -> set[str]:
    """Unlabeled photos with the name and bytes of a labeled one, which are no duplicates to report.

    IDRiD's release has the photos of B once more in C.
    """
    labeled = {(PurePosixPath(name).name, record.sha256) for name in cases if (record := scan.record(name))}
    return {
        record.path
        for record in scan
        if record.path not in cases and (PurePosixPath(record.path).name, record.sha256) in labeled
    }
