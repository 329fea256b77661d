"""What a run writes down: a line per epoch in JSONL and TensorBoard, curves, samples, software, machine and data."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import threading
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from torch import Tensor

from funduscope.atomic import read_lines, replacing, write_atomically
from funduscope.capacity import core_count
from funduscope.data.case import Case
from funduscope.data.prepare import CHANNELS
from funduscope.recipe import Recipe
from funduscope.training.batch import Batch, Item, Samples
from funduscope.training.samples import draw_epoch
from funduscope.version import __version__
from funduscope.vocabulary import CODES, EITHER_EXUDATE, PHOTO_TASKS, STRUCTURES

_PACKAGES = (
    "torch",
    "timm",
    "segmentation-models-pytorch",
    "accelerate",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
)

CURVES = "curves.png"

FAMILIES = (
    "loss",
    "validation loss",
    "validation",
    "training",
    "lesions",
    "distance",
    "gradient",
    "learning rate",
    "weight",
    "experts",
)
"""The panels of the curves. A number belongs to the panel of its first word; lesions and pixels have their own."""

_COLORS = {item.code: item.color for item in STRUCTURES} | {EITHER_EXUDATE: (255, 160, 60)}
_INK, _PAPER, _UNKNOWN = (30, 30, 30), (255, 255, 255), (96, 96, 96)
_HALF = 128
_COLUMNS, _SAMPLES = 6, 12
_SIDE_PX, _CAPTION_PX = 320, 44


class Journal:
    """Writes the epochs of one run. Lines of epochs that a resumed run repeats are dropped first.

    A context manager: at its end TensorBoard's thread ends, and errors of threads are handled as they were before.
    """

    def __init__(self, folder: Path, done_epochs: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.path = folder / "journal.jsonl"
        kept = [line for line in self.lines() if line["epoch"] <= done_epochs]
        if len({line["epoch"] for line in kept}) < done_epochs:
            print(f"warning: {self.path} has lost lines of epochs that were trained.", file=sys.stderr)
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=done_epochs + 1)
        self._earlier_hook = threading.excepthook
        threading.excepthook = self._of_thread

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Where the body failed, as on a full disk, closing may fail in the same way and would hide its error.
        with suppress(Exception) if kind else nullcontext():
            try:
                self.board.close()
            finally:
                threading.excepthook = self._earlier_hook

    def _of_thread(self, failed: threading.ExceptHookArgs) -> None:
        """Prints no error of TensorBoard's thread, such as a full disk: the next line that is written raises it."""
        if not type(failed.thread).__module__.startswith("tensorboard."):
            self._earlier_hook(failed)

    def lines(self) -> list[dict[str, Any]]:
        """Every epoch's line so far, without the half line that a killed process left at the end."""
        return read_lines(self.path) if self.path.is_file() else []

    def write(self, line: dict[str, Any]) -> None:
        """Appends one epoch, `epoch` and numbers by name, and redraws the curves."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if isinstance(value, int | float) and name != "epoch":
                self.board.add_scalar(name.replace(" ", "/", 1), value, line["epoch"])
        self.board.flush()
        draw_curves(self.lines(), self.path.with_name(CURVES))


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
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name.split(" ", 1)[-1], **style)
        axis.set(title=family, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    with replacing(path, one_writer=True) as unfinished:
        figure.savefig(unfinished, format="png", dpi=100)


def _family(name: str) -> str:
    """The panel of a number: shares of 1 would be invisible next to pixels, grades among twenty lesions."""
    first, last = name.split(" ", 1)[0], name.rsplit(" ", 1)[-1]
    for family in ("validation loss", "learning rate"):
        if name.startswith(family):
            return family
    if first == "validation":
        return {"px": "distance", "AP": "lesions", "IoU": "lesions", "Dice": "lesions"}.get(last, first)
    return first


def sentence(line: dict[str, Any], epochs: int) -> str:
    """An epoch in one line for the terminal: the tasks' losses and the selection score."""
    losses = sorted(name for name in line if name.startswith("loss ") and name.count(" ") == 1)
    shown = [*(name for name in losses if name != "loss total"), "loss total", "validation selection"]
    numbers = [f"{name} {line[name]:.3f}" for name in shown if name in line]
    return f"epoch {line['epoch']}/{epochs}  {line['seconds']:.0f} s  " + "  ".join(numbers)


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
        "cpus": core_count(),
        "packages": versions,
    }


def device() -> str:
    """The device of a training here: cpu, or cuda with the product's name."""
    return f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"


def peak_mb(device: torch.device) -> float | None:
    """Peak memory of this process in 10**6 bytes: of the accelerator where the device is one, otherwise resident.

    Without the loader's workers. None if the system does not report it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def draw_samples(recipe: Recipe, cases: list[Case], files: dict[str, Path], path: Path) -> None:
    """Writes the first samples of the first epoch as one PNG, those with masks first: what the network gets.

    Outlines: structures in their colors; crosses: disc center and fovea; below: the class of each photo task, a dash
    if unknown. Where masks are known, two tiles follow: the coverage of each structure, and its binary mask, the
    coverage from a half on. Black is known background, gray is unknown.
    """
    items = draw_epoch(cases, recipe, 0)
    if not items:
        return
    items = sorted(items, key=lambda item: not item.case.labels.masks)[: _SAMPLES // 2] + items
    chosen = list({item.seed: item for item in items}.values())[:_SAMPLES]
    samples = Samples(files, recipe)
    masked: list[np.ndarray] = []
    plain: list[np.ndarray] = []
    for item in chosen:
        sample = samples[item]
        if bool(sample.known.any()):
            tiles = [_tile(sample, item), *_truth(sample)]
            for tile in tiles:
                tile[:, -1] = _PAPER  # black would meet black
            masked.append(np.hstack(tiles))
        else:
            plain.append(_tile(sample, item))
    rows = _rows(masked) + _rows(plain)
    write_atomically(path, cv2.imencode(".png", np.vstack(rows)[..., ::-1])[1].tobytes())


def _rows(blocks: list[np.ndarray]) -> list[np.ndarray]:
    """The blocks, all of one width, in rows of `_COLUMNS` tiles."""
    if not blocks:
        return []
    many = _COLUMNS * _SIDE_PX // blocks[0].shape[1]
    blocks = blocks + [np.full_like(blocks[0], 255)] * (-len(blocks) % many)
    for block in blocks:
        block[:, -4:] = _PAPER
    return [np.hstack(blocks[start : start + many]) for start in range(0, len(blocks), many)]


def _tile(sample: Batch, item: Item) -> np.ndarray:
    """(side + caption, side, 3) uint8 RGB of one sample."""
    image = cv2.resize(sample.image.numpy(), (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    scale = _SIDE_PX / sample.image.shape[1]
    for index, code in enumerate(CHANNELS):
        mask = (sample.coverage[index].numpy() >= _HALF).astype(np.uint8)
        if mask.any():
            lines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            scaled = [np.rint((line + 0.5) * scale).astype(np.int32) for line in lines]
            cv2.drawContours(image, scaled, -1, _COLORS[code], 1, cv2.LINE_AA)
    for (x, y), known in zip(sample.landmarks.numpy() * scale, sample.landmarks_known.numpy(), strict=True):
        if known:
            cv2.drawMarker(image, (round(float(x)), round(float(y))), (255, 255, 255), cv2.MARKER_CROSS, 14, 1)
    known = [code for code, seen in zip(CHANNELS, sample.known.flatten(1).any(1).tolist(), strict=True) if seen]
    words = ["masks known: " + (" ".join(code for code in known if code in CODES) or "none")]
    labels = [f"{'grade' if task.name == 'grade' else task.title} {_label(sample.allowed[task.name])}"
              for task in PHOTO_TASKS]  # fmt: skip
    words.insert(0, "  ".join([item.view, *labels]))
    return np.vstack([image, _caption(words)])


def _label(allowed: Tensor) -> str:
    """A photo's label, or a dash if it has none."""
    return str(int(allowed.int().argmax())) if int(allowed.sum()) == 1 else "-"


def _truth(sample: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The tiles of a sample's coverage and of its binary masks."""
    coverage, known = sample.coverage.numpy(), sample.known.any(dim=0).numpy()
    soft = [_small(plane / 255) for plane in coverage]
    # A pixel with any part of a mask shows it: otherwise a microaneurysm would be lost.
    hard = [(_small(plane >= _HALF) > 0).astype(np.float32) for plane in coverage]
    there = [code for code, plane in zip(CHANNELS, coverage, strict=True) if plane.any()]
    captions = (
        _caption(["coverage, as it is learned", "" if there else "nothing there"]),
        _caption(["binary mask", "" if known.all() else "gray: not known"]),
    )
    left = 6
    for code in there:
        cv2.rectangle(captions[0], (left, 27), (left + 9, 36), _COLORS[code], -1)
        cv2.rectangle(captions[0], (left, 27), (left + 9, 36), _INK, 1)
        left = _write(captions[0], code, left + 14, 36) + 14
    shown = _small(known) > 0
    return np.vstack([_painted(soft, shown), captions[0]]), np.vstack([_painted(hard, shown), captions[1]])


def _small(plane: np.ndarray) -> np.ndarray:
    """(S, S) as a tile's (side, side) float32."""
    mode = cv2.INTER_AREA if len(plane) > _SIDE_PX else cv2.INTER_NEAREST
    return cv2.resize(plane.astype(np.float32), (_SIDE_PX, _SIDE_PX), interpolation=mode)


def _painted(shares: list[np.ndarray], known: np.ndarray) -> np.ndarray:
    """Structures in their colors, (side, side, 3) uint8, the smallest on top. shares: in 0..1, one per channel."""
    canvas = np.where(known[..., None], np.float32(0), np.array(_UNKNOWN, np.float32))
    for code, share in reversed(list(zip(CHANNELS, shares, strict=True))):
        canvas += share[..., None] * (np.array(_COLORS[code], np.float32) - canvas)
    return np.rint(canvas).astype(np.uint8)


def _caption(words: list[str]) -> np.ndarray:
    """A tile's lines of text on white."""
    caption = np.full((_CAPTION_PX, _SIDE_PX, 3), _PAPER, np.uint8)
    for line, text in enumerate(words):
        _write(caption, text, 6, 17 + 19 * line)
    return caption


def _write(caption: np.ndarray, text: str, left: int, bottom: int) -> int:
    """Writes into the caption. Returns the x at which the text ends."""
    cv2.putText(caption, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return left + cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0]
