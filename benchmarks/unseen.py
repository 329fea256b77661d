"""Which model is measured, and for which one it stands: what ships may have learned from every photo there is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from funduscope.inference.card import Card
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import OnnxRuntime

MODELS = Path(__file__).resolve().parents[1] / "src" / "funduscope" / "models"
SHIPPED = {"default": MODELS / "funduscope.onnx", "fast": MODELS / "funduscope-fast.onnx"}
"""By name the shipped models."""


@dataclass(frozen=True)
class Measured:
    """What is measured. onnx, weights: its files. stands_for: the SHA-256 of the shipped model whose figures it makes.

    option: what the printed command ends with, where another model or a run was named.
    """

    onnx: Path
    weights: Path
    stands_for: str
    option: str = ""


def must_have_kept(card: Card, fold: int | None = None) -> None:
    """Ends the program where the model learned from every photo, or from that fold: its figures would flatter it."""
    learned = card.about.get("trained on")
    if learned is None:
        return
    kept = learned["test fold left out"]
    if kept is None:
        raise SystemExit("This model learned from every photo. Name the run that it repeats, which did not.")
    if fold is not None and kept != fold:
        raise SystemExit(f"This model kept fold {kept} apart, not fold {fold}, which it may have learned from.")


def for_photo_tasks(predictor: Predictor) -> Predictor:
    """What gives grade and edema risk soonest: without the close view, unless lesions are a witness of either."""
    return predictor if predictor.card.witnesses else predictor.without_structures()


def measured(run: Path | None, name: str = "default") -> Measured:
    """The shipped model of that name, or the run that it repeats, exported.

    Ends the program where neither can be measured.
    """
    shipped = SHIPPED[name]
    digest = hashlib.sha256(shipped.read_bytes()).hexdigest()
    card = OnnxRuntime(shipped).card
    option = "" if name == "default" else f" --model {name}"
    if run is None:
        must_have_kept(card)
        return Measured(shipped, shipped, digest, option)
    found = Measured(run / "model.int8.onnx", run / "best.safetensors", digest, f"{option} --run {run.name}")
    if hashlib.sha256(found.onnx.read_bytes()).hexdigest() not in card.about.get("repeats", ()):
        raise SystemExit(f"{found.onnx} is not of the run that the shipped model repeats.")
    must_have_kept(OnnxRuntime(found.onnx).card)
    return found
