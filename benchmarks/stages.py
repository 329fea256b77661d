"""Where the time of one photo goes: each stage of `predict`, next to the same tensors in bare ONNX Runtime and torch.

python benchmarks/stages.py [PHOTO] [--runs N] [--model MODEL] [--weights RUN]

Without PHOTO: the demo photo. Every row is measured in turn, round after round in one process, so that a busy minute
falls on all of them; the table prints the median, and its share of the whole. The network's stage is compared with
ONNX Runtime's own call on the same arrays, which is the floor, and with the float32 weights in torch.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import funduscope
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Findings
from funduscope.inference.predictor import Predictor, interpret
from funduscope.inference.runtime import OnnxRuntime, Outputs
from funduscope.inference.strips import strips
from funduscope.quality.assessment import assess
from funduscope.report.write import save, to_json
from funduscope.vocabulary import View


def main() -> int:
    given = _options()
    photo = given.photo or _demo()
    predictor = funduscope.load(given.model)
    assert isinstance(predictor, Predictor)
    torch_look = _torch(given.weights)
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        for number in range(given.runs + 1):
            taken = _round(photo, predictor, torch_look, Path(place) / str(number))
            for name, value in taken.items() if number else ():  # the first warms up
                seconds[name].append(value)
    _print(seconds, photo, given)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", help="another model than the shipped one")
    parser.add_argument(
        "--weights", default="default", help="its weights, for torch: a run, a .safetensors or an exported ONNX file"
    )
    return parser.parse_args()


def _demo() -> Path:
    folder = resources.files("funduscope") / "demo"
    return next(Path(str(entry)) for entry in folder.iterdir() if entry.name.lower().endswith((".jpg", ".jpeg")))


def _torch(weights: str) -> Callable[[np.ndarray, View], Outputs]:
    """Whole and close view by the weights in torch, which computes in float32."""
    from funduscope import checkpoint
    from funduscope.inference.card import Card
    from funduscope.inference.loading import weights_of
    from funduscope.inference.runtime import TorchRuntime

    held = checkpoint.load(weights_of(weights))
    return TorchRuntime(held.network(), Card.of(held.recipe))


def _round(path: Path, predictor: Predictor, torch_look: Callable, place: Path) -> dict[str, float]:
    """Seconds of every stage, once."""
    taken: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        value = call()
        taken[name] = time.perf_counter() - began
        return value

    card, runtime = predictor.card, predictor.runtime
    photo = timed("decode", lambda: Photo.open(path))
    framed = timed("find the eye, frame it", lambda: frame(photo, card.close_px))
    views = timed("network", lambda: predictor.forward_views(framed.image))
    timed("what it shows, and how well it can be graded", lambda: assess(framed, photo.pixels))
    found = timed("findings: landmarks, masks, lesions", lambda: _findings(photo, framed, views, card, runtime.sha256))
    timed("write every file", lambda: save(found, place))
    size = (card.whole_px, card.whole_px)
    small = cv2.resize(framed.image, size, interpolation=cv2.INTER_AREA)
    ways = [small, small[:, ::-1]] if card.mirrored else [small]
    images: list[tuple[np.ndarray, View]] = [(np.ascontiguousarray(way)[None], "whole") for way in ways]
    images.extend((framed.image[None, seen], "close") for seen, _ in strips(framed.image) if card.close)
    if isinstance(runtime, OnnxRuntime):
        timed("bare ONNX Runtime", lambda: [_bare(runtime, *one) for one in images])
    timed("torch, float32", lambda: [torch_look(*one) for one in images])
    time.sleep(1)  # torch's threads wait actively at first, which would slow what comes next
    timed("predict, all of it", lambda: predictor(path).to_dict())
    return taken


def _findings(*given: Any) -> Findings:
    """Findings with their masks and objects, which are made as they are asked for."""
    found = interpret(*given)
    to_json(found.to_dict())
    return found


def _bare(runtime: OnnxRuntime, image: np.ndarray, view: View) -> None:
    """ONNX Runtime's own call; of a model with a network for each view, for the outputs of that view's."""
    runtime.session.run(*runtime.request(image, view))


def _print(seconds: dict[str, list[float]], photo: Path, given: argparse.Namespace) -> None:
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    opened = Photo.open(photo)
    print(
        f"{platform.machine()}, {os.cpu_count()} logical processors, load {os.getloadavg()[0]:.1f}; "
        f"a photo of {opened.width}x{opened.height}; median of {given.runs} rounds.\n"
    )
    total = middle["predict, all of it"]
    print("| stage | seconds | of `predict` |\n|---|---|---|")
    for name, value in middle.items():
        print(f"| {name} | {value:.3f} | {value / total:.2f} |")
    if "bare ONNX Runtime" in middle:
        beside = total - middle["decode"] - middle["bare ONNX Runtime"]
        print(f"\nAll but decoding and the network: {beside:.3f} s.")


if __name__ == "__main__":
    raise SystemExit(main())
