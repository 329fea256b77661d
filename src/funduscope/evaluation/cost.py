"""Cost of a prediction: parameters, multiply-adds, and the time and memory of a whole `funduscope predict`.

Multiply-adds are counted by torch's counter during the forward passes of `predict`: convolutions, matrix products and
attention; a multiplication with its addition counts as one. Elementwise operations, normalization and resizing are not
counted, as is usual. With experts the count depends on the photo: it is then the mean over photos, and the count with
every expert computed is reported too.
"""

from __future__ import annotations

import copy
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from funduscope.capacity import core_count
from funduscope.imaging.demo_photo import demo_photo
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.card import Card
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import ModelError, Outputs, TorchRuntime
from funduscope.network.joined import JoinedNetwork, build_model
from funduscope.network.network import Network
from funduscope.network.routing import Dispatch
from funduscope.recipe import Recipe
from funduscope.vocabulary import View

AUTHORS_PX: Final = (712, 1072)
"""(H, W) of the photos that the authors of `moe_deeplab` trained it on. They published no multiply-adds."""

MULTIPLE: Final = 32
"""Heights and widths of a network's input are multiples of this."""


@dataclass(frozen=True)
class Work:
    """Multiply-adds: the mean over the counted photos. Without experts total equals dense.

    total: with the experts that the gates kept. dense: with every expert computed. experts, dense_experts: the part of
    each that experts take. kept: share of the experts that were computed; 1 if there are none. in_proportion: the
    sum over routers of the multiply-adds with every expert times the share of its experts that were computed; it
    differs from `experts` where a router's experts, or the routers, differ in size.
    """

    total: float
    dense: float
    experts: float = 0.0
    dense_experts: float = 0.0
    kept: float = 1.0
    in_proportion: float = 0.0

    def times(self, ratio: float) -> Work:
        """The same for `ratio` times the pixels."""
        scaled = {name: value * ratio for name, value in asdict(self).items() if name != "kept"}
        return Work(**scaled, kept=self.kept)


@dataclass(frozen=True)
class WorkAtSize:
    """The work on one image of a given size, (H, W).

    counted_px: the nearest size that the network takes, for which `counted` was counted. scaled: that times the ratio
    of the two areas, an estimate for asked_px: work grows with the area, except for pooled heads.
    """

    asked_px: tuple[int, int]
    counted_px: tuple[int, int]
    counted: Work
    scaled: Work


@dataclass(frozen=True)
class Cost:
    """What a network takes."""

    parameters: int
    """Of the whole network."""
    photo: Work
    """On one photo, all of its views."""
    views_px: tuple[int, ...]
    """The views' sides."""
    stated: tuple[WorkAtSize, ...]
    """On images of further sizes."""
    photos: int
    """The number of photos that the counts are means over; 0 if they do not depend on the photo."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Prediction:
    """A whole process `funduscope predict --json PHOTO`, and a baseline that only loads libraries and decodes.

    Medians over `runs` fresh processes each, in turn, after one that is not counted. Seconds differ by machine and
    day, so compare `times_baseline`. peak_mb: largest resident memory in 10**6 bytes; nan if it is not known.
    machine: its class.
    """

    wall_s: float
    peak_mb: float
    baseline_s: float
    baseline_mb: float
    runs: int
    photo: str
    machine: str

    @property
    def times_baseline(self) -> float:
        """How many times as long as the baseline it takes."""
        return self.wall_s / self.baseline_s

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; nan as None."""
        return {name: None if value != value else value for name, value in asdict(self).items()} | {
            "times_baseline": self.times_baseline
        }


def measure(
    network: Network | JoinedNetwork,
    recipe: Recipe,
    photos: Sequence[Photo | np.ndarray] = (),
    sizes: Sequence[tuple[int, int]] = (),
) -> Cost:
    """The cost of a network, in eval mode whatever mode it is in.

    photos: (H, W, 3) uint8 RGB each; with experts, counts are means over them; by default the packaged one.
    Without experts no count depends on the photo, and one image is enough. sizes: further (H, W) to count for.
    """
    routed = any(isinstance(module, Dispatch) for module in network.modules())
    side = recipe.views.close_px
    if routed and not photos:
        photos = [Photo.open(demo_photo().read_bytes())]
    images = [frame(photo, side).image for photo in photos] if routed else [np.zeros((side, side, 3), np.uint8)]
    network = copy.deepcopy(network).eval()  # the caller's stays in its mode
    card, both = Card.of(recipe), (network, build_model(_all_kept(recipe)).eval() if routed else network)
    work, views = _work(both, card, images, lambda runtime, image: Predictor(runtime).forward_views(image))
    stated = tuple(_stated(both, card, images, size) for size in sizes)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, work, tuple(views), stated, len(images) if routed else 0)


def _all_kept(recipe: Recipe) -> Recipe:
    """The recipe with every expert computed, in each stage."""
    own = {name: sections.get("experts", {}) | {"keep": "all"} for name, sections in recipe.stages.items()}
    stages = {name: recipe.stages[name] | {"experts": experts} for name, experts in own.items()}
    experts = recipe.experts.model_copy(update={"keep": "all"})
    return recipe.model_copy(update={"experts": experts, "stages": stages})


Both = tuple[Network | JoinedNetwork, Network | JoinedNetwork]
"""The network itself, and one with every expert kept."""


class _Counting:
    """A `Runtime` that counts multiply-adds, those of each router's experts, and the experts that were computed."""

    def __init__(self, network: Network | JoinedNetwork, card: Card) -> None:
        self.runtime, self.card, self.sha256 = TorchRuntime(network, card), card, ""
        # By router, its experts as torch's counter names them.
        self.experts = [
            [f"{type(network).__name__}.{name}.experts.{place}" for place in range(len(module.experts))]
            for name, module in network.named_modules()
            if isinstance(module, Dispatch)
        ]
        self.total = 0
        self.in_experts, self.computed, self.asked = ([0] * len(self.experts) for _ in range(3))
        self.sides: list[int] = []

    def __call__(self, images: np.ndarray, view: View = "whole") -> Outputs:
        self.sides.append(images.shape[2])
        with FlopCounterMode(display=False) as counter:
            outputs = self.runtime(images, view)
        counts = {name: sum(each.values()) // 2 for name, each in counter.get_flop_counts().items()}
        self.total += counts["Global"]
        for place, experts in enumerate(self.experts):
            computed = [counts[name] for name in experts if name in counts]
            self.in_experts[place] += sum(computed)
            self.computed[place] += len(computed)
            self.asked[place] += len(experts) if computed else 0  # without any, its network does not see this view
        return outputs


def _work(
    both: Both, card: Card, images: Sequence[np.ndarray], forward: Callable[[_Counting, np.ndarray], Any]
) -> tuple[Work, list[int]]:
    """The mean over the images, and the widths of the views of one image."""
    own, dense = (_Counting(network, card) for network in both)
    for image in images:
        forward(own, image)
        forward(dense, image)
    count = len(images)
    kept = sum(own.computed) / sum(own.asked) if any(own.asked) else 1.0
    routers = zip(dense.in_experts, own.computed, own.asked, strict=True)
    in_proportion = sum(every * chosen / asked for every, chosen, asked in routers if asked)
    experts = sum(own.in_experts) / count
    dense_experts = sum(dense.in_experts) / count
    work = Work(own.total / count, dense.total / count, experts, dense_experts, kept, in_proportion / count)
    return work, list(dict.fromkeys(dense.sides))  # a mirrored view and strips of one count once


def _stated(both: Both, card: Card, images: Sequence[np.ndarray], asked_px: tuple[int, int]) -> WorkAtSize:
    """The images stretched to the nearest size that the network takes, with one forward pass of each network."""
    # Of two equally near, the larger.
    height, width = (max(MULTIPLE, (side + MULTIPLE // 2) // MULTIPLE * MULTIPLE) for side in asked_px)
    resized = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
    views: tuple[View, ...] = ("whole", "close") if card.own_close else ("whole",)  # each network once
    work, _ = _work(both, card, resized, lambda runtime, image: [runtime(image[None], view) for view in views])
    return WorkAtSize(asked_px, (height, width), work, work.times(asked_px[0] * asked_px[1] / (height * width)))


# ---- whole processes ----

# A process of its own: a child's peak memory starts at that of its parent, and this process may have a model loaded.
_WATCH: Final = """
import json, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
wall = time.perf_counter() - start
try:
    import resource
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
except ImportError:
    peak = float("nan")
print(json.dumps([done.returncode, wall, peak, done.stderr.decode(errors="replace")[-2000:]]))
"""
_BASELINE: Final = """
import sys, numpy, cv2, onnxruntime, simplejpeg
with open(sys.argv[1], "rb") as file:
    data = file.read()
assert simplejpeg.decode_jpeg(data, colorspace="RGB").shape[2] == 3
"""


def measure_predictions(models: Sequence[Path | None], runs: int = 5) -> list[Prediction]:
    """Times whole processes that predict one photo by each of the models, in turn, so that a busy minute affects all.

    The photo is the packaged one of `funduscope demo`. models: as for `predict --model`, None for the shipped one.
    Compare ONNX with ONNX: a run folder with only a checkpoint loads torch first. Raises `ModelError` if a process
    fails, with its error output.
    """
    with resources.as_file(demo_photo()) as path:
        chosen = [[] if model is None else ["--model", str(model)] for model in models]
        commands = [[sys.executable, "-m", "funduscope", "predict", "--json", str(path), *which] for which in chosen]
        commands.append([sys.executable, "-c", _BASELINE, str(path)])
        taken = [[watched(command) for command in commands] for _ in range(runs + 1)][1:]
    *wholes, base = zip(*taken, strict=True)
    baseline_s, baseline_mb = _medians(base)
    return [Prediction(*_medians(whole), baseline_s, baseline_mb, runs, path.name, machine()) for whole in wholes]


def watched(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and largest resident memory (10**6 bytes; nan if unknown) of one process. Raises `ModelError`."""
    done = subprocess.run([sys.executable, "-c", _WATCH, *command], capture_output=True, text=True, check=True)
    code, wall, peak, errors = json.loads(done.stdout)
    if code != 0:
        raise ModelError("E_MODEL", f"The timed process ended with {code}: {errors.strip() or 'no error output'}")
    return wall, peak


def _medians(taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(wall for wall, _ in taken), statistics.median(peak for _, peak in taken)


def machine() -> str:
    """The machine's class: processor, usable cores, system; nothing that identifies it."""
    return f"{_processor()}, {core_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text(errors="replace").splitlines() if about.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine() or "unknown processor"
