"""How long and how much memory one photo takes from nothing: whole processes, as a person or a script starts them.

python benchmarks/cold_start.py [PHOTO] [--runs N] [--model MODEL]

Without PHOTO: a 4288x2848 photo of IDRiD's from the folder that FUNDUSCOPE_DATA names, otherwise a drawn eye of that
size. Prints a Markdown table. Peak memory is the operating system's own figure for the child (its largest resident
size). Needs a POSIX system, for `os.wait4`, and the extra `dicom`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from funduscope.capacity import core_count

WIDTH_PX = 4288
BASELINE = """
import sys, numpy, cv2, onnxruntime, simplejpeg
with open(sys.argv[1], "rb") as file:
    data = file.read()
assert simplejpeg.decode_jpeg(data, colorspace="RGB").shape[2] == 3
"""
DRAWN = "drawn_eye.jpg"
DRAW = """
import sys
from PIL import Image
from funduscope.testing.drawn_eyes import draw_eye
Image.fromarray(draw_eye(1, grade=3, width_px=int(sys.argv[2])).pixels).save(sys.argv[1], quality=92)
"""
WRAP = """
import sys
from pathlib import Path
from PIL import Image
from pydicom import FileDataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
meta = FileMetaDataset()
meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = "1.2.840.10008.1.2.4.50", "1.2.840.10008.5.1.4.1.1.77.1.5.1"
meta.MediaStorageSOPInstanceUID = "1.2.3.4"
one = FileDataset(sys.argv[2], {}, file_meta=meta, preamble=bytes(128))
one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
one.Columns, one.Rows = Image.open(sys.argv[1]).size
one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration = 3, "YBR_FULL_422", 0
one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 8, 8, 7, 0
one.PixelData = encapsulate([Path(sys.argv[1]).read_bytes()])
one["PixelData"].VR = "OB"
dcmwrite(sys.argv[2], one, enforce_file_format=True)
"""
JSON, DICOM = "`funduscope predict --json PHOTO`", "`funduscope predict --json`, the same JPEG in a DICOM file"


@dataclass(frozen=True)
class Cost:
    """Of one process: seconds by the clock, seconds of processor time, largest resident memory in MB (10**6 bytes)."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        photo = options.photo or _photo(Path(folder))
        commands = _commands(photo, Path(folder), options.model)
        costs = _measure(commands, options.runs, Path(folder) / "out")
        _print(costs, photo, options.runs)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path, help="a JPEG; by default one of IDRiD's, or a drawn eye")
    parser.add_argument("--runs", type=int, default=5, help="runs that count, after one that does not (default 5)")
    parser.add_argument("--model", help="default, fast, an ONNX file or a run folder")
    return parser.parse_args()


def _commands(photo: Path, folder: Path, model: str | None) -> dict[str, list[str]]:
    wrapped, out = folder / "eye.dcm", folder / "out"
    subprocess.run([sys.executable, "-c", WRAP, str(photo), str(wrapped)], check=True)
    script = shutil.which("funduscope", path=Path(sys.executable).parent) or shutil.which("funduscope")
    tool = [script] if script else [sys.executable, "-m", "funduscope"]
    chosen = [] if model is None else ["--model", model]
    return {
        "baseline: import numpy, cv2, onnxruntime; decode": [sys.executable, "-c", BASELINE, str(photo)],
        "`import funduscope`": [sys.executable, "-c", "import funduscope"],
        "`funduscope --help`": [*tool, "--help"],
        JSON: [*tool, "predict", "--json", str(photo), *chosen],
        DICOM: [*tool, "predict", "--json", str(wrapped), *chosen],
        "`funduscope predict PHOTO --out DIR`": [*tool, "predict", str(photo), "--out", str(out), *chosen],
    }


def _measure(commands: dict[str, list[str]], runs: int, out: Path) -> dict[str, list[Cost]]:
    """The costs of the runs after a warm-up, which fills the file cache and compiles the modules, as the first start
    after an installation does. Ends the benchmark where one fails.

    The commands run in turn, so that what else the machine does concerns all of them.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            costs[name].append(_run(command))
    return {name: measured[1:] for name, measured in costs.items()}


def _run(command: list[str]) -> Cost:
    # With it every start would compile each module that it imports.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            sys.exit(f"{' '.join(command)} ended with {process.returncode}: {said.read().decode(errors='replace')}")
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6)


def _photo(folder: Path) -> Path:
    data = Path(os.environ.get("FUNDUSCOPE_DATA", "")) / "idrid" / "A. Segmentation"
    photos = sorted(data.rglob("IDRiD_*.jpg")) if os.environ.get("FUNDUSCOPE_DATA") else []
    if photos:
        return photos[0]
    path = folder / DRAWN
    # In a process of its own: a child's peak starts at its parent's, so this one has to stay small.
    subprocess.run([sys.executable, "-c", DRAW, str(path), str(WIDTH_PX)], check=True)
    return path


def _print(costs: dict[str, list[Cost]], photo: Path, runs: int) -> None:
    from PIL import Image

    with Image.open(photo) as picture:
        size = f"{picture.width}x{picture.height}, {photo.stat().st_size / 1e6:.1f} MB"
    kind = "drawn eye" if photo.name == DRAWN else photo.name
    print(f"Machine: {_processor()}, {core_count()} cores, {platform.system()}, Python {platform.python_version()}.")
    load = f", load average {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    print(f"Photo: {kind} ({size}). {runs} runs after a warm-up; min / median / max{load}.")
    print()
    print("| process | wall, s | processor, s | peak memory, MB | times the baseline's wall |")
    print("|---|---|---|---|---|")
    base = statistics.median(cost.wall_s for cost in next(iter(costs.values())))
    for name, measured in costs.items():
        walls, processor, peaks = (
            [getattr(cost, part) for cost in measured] for part in ("wall_s", "cpu_s", "peak_mb")
        )
        ratio = statistics.median(walls) / base
        print(f"| {name} | {_three(walls, 2)} | {_three(processor, 2)} | {_three(peaks, 0)} | {ratio:.2f} |")
    print()
    pairs = list(zip(costs[DICOM], costs[JSON], strict=True))
    parts = {"processor time": "cpu_s", "wall time": "wall_s", "memory": "peak_mb"}
    ratios = {name: [getattr(a, part) / getattr(b, part) for a, b in pairs] for name, part in parts.items()}
    print("DICOM over JPEG: " + ", ".join(f"{name} {_three(values, 2)}" for name, values in ratios.items()))


def _three(values: list[float], digits: int) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


def _processor() -> str:
    """The processor's model, as far as the system says it."""
    about = Path("/proc/cpuinfo")
    if about.is_file():
        for line in about.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "unknown processor"


if __name__ == "__main__":
    sys.exit(main())
