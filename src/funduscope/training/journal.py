"""What a run writes down: a line per epoch in JSONL and TensorBoard, curves, software, machine and data."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from funduscope.data.case import Case
from funduscope.version import __version__

_PACKAGES = (
    "torch",
    "timm",
    "segmentation-models-pytorch",
    "accelerate",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
)

FAMILIES = ("loss", "validation", "lesions", "distance", "weight", "experts")
"""The panels of the curves: the first word of a number's name, but lesions and pixels have panels of their own."""


class Journal:
    """Writes the epochs of one run. Lines of epochs that a resumed run repeats are dropped first."""

    def __init__(self, folder: Path, done_epochs: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.path = folder / "journal.jsonl"
        kept = [line for line in self.lines() if line["epoch"] <= done_epochs]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=done_epochs + 1)

    def lines(self) -> list[dict[str, Any]]:
        """Every epoch's line so far, without the half line that a killed process left at the end."""
        if not self.path.is_file():
            return []
        return [json.loads(line) for line in self.path.read_text("utf-8").split("\n")[:-1] if line]

    def write(self, line: dict[str, Any]) -> None:
        """Appends one epoch, `epoch` and numbers by name, and redraws the curves."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if isinstance(value, int | float) and name != "epoch":
                self.board.add_scalar(name.replace(" ", "/", 1), value, line["epoch"])
        self.board.flush()
        draw_curves(self.lines(), self.path.with_name("curves.png"))


def draw_curves(lines: list[dict[str, Any]], path: Path) -> None:
    """A panel for each of `FAMILIES`, a curve for each of its numbers."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    families: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name in sorted({name for line in lines for name, value in line.items() if isinstance(value, int | float)}):
        if _family(name) in families:
            families[_family(name)].append(name)
    families = {family: members for family, members in families.items() if members}
    if not families:
        return
    columns = min(2, len(families))
    rows = -(-len(families) // columns)
    figure = Figure(figsize=(7.5 * columns, 4.2 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[len(families) :]:
        axis.set_axis_off()
    for axis, (family, members) in zip(axes, families.items(), strict=False):
        for place, name in enumerate(members):
            points = [(line["epoch"], line[name]) for line in lines if line.get(name) is not None]
            style = {"color": colormaps["tab10"](place % 10), "linestyle": ("-", "--", ":", "-.")[place // 10 % 4]}
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.split(" ", 1)[1], **style)
        axis.set(title=family, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=100)


def _family(name: str) -> str:
    """The panel of a number: shares of 1 would be invisible next to pixels, grades among twenty lesions."""
    first, last = name.split(" ", 1)[0], name.rsplit(" ", 1)[-1]
    if first == "validation":
        return {"px": "distance", "AP": "lesions", "IoU": "lesions", "Dice": "lesions"}.get(last, first)
    return first


def environment() -> dict[str, Any]:
    """Versions of the software, and the kind of machine; nothing that identifies a machine or a person."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "funduscope": __version__,
        "device": device(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }


def device() -> str:
    """The device of a training here: cpu, or cuda with the product's name."""
    return f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"


def peak_mb(device: torch.device) -> float | None:
    """Peak memory of this process in 10**6 bytes: of the accelerator where the device is one, otherwise resident.

    Without the loader's workers. None where the system does not report it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def fingerprint(cases: list[Case]) -> str:
    """A hash of every photo's bytes and every label, in order of key. The same data has the same fingerprint."""
    digest = hashlib.sha256()
    for case in sorted(cases, key=lambda case: case.key):
        labels = case.labels
        plain = (
            labels.grade,
            labels.dme,
            sorted(labels.dme_among or ()),
            labels.quality,
            labels.disc_xy,
            labels.fovea_xy,
        )
        digest.update(repr((case.key, case.visit, case.fold, plain)).encode())
        drawn = (sorted(labels.experts.items()), sorted(labels.boxes.items()), labels.laterality)
        digest.update(repr(drawn).encode())
        files = [(code, path) for code, mask in sorted(labels.masks.items()) for path in mask.paths or (None,)]
        for name, path in [("photo", case.path), *files, *sorted(labels.votes.items())]:
            digest.update(name.encode() + (path.read_bytes() if path else b"absent"))
    return digest.hexdigest()
