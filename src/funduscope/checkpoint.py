"""A model in one file: weights, recipe, vocabulary, card. safetensors, no pickle: reading one runs nothing.

A file is enough to rebuild its model. It is written under another name, flushed to disk and renamed, so that a killed
process or a full disk leaves the old file or the new one. An exported ONNX file holds a checkpoint too, with the
weights that its graph computes with.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from safetensors.torch import save_file
from torch import Tensor

from funduscope import graph_weights
from funduscope.atomic import link_or_copy, replacing, set_mode
from funduscope.i18n.errors import CodedError, machine_fault
from funduscope.network.encoder import WeightsError
from funduscope.network.joined import JoinedNetwork, build_model
from funduscope.network.network import Network
from funduscope.recipe import Recipe
from funduscope.version import __version__
from funduscope.vocabulary import CODES, GRADES, LANDMARKS

FORMAT = "funduscope-checkpoint/1"
FACTORS, EMBEDDED = "factors", "checkpoint"
BEST, LAST, PREVIOUS = "best.safetensors", "last.safetensors", "previous.safetensors"
"""In a run's folder: its best checkpoint; the one from which an interrupted training continues; the one before that."""
STAGES = "stages"
"""In the folder of a run in stages: that of the stages' own runs."""


class CheckpointError(CodedError, RuntimeError):
    """A file that is no usable checkpoint; the message says why. code: E_WEIGHTS, E_HASH or E_CONFIG."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file. tensors: by name; those of the model start with `weights/`."""

    recipe: Recipe
    card: dict[str, Any]
    progress: dict[str, Any]
    tensors: dict[str, Tensor]

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors under `name/`, without that prefix."""
        return {
            key.removeprefix(f"{name}/"): value for key, value in self.tensors.items() if key.startswith(f"{name}/")
        }

    def parts(self) -> list[Checkpoint]:
        """Itself, or of a joined model a checkpoint for each of its networks, with the same card."""
        if not self.recipe.stages:
            return [self]
        found = []
        for name in self.recipe.stages:
            own = {
                f"weights/{key.removeprefix(f'parts.{name}.')}": value
                for key, value in self.group("weights").items()
                if key.startswith(f"parts.{name}.")
            }
            found.append(Checkpoint(self.recipe.stage(name), self.card, self.progress, own))
        return found

    def network(self) -> Network | JoinedNetwork:
        """The model in evaluation mode. Raises `CheckpointError` if recipe and weights do not fit."""
        try:
            network = build_model(self.recipe)
        except (WeightsError, ValueError) as error:
            raise CheckpointError("E_CONFIG", f"The recipe in the file describes no network: {error}") from error
        fit(network, self.group("weights"))
        return network.eval()


def fit(network: Network | JoinedNetwork, state: dict[str, Tensor]) -> None:
    """Loads weights of exactly this architecture; raises `CheckpointError` naming the first that differs."""
    own = network.state_dict()
    for name in [*(own.keys() - state.keys()), *(state.keys() - own.keys())]:
        raise CheckpointError("E_WEIGHTS", f"The weights do not fit the recipe: {name} is in only one of the two.")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise CheckpointError(
                "E_WEIGHTS",
                f"The weights do not fit the recipe: {name} is {tuple(value.shape)}, not {tuple(own[name].shape)}.",
            )
        expected = own[name].dtype
        if value.dtype != expected and not (value.is_floating_point() and expected.is_floating_point):
            says = f"The weights do not fit the recipe: {name} is of type {value.dtype}, not {expected}."
            raise CheckpointError("E_WEIGHTS", says)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError("E_WEIGHTS", f"The weights are damaged: {name} is not finite.")
    network.load_state_dict(state)


def save(
    path: Path, recipe: Recipe, groups: dict[str, dict[str, Tensor]], card: dict[str, Any], progress: dict[str, Any]
) -> None:
    """Writes groups of tensors, one of them `weights`, with everything that rebuilding the model needs."""
    tensors = {
        f"{group}/{name}": value.detach().cpu().contiguous()
        for group, state in groups.items()
        for name, value in state.items()
    }
    metadata = {
        "format": FORMAT,
        "funduscope": __version__,
        "recipe": recipe.to_toml(),
        "vocabulary": json.dumps({"structures": CODES, "grades": GRADES, "landmarks": LANDMARKS}),
        "card": json.dumps(card),
        "progress": json.dumps(progress),
        "digests": json.dumps(_digests(tensors)),
    }
    with replacing(path, one_writer=True, fsync=True) as unfinished:
        unfinished.touch()
        mode = stat.S_IMODE(unfinished.stat().st_mode)
        # clones: safetensors refuses tensors that share memory
        save_file({name: value.clone() for name, value in tensors.items()}, unfinished, metadata)
        set_mode(unfinished, mode)  # safetensors keeps its files from all others, whatever the umask says


def embed(path: Path, model: Checkpoint) -> None:
    """Puts the model's recipe, and what its weights need in addition to the graph, into an exported ONNX file.

    `load` then rebuilds the model from that file, each weight as exact as it is in the graph. Vectors stay in float32;
    weights that are not found in the graph are kept in float16.
    """
    import onnx

    file = onnx.load(str(path))
    weights, arrays = model.group("weights"), graph_weights.arrays_of(file.graph)
    sources, factors = graph_weights.find(weights, arrays)
    rest = {name: value for name, value in weights.items() if name not in sources}
    rest = {name: _halved(value) for name, value in rest.items()}
    tensors = {f"weights/{name}": value.clone().contiguous() for name, value in rest.items()}
    tensors |= {f"{FACTORS}/{name}": value for name, value in factors.items()}
    embedded = {
        "format": FORMAT,
        "recipe": model.recipe.to_toml(),
        "in graph": sources,
        "beside it": base64.b64encode(to_bytes(tensors)).decode(),
    }
    embedded["digest"] = _digests(_of_both(embedded, arrays))["weights"]
    known = {item.key: item.value for item in file.metadata_props}
    onnx.helper.set_model_props(file, known | {EMBEDDED: json.dumps(embedded)})
    with replacing(path) as unfinished:
        onnx.save(file, str(unfinished))


def _halved(value: Tensor) -> Tensor:
    """A matrix in float16, where its numbers have room there."""
    half = value.half() if value.ndim > 1 and value.dtype == torch.float32 else value
    return half if bool(torch.isfinite(half).all()) else value


def _of_both(embedded: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The tensors of a checkpoint in an ONNX file."""
    extra = from_bytes(base64.b64decode(embedded["beside it"]))
    factors = {name.removeprefix(f"{FACTORS}/"): extra.pop(name) for name in list(extra) if name.startswith(FACTORS)}
    found = graph_weights.rebuilt(embedded["in graph"], factors, arrays)
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in extra.items()} | {
        f"weights/{name}": value for name, value in found.items()
    }


def _load_onnx(path: Path) -> Checkpoint:
    """The checkpoint in an exported ONNX file."""
    import onnx

    try:
        file = onnx.load(str(path), load_external_data=False)
        known = {item.key: item.value for item in file.metadata_props}
        if EMBEDDED not in known:
            raise CheckpointError(
                "E_WEIGHTS",
                f"{path.name} holds no weights to start from: funduscope exported it before it kept them there, or "
                "did not export it. Name its run folder, or export that once more.",
            )
        embedded, card = json.loads(known[EMBEDDED]), json.loads(known["card"])
        tensors = _of_both(embedded, graph_weights.arrays_of(file.graph))
        recipe = Recipe.from_toml(embedded["recipe"])
        if _digests(tensors)["weights"] != embedded["digest"]:
            raise CheckpointError("E_HASH", f"{path.name} is damaged: its weights are not those that were written.")
    except CheckpointError:
        raise
    except Exception as error:  # onnx, safetensors, torch and json raise anything on hostile files
        if fault := machine_fault(error):
            raise CheckpointError(fault.code, fault.says) from error
        raise CheckpointError("E_WEIGHTS", f"The weights in {path.name} cannot be read: {error}.") from error
    if not isinstance(card, dict):
        raise CheckpointError("E_CONFIG", f"{path.name} carries no usable card: export it again.")
    return Checkpoint(recipe, card, {}, tensors)


def load(path: Path, groups: tuple[str, ...] = ("weights",)) -> Checkpoint:
    """Reads a checkpoint; of its tensors only the named groups. An exported ONNX file has its weights alone, and no
    progress. Raises `CheckpointError`."""
    if path.suffix == ".onnx":
        return _load_onnx(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    "E_WEIGHTS", f"{path.name} is no {FORMAT} file (its format: {metadata.get('format', 'none')})."
                )
            names = [name for name in file.keys() if name.split("/", 1)[0] in groups]  # noqa: SIM118 (no mapping)
            tensors = {name: file.get_tensor(name) for name in names}
            digests = json.loads(metadata.get("digests", "{}"))
            if any(digests.get(group, digest) != digest for group, digest in _digests(tensors).items()):
                raise CheckpointError("E_HASH", f"{path.name} is damaged: its weights are not those that were written.")
    except CheckpointError:
        raise
    except Exception as error:  # safetensors, torch and json raise anything on hostile files
        if fault := machine_fault(error):
            raise CheckpointError(fault.code, fault.says) from error
        raise CheckpointError("E_WEIGHTS", f"{path.name} cannot be read as safetensors: {error}.") from error
    try:
        recipe = Recipe.from_toml(metadata["recipe"])
        card, progress = json.loads(metadata["card"]), json.loads(metadata["progress"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError("E_CONFIG", f"{path.name} carries no usable recipe: {error}") from error
    if not isinstance(card, dict) or not isinstance(progress, dict):
        raise CheckpointError(
            "E_CONFIG", f"{path.name} carries no usable card or no progress: train or fetch it again."
        )
    return Checkpoint(recipe, card, progress, tensors)


def keep_previous(folder: Path) -> None:
    """Keeps a run's last checkpoint as the one before, since it is about to be replaced. A link, where possible."""
    last, previous = folder / LAST, folder / PREVIOUS
    if last.is_file():
        link_or_copy(last, previous)


def newest(folder: Path, groups: tuple[str, ...] = ("weights",)) -> Checkpoint | None:
    """A run's newest checkpoint that can be read, or None if there is none yet.

    Where the last one is damaged, it is replaced by the one before it, with a warning: left there, it would soon be
    kept as the one before. Raises `CheckpointError` if none can be read.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.is_file():
        return None
    try:
        return load(last, groups)
    except CheckpointError as error:
        try:
            found = load(previous, groups)
        except CheckpointError:
            says = f"No checkpoint before it can be read: restore {last} from a backup, or take another folder."
            raise CheckpointError(error.code, f"{error.says} {says}") from None
        with replacing(last, fsync=True) as unfinished:
            shutil.copyfile(previous, unfinished)
        print(
            f"warning: {error.says} The training continues from the checkpoint before it, after epoch "
            f"{found.progress['epoch']}.",
            file=sys.stderr,
        )
        return found


def _digests(tensors: dict[str, Tensor]) -> dict[str, str]:
    """By group the SHA-256 of its tensors' bytes, in order of their names."""
    digests: dict[str, Any] = {}
    for name in sorted(tensors):
        digest = digests.setdefault(name.split("/", 1)[0], hashlib.sha256())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return {group: digest.hexdigest() for group, digest in digests.items()}
