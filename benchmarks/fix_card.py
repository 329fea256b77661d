"""Gives the shipped model what its card lacks: the quantile of its grade sets, the reference of its training photos.

    python -m benchmarks.fix_card --data DATA --fold 0            prints what it would write
    python -m benchmarks.fix_card --data DATA --fold 0 --write    writes it into the ONNX and the safetensors file

For a model that was trained before runs fixed these themselves. The same functions do it, on the same photos: the
quantile on the validation photos (fold + 1) of the data sets that the recipe samples, the reference on the training
photos, its percentiles on the validation ones. No weight changes: that is checked before a file is replaced. The ONNX
file also gets its pooled features as an output, which is a name for what it computes already.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from funduscope.data.case import Case
from funduscope.data.folds import placed, validation_fold
from funduscope.data.sources import read_data
from funduscope.predict import honesty
from funduscope.predict.card import Card
from funduscope.predict.predictor import Predictor
from funduscope.predict.runtime import OnnxRuntime
from funduscope.recipe import Recipe
from funduscope.terminal import tracked
from funduscope.training.calibrate import Seen, fit_sets
from funduscope.training.distances import fit_distance

MODELS: Final = Path(__file__).resolve().parents[1] / "src" / "funduscope" / "models"
FIELDS: Final = ("grade_quantile", "distance")


def add_features(model: Any) -> bool:
    """Adds the output `features` to an ONNX model whose grade is one linear layer on pooled features; False if not."""
    graph = model.graph
    if any(output.name == "features" for output in graph.output):
        return True
    makers = {name: node for node in graph.node for name in node.output}
    gemm = makers.get("grade") or makers.get("dme")
    pool = makers.get(gemm.input[0]) if gemm is not None and gemm.op_type == "Gemm" else None
    if gemm is None or pool is None or pool.op_type not in ("ReduceMean", "GlobalAveragePool"):
        return False
    weights = next(item for item in graph.initializer if item.name == gemm.input[1])
    graph.node.append(helper.make_node("Identity", [gemm.input[0]], ["features"], name="/features/Identity"))
    graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", max(weights.dims)]))
    onnx.checker.check_model(model)
    return True


def fixed_card(predictor: Predictor, recipe: Recipe, cases: list[Case], fold: int) -> Card:
    """The predictor's card with its quantile and its reference fixed on what the run had for it."""
    validating = validation_fold(fold, cases)
    named = {*recipe.sampling.whole, *recipe.sampling.close}
    whole = recipe.sampling.whole or recipe.sampling.close
    validation = [case for case in cases if case.fold == validating and case.dataset in named]
    training = [case for case in cases if case.fold not in (None, fold, validating) and case.dataset in whole]
    seen = list(_logits(predictor, [case for case in validation if case.labels.grade is not None]))
    quantile = fit_sets(seen, predictor.card.temperatures["grade"])
    held_out = [case for case in validation if case.dataset in whole]
    distance = fit_distance(predictor, training, held_out, tracked)
    about = {"grade_set_photos": len(seen), "distance_photos": [len(training), len(held_out)]}
    card = predictor.card
    return replace(card, grade_quantile=quantile, distance=distance, about=card.about | {"fixed later": about})


def _logits(predictor: Predictor, cases: list[Case]) -> Iterator[Seen]:
    """What calibration keeps of photos whose grade is known: logits, up to a constant."""
    looking = Predictor(predictor.runtime)
    looking.card = replace(predictor.card, structures=(), close=(), temperatures={"grade": 1.0, "dme": 1.0})
    for case in tracked(cases, "Reading grades", len(cases)):
        found = looking(case.path)
        if found.grade_probs is not None:
            logits = np.log(np.maximum(found.grade_probs, 1e-12))
            yield Seen(case, found.home, None, logits, None, {}, {}, frozenset())


def write_onnx(path: Path, model: Any, card: Card) -> None:
    """Replaces the file; raises `AssertionError` where a weight would change."""
    before = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(path)).graph.initializer}
    onnx.helper.set_model_props(model, {"card": card.to_json()})
    part = path.with_name(path.name + ".part")
    onnx.save(model, str(part))
    after = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(part)).graph.initializer}
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    part.replace(path)


def write_weights(path: Path, card: Card) -> None:
    """Replaces the card in a safetensors file's head; the tensors' bytes are copied as they are."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    head["__metadata__"]["card"] = json.dumps(card.to_dict())
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data[8 + length :])
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fold", type=int, required=True, help="the fold that the model was not trained for: its test")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    path, weights = given.models / "funduscope.onnx", given.models / "funduscope.safetensors"
    model = onnx.load(str(path))
    if not add_features(model):
        parser.error("the model's grade is no linear layer on pooled features: it has none to give")
    trial = path.with_name("funduscope.trial.onnx")
    onnx.save(model, str(trial))
    try:
        predictor = Predictor(OnnxRuntime(trial))
    finally:
        trial.unlink()
    card = fixed_card(predictor, _recipe(weights), placed(read_data([given.data])), given.fold)
    size = len(json.dumps(card.distance))
    print(f"grade_quantile {card.grade_quantile}; distance {size} bytes; {card.about['fixed later']}")
    if given.write:
        held = json.loads(_metadata(weights)["card"])
        before = _sha256(path)
        write_onnx(path, model, card)
        # What was measured of its maps, by the file's hash, holds for the same weights under another one.
        measured = given.models / honesty.FILE
        if measured.is_file():
            measured.write_text(measured.read_text("utf-8").replace(before, _sha256(path)), "utf-8")
        # The two cards differ in what the export added to one of them: each keeps its own.
        new = {name: asdict(card)[name] for name in FIELDS}
        about = held["about"] | {"fixed later": card.about["fixed later"]}
        write_weights(weights, Card.from_dict({**held, **new, "about": about}))
        print(f"{path.name}: {path.stat().st_size} bytes; {weights.name}: {weights.stat().st_size} bytes")
    return 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _metadata(weights: Path) -> dict[str, str]:
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length))["__metadata__"]


def _recipe(weights: Path) -> Recipe:
    return Recipe.from_toml(_metadata(weights)["recipe"])


if __name__ == "__main__":
    sys.exit(main())
