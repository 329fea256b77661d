"""How well duplicates are found: altered copies of real photos, planted among all photos of a data set.

python -m research.duplicates DATA [--photos N] [--seed S] [--workers N] [--cache FOLDER]

Of N photos (default 60), as many of each source, five copies are made: resized to a quarter (not under 256 px wide),
saved as JPEG of quality 30, a tenth of width and height cropped away around, mirrored, and all of it together. They
join the photos of DATA, and everything is compared with everything as `funduscope doctor` does. Prints Markdown: for
each kind of copy how many were found to be duplicates of their original, by source, and how many pairs hold two eyes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from funduscope.doctor.inventory import take_inventory
from funduscope.doctor.scan import take_scan
from funduscope.duplicates.cache import PhotoCache, StoredDescriptors
from funduscope.duplicates.descriptor import describe
from funduscope.duplicates.pairs import DuplicatePair
from funduscope.duplicates.search import compare
from funduscope.imaging.photo import Photo
from funduscope.process_pool import run_jobs

SOURCES: Final = {
    "IDRiD B": "idrid/B. Disease Grading/",
    "srahim": "srahim/",
    "HEI-MED": "heimed/",
    "EyePACS": "eyepacs400/",
}
MIN_PX: Final = 256
COPY: Final = "copy: "
"""What a copy's name begins with; its kind follows, then the original's name."""


def _resized(pixels: np.ndarray) -> np.ndarray:
    scale = max(0.25, MIN_PX / pixels.shape[1])
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _saved(pixels: np.ndarray) -> np.ndarray:
    held = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.ascontiguousarray(cv2.imdecode(held, cv2.IMREAD_COLOR)[..., ::-1])  # pyright: ignore[reportOptionalSubscript]


def _cropped(pixels: np.ndarray) -> np.ndarray:
    top, left = pixels.shape[0] // 20, pixels.shape[1] // 20
    return np.ascontiguousarray(pixels[top:-top, left:-left])


def _mirrored(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, ::-1])


KINDS: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "resized to 0.25x": _resized,
    "JPEG quality 30": _saved,
    "cropped by 10 %": _cropped,
    "mirrored": _mirrored,
    "all four": lambda pixels: _saved(_resized(_mirrored(_cropped(pixels)))),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="where the doctor keeps what it saw of DATA")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    scan = take_scan(take_inventory(options.data), options.cache, options.workers)
    own = {name: held.to_bytes() for name, held in scan.descriptors().items()}
    chosen = _chosen(sorted(own), options.photos, options.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        cache, digests = PhotoCache(Path(folder)), {}
        copies = run_jobs(_copied, [(options.data, name) for name in chosen], options.workers)
        made = {name: data for _, held in copies for name, data in (held or {}).items()}
        for name, data in (own | made).items():
            cache.write(name, (0, 0), {"descriptor": data})
            digests[name] = hashlib.sha256(data).hexdigest()
        pairs = compare(StoredDescriptors(cache, digests), options.workers)
    _report(pairs, chosen, len(own), time.monotonic() - began)
    return 0


def _chosen(names: list[str], count: int, seed: int) -> list[str]:
    """As many photos of each source, drawn by the seed."""
    pick = random.Random(seed)
    held = [[name for name in names if name.startswith(folder)] for folder in SOURCES.values()]
    return [name for each in held for name in sorted(pick.sample(each, min(len(each), count // len(SOURCES))))]


def _copied(job: tuple[Path, str]) -> dict[str, bytes]:
    """The sketches of a photo's copies, by their names."""
    data, name = job
    pixels = Photo.open(data / name).pixels
    return {f"{COPY}{kind}: {name}": describe(change(pixels)).to_bytes() for kind, change in KINDS.items()}


def _original(name: str) -> str:
    return name.split(": ", 2)[2] if name.startswith(COPY) else name


def _report(proved: list[DuplicatePair], chosen: list[str], photos: int, seconds: float) -> None:
    pairs = {frozenset((pair.first, pair.second)): pair for pair in proved}
    sources = " | ".join(f"{source} found" for source in SOURCES)
    print(f"| copy | {sources} | all | called `same_photo` | mirror recognized |")
    print("|---|" + "---|" * (len(SOURCES) + 3))
    for kind in KINDS:
        by_source: defaultdict[str, list[DuplicatePair | None]] = defaultdict(list)
        for name in chosen:
            source = next(source for source, folder in SOURCES.items() if name.startswith(folder))
            by_source[source].append(pairs.get(frozenset((name, f"{COPY}{kind}: {name}"))))
        found = [pair for held in by_source.values() for pair in held if pair is not None]
        cells = [
            _share(sum(pair is not None for pair in by_source[source]), len(by_source[source])) for source in SOURCES
        ]
        one_photo = sum(pair.kind == "same_photo" for pair in found)
        told = sum(pair.mirrored == (kind in ("mirrored", "all four")) for pair in found)
        cells += [_share(len(found), len(chosen)), _share(one_photo, len(found)), _share(told, len(found))]
        print(f"| {kind} | " + " | ".join(cells) + " |")
    own = [pair for pair in pairs if not any(name.startswith(COPY) for name in pair)]
    of_copies = [pair for pair in pairs if any(name.startswith(COPY) for name in pair)]
    false = [pair for pair in of_copies if _parted(pair, own)]
    print(f"\n{platform.machine()}, {os.cpu_count()} logical processors.", end=" ")
    print(f"{photos} photos and {len(chosen) * len(KINDS)} copies compared in {seconds:.0f} s:", end=" ")
    print(f"{len(own)} pairs of the photos themselves, {len(of_copies)} with a copy; of these {len(false)} false.")
    for pair in sorted(map(sorted, false)):
        print(f"- false: {pair[0]} | {pair[1]}")


def _parted(pair: Iterable[str], own: list[frozenset[str]]) -> bool:
    """Whether a pair's originals are neither one photo nor duplicates, nor both duplicates of a third."""
    one, other = map(_original, pair)
    near = [{one, *(name for each in own if one in each for name in each)} for one in (one, other)]
    return not near[0] & near[1]


def _share(some: int, of: int) -> str:
    return f"{some}/{of}"


if __name__ == "__main__":
    sys.exit(main())
