"""ONNX export. A model is accepted only after its parity is measured: float32 against torch, INT8 against float32.

INT8: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
2018; static, per channel, by ONNX Runtime's own quantizer. For what stays in float32 see `quantize`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from funduscope import checkpoint
from funduscope.atomic import replacing
from funduscope.data.case import Case
from funduscope.data.sources import Data, cases_of
from funduscope.data.splits import SplitPlan
from funduscope.evaluation.evaluate import DOUBTED, score_stream
from funduscope.evaluation.parity import MOST_DIFFERENCE, compare
from funduscope.evaluation.score_key import ScoreKey
from funduscope.evaluation.scores import Scores, summarize
from funduscope.imaging.framing import frame
from funduscope.imaging.photo import Photo, PhotoError
from funduscope.inference.card import Card
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import CLOSE, IMAGE, Device, OnnxRuntime, TorchRuntime, has_cuda
from funduscope.metrics import DenseState, GradingState, MaskState
from funduscope.network.joined import Joined
from funduscope.network.network import Network, Outputs
from funduscope.network.routing import traced
from funduscope.settings import Sampling
from funduscope.testing.drawn_eyes import draw_eye
from funduscope.vocabulary import CLASSES, CODES, View

OPSET = 17
VIEWS: tuple[View, ...] = ("whole", "close")
LEAST_EQUAL = 0.98
MOST_LOSS = 0.01
FEWEST_GRADED, FEWEST_POSITIVE = 30, 3
"""Scores of fewer graded photos, or of fewer with a structure, are not compared: a single photo would decide."""

IN_BRANCHES = "experts stand in branches, which are not quantized: they compute in float32"
CALIBRATION_PHOTOS, CHECK_PHOTOS = 40, 12
MOST_CLASSED = 120  # photos with a class alone, evenly spread: more take long and decide nothing

FLOAT, SMALL, WEIGHTS, REPORT = "model.onnx", "model.int8.onnx", "model.safetensors", "export.json"


class ExportError(RuntimeError):
    """A model that differs from its source too much, or could not be checked; the message says by how much, or why.

    Nothing of the refused model is kept.
    """


class _Flat(nn.Module):
    """The network with a tuple as its output, as ONNX needs it; of joined ones, those of one view."""

    def __init__(self, network: Network | Joined, view: View) -> None:
        super().__init__()
        self.network, self.view = network, view

    def outputs(self, image: Tensor) -> Outputs:
        return self.network(image, self.view) if isinstance(self.network, Joined) else self.network(image)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.outputs(image).named().values())


def export_run(run: str | os.PathLike[str], data: Data | None = None, *, device: Device = "auto") -> list[Path]:
    """Writes model.onnx, model.int8.onnx and model.safetensors (8 bits, for fine-tuning) into a run folder.

    export.json gets the measured parity and the files' SHA-256. data: cases, or paths as `read_data` takes them; with
    them INT8 is calibrated on the run's training photos and checked on its validation photos, scores included; without
    them both on drawn eyes. Unreadable photos are named on stderr and replaced by others. device: of the float32 models
    that are compared; INT8 computes on the processor. Raises `ExportError` where parity fails, `ParityError` where no
    photo shows an eye; the files of an earlier export then stay. Where only INT8 is refused, the float32 model is
    written before the error.
    """
    run, cases = Path(run), None if data is None else cases_of(data)
    cuda = has_cuda(device, torch.cuda.is_available(), "torch finds no card")
    best = checkpoint.load(run / "best.safetensors")
    network, card = best.network(), Card.from_dict(best.card) if best.card else Card.of(best.recipe)
    training, checking = _chosen(run, best.recipe.sampling, cases)
    report: dict[str, Any] = {"check photos": "validation photos" if checking else "drawn eyes"}
    report["calibration photos"] = ", ".join(sorted({case.dataset for case in training})) or "drawn eyes"
    check = list(_photos(checking, CHECK_PHOTOS, seed=1))
    images = list(_views(_photos(training, CALIBRATION_PHOTOS, seed=2), card))
    if not check or not images:
        raise ExportError("None of the photos to check the model on, or to calibrate INT8 on, can be read.")
    # A model that is not accepted yet must not pass for the run's.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=run) as place:
        folder = Path(place)
        # Photos are refused without the model, so on refused ones any two models would agree.
        plain = Predictor(OnnxRuntime(write_onnx(network, card, folder / FLOAT), device=device), refuses=False)
        network = network.to("cuda" if cuda else "cpu")
        parity = compare(Predictor(TorchRuntime(network, card), refuses=False), plain, check)
        report["float32 against torch"] = vars(parity)
        if not parity.holds:
            raise ExportError(f"float32 ONNX differs from torch: {parity}; allowed: {MOST_DIFFERENCE}, equal labels.")
        small_path = quantize(folder / FLOAT, folder / SMALL, images)
        refused = None
        try:
            small = Predictor(OnnxRuntime(small_path), refuses=False)
            report["int8 against float32"] = _accept(small, plain, checking, check)
            # The card in the file says this too; here it explains why the file is hardly smaller.
            if "int8" in small.card.about:
                report["int8 note"] = small.card.about["int8"]
        except ExportError as error:
            refused = report["int8 refused"] = str(error)
            small_path.unlink()
        checkpoint.save_small(folder / WEIGHTS, best)
        paths = _published(folder, run, report)
    if refused:
        raise ExportError(f"{refused} The float32 model was accepted and stays: {run / FLOAT}.")
    return paths


def _chosen(run: Path, sampling: Sampling, cases: list[Case] | None) -> tuple[list[Case], list[Case]]:
    """The photos to calibrate INT8 on and those to check on; none without cases."""
    plan = SplitPlan.of_run(run, cases or ())
    if plan.validation_fold is None:  # a refit learned from every photo: parity is measured on some of them
        plan = SplitPlan.of(cases or (), plan.fold, run)
    # Ranges come from the data sets that most samples are of: ranges wide enough for every camera would round most
    # photos too coarsely.
    rates = sampling.whole or sampling.close
    drawn = {name: rates.get(name, 0.0) * count for name, count in Counter(c.dataset for c in plan.train).items()}
    return [case for case in plan.train if drawn[case.dataset] >= max(drawn.values()) / 2], plan.validation


def _published(folder: Path, run: Path, report: dict[str, Any]) -> list[Path]:
    """Moves the accepted files into the run folder, last the report with their SHA-256. Returns the new paths."""
    made = [folder / name for name in (FLOAT, SMALL, WEIGHTS) if (folder / name).is_file()]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made}
    report["files"] = {path.name: {"bytes": path.stat().st_size, "sha256": digests[path.name]} for path in made}
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    # An earlier report would not match the new files, and an earlier INT8 file has other weights.
    for name in (REPORT, SMALL):
        (run / name).unlink(missing_ok=True)
    return [path.replace(run / path.name) for path in (*made, folder / REPORT)]


def write_onnx(network: Network | Joined, card: Card, path: Path) -> Path:
    """The network as ONNX: image (B, H, W, 3) uint8, H and W multiples of 32; the card is in the metadata.

    Where the close view has a network of its own, the names of its input, `close_image`, and of its outputs begin so.
    ONNX Runtime computes both networks whatever outputs are asked for: one whose view is not needed is given 32x32 px.
    """
    import onnx

    network = network.eval().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    with replacing(path) as unfinished, tempfile.TemporaryDirectory() as folder:
        if card.own_close:
            model = _side_by_side([_trace(network, view, Path(folder) / f"{view}.onnx") for view in VIEWS])
        else:
            model = _trace(network, "whole", Path(folder) / "whole.onnx")
        _sign(model, card)
        onnx.save(model, str(unfinished))
    return path


def _trace(network: Network | Joined, view: View, path: Path) -> Any:
    """The ONNX model of one view, by way of a file."""
    import onnx

    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    flat = _Flat(network, view).eval()
    prefix = CLOSE if view == "close" else ""
    taken, names = prefix + IMAGE, [prefix + name for name in flat.outputs(image).named()]
    axes = {name: {0: f"{prefix}batch"} for name in (taken, *names)}
    axes[taken] |= {1: f"{prefix}height", 2: f"{prefix}width"}
    for name in ("structures", f"{CLOSE}structures", "landmarks", *(f"{task}_cam" for task in CLASSES)):
        if name in axes:
            axes[name] |= {2: f"{name}_height", 3: f"{name}_width"}
    with warnings.catch_warnings():
        # About the conditions around experts, sizes read while tracing, and the exporter in general.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.onnx.*")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        # The TorchScript exporter: it keeps every size dynamic through the decoder's resizes.
        torch.onnx.export(
            traced(flat, image), (image,), str(path),
            input_names=[taken], output_names=names, dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    return onnx.load(str(path))


def _side_by_side(models: Sequence[Any]) -> Any:
    """One model of several. All names but those of inputs and outputs get a prefix."""
    from onnx.compose import add_prefix

    prefixed = []
    for place, plain in enumerate(models):
        model = add_prefix(plain, f"{place}/")  # of all names: it cannot leave out inputs that are quantized
        ends = {f"{place}/{end.name}": end.name for end in (*plain.graph.input, *plain.graph.output)}
        for end in (*model.graph.input, *model.graph.output):
            end.name = ends[end.name]
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [ends.get(name, name) for name in names]
        prefixed.append(model)
    first, *rest = prefixed
    del first.graph.value_info[:]  # in it, equal names of sizes would say that all views are as large
    for model in rest:
        for name in ("node", "initializer", "input", "output"):
            getattr(first.graph, name).extend(getattr(model.graph, name))
        known = {one.domain for one in first.opset_import}
        first.opset_import.extend(one for one in model.opset_import if one.domain not in known)
    return first


def _sign(model: Any, card: Card) -> None:
    """Puts the card into the model's metadata."""
    import onnx

    onnx.helper.set_model_props(model, {"card": card.to_json()})


def quantize(float_path: Path, path: Path, images: list[np.ndarray]) -> Path:
    """Writes an INT8 copy of a float32 model. images: batches of one in both views, from which ranges are taken. Where
    each view has a network, that of its own."""
    import onnx
    from onnx.utils import extract_model

    whole = onnx.load(str(float_path))
    card = Card.from_json(next(item.value for item in whole.metadata_props if item.key == "card"))
    if any(node.op_type == "If" for node in whole.graph.node):
        card = replace(card, about={**card.about, "int8": IN_BRANCHES})
    with replacing(path) as unfinished, tempfile.TemporaryDirectory() as folder:
        if card.own_close:
            models = []
            for view in VIEWS:
                part = Path(folder) / f"{view}.onnx"
                inputs, outputs = _ends(whole.graph, view)
                extract_model(str(float_path), str(part), inputs, outputs)
                side = card.close_px if view == "close" else card.whole_px
                models.append(_quantized(part, [image for image in images if image.shape[1] == side]))
            small = _side_by_side(models)
        else:
            small = _quantized(float_path, images)
        _sign(small, card)
        onnx.save(small, str(unfinished))
    return path


def _ends(graph: Any, view: View) -> list[list[str]]:
    """The names of the inputs and of the outputs of the network of a view."""
    both = graph.input, graph.output
    return [[end.name for end in ends if end.name.startswith(CLOSE) == (view == "close")] for ends in both]


def _quantized(float_path: Path, images: list[np.ndarray]) -> Any:
    """The INT8 model of a float32 one.

    The first sixth of the convolutions, where rounding does most harm, and the nodes that make the logits stay in
    float32. The grades' biases are corrected by the mean error of their logits on those images.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    taken = onnx.load(str(float_path)).graph.input[0].name

    class Reader(CalibrationDataReader):
        """Yields the images one by one."""

        def __init__(self) -> None:
            self.rest = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            image = next(self.rest, None)
            return None if image is None else {taken: image}

    with tempfile.TemporaryDirectory() as folder:
        ready, made = Path(folder) / "ready.onnx", Path(folder) / "small.onnx"
        quant_pre_process(str(float_path), str(ready), skip_symbolic_shape=True)
        kept = _kept_in_float(onnx.load(str(ready)).graph)
        quantize_static(
            str(ready), str(made), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            # The mean of the images' extremes: a single very bright photo must not make all others coarse.
            extra_options={"CalibMovingAverage": True},
        )  # fmt: skip
        small = onnx.load(str(made))
        _read_unrounded(small.graph, kept)
        onnx.save(small, str(made))
        _shift_biases(small, _grades(str(float_path), images), _grades(str(made), images))
    return small


def _kept_in_float(graph: Any) -> list[str]:
    """Names of the nodes before the end of the first sixth of the convolutions, and of those that make the outputs."""
    places = [place for place, node in enumerate(graph.node) if node.op_type == "Conv"]
    kept = {node.name for node in graph.node[: places[len(places) // 6]]}
    makers = {name: node for node in graph.node for name in node.output}
    names = [output.name for output in graph.output]
    while names:
        if node := makers.get(names.pop()):
            kept.add(node.name)
            if node.op_type in ("Concat", "Slice"):  # they put planes in order: what makes the numbers lies before them
                names += node.input
    return [node.name for node in graph.node if node.name in kept]


def _read_unrounded(graph: Any, kept: Collection[str]) -> None:
    """Lets nodes in float32 read what other such nodes made as it is. The quantizer gives all readers of a tensor the
    copy that was rounded for a quantized one, which costs accuracy and, of a large map, time."""
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for place, name in enumerate(node.input if node.name in kept else ()):
            opened = makers.get(name)
            if opened is None or opened.op_type != "DequantizeLinear" or opened.input[0] not in makers:
                continue
            source = makers[opened.input[0]].input[0]
            if source in makers and makers[source].name in kept:
                node.input[place] = source


def _grades(model: str, images: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Mean logits of the photo tasks over the smallest images: the whole views."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.name in CLASSES]
    side = min(image.shape[1] for image in images)
    whole = [image for image in images if image.shape[1] == side]
    taken = session.get_inputs()[0].name
    rows = [[np.asarray(one) for one in session.run(names, {taken: image})] for image in whole] if names else []
    return {name: np.mean([row[index][0] for row in rows], axis=0) for index, name in enumerate(names)}


def _shift_biases(model: Any, wanted: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """Adds to the bias of each photo task's last layer, where it has one, the difference of its mean logits."""
    from onnx import numpy_helper

    biases = {node.output[0]: node.input[2] for node in model.graph.node if node.op_type == "Gemm"}
    for name in wanted.keys() & biases.keys():  # what several experts answer has no such layer
        bias = next(item for item in model.graph.initializer if item.name == biases[name])
        shifted = numpy_helper.to_array(bias) + (wanted[name] - found[name]).astype(np.float32)
        bias.CopyFrom(numpy_helper.from_array(shifted, bias.name))


def _accept(small: Predictor, plain: Predictor, checking: list[Case], check: list[np.ndarray]) -> dict[str, Any]:
    """What INT8 loses: scores where there are labels, otherwise parity. Raises `ExportError` where it is too much."""
    if not checking:
        parity = compare(small, plain, check)
        if parity.labels_equal < LEAST_EQUAL:
            raise ExportError(f"INT8 differs from float32: {parity}; at least {LEAST_EQUAL} of the labels must agree.")
        return vars(parity)
    chosen = _firm(checking) or checking
    scores = [summarize(list(score_stream(predictor, chosen)), repeats=1) for predictor in (plain, small)]
    equal, graded = _equal_labels(*scores)
    losses = {key: scores[0].number(key) - scores[1].number(key) for key in _compared(scores[0])}
    worst = {str(key): round(loss, 4) for key, loss in losses.items()}
    if not (graded or losses) or all(photo.refused for photo in scores[0].photos):
        return _accept(small, plain, [], check)
    # One photo may always differ: of fewer than 50 it is already more than the allowed share.
    too_many = round((1 - equal) * graded) > max(1, (1 - LEAST_EQUAL) * graded)
    if too_many or not all(loss <= MOST_LOSS for loss in losses.values()):
        raise ExportError(f"INT8 loses too much: labels equal on {equal:.1%}, float32 minus INT8: {worst}.")
    return {"photos": len(chosen), "labels_equal": equal, "float32 minus int8": worst}


def _firm(cases: list[Case]) -> list[Case]:
    """Photos with outlines, and some with a class alone; none of data sets whose grades are doubtful."""
    firm = [case for case in cases if case.dataset not in DOUBTED]
    masked = {case.key for case in firm if {*CODES} & {*case.labels.masks}}
    classed = {case.key for case in firm for task in CLASSES if case.labels.label(task) is not None}
    plain = sorted(classed - masked)[:: max(1, -(-len(classed) // MOST_CLASSED))]
    return [case for case in firm if case.key in masked.union(plain)]


def _equal_labels(first: Scores, second: Scores) -> tuple[float, int]:
    """The share of graded photos with equal answers, and their number, without photos that both models refused."""
    names = [f"predicted_{task}" for task in CLASSES]
    rows = [(a.row, b.row) for a, b in zip(first.photos, second.photos, strict=True) if a.row.keys() & CLASSES]
    labels = [[(a.get(name), b.get(name)) for name in names] for a, b in rows if not (a["refused"] and b["refused"])]
    return (float(np.mean([all(a == b for a, b in pairs) for pairs in labels])) if labels else 1.0), len(labels)


def _compared(scores: Scores) -> Iterator[ScoreKey]:
    """The scores that INT8 may not lose: kappa, AUPR, Dice; of a structure only where enough photos show it."""
    for key, interval in scores.intervals.items():
        if key.score not in ("kappa", "AUPR", "Dice") or np.isnan(interval.value):
            continue
        states = [photo.states.get(key.question) for photo in scores.photos if photo.case.dataset == key.dataset]
        graded = sum(isinstance(state, GradingState) for state in states)
        if 0 < graded < FEWEST_GRADED:
            continue
        masks = [state for state in states if isinstance(state, MaskState) and state.tp + state.fn > 0]
        pixels = [state for state in states if isinstance(state, DenseState) and state.positives > 0]
        if graded or len(masks + pixels) >= FEWEST_POSITIVE:
            yield key


def _photos(cases: list[Case], count: int, seed: int) -> Iterator[np.ndarray]:
    """At most `count` photos in random order, (H, W, 3) uint8; drawn eyes where there are no cases."""
    rng = np.random.default_rng(seed)
    if cases:
        return islice(_readable([cases[i] for i in rng.permutation(len(cases))]), count)
    return (draw_eye(int(i), width_px=720).pixels for i in rng.integers(1 << 30, size=count))


def _views(photos: Iterable[np.ndarray], card: Card) -> Iterator[np.ndarray]:
    """Both views of each photo as the model takes them: (1, S, S, 3) uint8, first the whole eye, then close."""
    for pixels in photos:
        close = frame(pixels, card.close_px).image
        yield cv2.resize(close, (card.whole_px, card.whole_px), interpolation=cv2.INTER_AREA)[None]
        yield close[None]


def _readable(cases: list[Case]) -> Iterator[np.ndarray]:
    """The readable photos; the others are named on stderr."""
    for case in cases:
        try:
            yield Photo.open(case.path).pixels
        except PhotoError as error:
            print(f"left out: {case.key}: {error}", file=sys.stderr)
