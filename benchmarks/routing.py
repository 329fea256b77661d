"""What it saves that experts which are not chosen are not computed: multiply-adds and time by the number chosen.

python benchmarks/routing.py [--experts E] [--channels C] [--width W] [--side SIDE] [--photos B] [--runs N]

Builds one set of experts on a deepest map of SIDE x SIDE, keeps 1 to E of them for each photo and runs the same weights
in torch and, exported, in ONNX Runtime. Prints a Markdown table. Times are ratios to all experts chosen, which ran in
turn with the others in the same minutes: compare machines by those.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch.utils.flop_counter import FlopCounterMode

from funduscope.capacity import core_count
from funduscope.network.routing import SharedExperts, traced
from funduscope.settings import Experts


@dataclass(frozen=True)
class Cost:
    """Of keeping `chosen` experts a photo. multiply_adds: of the experts, counted in torch, in units of one.

    seconds, onnx_seconds: of every run of the whole module, gate included.
    """

    chosen: int
    multiply_adds: int
    seconds: list[float]
    onnx_seconds: list[float]


class _Alone(torch.nn.Module):
    """The mixed map by itself, as an exported model answers."""

    def __init__(self, shared: SharedExperts) -> None:
        super().__init__()
        self.shared = shared

    def forward(self, deepest: torch.Tensor) -> torch.Tensor:
        return self.shared(deepest)[0]["all"]


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    deepest = torch.randn(options.photos, options.channels, options.side, options.side)
    whole = _module(options, options.experts).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        networks, sessions = {}, {}
        for chosen in range(1, options.experts + 1):
            networks[chosen] = _module(options, chosen)
            networks[chosen].load_state_dict(whole)
            path = _export(networks[chosen], deepest[:1], Path(folder) / f"{chosen}.onnx")
            sessions[chosen] = _session(path, options.threads)
        _print(options, _measure(networks, sessions, deepest, options.runs))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--experts", type=int, default=4, help="experts in all (default 4)")
    parser.add_argument("--channels", type=int, default=2048, help="of the deepest map (default 2048, a ResNet-50's)")
    parser.add_argument("--width", type=int, default=256, help="channels inside an expert (default 256)")
    parser.add_argument("--side", type=int, default=16, help="of the deepest map (default 16: 512 px at stride 32)")
    parser.add_argument("--photos", type=int, default=1, help="photos a batch (default 1, as prediction runs)")
    parser.add_argument("--runs", type=int, default=20, help="runs that count, after three that do not (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch and ONNX Runtime (default 1)")
    return parser.parse_args()


def _module(options: argparse.Namespace, chosen: int) -> _Alone:
    settings = Experts(kind="mixture", count=options.experts, keep="top_k", top_k=chosen, width=options.width)
    return _Alone(SharedExperts(options.channels, ("all",), settings)).eval()


def _export(network: _Alone, deepest: torch.Tensor, path: Path) -> Path:
    axes = {name: {0: "batch", 2: "height", 3: "width"} for name in ("deepest", "mixed")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            traced(network, deepest), (deepest,), str(path), input_names=["deepest"], output_names=["mixed"],
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip
    return path


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _measure(
    networks: dict[int, _Alone], sessions: dict[int, onnxruntime.InferenceSession], deepest: torch.Tensor, runs: int
) -> list[Cost]:
    """All numbers of experts in turn, run by run, so that whatever else the machine does meets them all alike."""
    inputs = {"deepest": deepest.numpy()}
    with torch.inference_mode():
        for chosen, network in networks.items():
            answer = np.asarray(sessions[chosen].run(None, inputs)[0])
            if not np.allclose(answer, network(deepest).numpy(), atol=1e-4):
                sys.exit(f"With {chosen} experts ONNX Runtime and torch do not agree.")
        counted = {chosen: _multiply_adds(network, deepest) for chosen, network in networks.items()}
        costs = {chosen: Cost(chosen, counted[chosen], [], []) for chosen in networks}
        for run in range(runs + 3):
            for chosen, cost in costs.items():
                times = (
                    _time(lambda n=networks[chosen]: n(deepest)),
                    _time(lambda s=sessions[chosen]: s.run(None, inputs)),
                )
                if run >= 3:
                    cost.seconds.append(times[0])
                    cost.onnx_seconds.append(times[1])
    return list(costs.values())


def _multiply_adds(network: _Alone, deepest: torch.Tensor) -> int:
    """Of the experts alone: what the dispatch computes; the counter takes a multiply-add for two operations."""
    pooled = deepest.mean((2, 3))
    gates = network.shared.gates["all"](pooled).gates
    with FlopCounterMode(display=False) as counter:
        network.shared.dispatch(deepest, gates)
    return counter.get_total_flops() // 2


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _print(options: argparse.Namespace, costs: list[Cost]) -> None:
    most = costs[-1]
    print(f"Machine: {_processor()}, {options.threads} threads, {platform.system()}, torch {torch.__version__}.")
    size = f"{options.photos} x {options.channels} x {options.side} x {options.side}"
    alone, onnx = (1e3 * statistics.median(times) for times in (most.seconds, most.onnx_seconds))
    print(f"{options.experts} experts of width {options.width} on {size}; {options.runs} runs in turn, medians.")
    print(f"With all chosen: {alone:.1f} ms in torch, {onnx:.1f} ms in ONNX Runtime.")
    print()
    print("| experts chosen | multiply-adds, M | of all | torch: time of all | ONNX Runtime: time of all |")
    print("|---|---|---|---|---|")
    for cost in costs:
        share = cost.multiply_adds / most.multiply_adds
        ratios = (_ratio(cost.seconds, most.seconds), _ratio(cost.onnx_seconds, most.onnx_seconds))
        millions = cost.multiply_adds / 1e6
        print(f"| {cost.chosen} | {millions:.1f} | {share:.3f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def _ratio(times: list[float], most: list[float]) -> float:
    return statistics.median(times) / statistics.median(most)


def _processor() -> str:
    """The processor's model, as far as the system says it."""
    about = Path("/proc/cpuinfo")
    if about.is_file():
        for line in about.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return f"{platform.processor() or platform.machine() or 'unknown processor'}, {core_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
