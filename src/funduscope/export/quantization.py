"""An INT8 copy of an ONNX file: static, per channel, by ONNX Runtime's own quantizer.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from funduscope.atomic import replacing
from funduscope.export.onnx_file import VIEWS, one_of, put_card, side_by_side
from funduscope.inference.card import Card
from funduscope.inference.runtime import session_options
from funduscope.vocabulary import CLASSES

_COPIES = 3
"""So many copies of a model lie on the disk while it is quantized."""

IN_BRANCHES = "experts stand in branches, which are not quantized: they compute in float32"


def quantize(float_path: Path, path: Path, images: list[np.ndarray]) -> Path:
    """Writes an INT8 copy of a float32 model. images: batches of one in both views, from which ranges are taken. Where
    each view has a network, that of its own, and the close one's weights have 7 bits.

    Without VNNI instructions, sums of products of 8-bit weights must be kept from overflowing, and take longer than
    float32 (docs/log.md, 2026-11-26). Of 7-bit ones they cannot overflow. Maps bear the coarser weights, grades do not.
    """
    import onnx

    whole = onnx.load(str(float_path))
    card = Card.from_json(next(item.value for item in whole.metadata_props if item.key == "card"))
    if any(node.op_type == "If" for node in whole.graph.node):
        card = replace(card, about={**card.about, "int8": IN_BRANCHES})
    with replacing(path) as unfinished, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        if card.own_close:
            models = []
            for view in VIEWS:
                part = Path(folder) / f"{view}.onnx"
                onnx.save(one_of(whole, VIEWS.index(view)), str(part))
                side = card.close_px if view == "close" else card.whole_px
                seen = [image for image in images if image.shape[1] == side]
                models.append(_quantized(part, seen, 6 if view == "close" else 3, seven_bits=view == "close"))
            small = side_by_side(models)
        else:
            small = _quantized(float_path, images)
        put_card(small, card)
        onnx.save(small, str(unfinished))
    return path


def _quantized(float_path: Path, images: list[np.ndarray], parts: int = 6, *, seven_bits: bool = False) -> Any:
    """The INT8 model of a float32 one. parts: one of so many of its convolutions stays in float32. seven_bits: of its
    weights, in place of eight.

    The first convolutions, where rounding does most harm, and the nodes that make the logits stay in float32: a sixth
    of the convolutions, and a third where the network sees the whole eye alone, which costs little time. The grades'
    biases are corrected by the mean error of their logits on those images.
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

    with tempfile.TemporaryDirectory(dir=float_path.parent) as folder:
        ready, made = Path(folder) / "ready.onnx", Path(folder) / "small.onnx"
        quant_pre_process(str(float_path), str(ready), skip_symbolic_shape=True)
        kept = _kept_in_float(onnx.load(str(ready)).graph, parts)
        with _noticing_a_full_disk(Path(folder), _COPIES * float_path.stat().st_size), _without_warnings():
            quantize_static(
                str(ready), str(made), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=seven_bits,
                nodes_to_exclude=kept,
                # The mean of the images' extremes: a single very bright photo must not make all others coarse.
                extra_options={"CalibMovingAverage": True},
            )  # fmt: skip
        small = onnx.load(str(made))
        _read_unrounded(small.graph, kept)
        onnx.save(small, str(made))
        _shift_biases(small, _grades(str(float_path), images), _grades(str(made), images))
    return small


@contextmanager
def _noticing_a_full_disk(folder: Path, needed_bytes: int) -> Iterator[None]:
    """Raises `OSError` for any error if fewer bytes are free: ONNX's shape inference writes a file without noticing
    that the disk is full, and then cannot parse it."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free < needed_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


@contextmanager
def _without_warnings() -> Iterator[None]:
    """The quantizer warns of every vector of a norm, which has no second axis and needs none."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _kept_in_float(graph: Any, parts: int) -> list[str]:
    """Names of the nodes before the end of the first one of so many parts of the convolutions, and of those that make
    the outputs."""
    places = [place for place, node in enumerate(graph.node) if node.op_type == "Conv"]
    kept = {node.name for node in graph.node[: places[len(places) // parts]]}
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

    session = onnxruntime.InferenceSession(model, session_options(), providers=["CPUExecutionProvider"])
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
