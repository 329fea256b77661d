"""How many planted faults the doctor finds, and what it finds on clean photos: two Markdown tables.

python -m tests.doctor.planted [--data FOLDER] [--seed N] [--each 10] [--keep FOLDER] [--list]

Data sets of drawn eyes, and of copies of real photos where --data names their folder, are written into a temporary
folder, spoiled in about fifty realistic ways, ten of each, and examined as `funduscope doctor` does. The truth is known
file by file. A finding of severity warning or error is false where no planted fault in its files explains it. The
second part has 150 drawn eyes with correct labels and 150 photos of srahim that were checked by eye (clean.py lists the
excluded ones, and why).
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from funduscope.doctor.examine import check_data
from funduscope.doctor.finding import Finding

from . import clinics, duplicates, official, photographs
from .clean import write_clean
from .eyes import endless
from .truth import Fault, Plot, unexplained


def main() -> int:
    """Writes, examines, prints; exit code 1 where a bar is missed."""
    options = _options()
    with tempfile.TemporaryDirectory() as place:
        root = options.keep or Path(place)
        plot = write_planted(root / "planted", options.seed, options.data, options.each)
        began = time.monotonic()
        report = check_data(plot.root, cache=root / "cache", workers=options.workers)
        recall = _planted(plot.faults, report.findings, options.list)
        print(f"\n{report.photos} photos examined in {time.monotonic() - began:.0f} s.", end=" ")
        print(f"{platform.machine()}, {options.workers} workers, seed {options.seed}.\n", flush=True)
        count = write_clean(root / "clean", options.seed, options.data)
        clean = check_data(root / "clean", cache=root / "cache", workers=options.workers)
        serious = [finding for finding in clean.findings if finding.severity != "info"]
        infos = Counter(finding.kind for finding in clean.findings if finding.severity == "info")
        print(f"{count} clean photos: {len(serious)} findings of severity warning or error; of info: {dict(infos)}.")
        _show(serious)
    return int(recall < 0.95 or len(serious) > 2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of srahim's and HEI-MED's photos; otherwise all are drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=10, help="faults of each kind")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="write into this folder, which must be new, and leave it there")
    parser.add_argument("--list", action="store_true", help="name what was missed and every false finding")
    return parser.parse_args()


def write_planted(root: Path, seed: int, data: Path | None, each: int) -> Plot:
    """Writes the spoiled data sets into a folder; returns the planted faults."""
    plot = Plot(root, seed, data)
    eyes = endless(plot)
    photographs.plant(plot, root / "photos", eyes, each)
    rows = duplicates.plant(plot, root / "duplicates", eyes, each)
    (root / "duplicates" / "labels.csv").write_text("\n".join(rows) + "\n")
    official.plant(plot, root / "idrid", each)
    clinics.plant(plot, root, each)
    return plot


def _planted(faults: list[Fault], findings: tuple[Finding, ...], in_full: bool) -> float:
    """Prints the table and the false findings; returns the recall over all faults."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    missed = []
    for fault in faults:
        found = any(fault.is_found_by(finding) for finding in findings)
        kinds[fault.name].append(found)
        if not found:
            missed.append(fault)
    print("| planted | faults | found | recall |")
    print("|---|---|---|---|")
    for name, found in kinds.items():
        print(f"| {name} | {len(found)} | {sum(found)} | {sum(found) / len(found):.2f} |")
    recall = 1 - len(missed) / len(faults)
    print(f"| **all {len(kinds)} kinds** | {len(faults)} | {len(faults) - len(missed)} | {recall:.3f} |")
    false = unexplained(findings, faults)
    print(f"\nFindings that no planted fault explains: {len(false)} {dict(Counter(one.kind for one in false)) or ''}")
    if in_full:
        for fault in missed:
            print(f"- missed: {fault.name}: {', '.join(fault.files)}" + (f" row {fault.row}" if fault.row else ""))
        _show(false)
    return recall


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        print(f"- {finding.severity} {finding.kind}: {', '.join(finding.files[:4])}: {finding.says}")


if __name__ == "__main__":
    sys.exit(main())
