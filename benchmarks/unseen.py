"""Which model is measured, and for which one it stands: what ships may have learned from every photo there is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from funduscope.inference.card import Card
from funduscope.inference.runtime import OnnxRuntime

SHIPPED = Path(__file__).resolve().parents[1] / "src" / "funduscope" / "models" / "funduscope.onnx"


@dataclass(frozen=True)
class Measured:
    """What is measured. onnx, weights: its files. stands_for: the SHA-256 of the shipped model whose figures it makes.

    option: what the printed command ends with, where another model was named.
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


def measured(run: Path | None, shipped: Path = SHIPPED) -> Measured:
    """The shipped model, or the run that it repeats (`train --refit`), exported; ends the program where neither can be
    measured."""
    digest = hashlib.sha256(shipped.read_bytes()).hexdigest()
    card = OnnxRuntime(shipped).card
    if run is None:
        must_have_kept(card)
        return Measured(shipped, shipped.with_suffix(".safetensors"), digest)
    found = Measured(run / "model.int8.onnx", run / "best.safetensors", digest, f" --run {run.name}")
    if hashlib.sha256(found.onnx.read_bytes()).hexdigest() not in card.about.get("repeats", ()):
        raise SystemExit(f"{found.onnx} is not of the run that the shipped model repeats.")
    must_have_kept(OnnxRuntime(found.onnx).card)
    return found
