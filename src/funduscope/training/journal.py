"""The run folder's diary: a line an epoch in JSONL and TensorBoard, curves as a picture, and what the run was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

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
"""What an epoch's numbers are drawn with, a panel each: the first word of their name, lesions and pixels apart."""


class Journal:
    """Writes the epochs of one run; lines of epochs that a resumed run does again are dropped first."""

    def __init__(self, folder: Path, done_epochs: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.path = folder / "journal.jsonl"
        kept = [line for line in self.lines() if line["epoch"] <= done_epochs]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=done_epochs + 1)

    def lines(self) -> list[dict[str, Any]]:
        """Every epoch's line so far; not the half of one that a killed process left at the end."""
        if not self.path.is_file():
            return []
        return [json.loads(line) for line in self.path.read_text("utf-8").split("\n")[:-1] if line]

    def write(self, line: dict[str, Any]) -> None:
        """Appends one epoch: `epoch` and numbers by name; draws the curves anew."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if isinstance(value, int | float) and name != "epoch":
                self.board.add_scalar(name.replace(" ", "/", 1), value, line["epoch"])
        self.board.flush()
        draw_curves(self.lines(), self.path.with_name("curves.png"))


def draw_curves(lines: list[dict[str, Any]], path: Path) -> None:
    """A panel for every family of numbers, a curve for every member: losses, grades, lesions, distances in pixels,
    weights of the tasks, experts.
    """
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
            look = {"color": colormaps["tab10"](place % 10), "linestyle": ("-", "--", ":", "-.")[place // 10 % 4]}
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.split(" ", 1)[1], **look)
        axis.set(title=family, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=100)


def _family(name: str) -> str:
    """The panel of a number: a share of 1 could not be seen beside pixels, nor grades among twenty lesions."""
    first, last = name.split(" ", 1)[0], name.rsplit(" ", 1)[-1]
    if first == "validation":
        return {"px": "distance", "AP": "lesions", "IoU": "lesions", "Dice": "lesions"}.get(last, first)
    return first


def environment() -> dict[str, Any]:
    """The software and the machine's class; nothing that names a machine or a person."""
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
    """What a training here computes on: cpu, or cuda with the accelerator's product name."""
    import torch

    return f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"


def fingerprint(cases: list[Case]) -> str:
    """A hash of every photo's bytes and every label, in order of key: the same data has the same fingerprint."""
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
