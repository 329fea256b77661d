"""From the name of a model (none, an ONNX file, a run folder, or several of them) to a `Model`.

torch is imported only if there is nothing but a checkpoint.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from funduscope.capacity import core_count
from funduscope.inference.card import Card
from funduscope.inference.ensemble import Ensemble
from funduscope.inference.model_scores import ENDING, measured
from funduscope.inference.ood import Reference
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import (
    Device,
    ModelError,
    OnnxRuntime,
    TorchRuntime,
    check_device,
    digest_of,
    use_cuda,
)
from funduscope.inference.urgency import urgency_table
from funduscope.inference.witnesses import Witness, feature_names
from funduscope.vocabulary import LESIONS

ModelPath = str | os.PathLike[str]
"""A path, or the name of a shipped model."""

EXPECTED = "an ONNX file that funduscope exported, a run folder, or a .safetensors file"
_MODELS = Path(__file__).parents[1] / "models"
SHIPPED = {"default": "funduscope", "fast": "funduscope-fast"}
"""By name the shipped models, as their files begin."""

# In the order of preference: what was exported starts in a tenth of the time and needs no torch.
RUN_FILES = ("model.onnx", "best.safetensors")


@overload
def load(model: ModelPath | None = None, *, threads: int = 0, device: Device = "auto") -> Predictor: ...
@overload
def load(model: Sequence[ModelPath], *, threads: int = 0, device: Device = "auto") -> Predictor | Ensemble: ...
def load(
    model: ModelPath | Sequence[ModelPath] | None = None, *, threads: int = 0, device: Device = "auto"
) -> Predictor | Ensemble:
    """A model that answers for photos.

    model: None or "default" for the default model, "fast" for the small one; an ONNX file; a run folder (its
    model.onnx, otherwise its best.safetensors, which needs torch); a .safetensors file; or a list of these, an
    ensemble. threads: of the processor; 0 leaves the choice to the runtime; of weights that torch computes the number
    is set for the whole process. device: "cpu", "cuda", or "auto" for a GPU
    where there is one that the runtime can use. Scores next to the model go into its card (inference/model_scores.py).
    Raises `ModelError`, with the code E_HASH if the file is not the one that export.json or the scores name,
    E_CONFIG if cuda is asked for and not there, or, for damaged weights,
    `checkpoint.CheckpointError`; `CodedError` with the code E_CONFIG if a clinic's own table of urgency cannot be read
    (inference/urgency.py).
    """
    check_device(device)
    urgency_table()  # fails here and not at the first photo
    if model is None or isinstance(model, str | os.PathLike):
        return _predictor(model, threads, device)
    members = [_predictor(one, threads, device) for one in model]
    return members[0] if len(members) == 1 else Ensemble(members)


def is_shipped(name: str) -> bool:
    """Whether this is the name of a shipped model."""
    return name in SHIPPED


def absolute(name: str) -> str:
    """A model's name for another process, which may have another folder: absolute, unless it is a shipped model's.

    A link stays one: who reloads the model wants what it leads to by then.
    """
    return name if is_shipped(name) else str(Path(name).absolute())


def weights_of(model: ModelPath) -> Path:
    """The weights to start a training from: by the name of a shipped model, a run folder, a .safetensors file or an
    ONNX file that funduscope exported.

    Raises `ModelError`.
    """
    if isinstance(model, str) and is_shipped(model):
        return shipped_file(model)
    path = Path(model)
    path = path / "best.safetensors" if path.is_dir() else path
    if not path.is_file() or path.suffix not in (".safetensors", ".onnx"):
        expected = "expected a run folder, a .safetensors file or an ONNX file that funduscope exported."
        lacks = "holds no weights to start from" if Path(model).exists() else "is not there"
        raise ModelError("E_MODEL", f"{path if Path(model).exists() else model} {lacks}: {expected}")
    return path


def is_unfinished_run(folder: Path) -> bool:
    """Whether a training has begun in a folder and made no weights for use yet."""
    begun = any((folder / name).exists() for name in ("recipe.toml", "run.json", "stages"))
    return begun and not models_in(folder)


def models_in(folder: Path) -> list[Path]:
    """The files in a run's folder that can be loaded, the preferred one first."""
    return [path for name in RUN_FILES if (path := folder / name).is_file()]


def _predictor(model: ModelPath | None, threads: int, device: Device) -> Predictor:
    model = "default" if model is None else model
    if isinstance(model, str) and is_shipped(model):
        return _shipped(model, threads, device)
    path = model_file(model)
    if path.suffix == ".safetensors":
        runtime = _torch_runtime(path, threads, device)
        predictor = Predictor(runtime, batch=runtime.batch)
    else:
        predictor = _of_onnx(path, threads, device, _exported(path))
    _check_parts(predictor.card, path)
    predictor.folder = path.parent.absolute()
    return predictor


def model_file(model: ModelPath) -> Path:
    """The file that a path to a model stands for: itself, or of a run folder its model.

    Raises `ModelError` where there is none: before a page or a service opens, for one.
    """
    path = Path(model)
    if path.is_dir():
        made = models_in(path)
        if not made and is_unfinished_run(path):
            raise ModelError("E_MODEL", f"The training of {path} has not ended: the same command resumes it.")
        if not made:
            raise ModelError("E_MODEL", f"{path} is no run folder: it holds neither {' nor '.join(RUN_FILES)}.")
        path = made[0]
    if not path.is_file():
        raise ModelError("E_MODEL", f"{path} is not there: expected {EXPECTED}.")
    return path


def check_models(names: Sequence[str]) -> None:
    """Raises `ModelError` if a name is neither a shipped model's nor that of a file or run folder with a model."""
    for name in names:
        if not is_shipped(name):
            model_file(name)


def _check_parts(card: Card, path: Path) -> None:
    """Raises `ModelError` if a part of the card that is a tree of its own cannot be used: no photo is the reason."""
    try:
        if card.distance is not None:
            Reference.from_tree(card.distance)
        lesions = [code for code in card.outlined if code in LESIONS]
        for tree in card.witnesses.values() if lesions else ():
            if unknown := {*Witness.of_tree(tree).numbers} - feature_names(lesions):
                raise ValueError(f"a witness counts {min(unknown)}")
    except Exception as error:  # the tree can be wrong in any way
        says = (
            f"{path.name} has a card that cannot be used ({type(error).__name__}): export it again, or fetch it again."
        )
        raise ModelError("E_MODEL", says) from error


def shipped_file(name: str) -> Path:
    """The file of a shipped model. Raises `ModelError` if it is missing."""
    path = _MODELS / f"{SHIPPED[name]}.onnx"
    if not path.is_file():
        text = f"The shipped model is missing ({path}): install funduscope again, or name a model: {EXPECTED}."
        raise ModelError("E_MODEL", text)
    return path


def _shipped(name: str, threads: int, device: Device) -> Predictor:
    path = shipped_file(name)
    return _of_onnx(path, threads, device, _scored_digests(path))


def _of_onnx(path: Path, threads: int, device: Device, wanted: frozenset[str]) -> Predictor:
    runtime = OnnxRuntime(path, threads, wanted, device)
    return Predictor(runtime, measured(runtime.card, path, runtime.sha256), batch=runtime.batch)


def _exported(path: Path) -> frozenset[str]:
    """The SHA-256 of a model's file by the export.json next to it; empty if that is missing or does not name it."""
    try:
        exported = json.loads(path.with_name("export.json").read_text("utf-8"))
        return frozenset({str(exported["files"][path.name]["sha256"])})
    except (OSError, ValueError, LookupError, TypeError):
        return frozenset()


def _scored_digests(path: Path) -> frozenset[str]:
    """The SHA-256 of the model that the scores next to a file are of, and of the one that they stand for.

    Empty if there are no scores. They are written after the model: `python -m research.figures --write`.
    """
    try:
        about = json.loads(path.with_suffix(ENDING).read_text("utf-8"))["about"]
        named = [about.get("stands for"), *(one["sha256"] for one in about["models"])]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return frozenset()
    return frozenset(str(one) for one in named if one is not None)


def _torch_runtime(path: Path, threads: int, device: Device) -> TorchRuntime:
    try:
        import torch

        from funduscope import checkpoint
    except ModuleNotFoundError as error:
        raise ModelError(
            "E_MODEL",
            f"{path.name} is a checkpoint, which needs {error.name}: pip install '.[train]' in the clone of "
            "funduscope, or export it where that is installed and name the ONNX file.",
        ) from error
    cuda = use_cuda(device, torch.cuda.is_available(), "torch finds no GPU")
    torch.set_num_threads(threads or min(torch.get_num_threads(), core_count()))
    digest = digest_of(path, _exported(path))
    loaded = checkpoint.load(path)
    if not loaded.card:
        print(
            f"warning: the training of {path} has not ended: temperatures and thresholds are not fixed yet, and "
            "answers are not to be trusted. The same command ends it.",
            file=sys.stderr,
        )
    try:
        card = Card.from_dict(loaded.card) if loaded.card else Card.of(loaded.recipe)
    except (KeyError, TypeError, ValueError) as error:
        raise checkpoint.CheckpointError("E_CONFIG", f"{path.name} carries no usable card: {error}.") from error
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and the caller's own draws stay as they are
        network = loaded.network()
    return TorchRuntime(network.to("cuda" if cuda else "cpu"), card, sha256=digest)
