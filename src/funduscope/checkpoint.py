"""A model in one file: weights, recipe, vocabulary, card. safetensors, no pickle: reading one runs nothing.

A file is enough to rebuild its model. It is written under another name, flushed to disk and renamed, so that a killed
process or a full disk leaves the old file or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from funduscope.atomic import replacing
from funduscope.i18n.errors import CodedError, machine_fault
from funduscope.network.encoder import WeightsError
from funduscope.network.joined import Joined, build_model
from funduscope.network.network import Network
from funduscope.recipe import Recipe
from funduscope.version import __version__
from funduscope.vocabulary import CODES, GRADES, LANDMARKS

FORMAT = "funduscope-checkpoint/1"
SCALES = "scales"
LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
"""In a run's folder: the checkpoint from which an interrupted training continues, and the one before it."""


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

    def network(self) -> Network | Joined:
        """The model in evaluation mode. Raises `CheckpointError` where recipe and weights do not fit."""
        try:
            network = build_model(self.recipe)
        except (WeightsError, ValueError) as error:
            raise CheckpointError("E_CONFIG", f"The recipe in the file describes no network: {error}") from error
        fit(network, self.group("weights"))
        return network.eval()


def fit(network: Network | Joined, state: dict[str, Tensor]) -> None:
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
        # clones: safetensors refuses tensors that share memory
        save_file({name: value.clone() for name, value in tensors.items()}, unfinished, metadata)


def save_small(path: Path, model: Checkpoint) -> None:
    """Writes only the model, with 8 bits per weight and a scale per output channel: a quarter of the size.

    Vectors stay in float32. `load` returns float32 weights, each within half a step of its channel's scale.
    """
    small: dict[str, Tensor] = {}
    scales: dict[str, Tensor] = {}
    for name, value in model.group("weights").items():
        if value.ndim < 2:
            small[name] = value
            continue
        scale = value.abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True).clamp(min=1e-12) / 127
        small[name] = torch.round(value / scale).to(torch.int8)
        scales[f"weights/{name}"] = scale
    save(path, model.recipe, {"weights": small, SCALES: scales}, model.card, model.progress)


def load(path: Path, groups: tuple[str, ...] = ("weights",)) -> Checkpoint:
    """Reads a checkpoint; of its tensors only the named groups. Raises `CheckpointError`."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    "E_WEIGHTS", f"{path.name} is no {FORMAT} file (its format: {metadata.get('format', 'none')})."
                )
            wanted = {*groups, SCALES}
            names = [name for name in file.keys() if name.split("/", 1)[0] in wanted]  # noqa: SIM118 (no mapping)
            tensors = {name: file.get_tensor(name) for name in names}
            digests = json.loads(metadata.get("digests", "{}"))  # older files have none
            if any(digests.get(group, digest) != digest for group, digest in _digests(tensors).items()):
                raise CheckpointError("E_HASH", f"{path.name} is damaged: its weights are not those that were written.")
            for name in [name for name, value in tensors.items() if value.dtype == torch.int8]:
                tensors[name] = tensors[name].float() * tensors.pop(f"{SCALES}/{name}")
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
    if not last.is_file() or (previous.is_file() and previous.samefile(last)):  # of a save that failed
        return
    with replacing(previous, one_writer=True) as unfinished:
        try:
            os.link(last, unfinished)
        except OSError:  # a file system without links
            shutil.copyfile(last, unfinished)


def newest(folder: Path, groups: tuple[str, ...] = ("weights",)) -> Checkpoint | None:
    """A run's newest checkpoint that can be read, or None where there is none yet.

    Where the last one is damaged, it is replaced by the one before it, with a warning: left there, it would soon be
    kept as the one before. Raises `CheckpointError` where none can be read.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.is_file():
        return None
    try:
        return load(last, groups)
    except CheckpointError as error:
        if not previous.is_file():
            raise
        found = load(previous, groups)
        with replacing(last, fsync=True) as unfinished:
            shutil.copyfile(previous, unfinished)
        print(
            f"warning: {error.says} The training goes on from the checkpoint before it, after epoch "
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
