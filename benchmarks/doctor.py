"""How the doctor's time and memory grow with the number of photos: drawn eyes, surveyed, compared and written down.

python benchmarks/doctor.py [--photos N] [--width PX] [--workers N] [--data FOLDER]

Draws N eyes into a temporary folder (each another eye), examines them as `funduscope doctor` does, and prints a
Markdown table: after every tenth of the photos, and after each later step, the resident memory of the main process and
of its workers, and the time since the step began. Memory that stays level while the photos grow is what is to be seen.
With --data an existing data set is examined instead. Needs psutil.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import psutil
from PIL import Image

from funduscope.doctor.examine import check_data
from funduscope.testing.drawn_eyes import STYLES, draw_eye


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as place:
        folder = options.data or _drawn(Path(place) / "photos", options)
        print(f"{platform.machine()}, {psutil.cpu_count()} logical processors, {options.workers} workers\n")
        print("| step | photos | main process, MB | all processes, MB | seconds |")
        print("|---|---|---|---|---|")
        began = time.monotonic()
        report = check_data(folder, cache=Path(place) / "cache", workers=options.workers, progress=_watched)
        report.write(Path(place) / "out", _watched)
        page = (Path(place) / "out" / "doctor.html").stat().st_size
        print(
            f"\n{report.photos} photos, {len(report.findings)} findings in {time.monotonic() - began:.0f} s;", end=" "
        )
        kinds = Counter(f"{one.kind} ({one.severity})" for one in report.findings)
        print(f"{', '.join(f'{count} {kind}' for kind, count in kinds.most_common())};", end=" ")
        print(f"doctor.html {page / 1e6:.1f} MB, kept on disk {_size(Path(place) / 'cache') / 1e6:.0f} MB.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=400, help="px of a drawn photo")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, help="examine this data set instead")
    return parser.parse_args()


def _drawn(folder: Path, options: argparse.Namespace) -> Path:
    folder.mkdir()
    with ProcessPoolExecutor(max(1, options.workers)) as pool:
        for _ in pool.map(partial(_draw, folder, options.width), range(options.photos), chunksize=20):
            pass
    return folder


def _draw(folder: Path, width_px: int, seed: int) -> None:
    cv2.setNumThreads(1)
    style = list(STYLES.values())[seed % len(STYLES)]
    Image.fromarray(draw_eye(seed, width_px=width_px, style=style).pixels).save(folder / f"{seed:05d}.jpg", quality=90)


def _watched(items: Iterable[Any], label: str, total: int | None) -> Iterator[Any]:
    """The items as they come; a row of the table after every tenth of them."""
    began, step = time.monotonic(), max(1, (total or 10) // 10)
    for number, item in enumerate(items, start=1):
        yield item
        if number % step == 0 or number == total:
            own, all_of_it = _memory_mb()
            print(f"| {label} | {number} | {own:.0f} | {all_of_it:.0f} | {time.monotonic() - began:.0f} |", flush=True)


def _memory_mb() -> tuple[float, float]:
    """Resident memory in MB (10**6 bytes) of this process, and of it with its children."""
    this = psutil.Process()
    own, children = this.memory_info().rss, 0
    for child in this.children(recursive=True):
        try:
            children += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return own / 1e6, (own + children) / 1e6


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
