"""A model in one file: weights, recipe, vocabulary, card. safetensors, no pickle: reading one runs nothing.

A file rebuilds its model alone. It is written beside its name, flushed to disk and renamed, so that a killed process or
a full disk leaves the old file or the new one, never neither.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from funduscope.atomic import replacing
from funduscope.network.encoder import WeightsError
from funduscope.network.network import Network, build
from funduscope.recipe import Recipe, RecipeError
from funduscope.version import __version__
from funduscope.vocabulary import CODES, GRADES, LANDMARKS

FORMAT = "funduscope-checkpoint/1"
SCALES = "scales"


class CheckpointError(RuntimeError):
    """A file that is no checkpoint of this package, or of another recipe; the message says which. code: E_WEIGHTS..."""

    def __init__(self, code: str, says: str) -> None:
        super().__init__(says)
        self.code = code
        self.says = says


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds. tensors: all of them by name; those of the model start with `weights/`."""

    recipe: Recipe
    card: dict[str, Any]
    progress: dict[str, Any]
    tensors: dict[str, Tensor]

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors under `name/`, without that prefix."""
        return {
            key.removeprefix(f"{name}/"): value for key, value in self.tensors.items() if key.startswith(f"{name}/")
        }

    def network(self) -> Network:
        """The model, in evaluation mode; raises `CheckpointError` where recipe and weights do not make one."""
        try:
            network = build(self.recipe)
        except (WeightsError, ValueError) as error:
            raise CheckpointError("E_CONFIG", f"The recipe in the file describes no network: {error}") from error
        fit(network, self.group("weights"))
        return network.eval()


def fit(network: Network, state: dict[str, Tensor]) -> None:
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
    """Writes groups of tensors, `weights` among them, with everything that rebuilds the model."""
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


def save_small(path: Path, held: Checkpoint) -> None:
    """Writes the model alone at 8 bits a weight with a scale an output channel: a quarter of the size.

    Vectors stay in float32. `load` gives the weights back as float32, each within half a step of its channel's scale.
    """
    small: dict[str, Tensor] = {}
    scales: dict[str, Tensor] = {}
    for name, value in held.group("weights").items():
        if value.ndim < 2:
            small[name] = value
            continue
        scale = value.abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True).clamp(min=1e-12) / 127
        small[name] = torch.round(value / scale).to(torch.int8)
        scales[f"weights/{name}"] = scale
    save(path, held.recipe, {"weights": small, SCALES: scales}, held.card, held.progress)


def load(path: Path, groups: tuple[str, ...] = ("weights",)) -> Checkpoint:
    """Reads a checkpoint, of its tensors only the groups named. Raises `CheckpointError`."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    "E_WEIGHTS", f"{path.name} is no {FORMAT} file (its format: {metadata.get('format', 'none')})."
                )
            asked = {*groups, SCALES}
            names = [name for name in file.keys() if name.split("/", 1)[0] in asked]  # noqa: SIM118 (no mapping)
            tensors = {name: file.get_tensor(name) for name in names}
            told = json.loads(metadata.get("digests", "{}"))  # none in files of before they were kept
            if any(told.get(group, digest) != digest for group, digest in _digests(tensors).items()):
                raise CheckpointError("E_HASH", f"{path.name} is damaged: its weights are not those that were written.")
            for name in [name for name, value in tensors.items() if value.dtype == torch.int8]:
                tensors[name] = tensors[name].float() * tensors.pop(f"{SCALES}/{name}")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError("E_WEIGHTS", f"{path.name} cannot be read as safetensors: {error}.") from error
    try:
        recipe = Recipe.from_toml(metadata["recipe"])
        card, progress = json.loads(metadata["card"]), json.loads(metadata["progress"])
    except (KeyError, RecipeError, json.JSONDecodeError) as error:
        raise CheckpointError("E_CONFIG", f"{path.name} carries no usable recipe: {error}") from error
    return Checkpoint(recipe, card, progress, tensors)


def _digests(tensors: dict[str, Tensor]) -> dict[str, str]:
    """The SHA-256 of every group's bytes, its tensors by name."""
    digests: dict[str, Any] = {}
    for name in sorted(tensors):
        digest = digests.setdefault(name.split("/", 1)[0], hashlib.sha256())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return {group: digest.hexdigest() for group, digest in digests.items()}
